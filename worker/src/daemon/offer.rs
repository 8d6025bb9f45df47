//! What a worker accepts from a coordinator: a lease and a job, both signed by the key that the
//! worker's configuration pins, that fit each other and this worker.
//!
//! Invariant: the job's identity is recomputed from its content, so a coordinator can't swap the
//! subject, the platform or the recipes under a lease. Times of the coordinator decide nothing here.

use attest::{
    dsse::Envelope,
    id::{JobId, WorkerId},
    key::PublicKey,
    record::{JobAnnounce, Lease, Record, RecordError},
};
use proto::v1;

/// A lease and its job, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedOffer {
    /// The permission.
    pub lease: Lease,
    /// What is to be rebuilt.
    pub announce: JobAnnounce,
}

/// Why an offer is refused.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// Lease or job is no envelope.
    #[error("the {what} is no signed envelope: {problem}")]
    Envelope {
        /// Lease or job.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Not signed by the coordinator's key, or not a record at all.
    #[error("the {what} is not the coordinator's: {error}")]
    Record {
        /// Lease or job.
        what: &'static str,
        /// What is wrong with it.
        error: RecordError,
    },
    /// The lease is another worker's.
    #[error("expected a lease for worker {expected}, found one for {found}")]
    OtherWorker {
        /// This worker.
        expected: WorkerId,
        /// The lease's.
        found: WorkerId,
    },
    /// Lease and job do not belong together.
    #[error("expected a job that the lease is for ({expected}), found {found}")]
    OtherJob {
        /// Job and attempt of the lease.
        expected: String,
        /// Job and attempt of the announcement.
        found: String,
    },
    /// The job's name is not that of its content.
    #[error("expected job {named} to be its content, whose name is {content}")]
    Renamed {
        /// The name in the announcement.
        named: JobId,
        /// The name that its content has.
        content: JobId,
    },
}

impl OfferError {
    /// True where another key than the pinned one signed: the next offer will be no better.
    pub fn is_another_key(&self) -> bool {
        matches!(self, Self::Record { error: RecordError::Envelope(_), .. })
    }
}

fn envelope(what: &'static str, bytes: &[u8]) -> Result<Envelope, OfferError> {
    Envelope::parse(bytes).map_err(|e| OfferError::Envelope { what, problem: e.to_string() })
}

/// Reads and checks an offer as it came.
pub fn read(
    offer: &v1::Offer,
    coordinator: &PublicKey,
    worker: WorkerId,
) -> Result<CheckedOffer, OfferError> {
    let lease = envelope("lease", &offer.lease_envelope)?;
    let announce = envelope("job", &offer.announce_envelope)?;
    check(&lease, &announce, coordinator, worker)
}

/// The lease of an offer that nobody checked, if it is this worker's: enough to give it back.
pub fn unverified_lease(offer: &v1::Offer, worker: WorkerId) -> Option<Lease> {
    let lease = Lease::read_unverified(&envelope("lease", &offer.lease_envelope).ok()?).ok()?;
    (lease.worker == worker).then_some(lease)
}

/// Checks an offer.
pub fn check(
    lease: &Envelope,
    announce: &Envelope,
    coordinator: &PublicKey,
    worker: WorkerId,
) -> Result<CheckedOffer, OfferError> {
    let bad = |what| move |error| OfferError::Record { what, error };
    let lease = Lease::open(lease, coordinator).map_err(bad("lease"))?;
    let announce = JobAnnounce::open(announce, coordinator).map_err(bad("job"))?;
    if lease.worker != worker {
        return Err(OfferError::OtherWorker { expected: worker, found: lease.worker });
    }
    if (lease.job, lease.attempt) != (announce.job, announce.attempt) {
        return Err(OfferError::OtherJob {
            expected: format!("{} attempt {}", lease.job, lease.attempt),
            found: format!("{} attempt {}", announce.job, announce.attempt),
        });
    }
    let subject = &announce.subject;
    let content =
        JobId::of(&subject.repository, &subject.digest, &subject.platform, &announce.recipes);
    if content != announce.job {
        return Err(OfferError::Renamed { named: announce.job, content });
    }
    Ok(CheckedOffer { lease, announce })
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::{
        Digest, Platform, Subject,
        id::{Attempt, Fence, LeaseId},
        key::SigningKey,
        time::Timestamp,
    };

    fn offer(worker: WorkerId) -> (Lease, JobAnnounce) {
        let subject = Subject {
            repository: "demo/hello".parse().unwrap(),
            digest: Digest::of(b"m"),
            platform: Platform::linux("amd64"),
        };
        let recipes = vec![Digest::of(b"r")];
        let job = JobId::of(&subject.repository, &subject.digest, &subject.platform, &recipes);
        let now = Timestamp::from_unix(1_800_000_000).unwrap();
        let announce = JobAnnounce {
            job,
            subject,
            index: None,
            recipes,
            evidence: vec![],
            rebuilder: "apko".into(),
            observations_wanted: 3,
            class: "push".into(),
            attempt: Attempt(1),
            reopened_by: vec![],
            announced_at: now,
            eligible_checkpoint: None,
            beacon_round: None,
        };
        let lease = Lease {
            job,
            attempt: Attempt(1),
            slot: 0,
            worker,
            lease: LeaseId([1; 16]),
            fence: Fence(1),
            issued_at: now,
            not_after: now,
            salt: None,
        };
        (lease, announce)
    }

    #[test]
    fn what_a_bad_coordinator_tries() {
        let (coordinator, other) =
            (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let me = WorkerId(Digest::of(b"me"));
        let (lease, announce) = offer(me);
        let judge = |lease: &Lease, announce: &JobAnnounce, by: &SigningKey| {
            let (l, a) = (lease.sign(by).unwrap(), announce.sign(by).unwrap());
            check(&l, &a, coordinator.public(), me)
        };
        assert!(judge(&lease, &announce, &coordinator).is_ok());
        let by_another = judge(&lease, &announce, &other).unwrap_err();
        assert!(matches!(by_another, OfferError::Record { .. }) && by_another.is_another_key());
        let offered = v1::Offer {
            lease_envelope: lease.sign(&other).unwrap().to_json(),
            ..v1::Offer::default()
        };
        assert_eq!(unverified_lease(&offered, me).unwrap(), lease);
        assert_eq!(unverified_lease(&offered, WorkerId(Digest::of(b"you"))), None);
        let no_job = read(&offered, other.public(), me).unwrap_err();
        assert!(matches!(no_job, OfferError::Envelope { what: "job", .. }));
        assert!(!no_job.is_another_key());
        let stolen = Lease { worker: WorkerId(Digest::of(b"you")), ..lease.clone() };
        assert!(matches!(
            judge(&stolen, &announce, &coordinator),
            Err(OfferError::OtherWorker { .. })
        ));
        let later = Lease { attempt: Attempt(2), ..lease.clone() };
        assert!(matches!(judge(&later, &announce, &coordinator), Err(OfferError::OtherJob { .. })));
        let mut swapped = announce.clone();
        swapped.recipes = vec![Digest::of(b"other")];
        assert!(matches!(judge(&lease, &swapped, &coordinator), Err(OfferError::Renamed { .. })));
        let mut swapped = announce;
        swapped.subject.repository = "demo/other".parse().unwrap();
        assert!(matches!(judge(&lease, &swapped, &coordinator), Err(OfferError::Renamed { .. })));
    }
}
