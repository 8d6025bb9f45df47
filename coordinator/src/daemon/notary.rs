//! Signs what the coordinator says: leases, announcements, receipts.
//!
//! Invariant: only with the coordinator's verdict key, only what the store decided.

use crate::{
    queue::{Job, Offer},
    setup::Loaded,
    store::Notary,
};
use attest::{
    Digest,
    id::ObservationId,
    key::SigningKey,
    record::{JobAnnounce, Lease, Record},
    time::Timestamp,
};

/// Signs leases for the store.
pub struct LeaseNotary {
    key: SigningKey,
}

impl LeaseNotary {
    /// With the coordinator's key.
    pub fn of(loaded: &Loaded) -> Result<Self, attest::key::KeyError> {
        Ok(Self { key: loaded.verdict_key_again()? })
    }
}

impl Notary for LeaseNotary {
    fn lease(&self, job: &Job, offer: &Offer, wall: Timestamp) -> Option<Vec<u8>> {
        let seconds = i64::try_from(offer.execution_ms_max / 1000).unwrap_or(i64::MAX);
        let not_after = wall.unix().saturating_add(seconds);
        let lease = Lease {
            job: job.spec.id,
            attempt: offer.attempt,
            slot: offer.slot,
            worker: offer.grant.worker,
            lease: offer.grant.lease,
            fence: offer.grant.fence,
            issued_at: wall,
            not_after: Timestamp::from_unix(not_after).unwrap_or(wall),
            salt: None,
        };
        match lease.sign(&self.key) {
            Ok(envelope) => Some(envelope.to_json()),
            Err(error) => {
                tracing::error!(%error, "a lease could not be signed");
                None
            }
        }
    }
}

/// What an announcement says beside what the job says.
#[derive(Debug, Clone)]
pub struct AnnouncedFacts {
    /// The index in which the subject was found.
    pub index: Option<Digest>,
    /// The evidence that was known.
    pub evidence: Vec<Digest>,
    /// Every dissent that was known before this opening, where dissent caused it: its leases
    /// answer them.
    pub reopened_by: Vec<ObservationId>,
}

/// The announcement of a job as it is now.
pub fn announcement(
    job: &Job,
    facts: &AnnouncedFacts,
    key: &SigningKey,
    now: Timestamp,
) -> Option<Vec<u8>> {
    let announce = JobAnnounce {
        job: job.spec.id,
        subject: job.spec.subject.clone(),
        index: facts.index,
        recipes: job.spec.recipes.clone(),
        evidence: facts.evidence.clone(),
        rebuilder: job.spec.rebuilder.clone(),
        observations_wanted: u32::try_from(job.slots.len()).unwrap_or(u32::MAX),
        class: job.class.as_str().to_owned(),
        attempt: job.attempt,
        reopened_by: facts.reopened_by.clone(),
        announced_at: now,
        eligible_checkpoint: None,
        beacon_round: None,
    };
    match announce.sign(key) {
        Ok(envelope) => Some(envelope.to_json()),
        Err(error) => {
            tracing::error!(%error, job.id = %job.spec.id, "a job could not be signed");
            None
        }
    }
}
