//! Where files lie on their way into the content store: a folder of each opened store's own, below
//! `staging`, that it holds locked.
//!
//! Invariant: a folder that somebody holds is touched by nobody else, and one that nobody holds is
//! removed by whoever opens the store next: the system lets go of a lock however its process ended,
//! so what a killed job was writing goes with the next one. Between making a folder and locking it
//! nobody else looks (the lock of `staging` itself).

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

/// Where they are below a store.
const FOLDER: &str = "staging";
/// A file that lies there by itself, as earlier versions left them, and is older than this, belongs
/// to a process that died.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A folder for files on their way. Dropped, it goes with all that is left in it.
#[derive(Debug)]
pub(super) struct Staging {
    folder: TempDir,
    _held: File,
}

impl Staging {
    /// Makes a folder, and removes those that nobody holds any more.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let all = root.join(FOLDER);
        fs::create_dir_all(&all)?;
        let door = File::open(&all)?;
        // On a file system without locks nothing is removed, as nobody can tell whose it is.
        if door.lock().is_ok() {
            sweep(&all);
        }
        let folder = tempfile::Builder::new().prefix("of-").tempdir_in(&all)?;
        let held = File::open(folder.path())?;
        let _ = held.lock();
        Ok(Self { folder, _held: held })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Bytes that are on their way into a store, of all processes.
pub(super) fn bytes(root: &Path) -> u64 {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let of_folders = list(&root.join(FOLDER)).flat_map(|folder| list(&folder.path()));
    of_folders.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

fn sweep(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let (path, Ok(found)) = (entry.path(), entry.metadata()) else { continue };
        if found.is_dir() {
            let held = File::open(&path).is_ok_and(|folder| folder.try_lock().is_err());
            if !held && let Err(error) = fs::remove_dir_all(&path) {
                let path = path.display();
                tracing::warn!(staging.folder = %path, %error, "what a job left is not removed");
            }
        } else if found
            .modified()
            .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > AGE_MAX))
        {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_with_the_next_and_nobody_elses() {
        let root = tempfile::tempdir().unwrap();
        let held = Staging::open(root.path()).unwrap();
        fs::write(held.path().join("file"), b"12345").unwrap();
        // No process has it, as none has what a killed one had.
        let left = root.path().join(FOLDER).join("of-another");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("file"), b"1234567").unwrap();
        assert_eq!(bytes(root.path()), 12);
        let next = Staging::open(root.path()).unwrap();
        assert!(!left.exists() && held.path().join("file").exists());
        assert_eq!(bytes(root.path()), 5);
        let folders = [held.path().to_owned(), next.path().to_owned()];
        drop((held, next));
        assert!(folders.iter().all(|folder| !folder.exists()));
    }
}
