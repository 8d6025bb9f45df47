//! What the record of a publication holds: one of our attestations, or that none stands.
//!
//! Invariant: a body is one or the other, and is read so by everybody. What is signed here is
//! signed with the verdict key. It must never be read as standing where it says that none stands.

use super::super::{Core, evidence::SubmittedImage};
use super::error::PublishError;
use crate::journal::Kind;
use attest::{
    Digest,
    bundle::Bundle,
    bundle_write::key_bundle,
    id::JournalPosition,
    statement::Statement,
    vsa::{Verifier, Vsa},
};
use serde::{Deserialize, Serialize};

/// The schema of a publication that says that no attestation stands.
const NO_ATTESTATION: &str = "assay/no-attestation/v1";

#[derive(Serialize, Deserialize)]
struct NoAttestation {
    schema: String,
    outcome: String,
}

/// The attestation in a publication's body; none where it says that none stands.
pub fn attestation(body: &[u8]) -> Option<&[u8]> {
    let none = serde_json::from_slice::<NoAttestation>(body);
    match none {
        Ok(none) if none.schema == NO_ATTESTATION => None,
        _ => Some(body),
    }
}

pub(super) fn no_attestation(outcome: &str) -> Vec<u8> {
    let (schema, outcome) = (NO_ATTESTATION.to_owned(), outcome.to_owned());
    serde_json::to_vec(&NoAttestation { schema, outcome }).unwrap_or_default()
}

pub(super) fn verifier(core: &Core) -> Verifier {
    let id = core.loaded.config.verifier_id.clone();
    let policy_uri = format!("{}/policy", id.trim_end_matches('/'));
    Verifier { id, version: env!("CARGO_PKG_VERSION").to_owned(), policy_uri }
}

pub(super) fn bundle(core: &Core, vsa: &Vsa) -> Result<Vec<u8>, PublishError> {
    let key = &core.loaded.verdict_key;
    Ok(key_bundle(&vsa.sign(key)?, key.public())?)
}

/// The record of a submitted image, and where it lies.
pub(super) fn submitted(
    core: &Core,
    about: &Digest,
) -> Result<Option<(JournalPosition, SubmittedImage)>, PublishError> {
    let Some(stored) = core.store.newest_about(Kind::EVIDENCE, about)? else { return Ok(None) };
    let position = stored.position;
    let read = serde_json::from_slice(&stored.body);
    let failed = |error| PublishError::Submitted { position: position.0, error };
    read.map(|image| Some((position, image))).map_err(failed)
}

/// The statement in one of our bundles, if `key` signed it.
pub(super) fn statement(bundle: &[u8]) -> Option<Statement> {
    Statement::parse(&Bundle::parse(bundle).ok()?.envelope.payload).ok()
}
