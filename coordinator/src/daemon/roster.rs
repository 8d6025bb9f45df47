//! Who is an operator, and which workers it vouches for: from signed records in the journal.
//!
//! Invariant: an operator's record is signed by the root key that it names, a worker's by the root
//! key of the operator that it names, a revocation likewise; nothing here was made by the
//! coordinator. That a name belongs to a key is only the coordinator's own view: gates have theirs.

use crate::{
    journal::{Kind, NewRecord, Stored},
    store::{Store, StoreError},
};
use attest::{
    Digest,
    dsse::Envelope,
    id::{OperatorId, WorkerId},
    key::PublicKey,
    record::{KeyRevocation, OperatorRecord, Record, RecordError, WorkerRecord},
};
use std::collections::{BTreeMap, BTreeSet};

/// Records read at a time.
const PAGE: usize = 500;

/// A record that can't be taken in.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    /// It is not the record that it should be, or not signed by whom it must be.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// The journal holds something that is no envelope.
    #[error("record {position} of the journal is no envelope: {problem}")]
    Journal {
        /// Where.
        position: u64,
        /// Why.
        problem: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name is taken by another root key.
    #[error("operator {0} is here already, under another root key")]
    NameTaken(OperatorId),
    /// No such operator.
    #[error("operator {0} is not known; `assay operator add` comes first")]
    UnknownOperator(OperatorId),
    /// The key is another operator's worker.
    #[error("worker {worker} belongs to operator {operator}")]
    WorkerTaken {
        /// The worker.
        worker: WorkerId,
        /// Whose it is.
        operator: OperatorId,
    },
    /// The key was revoked.
    #[error("key {0} was revoked; a revoked key never comes back")]
    Revoked(Digest),
}

/// An operator.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Its root key.
    pub root_key: PublicKey,
    /// The record as signed.
    pub record: Envelope,
}

/// A worker.
#[derive(Debug, Clone)]
pub struct EnrolledWorker {
    /// Who vouches for it.
    pub operator: OperatorId,
    /// Its key.
    pub key: PublicKey,
    /// The record as signed.
    pub record: Envelope,
}

/// Operators, workers, revocations.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    /// By name.
    pub operators: BTreeMap<OperatorId, Operator>,
    /// By key.
    pub workers: BTreeMap<WorkerId, EnrolledWorker>,
    /// Keys that are not believed.
    pub revoked: BTreeSet<Digest>,
    /// The revocations as signed.
    pub revocations: Vec<Envelope>,
}

/// What a record in the journal is about: a name has no digest of its own.
pub fn about_operator(operator: &OperatorId) -> Digest {
    Digest::of(operator.as_str().as_bytes())
}

impl Roster {
    /// Reads all records.
    pub fn read(store: &dyn Store) -> Result<Self, RosterError> {
        let mut roster = Self::default();
        for stored in all(store, Kind::OPERATOR)? {
            roster.take_operator(&envelope(&stored)?)?;
        }
        for stored in all(store, Kind::WORKER)? {
            roster.take_worker(&envelope(&stored)?)?;
        }
        for stored in all(store, Kind::REVOCATION)? {
            roster.take_revocation(&envelope(&stored)?)?;
        }
        Ok(roster)
    }

    /// The worker of this key, unless it or its operator was revoked.
    pub fn worker(&self, worker: &WorkerId) -> Option<&EnrolledWorker> {
        let found = self.workers.get(worker)?;
        let root = self.operators.get(&found.operator)?.root_key.id();
        let believed = !self.revoked.contains(&worker.0) && !self.revoked.contains(&root);
        believed.then_some(found)
    }

    /// Checks an operator's record and gives the journal record for it.
    pub fn take_operator(&mut self, envelope: &Envelope) -> Result<NewRecord, RosterError> {
        let claimed = OperatorRecord::read_unverified(envelope)?;
        let record = OperatorRecord::open(envelope, &claimed.root_key)?;
        if self.revoked.contains(&record.root_key.id()) {
            return Err(RosterError::Revoked(record.root_key.id()));
        }
        if let Some(there) = self.operators.get(&record.operator)
            && there.root_key != record.root_key
        {
            return Err(RosterError::NameTaken(record.operator));
        }
        let about = about_operator(&record.operator);
        let operator = Operator { root_key: record.root_key, record: envelope.clone() };
        self.operators.insert(record.operator, operator);
        Ok(NewRecord::new(Kind::OPERATOR, about, envelope.to_json()))
    }

    /// Checks a worker's record.
    pub fn take_worker(&mut self, envelope: &Envelope) -> Result<NewRecord, RosterError> {
        let name = WorkerRecord::read_unverified(envelope)?.operator;
        let operator =
            self.operators.get(&name).ok_or_else(|| RosterError::UnknownOperator(name.clone()))?;
        let record = WorkerRecord::open(envelope, &operator.root_key)?;
        let worker = record.worker();
        if self.revoked.contains(&worker.0) {
            return Err(RosterError::Revoked(worker.0));
        }
        if let Some(there) = self.workers.get(&worker)
            && there.operator != name
        {
            let operator = there.operator.clone();
            return Err(RosterError::WorkerTaken { worker, operator });
        }
        let enrolled = EnrolledWorker { operator: name, key: record.key, record: envelope.clone() };
        self.workers.insert(worker, enrolled);
        Ok(NewRecord::new(Kind::WORKER, worker.0, envelope.to_json()))
    }

    /// Checks a revocation: an operator takes back its own keys only.
    pub fn take_revocation(&mut self, envelope: &Envelope) -> Result<NewRecord, RosterError> {
        let name = KeyRevocation::read_unverified(envelope)?.operator;
        let operator =
            self.operators.get(&name).ok_or_else(|| RosterError::UnknownOperator(name.clone()))?;
        let record = KeyRevocation::open(envelope, &operator.root_key)?;
        if let Some(worker) = self.workers.get(&WorkerId(record.key))
            && worker.operator != name
        {
            let operator = worker.operator.clone();
            return Err(RosterError::WorkerTaken { worker: WorkerId(record.key), operator });
        }
        self.revoked.insert(record.key);
        self.revocations.push(envelope.clone());
        Ok(NewRecord::new(Kind::REVOCATION, record.key, envelope.to_json()))
    }
}

fn envelope(stored: &Stored) -> Result<Envelope, RosterError> {
    Envelope::parse(&stored.body).map_err(|error| RosterError::Journal {
        position: stored.position.0,
        problem: error.to_string(),
    })
}

/// All records of a kind, in the order of the journal.
pub(super) fn all(store: &dyn Store, kind: Kind) -> Result<Vec<Stored>, StoreError> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.records_of_kind(kind, cursor, PAGE)?;
        let Some(last) = page.last() else { break };
        cursor = Some((last.about, last.position));
        found.extend(page);
    }
    found.sort_by_key(|stored| stored.position);
    Ok(found)
}
