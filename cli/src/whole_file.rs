//! Files that are there whole or not at all.
//!
//! Invariant: a name is given to bytes only when all of them are on the disk; a write that fails
//! leaves nothing new behind, and what was there before as it was.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Writes a file, or replaces it.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let staging = path.with_file_name(name);
    let written = File::create(&staging)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&staging, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&staging);
        io::Error::new(error.kind(), format!("expected to write {}: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // A folder of the staging name stands in the way.
        fs::create_dir(folder.path().join("a.new")).unwrap();
        let error = write(&path, b"newer").unwrap_err().to_string();
        assert!(error.contains("/a"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
