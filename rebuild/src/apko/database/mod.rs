//! The installed database: one record per package, in installation order.
//!
//! Invariant: a record says what `.PKGINFO` and the tar headers say, whatever the image made of it;
//! owners and modes here are the package's, not the image's. Each apko has one of three writers.

mod order;
mod recursive;
mod stable;

use super::{
    behaviour::{Behaviour, RecordWriter},
    error::AssembleError,
    fs::path,
    install::{Installed, scripts::q1},
};
use crate::{
    apk::package::{Entry, Package, PackageInfo},
    go::tar::Kind,
};
use rayon::prelude::*;
use std::sync::Arc;

/// The records of all packages, in installation order.
pub fn records(
    packages: &[Arc<Package>],
    installed: &Installed,
    behaviour: &Behaviour,
) -> Result<Vec<Vec<u8>>, AssembleError> {
    let records: Vec<Result<Vec<u8>, AssembleError>> = packages
        .par_iter()
        .zip(&installed.files)
        .map(|(package, files)| {
            let entries: Vec<&Entry> =
                files.iter().filter_map(|index| package.entries.get(*index as usize)).collect();
            record(package, &entries, behaviour.record_writer())
        })
        .collect();
    // Of several errors the first package's counts, whatever the threads did.
    records.into_iter().collect()
}

/// The record of one package with these of its entries.
fn record(
    package: &Package,
    entries: &[&Entry],
    writer: RecordWriter,
) -> Result<Vec<u8>, AssembleError> {
    let mut lines = Lines(Vec::new());
    head(&mut lines, package);
    match writer {
        RecordWriter::Sorted => {
            let mut in_folder = false;
            for entry in order::sorted(entries) {
                let directory = entry.header.kind == Kind::Directory;
                if !directory && !in_folder {
                    lines.add(b"F:", b"");
                }
                in_folder = true;
                file(&mut lines, entry, 0o7777);
            }
        }
        RecordWriter::Recursive | RecordWriter::RecursiveFromRoot => {
            let from_root = writer == RecordWriter::RecursiveFromRoot;
            for entry in recursive::ordered(entries, from_root)? {
                file(&mut lines, entry, 0o777);
            }
        }
    }
    lines.0.push(b'\n');
    Ok(lines.0)
}

struct Lines(Vec<u8>);

impl Lines {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.0.extend_from_slice(key);
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    fn text(&mut self, key: &str, value: &str) {
        self.add(key.as_bytes(), value.as_bytes());
    }
}

fn head(lines: &mut Lines, package: &Package) {
    let PackageInfo {
        name,
        version,
        arch,
        description,
        license,
        origin,
        maintainer,
        url,
        commit,
        depends,
        provides,
        install_if,
        replaces,
        installed_size,
        provider_priority,
        build_date,
        ..
    } = &package.info;
    lines.text("P:", name);
    lines.text("V:", version);
    lines.text("A:", arch);
    lines.text("L:", license);
    lines.text("T:", description);
    lines.text("o:", origin);
    lines.text("m:", maintainer);
    lines.text("U:", url);
    lines.text("D:", &depends.join(" "));
    lines.text("p:", &provides.join(" "));
    if !replaces.is_empty() {
        lines.text("r:", &replaces.join(" "));
    }
    lines.text("c:", commit);
    lines.text("i:", &format!("[{}]", install_if.join(" ")));
    lines.text("t:", &build_date.to_string());
    lines.text("S:", &package.file_size.to_string());
    lines.text("I:", &installed_size.to_string());
    lines.text("k:", &provider_priority.to_string());
    lines.text("C:", &q1(&package.control_sha1));
}

/// The lines of one entry: `F:` and `M:` for a directory, `R:`, `a:` and `Z:` for the rest.
fn file(lines: &mut Lines, entry: &Entry, mode_bits: u32) {
    let header = &entry.header;
    let mode = header.mode & mode_bits;
    let directory = header.kind == Kind::Directory;
    let (name_key, owner_key, usual): (&[u8], &str, u32) =
        if directory { (b"F:", "M:", 0o755) } else { (b"R:", "a:", 0o644) };
    let name = if directory { without_slash(&header.name) } else { path::base(&header.name) };
    lines.add(name_key, name);
    if mode != usual || header.uid != 0 || header.gid != 0 {
        lines.text(owner_key, &format!("{}:{}:{mode:04o}", header.uid, header.gid));
    }
    if let Some(checksum) = entry.checksum.filter(|_| !directory) {
        lines.text("Z:", &q1(&checksum));
    }
}

/// A name without the slash that may end a directory's.
fn without_slash(name: &[u8]) -> &[u8] {
    name.strip_suffix(b"/").unwrap_or(name)
}
