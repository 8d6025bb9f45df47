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

mod attestation;
pub mod deliver;
mod error;
pub mod indexes;
pub mod patience;
pub mod run;
pub mod speaks;
pub mod target;

pub use attestation::attestation;
pub use error::PublishError;

#[cfg(test)]
pub(super) mod tests;

use super::Core;
use crate::journal::{Kind, NewRecord};
use attest::{id::JobId, verdict::Judgement, vsa::Vsa};
use attestation::{bundle, no_attestation, verifier};
use patience::Patience;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

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
