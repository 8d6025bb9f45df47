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
pub mod patience;
pub mod run;
pub mod target;

#[cfg(test)]
mod tests;

use super::{
    Core,
    evidence::{self, SubmittedImage, about_image},
};
use crate::{
    journal::{Kind, NewRecord},
    store::StoreError,
};
use attest::{
    Digest, Repository,
    bundle::Bundle,
    bundle_write::key_bundle,
    id::JobId,
    statement::Statement,
    verdict::{self, Judgement, OutcomeClass, Reproduced},
    vsa::{IndexError, IndexImage, Verifier, Vsa, VsaError},
};
use patience::Patience;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The schema of a publication that says that no attestation stands.
const NO_ATTESTATION: &str = "assay/no-attestation/v1";

/// What the publishing parts share.
#[derive(Debug, Default)]
pub struct Publishing {
    /// Something new is to be published.
    pub wake: Notify,
    patience: Mutex<Patience>,
    /// One at a time decides about indexes, so that none is attested twice for one reason.
    turn: tokio::sync::Mutex<()>,
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

fn newest(core: &Core, about: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(core.store.newest_about(Kind::PUBLICATION, about)?.map(|stored| stored.body))
}

/// What a judgement publishes: once the job has settled, and while it goes on.
#[derive(Debug)]
pub struct OfJob {
    /// When nothing more is asked for.
    pub settled: NewRecord,
    /// At once, because an attestation stands that is not true any more.
    pub at_once: Option<NewRecord>,
    /// When the job is parked: what stands rests on answers that do not count any more.
    pub parked: Option<NewRecord>,
}

/// The publications that follow from a judgement.
pub fn of_job(core: &Core, id: &JobId, judgement: &Judgement) -> Result<OfJob, PublishError> {
    let record = |body: Vec<u8>| NewRecord::new(Kind::PUBLICATION, id.0, body);
    if let Some(reproduced) = judgement.reproduced() {
        let vsa = Vsa::of_image(&reproduced, &verifier(core), super::judge::now())?;
        return Ok(OfJob { settled: record(bundle(core, &vsa)?), at_once: None, parked: None });
    }
    let nothing = no_attestation(judgement.outcome.as_str());
    let stands = newest(core, &id.0)?.is_some_and(|body| attestation(&body).is_some());
    let false_now = stands && judgement.outcome.class() == OutcomeClass::Bad;
    let at_once = false_now.then(|| record(nothing.clone()));
    let parked = stands.then(|| record(nothing.clone()));
    Ok(OfJob { settled: record(nothing), at_once, parked })
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

/// Looks whether an image's index can be attested, or can't any more. To be called when a platform
/// of it was judged, and when it was submitted.
pub async fn consider_index(core: &Arc<Core>, repository: &Repository, index: &Digest) {
    match of_index(core, repository, index).await {
        Ok(true) => core.publishing.wake.notify_one(),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(image.digest = %index, %error, "the index's attestation was not made");
        }
    }
}

/// True if something new is to be published.
async fn of_index(
    core: &Core,
    repository: &Repository,
    index: &Digest,
) -> Result<bool, PublishError> {
    let _turn = core.publishing.turn.lock().await;
    let about = about_image(repository, index);
    let Some(image) = submitted(core, &about)? else { return Ok(false) };
    let stands = newest(core, &about)?.filter(|body| attestation(body).is_some());
    let mut published = Vec::new();
    for platform in &image.jobs {
        published.push(newest(core, &platform.job.0)?);
    }
    let is_denied =
        |body: &Option<Vec<u8>>| body.as_ref().is_some_and(|b| attestation(b).is_none());
    let body = if published.iter().any(is_denied) {
        match &stands {
            Some(_) => no_attestation("not every platform is reproduced"),
            None => return Ok(false),
        }
    } else if published.iter().any(Option::is_none) {
        return Ok(false);
    } else {
        match index_bundle(core, &image)? {
            Some(body) if !stands.is_some_and(|old| says_the_same(&old, &body)) => body,
            _ => return Ok(false),
        }
    };
    core.store.append(vec![NewRecord::new(Kind::PUBLICATION, about, body)]).await?;
    Ok(true)
}

/// The record of a submitted image.
fn submitted(core: &Core, about: &Digest) -> Result<Option<SubmittedImage>, PublishError> {
    let Some(stored) = core.store.newest_about(Kind::EVIDENCE, about)? else { return Ok(None) };
    let position = stored.position.0;
    let read = serde_json::from_slice(&stored.body);
    read.map(Some).map_err(|error| PublishError::Submitted { position, error })
}

/// The index's attestation, judged again from the evidence; none unless it covers every entry.
fn index_bundle(core: &Core, image: &SubmittedImage) -> Result<Option<Vec<u8>>, PublishError> {
    let (mut judgements, mut bytes) = (Vec::new(), None);
    for platform in &image.jobs {
        let Some(set) = evidence::set_of(core, &platform.job)? else { return Ok(None) };
        let of_this = |index: &Vec<u8>| Digest::of(index) == image.digest;
        bytes = bytes.or_else(|| set.index.clone().filter(of_this));
        judgements.push(verdict::judge(&core.loaded.policy, &set));
    }
    let Some(bytes) = bytes else { return Ok(None) };
    let reproduced: Option<Vec<Reproduced<'_>>> =
        judgements.iter().map(Judgement::reproduced).collect();
    let Some(reproduced) = reproduced else { return Ok(None) };
    // Intake keeps no manifests of left-out entries: an index that has some is not attested.
    let index = IndexImage { bytes: &bytes, reproduced: &reproduced, attestation_manifests: &[] };
    match Vsa::of_index(&index, &verifier(core), super::judge::now()) {
        Ok(vsa) => Ok(Some(bundle(core, &vsa)?)),
        Err(VsaError::Index(why @ IndexError::Uncovered { .. })) => {
            tracing::info!(image.digest = %image.digest, %why, "the index is not attested");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The statement in one of our bundles, if `key` signed it.
fn statement(bundle: &[u8]) -> Option<Statement> {
    Statement::parse(&Bundle::parse(bundle).ok()?.envelope.payload).ok()
}

/// True if two attestations differ in their time alone.
fn says_the_same(old: &[u8], new: &[u8]) -> bool {
    let timeless = |bundle: &[u8]| {
        let mut statement = statement(bundle)?;
        statement.predicate.as_object_mut()?.remove("timeVerified");
        Some(statement)
    };
    match (timeless(old), timeless(new)) {
        (Some(old), Some(new)) => old == new,
        _ => false,
    }
}
