//! What was acknowledged, and whether the journal has it: exactly once, at its place.
//!
//! Invariant: an entry is made only when the acknowledgement has arrived, and never taken back.

use crate::shown;
use ::coordinator::journal::{Kind, RealDisk, examine};
use attest::Digest;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Acknowledgements, from any number of clients.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// SHA-256 of an observation's envelope, and the position that its receipt names.
    receipts: BTreeMap<Digest, u64>,
    /// Jobs that a submission was answered with.
    jobs: BTreeSet<Digest>,
    /// Signed leases and announcements that workers were given.
    given: BTreeSet<(Kind, Digest)>,
    /// A receipt that was given twice with different places.
    moved: Vec<String>,
}

/// What a look at the journal found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found {
    /// Records in the journal.
    pub records: u64,
    /// Acknowledged observations, leases and announcements that are not there, or not where a
    /// receipt says.
    pub lost: u64,
    /// Observations, leases and announcements that are there more than once.
    pub doubled: u64,
    /// Acknowledged jobs that are not there.
    pub jobs_lost: u64,
}

impl Found {
    /// Nothing lost, nothing doubled.
    pub fn good(&self) -> bool {
        self.lost + self.doubled + self.jobs_lost == 0
    }
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A receipt arrived.
    pub fn receipt(&self, envelope: &[u8], position: u64) {
        let mut entries = self.lock();
        if let Some(before) = entries.receipts.insert(Digest::of(envelope), position)
            && before != position
        {
            entries.moved.push(format!("one observation at {before} and {position}"));
        }
    }

    /// A submission was answered.
    pub fn job(&self, job: Digest) {
        self.lock().jobs.insert(job);
    }

    /// A worker was given a signed lease or announcement.
    pub fn given(&self, kind: Kind, envelope: &[u8]) {
        self.lock().given.insert((kind, Digest::of(envelope)));
    }

    /// Acknowledged records: observations with a receipt, leases and announcements that were given.
    pub fn acknowledged(&self) -> u64 {
        let entries = self.lock();
        (entries.receipts.len() + entries.given.len()) as u64
    }

    /// How many receipts there are.
    pub fn receipts(&self) -> u64 {
        self.lock().receipts.len() as u64
    }

    /// How many submissions were answered.
    pub fn jobs(&self) -> u64 {
        self.lock().jobs.len() as u64
    }

    /// Holds the journal in a data directory against what was acknowledged. Changes nothing.
    pub fn check(&self, data: &Path) -> Result<Found, String> {
        let disk = RealDisk::new(&data.join("journal")).map_err(shown)?;
        let (mut places, mut announced) = (BTreeMap::new(), BTreeSet::new());
        let mut found = Found::default();
        let examined = examine(&disk, |stored| {
            if matches!(stored.kind, Kind::OBSERVATION | Kind::LEASE | Kind::ANNOUNCE) {
                let record = (stored.kind, Digest::of(&stored.body));
                found.doubled += u64::from(places.insert(record, stored.position.0).is_some());
            }
            if stored.kind == Kind::ANNOUNCE {
                announced.insert(stored.about);
            }
        });
        let examined = examined.map_err(shown)?;
        if let Some(fault) = examined.fault {
            return Err(format!("the journal does not start: {fault}"));
        }
        found.records = examined.end.0;
        let entries = self.lock();
        if let Some(moved) = entries.moved.first() {
            return Err(format!("receipts that contradict each other: {moved}"));
        }
        let place = |body: &Digest| places.get(&(Kind::OBSERVATION, *body));
        let receipts = entries.receipts.iter().filter(|(body, at)| place(body) != Some(*at));
        let given = entries.given.iter().filter(|record| !places.contains_key(*record));
        found.lost = (receipts.count() + given.count()) as u64;
        found.jobs_lost = entries.jobs.difference(&announced).count() as u64;
        Ok(found)
    }
}
