//! Why there is no publication.
//!
//! Invariant: none of these is an answer about an image: what was published before stays until
//! something else can be said.

use super::super::evidence;
use crate::store::StoreError;
use attest::vsa::VsaError;

/// Why there is no publication.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The evidence.
    #[error(transparent)]
    Evidence(#[from] evidence::EvidenceError),
    /// The attestation could not be made.
    #[error(transparent)]
    Vsa(#[from] VsaError),
    /// It could not be put into a bundle.
    #[error(transparent)]
    Bundle(#[from] attest::bundle_write::BundleWriteError),
    /// The record of a submitted image.
    #[error("expected the record of a submitted image at {position}: {error}")]
    Submitted {
        /// Where.
        position: u64,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// The thread that read and judged did not come to an end.
    #[error("expected the evidence to be read to its end, found that its thread ended: {0}")]
    Ended(String),
}
