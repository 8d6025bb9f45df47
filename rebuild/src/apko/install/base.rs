//! What is in every image before the first package: directories, empty databases, devices, keys.
//!
//! Invariant: everything here has mtime 0 and belongs to root; nothing is taken from a package.

use crate::apko::{
    behaviour::{Behaviour, Capability},
    config::{ImageConfiguration, architecture},
    error::AssembleError,
    fs::{
        FileTree, FsError,
        tree::{PATH_BYTES_MAX, shown},
    },
    install::scripts::ARCHIVE_END_BYTES,
};
use std::collections::BTreeSet;

/// The character devices of every image: path, mode, major and minor number.
pub const DEVICES: &[(&str, u32, (u64, u64))] = &[
    ("dev/zero", 0o666, (1, 5)),
    ("dev/urandom", 0o666, (1, 9)),
    ("dev/null", 0o666, (1, 3)),
    ("dev/random", 0o666, (1, 8)),
    ("dev/console", 0o620, (5, 1)),
];

/// Bytes of one key file; a PEM of a 16,384-bit RSA key has under 3 KiB.
const KEY_BYTES_MAX: usize = 1 << 20;
/// Key files of one image.
const KEYS_MAX: usize = 1000;

const STEP: &str = "base of the tree";

/// Fills an empty tree. `keys` are file names and bytes, in the order of writing: where a name
/// comes twice, the last bytes stay.
pub fn base(
    tree: &mut FileTree,
    config: &ImageConfiguration,
    architecture_name: &str,
    keys: &[(String, Vec<u8>)],
    extra_packages: &[String],
    behaviour: &Behaviour,
) -> Result<(), AssembleError> {
    let in_step = AssembleError::in_step(STEP);
    directories(tree, behaviour).map_err(&in_step)?;
    databases(tree, behaviour, architecture_name).map_err(&in_step)?;
    for (path, mode, numbers) in DEVICES {
        tree.make_device(path.as_bytes(), *mode, *numbers).map_err(&in_step)?;
    }
    let scripts = format!("{}/scripts.tar", behaviour.database_folder());
    tree.write(scripts.as_bytes(), vec![0; ARCHIVE_END_BYTES], 0o644).map_err(&in_step)?;
    write_keys(tree, keys)?;
    let world: BTreeSet<&String> = config.contents.packages.iter().chain(extra_packages).collect();
    let world = lines(world.into_iter().map(String::as_str));
    tree.write(b"etc/apk/world", world, 0o644).map_err(&in_step)?;
    Ok(())
}

/// Texts joined by newlines, with one at the end even if there are none.
pub fn lines<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut joined = texts.collect::<Vec<_>>().join("\n").into_bytes();
    joined.push(b'\n');
    joined
}

fn directories(tree: &mut FileTree, behaviour: &Behaviour) -> Result<(), FsError> {
    let usr = behaviour.has(Capability::UsrDatabase);
    let opt = behaviour.has(Capability::OptDirectory).then_some(("opt", 0o755));
    let system = if usr { "usr" } else { "lib" };
    let top = [("tmp", 0o1777), ("dev", 0o755), ("etc", 0o755)];
    let rest = [("proc", 0o555), ("var", 0o755), (system, 0o755)];
    for (path, mode) in top.into_iter().chain(opt).chain(rest) {
        tree.make_directory(path.as_bytes(), mode)?;
    }
    let database: &[&str] = if usr {
        &["usr/lib", "usr/lib/apk", "usr/lib/apk/db", "usr/lib/apk/exec"]
    } else {
        &["lib/apk", "lib/apk/db"]
    };
    let cache = &["var/cache", "var/cache/apk", "var/cache/misc"];
    for path in ["etc/apk", "etc/apk/keys"].iter().chain(database).chain(cache) {
        tree.make_directory(path.as_bytes(), 0o755)?;
    }
    Ok(())
}

fn databases(
    tree: &mut FileTree,
    behaviour: &Behaviour,
    architecture_name: &str,
) -> Result<(), FsError> {
    let folder = behaviour.database_folder();
    tree.write(b"etc/apk/world", b"\n".to_vec(), 0o644)?;
    tree.write(b"etc/apk/repositories", b"\n".to_vec(), 0o644)?;
    tree.write(format!("{folder}/lock").as_bytes(), Vec::new(), 0o600)?;
    tree.write(format!("{folder}/triggers").as_bytes(), Vec::new(), 0o644)?;
    tree.write(format!("{folder}/installed").as_bytes(), Vec::new(), 0o644)?;
    let name = format!("{}\n", architecture::apk(architecture_name));
    tree.write(b"etc/apk/arch", name.into_bytes(), 0o644)?;
    Ok(())
}

fn write_keys(tree: &mut FileTree, keys: &[(String, Vec<u8>)]) -> Result<(), AssembleError> {
    if keys.len() > KEYS_MAX {
        let found = keys.len().to_string();
        return Err(AssembleError::Limit { what: "keys", limit: KEYS_MAX as u64, found });
    }
    for (name, bytes) in keys {
        let plain = !name.is_empty()
            && !matches!(name.as_str(), "." | "..")
            && !name.contains(['/', '\0'])
            && name.len() < PATH_BYTES_MAX;
        if !plain || bytes.len() > KEY_BYTES_MAX {
            let name = shown(name.as_bytes());
            let detail = format!(
                "expected a key file with a plain name and at most {KEY_BYTES_MAX} bytes, found \
                 {name:?} with {}",
                bytes.len()
            );
            return Err(AssembleError::step("keys", detail));
        }
        let path = format!("etc/apk/keys/{name}");
        tree.write(path.as_bytes(), bytes.clone(), 0o644)
            .map_err(AssembleError::in_step("keys"))?;
    }
    Ok(())
}
