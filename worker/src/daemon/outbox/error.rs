//! What can go wrong with the outbox.
//!
//! Invariant: each names the file or the lease. None of them ever means that a result was handed
//! in.

use attest::id::LeaseId;
use std::{
    io,
    path::{Path, PathBuf},
};

/// What can go wrong with the outbox.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
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
    /// There is a result for this lease already.
    #[error("expected no result for lease {0} yet, found one: a lease has one result, ever")]
    Answered(LeaseId),
    /// A file that this program did not write.
    #[error("expected a result in {path}: {problem}; move the file away to go on without it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OutboxError {
    let path = path.to_owned();
    move |error| OutboxError::Io { action, path, error }
}
