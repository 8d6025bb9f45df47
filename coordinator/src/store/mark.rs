//! A mark beside the index while it is open: was the machine up ever since?
//!
//! sled does not wait for the disk, so an index that was open when the machine lost power may have
//! lost any part of what it wrote. After a killed process the kernel still has everything.
//! Invariant: an index that was open under another boot of the machine is never trusted; one whose
//! mark cannot be read is not either. The mark goes only after every file was synced.

use super::tables::TableError;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Changes with each boot of the machine.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

fn place(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".open");
    name.into()
}

/// Refuses an index that the machine's end found open; marks it as open.
pub(super) fn set(folder: &Path) -> Result<(), TableError> {
    set_at(folder, &fs::read_to_string(BOOT).unwrap_or_default())
}

fn set_at(folder: &Path, boot: &str) -> Result<(), TableError> {
    let path = place(folder);
    let marked = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(TableError::new("be trusted", error)),
    };
    match marked {
        Some(mark) if folder.exists() && (mark.is_empty() || mark != boot) => {
            let why = "it was open when the machine went down, and is not synced while it is open";
            Err(TableError::new("be trusted", why))
        }
        Some(mark) if mark == boot => Ok(()),
        _ => write(&path, boot).map_err(|error| TableError::new("be marked as open", error)),
    }
}

/// Whole or not at all: a process that is killed here must not leave a mark that nobody can read.
fn write(path: &Path, boot: &str) -> io::Result<()> {
    let mut staging = path.as_os_str().to_owned();
    staging.push(".new");
    let mut file = File::create(&staging)?;
    file.write_all(boot.as_bytes())?;
    file.sync_all()?;
    fs::rename(&staging, path)?;
    sync_parent(path)
}

/// Syncs every file of a closed index, then takes the mark away.
pub(super) fn clear(folder: &Path) -> io::Result<()> {
    sync_below(folder)?;
    sync_parent(folder)?;
    forget(folder)?;
    sync_parent(folder)
}

/// Takes the mark of an index away that is not there any more.
pub(super) fn forget(folder: &Path) -> io::Result<()> {
    match fs::remove_file(place(folder)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_below(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_below(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_boot_or_a_clean_end_is_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("index");
        set_at(&folder, "boot 1").unwrap();
        fs::create_dir(&folder).unwrap();
        set_at(&folder, "boot 1").unwrap();
        let doubt = set_at(&folder, "boot 2").unwrap_err().to_string();
        assert!(doubt.contains("when the machine went down"), "{doubt}");
        assert!(set_at(&folder, "boot 2").is_err(), "asking does not make it good");
        clear(&folder).unwrap();
        set_at(&folder, "boot 2").unwrap();
        set_at(&folder, "boot 2").unwrap();
        // A machine that does not say when it was started: a mark is always a doubt.
        assert!(set_at(&folder, "").is_err());
        fs::write(place(&folder), "").unwrap();
        assert!(set_at(&folder, "").is_err());
    }
}
