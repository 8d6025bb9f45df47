//! The record that a publication arrived where it goes.
//!
//! Invariant: it names the publication by its position, so that it says nothing about a newer one.
//! One that this version cannot read acknowledges nothing: the publication is then pushed again,
//! which changes nothing where it is there already.

use attest::{Digest, Repository, id::JournalPosition};
use serde::{Deserialize, Serialize};

/// The schema of the record.
const PUSHED_SCHEMA: &str = "assay/pushed/v1";

/// Where a publication arrived. Unknown fields are for later versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    schema: String,
    /// The position of the publication.
    pub publication: JournalPosition,
    /// The repository that was written to.
    pub repository: Repository,
    /// The manifest that holds the attestation; none where none stands.
    pub attestation: Option<Digest>,
    /// The manifest that holds the evidence, where that is attached, too.
    pub evidence: Option<Digest>,
}

impl Pushed {
    /// A record that `publication` arrived.
    pub fn new(
        publication: JournalPosition,
        repository: Repository,
        attestation: Option<Digest>,
        evidence: Option<Digest>,
    ) -> Self {
        Self { schema: PUSHED_SCHEMA.to_owned(), publication, repository, attestation, evidence }
    }

    /// The record's body.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a body; none where it is not of this schema.
    pub fn from_json(body: &[u8]) -> Option<Self> {
        let pushed: Self = serde_json::from_slice(body).ok()?;
        (pushed.schema == PUSHED_SCHEMA).then_some(pushed)
    }
}
