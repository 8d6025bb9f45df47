//! What was judged goes out: a VSA for what was reproduced, the evidence for everything judged.
//!
//! ```text
//! verdict -> PUBLICATION record -> registry or folder -> PUSHED record
//! ```
//! A judgement and the publication that follows from it are one group of the journal; what did not
//! arrive yet is known from there ([`crate::store::Store::unpublished`]) and is pushed until it did
//! or until a newer publication takes its place ([`mod@run`]).
//!
//! Invariant: only a judgement that is `reproduced` can become an attestation (by type). Where one
//! stood and the judgement is another now, it is withdrawn. An index is attested only while each of
//! its images is. The bytes are made once: pushing again after a crash changes nothing.

pub mod deliver;
pub mod indexes;
pub mod patience;
pub mod run;
pub mod speaks;
pub mod target;

#[cfg(test)]
pub(super) mod tests;

use super::{
    Core,
    evidence::{self, SubmittedImage},
};
use crate::{
    journal::{Kind, NewRecord},
    store::StoreError,
};
use attest::{
    Digest,
    bundle::Bundle,
    bundle_write::key_bundle,
    id::{JobId, JournalPosition},
    statement::Statement,
    verdict::Judgement,
    vsa::{Verifier, Vsa, VsaError},
};
use patience::Patience;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The schema of a publication that says that no attestation stands.
const NO_ATTESTATION: &str = "assay/no-attestation/v1";

/// What the publishing parts share.
#[derive(Debug, Default)]
pub struct Publishing {
    /// Something new is to be published.
    pub wake: Notify,
    patience: Mutex<Patience>,
    /// Decisions about indexes.
    pub indexes: indexes::Indexes,
}

impl Publishing {
    /// What failed, and how long it is left alone.
    pub fn patience(&self) -> MutexGuard<'_, Patience> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries everything now, also what failed a moment ago.
    pub fn try_now(&self) {
        *self.patience() = Patience::default();
        self.wake.notify_one();
    }
}

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

fn no_attestation(outcome: &str) -> Vec<u8> {
    let (schema, outcome) = (NO_ATTESTATION.to_owned(), outcome.to_owned());
    serde_json::to_vec(&NoAttestation { schema, outcome }).unwrap_or_default()
}

/// What a judgement publishes: once the job has settled, and while it goes on.
#[derive(Debug)]
pub struct OfJob {
    /// When nothing more is asked for.
    pub settled: NewRecord,
    /// While it goes on, and when it is parked: an attestation stands that does not follow from
    /// what is known any more, because something speaks against the image, or because what it
    /// rested on does not count now (a key was revoked).
    pub at_once: Option<NewRecord>,
}

/// The publications that follow from a judgement.
pub fn of_job(core: &Core, id: &JobId, judgement: &Judgement) -> Result<OfJob, PublishError> {
    let record = |body: Vec<u8>| NewRecord::new(Kind::PUBLICATION, id.0, body);
    if let Some(reproduced) = judgement.reproduced() {
        let vsa = Vsa::of_image(&reproduced, &verifier(core), super::wall::now())?;
        return Ok(OfJob { settled: record(bundle(core, &vsa)?), at_once: None });
    }
    let nothing = no_attestation(judgement.outcome.as_str());
    let newest = core.store.newest_about(Kind::PUBLICATION, &id.0)?;
    let stands = newest.is_some_and(|stored| attestation(&stored.body).is_some());
    let at_once = stands.then(|| record(nothing.clone()));
    Ok(OfJob { settled: record(nothing), at_once })
}

fn verifier(core: &Core) -> Verifier {
    let id = core.loaded.config.verifier_id.clone();
    let policy_uri = format!("{}/policy", id.trim_end_matches('/'));
    Verifier { id, version: env!("CARGO_PKG_VERSION").to_owned(), policy_uri }
}

fn bundle(core: &Core, vsa: &Vsa) -> Result<Vec<u8>, PublishError> {
    let key = &core.loaded.verdict_key;
    Ok(key_bundle(&vsa.sign(key)?, key.public())?)
}

/// The record of a submitted image, and where it lies.
fn submitted(
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
fn statement(bundle: &[u8]) -> Option<Statement> {
    Statement::parse(&Bundle::parse(bundle).ok()?.envelope.payload).ok()
}
