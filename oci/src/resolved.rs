//! A manifest or an index as a place gave it out: its bytes, with the digest they have.
//!
//! Invariant: whoever makes one has compared the digest with the bytes. Nothing is read into them
//! here.

use crate::manifest::Descriptor;
use attest::{Digest, Repository};

/// A manifest or an index, as its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Where it is; in a registry with the host.
    pub repository: Repository,
    /// SHA-256 of `bytes`.
    pub digest: Digest,
    /// OCI's or Docker's media type of an index or a manifest.
    pub media_type: String,
    /// The document, exactly.
    pub bytes: Vec<u8>,
}

impl Resolved {
    /// The descriptor of this document, for a `subject` or an index.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.media_type, &self.bytes)
    }
}
