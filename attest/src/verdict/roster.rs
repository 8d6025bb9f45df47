//! Who speaks for whom: the policy's operators, the workers that their root keys vouch for, and
//! what they revoked.
//!
//! Invariant: a name binds nothing. A worker belongs to an operator only if a record says so that
//! the root key in *this policy* signed; a revocation counts only from that key too. What a record
//! says of itself can take something away (validity, affiliations), never add.

use super::why::Why;
use crate::{
    Digest,
    dsse::Envelope,
    evidence_set::EvidenceSet,
    id::{OperatorId, WorkerId},
    key::PublicKey,
    policy::Policy,
    record::{KeyRevocation, OperatorRecord, Record, Validity, WorkerRecord},
    time::Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// A worker's record, with the digest of what was signed.
#[derive(Debug)]
pub(super) struct Vouched {
    pub(super) valid: Validity,
    pub(super) signed: Digest,
    key: PublicKey,
}

/// One operator of the quorum.
#[derive(Debug)]
pub(super) struct Member {
    root_key: PublicKey,
    pub(super) affiliations: BTreeSet<String>,
    /// From its own records; empty: no restriction.
    periods: Vec<Validity>,
    workers: BTreeMap<WorkerId, Vec<Vouched>>,
    /// Workers that a record with the right names, but by another key, speaks of.
    foreign: BTreeSet<WorkerId>,
    /// Keys, and since when each is not believed (none: at no time).
    revoked: BTreeMap<Digest, Option<Timestamp>>,
}

/// The operators of the quorum, by name.
#[derive(Debug)]
pub(super) struct Roster {
    members: BTreeMap<OperatorId, Member>,
    others: BTreeSet<OperatorId>,
}

/// When an observation was made, as far as it can be known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    /// The worker's own clock.
    pub(super) observed_at: Timestamp,
    /// When the pinned coordinator granted the lease, if it did.
    pub(super) leased_at: Option<Timestamp>,
    /// When the pinned coordinator had it, by its receipt.
    pub(super) received_at: Option<Timestamp>,
}

impl Roster {
    /// The quorum's operators with those of their records that speak of `wanted` workers.
    pub(super) fn new(policy: &Policy, set: &EvidenceSet, wanted: &BTreeSet<WorkerId>) -> Self {
        let quorum = policy.quorum.as_ref().map(|q| q.operators.as_slice()).unwrap_or_default();
        let member = |name: &OperatorId| {
            let operator = policy.operator(name)?;
            let member = Member {
                root_key: operator.root_key.clone(),
                affiliations: operator.affiliations.iter().cloned().collect(),
                periods: Vec::new(),
                workers: BTreeMap::new(),
                foreign: BTreeSet::new(),
                revoked: BTreeMap::new(),
            };
            Some((name.clone(), member))
        };
        let mut members: BTreeMap<_, _> = quorum.iter().filter_map(member).collect();
        for envelope in &set.workers {
            vouch(&mut members, envelope, wanted);
        }
        for envelope in &set.operators {
            restrict(&mut members, envelope);
        }
        for envelope in &set.revocations {
            revoke(&mut members, envelope);
        }
        for member in members.values_mut() {
            for records in member.workers.values_mut() {
                records.sort_by_key(|record| record.signed);
            }
        }
        let others = policy.operators.iter().map(|o| o.name.clone());
        let others = others.filter(|name| !members.contains_key(name)).collect();
        Self { members, others }
    }

    pub(super) fn member(&self, operator: &OperatorId) -> Option<&Member> {
        self.members.get(operator)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &OperatorId> {
        self.members.keys()
    }

    /// The member of that name for whom the worker signed this envelope.
    pub(super) fn authenticate(
        &self,
        operator: &OperatorId,
        worker: &WorkerId,
        envelope: &Envelope,
    ) -> Result<&Member, Why> {
        let Some(member) = self.members.get(operator) else {
            let known = self.others.contains(operator);
            return Err(if known { Why::NotInQuorum } else { Why::UnknownOperator });
        };
        let Some(record) = member.workers.get(worker).and_then(|records| records.first()) else {
            let worker = *worker;
            let forged = member.foreign.contains(&worker);
            return Err(if forged {
                Why::ForeignRootKey { worker }
            } else {
                Why::UnvouchedWorker { worker }
            });
        };
        // All records of one worker hold the same key: its identity is the key's digest.
        envelope.verify(&record.key).map_err(|_| Why::WrongSignature { worker: *worker })?;
        Ok(member)
    }
}

impl Member {
    /// The record under which the worker stood at these moments.
    pub(super) fn standing(&self, worker: &WorkerId, moments: Moments) -> Result<&Vouched, Why> {
        for key in [worker.0, self.root_key.id()] {
            if let Some(since) = self.revoked.get(&key) {
                // The worker's clock is the key holder's word, and a lease that was never answered
                // can be answered by a thief; only a receipt of the pinned coordinator shows that
                // the observation was there before the compromise.
                let before = |since: &Timestamp| moments.received_at.is_some_and(|at| at < *since);
                if !since.as_ref().is_some_and(before) {
                    return Err(Why::RevokedKey { since: *since, dissent: false });
                }
            }
        }
        let times = [Some(moments.observed_at), moments.leased_at];
        let holds = |valid: &Validity| times.iter().flatten().all(|at| valid.contains(*at));
        let operates = self.periods.is_empty() || self.periods.iter().any(holds);
        let records = self.workers.get(worker).map(Vec::as_slice).unwrap_or_default();
        records
            .iter()
            .find(|record| operates && holds(&record.valid))
            .ok_or(Why::ExpiredRecord { at: moments.leased_at.unwrap_or(moments.observed_at) })
    }
}

type Members = BTreeMap<OperatorId, Member>;

fn vouch(members: &mut Members, envelope: &Envelope, wanted: &BTreeSet<WorkerId>) {
    let Ok(record) = WorkerRecord::read_unverified(envelope) else { return };
    let worker = record.worker();
    let Some(member) = members.get_mut(&record.operator) else { return };
    if !wanted.contains(&worker) {
        return;
    }
    if envelope.verify(&member.root_key).is_err() {
        member.foreign.insert(worker);
        return;
    }
    let signed = envelope.signed_digest();
    let vouched = Vouched { valid: record.valid, signed, key: record.key };
    member.workers.entry(worker).or_default().push(vouched);
}

fn restrict(members: &mut Members, envelope: &Envelope) {
    let Ok(record) = OperatorRecord::read_unverified(envelope) else { return };
    let Some(member) = members.get_mut(&record.operator) else { return };
    if record.root_key != member.root_key || envelope.verify(&member.root_key).is_err() {
        return;
    }
    member.affiliations.extend(record.affiliations);
    member.periods.push(record.valid);
}

fn revoke(members: &mut Members, envelope: &Envelope) {
    let Ok(record) = KeyRevocation::read_unverified(envelope) else { return };
    let Some(member) = members.get_mut(&record.operator) else { return };
    if envelope.verify(&member.root_key).is_err() {
        return;
    }
    // Of several revocations the earliest compromise counts, and "always" before any.
    let since = member.revoked.entry(record.key).or_insert(record.compromised_since);
    *since = match (*since, record.compromised_since) {
        (Some(a), Some(b)) => Some(a.min(b)),
        _ => None,
    };
}
