//! What apk needs later of a package's control part: `scripts.tar` and `triggers`.
//!
//! Invariant: scripts are kept, never run. Entries keep what the control archive says of them, but
//! for the name (which names the package) and the mtime (the epoch option).

use crate::{
    apk::package::{ControlEntry, Package},
    apko::{
        behaviour::{Behaviour, Capability},
        error::AssembleError,
        fs::{FileTree, tree::shown},
    },
    go::tar::{Header, Kind, Writer},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The zeros that end a tar archive: two blocks.
pub const ARCHIVE_END_BYTES: usize = 1024;
/// Scripts of all packages together; real images have some KiB.
const SCRIPTS_BYTES_MAX: usize = 64 << 20;
/// Trigger lines of all packages together.
const TRIGGERS_BYTES_MAX: usize = 16 << 20;

/// `Q1` and the base64 of a SHA-1, as apk writes checksums.
pub fn q1(sha1: &[u8; 20]) -> String {
    format!("Q1{}", STANDARD.encode(sha1))
}

/// Appends the scripts and triggers of one package.
pub(super) fn append(
    tree: &mut FileTree,
    package: &Package,
    behaviour: &Behaviour,
    epoch_option: i64,
) -> Result<(), AssembleError> {
    append_scripts(tree, package, behaviour, epoch_option)?;
    append_triggers(tree, package, behaviour)
}

fn append_scripts(
    tree: &mut FileTree,
    package: &Package,
    behaviour: &Behaviour,
    epoch_option: i64,
) -> Result<(), AssembleError> {
    let path = format!("{}/scripts.tar", behaviour.database_folder());
    let id = tree.open(path.as_bytes(), None).map_err(AssembleError::in_step("scripts.tar"))?;
    let mut archive = std::mem::take(&mut tree.node_mut(id).data);
    archive.truncate(archive.len().saturating_sub(ARCHIVE_END_BYTES));
    let mut writer = Writer::new(archive);
    for entry in package.control.iter().filter(|entry| is_kept(entry, behaviour)) {
        let tar = |source| AssembleError::Tar { entry: shown(&entry.header.name), source };
        writer.header(&script_header(package, entry, epoch_option)).map_err(tar)?;
        if entry.header.kind == Kind::Regular {
            writer.data(&entry.data).map_err(tar)?;
        }
    }
    let archive = writer
        .finish()
        .map_err(|source| AssembleError::Tar { entry: "scripts.tar".into(), source })?;
    bounded(archive.len(), SCRIPTS_BYTES_MAX, "bytes of scripts")?;
    tree.node_mut(id).data = archive;
    Ok(())
}

fn is_kept(entry: &ControlEntry, behaviour: &Behaviour) -> bool {
    let executable = entry.header.mode & 0o555 == 0o555;
    entry.header.name != b".PKGINFO"
        && (executable || !behaviour.has(Capability::ExecutableScriptsOnly))
}

fn script_header(package: &Package, entry: &ControlEntry, epoch_option: i64) -> Header {
    let mut header = entry.header.clone();
    let checksum = q1(&package.control_sha1);
    let mut name = format!("{}.{checksum}", package.label()).into_bytes();
    name.extend_from_slice(&entry.header.name);
    header.name = name;
    header.mtime = epoch_option;
    header
}

fn append_triggers(
    tree: &mut FileTree,
    package: &Package,
    behaviour: &Behaviour,
) -> Result<(), AssembleError> {
    let path = format!("{}/triggers", behaviour.database_folder());
    let id = tree.open(path.as_bytes(), Some(0)).map_err(AssembleError::in_step("triggers"))?;
    let checksum = q1(&package.control_sha1);
    let prefix = if behaviour.has(Capability::TriggersWithQ1) { 0 } else { 2 };
    let checksum = checksum.get(prefix..).unwrap_or_default();
    let data = &mut tree.node_mut(id).data;
    for trigger in &package.info.triggers {
        data.extend_from_slice(format!("{checksum} {trigger}\n").as_bytes());
    }
    bounded(data.len(), TRIGGERS_BYTES_MAX, "bytes of triggers")
}

fn bounded(found: usize, limit: usize, what: &'static str) -> Result<(), AssembleError> {
    if found <= limit {
        return Ok(());
    }
    Err(AssembleError::Limit { what, limit: limit as u64, found: found.to_string() })
}
