//! One pass over a package file: into the store, and through the package reader, at the same time.
//!
//! Invariant: what the source or the disk did is told from what is wrong with the package: the
//! first is never said of the package. A file that is no package is not kept. What is kept here was
//! not proven yet: under which URI it is found again is written by whoever proved it.

use super::{
    ContentStore, MaterialError, StoreError, spool::FileSpool, store::Escrow,
    unpacked::UnpackedStore,
};
use rebuild::{
    apk::package::{Package, PackageLimits, PackageProblem},
    source::Spool,
};
use std::{
    io::{self, Read},
    sync::Arc,
};

/// One package file on its way through the store.
pub(super) struct Unpacking {
    /// Where it is kept.
    pub(super) store: Arc<ContentStore>,
    /// For data that is not kept.
    pub(super) spool: FileSpool,
    /// For messages.
    pub(super) uri: String,
    /// Bounds.
    pub(super) limits: PackageLimits,
}

impl Unpacking {
    /// One pass: the bytes go to the store and through the package reader at the same time.
    pub(super) fn read(
        &self,
        bytes: Box<dyn Read + Send>,
        escrow: bool,
    ) -> Result<Package, MaterialError> {
        let escrow = if escrow { Some(self.store.escrow()?) } else { None };
        let mut source = Source { bytes, escrow, failed: None };
        let unpacked = self.store.unpacked().map(UnpackedStore::spool);
        let spool: &dyn Spool = match &unpacked {
            Some(spool) => spool,
            None => &self.spool,
        };
        let read = Package::read(&mut source, spool, &self.limits);
        if let Some(error) = source.failed {
            // The source or the disk, not the package.
            return Err(error.into_store_error(&self.uri).into());
        }
        let package = read.map_err(|error| {
            let (uri, problem) = (self.uri.clone(), error.to_string());
            match &error.problem {
                PackageProblem::Spool(_) => MaterialError::Unavailable { uri, problem },
                _ if error.is_limit() => MaterialError::Limit { uri, problem },
                _ => MaterialError::Unproven { uri, problem },
            }
        })?;
        if let Some(escrow) = source.escrow {
            self.store.keep_escrow(escrow, package.file_sha256)?;
        }
        if let Some(Err(error)) = unpacked.map(|spool| spool.keep(&package)) {
            tracing::warn!(material.uri = %self.uri, %error, "a package was not kept unpacked");
        }
        Ok(package)
    }
}

/// Passes bytes on, and writes them to the store.
struct Source {
    bytes: Box<dyn Read + Send>,
    escrow: Option<Escrow>,
    failed: Option<SourceFailure>,
}

/// What failed, apart from what is wrong with the package.
enum SourceFailure {
    Read(io::Error),
    Store(StoreError),
}

impl SourceFailure {
    fn into_store_error(self, uri: &str) -> StoreError {
        match self {
            Self::Read(error) => StoreError::Source { from: uri.to_owned(), error },
            Self::Store(error) => error,
        }
    }
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = match self.bytes.read(buf) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.failed = Some(SourceFailure::Read(error));
                return Err(io::Error::other("the source ended early"));
            }
        };
        if let Some(escrow) = &mut self.escrow
            && let Err(error) = escrow.put(buf.get(..read).unwrap_or_default())
        {
            self.failed = Some(SourceFailure::Store(error));
            return Err(io::Error::other("the store took no more"));
        }
        Ok(read)
    }
}
