//! Which lease an observation was made under, and what came first.
//!
//! Where the policy pins the coordinator's key, leases and announcements count only with its
//! signature, and attempt, fence and worker must be those of the lease. Where it pins none, the
//! worker's own signed words are all there is: attempt, lease and fence are then taken from the
//! observation, and nobody can tell a late answer from a timely one except by a higher fence of
//! the same operator in the same attempt.
//! Invariant: no clock decides what is late; a position in a journal or a "late" mark is not read.

use super::why::Why;
use crate::{
    Digest,
    evidence_set::EvidenceSet,
    id::{Attempt, JobId, ObservationId},
    observation::Observation,
    policy::Policy,
    record::{JobAnnounce, Lease, Receipt, Record},
    time::Timestamp,
};
use std::collections::BTreeMap;

/// The leases and announcements of one job that the pinned coordinator signed.
#[derive(Debug, Default)]
pub(super) struct Leases {
    pinned: bool,
    leases: Vec<(Lease, Digest)>,
    announces: Vec<JobAnnounce>,
    /// For each announced opening, whether a dissent caused it. Of unsigned or foreign
    /// announcements too where no coordinator is pinned: it decides what is asked, never a verdict.
    openings: BTreeMap<Attempt, bool>,
    /// When the pinned coordinator had each observation, by its earliest receipt.
    received: BTreeMap<ObservationId, Timestamp>,
}

impl Leases {
    pub(super) fn new(policy: &Policy, set: &EvidenceSet, job: &JobId) -> Self {
        let Some(key) = &policy.coordinator else {
            let read = |envelope| JobAnnounce::read_unverified(envelope).ok();
            let announces = set.announces.iter().filter_map(read);
            let announces = announces.filter(|a| a.job == *job && a.subject == set.subject);
            return Self { openings: openings(announces), ..Self::default() };
        };
        // What names another job is not worth a signature check.
        let lease = |envelope: &crate::dsse::Envelope| {
            let lease = Lease::read_unverified(envelope).ok().filter(|l| l.job == *job)?;
            envelope.verify(key).ok()?;
            Some((lease, envelope.signed_digest()))
        };
        let announce = |envelope: &crate::dsse::Envelope| {
            let announce = JobAnnounce::read_unverified(envelope).ok();
            let announce = announce.filter(|a| a.job == *job && a.subject == set.subject)?;
            envelope.verify(key).ok()?;
            Some(announce)
        };
        let mut leases: Vec<_> = set.leases.iter().filter_map(lease).collect();
        leases.sort_by_key(|(_, signed)| *signed);
        leases.dedup_by_key(|(_, signed)| *signed);
        let announces: Vec<_> = set.announces.iter().filter_map(announce).collect();
        let openings = openings(announces.iter().cloned());
        let mut received = BTreeMap::new();
        let receipts = set.receipts.iter().filter_map(|envelope| Receipt::open(envelope, key).ok());
        // 1970 is what a clock gives that cannot be read: it is before every compromise.
        for receipt in receipts.filter(|receipt| receipt.received_at != Timestamp::default()) {
            let at = received.entry(receipt.observation).or_insert(receipt.received_at);
            *at = receipt.received_at.min(*at);
        }
        Self { pinned: true, leases, announces, openings, received }
    }

    /// When the pinned coordinator had this observation, if a receipt says so.
    pub(super) fn received_at(&self, observation: &ObservationId) -> Option<Timestamp> {
        self.received.get(observation).copied()
    }

    pub(super) fn pinned(&self) -> bool {
        self.pinned
    }

    /// The lease that this observation names, if the pinned coordinator granted exactly that.
    /// `Ok(None)` where no coordinator is pinned.
    pub(super) fn lease_of(
        &self,
        observation: &Observation,
    ) -> Result<Option<&(Lease, Digest)>, Why> {
        if !self.pinned {
            return Ok(None);
        }
        let named = || self.leases.iter().filter(|(l, _)| l.lease == observation.lease);
        // The coordinator may have signed one identity twice; the observation must fit one whole.
        let fits = |lease: &Lease| {
            lease.worker == observation.worker
                && lease.attempt == observation.attempt
                && lease.fence == observation.fence
        };
        if let Some(found) = named().find(|(lease, _)| fits(lease)) {
            return self.current(&found.0).map(|()| Some(found));
        }
        let Some((lease, _)) = named().next() else {
            return Err(Why::NoLease { lease: observation.lease });
        };
        Err(if lease.worker != observation.worker {
            Why::LeaseOfAnotherWorker { lease: lease.lease, worker: lease.worker }
        } else if lease.attempt != observation.attempt {
            Why::OtherLease { lease: lease.lease, attempt: lease.attempt }
        } else {
            Why::StaleFence { found: observation.fence, current: lease.fence }
        })
    }

    /// A lease is current until the same slot of the same attempt is leased with a higher fence.
    fn current(&self, lease: &Lease) -> Result<(), Why> {
        let same_slot = |other: &&(Lease, Digest)| {
            other.0.attempt == lease.attempt && other.0.slot == lease.slot
        };
        let newest = self.leases.iter().filter(same_slot).map(|(l, _)| l.fence).max();
        match newest {
            Some(current) if current > lease.fence => {
                Err(Why::StaleFence { found: lease.fence, current })
            }
            _ => Ok(()),
        }
    }

    /// m: how many observations the first opening of the job wanted; none if that is not known.
    pub(super) fn wanted_at_first(&self) -> Option<u32> {
        self.wanted_in(Attempt(1))
    }

    /// How many observations this opening of the job wanted.
    pub(super) fn wanted_in(&self, attempt: Attempt) -> Option<u32> {
        let of_attempt = self.announces.iter().filter(|a| a.attempt == attempt);
        of_attempt.map(|a| a.observations_wanted).max()
    }

    /// The newest opening of the job that is on record.
    pub(super) fn newest_attempt(&self) -> Option<Attempt> {
        let leased = self.leases.iter().map(|(lease, _)| lease.attempt);
        self.announces.iter().map(|a| a.attempt).chain(leased).max()
    }

    /// How many openings in a row, back from the newest, the last question took: each that a
    /// dissent caused, and the one before them (the first of all, a recheck, an unparking). An
    /// opening whose announcement is missing ends the row: the queue counts too, and parks.
    pub(super) fn openings(&self) -> Option<u64> {
        let (mut at, mut row) = (self.newest_attempt().max(self.newest_announced())?, 1);
        while at.0 > 1 && self.openings.get(&at) == Some(&true) {
            (at, row) = (Attempt(at.0 - 1), row + 1);
        }
        Some(row)
    }

    fn newest_announced(&self) -> Option<Attempt> {
        self.openings.last_key_value().map(|(attempt, _)| *attempt)
    }

    /// The first attempt that was opened because of each dissent.
    pub(super) fn reopenings(&self) -> BTreeMap<ObservationId, Attempt> {
        let mut first = BTreeMap::new();
        for announce in &self.announces {
            for dissent in &announce.reopened_by {
                let attempt = first.entry(*dissent).or_insert(announce.attempt);
                *attempt = announce.attempt.min(*attempt);
            }
        }
        first
    }
}

/// Attempts, and whether any announcement of each says that a dissent caused it.
fn openings(announces: impl Iterator<Item = JobAnnounce>) -> BTreeMap<Attempt, bool> {
    let mut openings = BTreeMap::new();
    for announce in announces {
        *openings.entry(announce.attempt).or_default() |= !announce.reopened_by.is_empty();
    }
    openings
}
