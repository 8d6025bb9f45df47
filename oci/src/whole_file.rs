//! Files that appear whole or not at all.
//!
//! Invariant: written beside their place under a name that says `.partial`, synced, renamed, and
//! the folder synced. It must never follow a link, nor leave something half-written under a final
//! name.

use crate::error::Error;
use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Writes a file under another name, syncs it, renames it, and syncs the folder.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |error| Error::io("write", path, error);
    let partial = partial_path(path);
    let result = (|| {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        sync_folder(path)
    })();
    if result.is_err() {
        // Nothing half-written stays; if even this fails, the name still says `.partial`.
        let _ = fs::remove_file(&partial);
    }
    result.map_err(failed)
}

/// Makes the renaming of a file in its folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// A name beside `path` that no other writer of this process uses.
pub(crate) fn partial_path(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    path.with_file_name(format!(".{name}.{}.{number}.partial", std::process::id()))
}
