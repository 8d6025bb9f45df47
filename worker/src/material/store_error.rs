//! What can go wrong with the content store and what lies beside it.
//!
//! Invariant: each says which file or which source, and what was expected of it. It must never be
//! taken for "there is none": that is no error.

use attest::Digest;
use std::{
    io,
    path::{Path, PathBuf},
};

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error("expected to {action} {path}: {error}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The source could not be read.
    #[error("expected to read {from} to its end: {error}")]
    Source {
        /// Where the bytes were coming from.
        from: String,
        /// What went wrong.
        error: io::Error,
    },
    /// More bytes than allowed.
    #[error("expected at most {limit} bytes from {from}, found more")]
    TooLarge {
        /// Where the bytes were coming from.
        from: String,
        /// The bound.
        limit: u64,
    },
    /// Other bytes than asked for.
    #[error("expected {expected} from {from}, found {found}")]
    WrongDigest {
        /// Where the bytes were coming from.
        from: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A file of the store does not hold what it must.
    #[error(
        "expected {expected} in {path}, found {found}: put a copy of it in its place, or remove it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl StoreError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { action, path, error }
    }
}
