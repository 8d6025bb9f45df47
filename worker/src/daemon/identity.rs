//! The worker's key and the certificate that it connects with.
//!
//! The key signs observations. The same key makes a self-signed TLS client certificate, so that the
//! coordinator can tell whose leases to hand out without issuing anything: TLS signs its own
//! transcript under its own label, DSSE signs under another (PAE), so neither signature can be taken
//! for the other.
//! Invariant: a secret lies in a file that only its owner can read, and the program refuses to start
//! on one that others can; it never leaves the process that signs. Builds run in another process.

use attest::{
    id::WorkerId,
    key::{KeyError, SigningKey},
};
use rcgen::{CertificateParams, DnType, KeyPair};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What can be wrong with a worker's identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
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
        "expected {path} to be readable by its owner only (0600), found mode {mode:04o}; run \
         `chmod 600` on it, and replace the key if others may have read it"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key.
    #[error("{path}: {error}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: KeyError,
    },
    /// The certificate could not be made.
    #[error("expected to make a certificate from the worker's key: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// A worker's key with its certificate.
pub struct Identity {
    key: SigningKey,
    certificate_pem: String,
}

impl Identity {
    /// Makes a new key and writes it to `path`, which must not exist.
    pub fn generate(path: &Path) -> Result<Self, IdentityError> {
        let at = |error| IdentityError::Key { path: path.to_owned(), error };
        let key = SigningKey::generate().map_err(at)?;
        write_secret(path, key.to_pem().as_bytes())?;
        Self::from_key(key)
    }

    /// Reads the key.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let pem = read_secret(path)?;
        let key = SigningKey::from_pem(&pem)
            .map_err(|error| IdentityError::Key { path: path.to_owned(), error })?;
        Self::from_key(key)
    }

    fn from_key(key: SigningKey) -> Result<Self, IdentityError> {
        let pair = KeyPair::from_pem(&key.to_pem())?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, key.public().id().hex());
        let certificate_pem = params.self_signed(&pair)?.pem();
        Ok(Self { key, certificate_pem })
    }

    /// The key that signs.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Who this is.
    pub fn worker(&self) -> WorkerId {
        WorkerId(self.key.public().id())
    }

    /// Certificate and key for the TLS client.
    pub fn tls(&self) -> tonic::transport::Identity {
        tonic::transport::Identity::from_pem(&self.certificate_pem, self.key.to_pem())
    }
}

/// Writes a secret to a new file with mode 0600, synced.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let io =
        |error| IdentityError::Io { action: "write the new file", path: path.to_owned(), error };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a key would stand in the way of a whole one.
        let _ = fs::remove_file(path);
        io(error)
    })
}

/// Reads a secret; refuses a file that others can read.
pub fn read_secret(path: &Path) -> Result<String, IdentityError> {
    let io = |error| IdentityError::Io { action: "read", path: path.to_owned(), error };
    let mode = fs::metadata(path).map_err(io)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Mode { path: path.to_owned(), mode });
    }
    fs::read_to_string(path).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.key");
        let made = Identity::generate(&path).unwrap();
        assert_eq!(Identity::load(&path).unwrap().worker(), made.worker());
        assert!(matches!(Identity::generate(&path), Err(IdentityError::Io { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Identity::load(&path), Err(IdentityError::Mode { mode: 0o640, .. })));
    }
}
