//! `etc/ld.so.conf`: the folders to search, with `include PATTERN`.
//!
//! Invariant: as in apko, a file ends at its first `include`; files that include one another are
//! bounded by depth and by number.

use super::{STEP, glob};
use crate::apko::{error::AssembleError, fs::FileTree, install::Packages};

/// Nested includes, and files in all. ldconfig's own bound of nesting is of the same size.
const DEPTH_MAX: usize = 16;
const FILES_MAX: usize = 1000;
/// Folders in all; each is looked through.
const FOLDERS_MAX: usize = 10_000;

/// The folders of the configuration, in order.
pub(super) fn folders(
    tree: &mut FileTree,
    packages: Packages<'_>,
) -> Result<Vec<Vec<u8>>, AssembleError> {
    let mut files = 0;
    let mut folders = Vec::new();
    read(tree, packages, b"etc/ld.so.conf", 0, &mut files, &mut folders)?;
    Ok(folders)
}

fn limit(what: &'static str, limit: usize) -> AssembleError {
    AssembleError::Limit { what, limit: limit as u64, found: "more".into() }
}

fn read(
    tree: &mut FileTree,
    packages: Packages<'_>,
    file: &[u8],
    depth: usize,
    files: &mut usize,
    folders: &mut Vec<Vec<u8>>,
) -> Result<(), AssembleError> {
    *files += 1;
    if depth > DEPTH_MAX || *files > FILES_MAX {
        return Err(limit("files that etc/ld.so.conf includes", FILES_MAX));
    }
    let id = tree.open(file, None).map_err(AssembleError::in_step(STEP))?;
    let text = packages.read(tree, id)?;
    let first_own = folders.len();
    for line in text.split(|b| *b == b'\n') {
        let line = line.split(|b| *b == b'#').next().unwrap_or_default().trim_ascii();
        if let Some(pattern) = line.strip_prefix(b"include ") {
            let pattern = pattern.trim_ascii();
            let start = pattern.iter().position(|b| *b != b'/').unwrap_or(pattern.len());
            let pattern = pattern.get(start..).unwrap_or_default();
            let matches = glob::paths(tree, pattern).map_err(|error| {
                let pattern = String::from_utf8_lossy(pattern);
                AssembleError::step(STEP, format!("include {pattern}: {error}"))
            })?;
            for included in matches {
                read(tree, packages, &included, depth + 1, files, folders)?;
            }
            return Ok(());
        }
        let own = folders.get(first_own..).unwrap_or_default();
        if !line.is_empty() && !own.iter().any(|folder| folder == line) {
            if folders.len() >= FOLDERS_MAX {
                return Err(limit("folders in etc/ld.so.conf", FOLDERS_MAX));
            }
            folders.push(line.to_vec());
        }
    }
    Ok(())
}
