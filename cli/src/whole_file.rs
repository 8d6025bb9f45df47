//! Files that are there whole or not at all.
//!
//! Invariant: a name is given to bytes only when all of them are on the disk; a write that fails
//! leaves nothing new behind, and what was there before as it was.

use std::{
    fs::Permissions,
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Writes a file, or replaces it. Of many that write one file at once each succeeds, and the last
/// one's bytes are there.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    written(path, bytes).map_err(|error| {
        io::Error::new(error.kind(), format!("expected to write {}: {error}", path.display()))
    })
}

fn written(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut staging = tempfile::Builder::new();
    let staging = staging.prefix(".").suffix(".new").permissions(Permissions::from_mode(0o666));
    let mut staging = staging.tempfile_in(folder.unwrap_or(Path::new(".")))?;
    staging.write_all(bytes)?;
    staging.as_file().sync_all()?;
    staging.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, sync::Barrier};

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // What cannot be replaced: a folder with something in it.
        let full = folder.path().join("full");
        fs::create_dir_all(full.join("b")).unwrap();
        let error = write(&full, b"newer").unwrap_err().to_string();
        assert!(error.contains("/full"), "{error}");
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a", "full"], "nothing new is left");
    }

    #[test]
    fn many_that_write_one_file_all_succeed_and_the_file_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let (calls, barrier) = (0..8_u8, Barrier::new(8));
        std::thread::scope(|scope| {
            for n in calls {
                let (path, barrier) = (&path, &barrier);
                scope.spawn(move || {
                    let bytes = vec![n; 4096];
                    for _ in 0..16 {
                        barrier.wait();
                        write(path, &bytes).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 4096 && bytes.iter().all(|byte| *byte == bytes[0]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
