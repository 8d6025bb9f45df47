//! Files that only their owner may read.
//!
//! Invariant: written new (never over something), mode 0600 from the first byte, synced; read only
//! if nobody else can.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What can be wrong with a secret file.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read or written.
    #[error("expected to {action} {path}: {error}")]
    Io {
        /// Read or write.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others can read the secret.
    #[error(
        "expected {path} to be readable by its owner only (0600), found mode {mode:04o}; \
         run `chmod 600` on it, and replace the key if others may have read it"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Writes a secret to a new file.
pub fn write_secret(path: &Path, text: &str) -> Result<(), SecretError> {
    create(path, text, 0o600)
}

/// Writes something public to a new file.
pub fn write_public(path: &Path, text: &str) -> Result<(), SecretError> {
    create(path, text, 0o644)
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), SecretError> {
    let io = |error| SecretError::Io { action: "write the new file", path: path.to_owned(), error };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(io)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a file would stand in the way of a whole one.
        let _ = fs::remove_file(path);
        io(error)
    })?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|f| f.sync_all()).map_err(io)
}

/// Reads a secret; refuses a file that others can read.
pub fn read_secret(path: &Path) -> Result<String, SecretError> {
    let io = |error| SecretError::Io { action: "read", path: path.to_owned(), error };
    let mode = fs::metadata(path).map_err(io)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Mode { path: path.to_owned(), mode });
    }
    fs::read_to_string(path).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn never_over_something_never_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_secret(&path, "a").unwrap();
        assert!(write_secret(&path, "b").is_err());
        assert_eq!(read_secret(&path).unwrap(), "a");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_secret(&path), Err(SecretError::Mode { mode: 0o644, .. })));
    }
}
