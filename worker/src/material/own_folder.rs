//! Folders from which things are believed.
//!
//! Invariant: they belong to this account, and nobody else may write to them. It must never make
//! one so: whose folder it is, is for a person to decide.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

/// An error where anybody else could write to a folder from which things are believed.
pub(super) fn own_folder(path: &Path, owner: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_dir() && found.uid() == owner && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let (path, uid, mode) = (path.display(), found.uid(), found.mode() & 0o7777);
    Err(io::Error::other(format!(
        "expected {path} to be this account's folder that nobody else may write to, found owner \
         {uid} and mode {mode:o}"
    )))
}
