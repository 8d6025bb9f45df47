//! Whose word it is: signatures, borrowed names, invented operators, keys that were revoked,
//! records that expired. Only the policy's root keys bind a worker to an operator.

use super::super::fleet::*;
use super::{fleet, refused_for};
use crate::{
    dsse::Envelope,
    key::SigningKey,
    observation::Observation,
    record::{OperatorRecord, Receipt, Record, Validity},
};

#[test]
fn signed_again_by_another_worker() {
    let mut fleet = fleet();
    let (observation, lease) = fleet.prepared(0, 1, same());
    fleet.lease(&lease);
    let (payload_type, payload) = observation.encode().unwrap();
    fleet.file(Envelope::sign(&keys().workers[1], payload_type, payload).unwrap());
    refused_for(&fleet, "acme (unverified)", "wrong-signature");
    // Beside the real one it changes nothing but that it is listed.
    fleet.file(observation.sign(&keys().workers[0]).unwrap());
    assert_eq!(fleet.outcome(), "reproduced");
}

#[test]
fn changed_after_it_was_signed() {
    let mut fleet = fleet();
    fleet.observe(0, 1, other(1));
    let envelope = &mut fleet.set.observations[1].envelope;
    let (mut honest, _) = Fleet::new(3, 2).prepared(0, 1, same());
    honest.lease = Observation::read(envelope).unwrap().lease;
    envelope.payload = honest.encode().unwrap().1;
    refused_for(&fleet, "acme (unverified)", "wrong-signature");
}

#[test]
fn another_operators_worker_under_a_borrowed_name() {
    let mut fleet = fleet();
    let (mut observation, mut lease) = fleet.prepared(1, 1, same());
    observation.operator = operator(0);
    lease.slot = 9;
    fleet.lease(&lease);
    fleet.file(observation.sign(&keys().workers[1]).unwrap());
    refused_for(&fleet, "acme (unverified)", "unvouched-worker");
}

#[test]
fn an_operator_minted_by_the_coordinator() {
    // A coordinator that makes up an "acme" of its own, with a root key and a worker.
    let mut fleet = fleet();
    let worker = SigningKey::generate().unwrap();
    let mut record = vouched(0, 0, forever());
    record.key = worker.public().clone();
    fleet.set.workers.push(record.sign(&keys().coordinator).unwrap());
    let (mut observation, mut lease) = fleet.prepared(0, 1, same());
    observation.worker = record.worker();
    lease.worker = record.worker();
    fleet.lease(&lease);
    fleet.file(observation.sign(&worker).unwrap());
    refused_for(&fleet, "acme (unverified)", "foreign-root-key");
}

#[test]
fn an_operator_outside_the_policy_or_its_quorum() {
    let mut fleet = fleet();
    fleet.set.workers.push(vouch(5, 5, forever()));
    fleet.observe(5, 1, same());
    refused_for(&fleet, "tyrell (unverified)", "unknown-operator");
    let mut fleet = super::fleet();
    fleet.observe(0, 1, same());
    fleet.quorum().operators.retain(|name| *name != operator(0));
    refused_for(&fleet, "acme (unverified)", "not-in-quorum");
    // It cannot veto either.
    let mut fleet = super::fleet();
    fleet.observe(0, 1, other(1));
    fleet.quorum().operators.retain(|name| *name != operator(0));
    fleet.observe(2, 1, same());
    assert_eq!(fleet.outcome(), "reproduced");
}

#[test]
fn a_revoked_worker_key() {
    let mut fleet = fleet();
    fleet.observe(0, 1, same());
    let key = keys().workers[0].public().id();
    // By a stranger, by another operator: nothing. By its own operator: everything.
    let revocation = revocation(0, key, None);
    fleet.set.revocations.push(revocation.sign(&keys().stranger).unwrap());
    fleet.set.revocations.push(revocation.sign(&keys().roots[1]).unwrap());
    assert_eq!(fleet.outcome(), "reproduced");
    fleet.set.revocations.push(revocation.sign(&keys().roots[0]).unwrap());
    refused_for(&fleet, "acme", "revoked-key");
    // The revocation of a dissent is visible as such.
    let mut fleet = super::fleet();
    fleet.observe(0, 1, other(1));
    fleet.set.revocations.push(revocation.sign(&keys().roots[0]).unwrap());
    refused_for(&fleet, "acme", "revoked-key");
    assert!(fleet.judge().not_counted[0].why.contains("observed another output"));
    // What it said about another image is none.
    let mut fleet = super::fleet();
    let elsewhere = "registry.example/demo/elsewhere".parse().unwrap();
    fleet.observe_with(0, 1, other(1), |o, _| o.subject.repository = elsewhere);
    fleet.set.revocations.push(revocation.sign(&keys().roots[0]).unwrap());
    refused_for(&fleet, "acme", "revoked-key");
    assert!(!fleet.judge().not_counted[0].why.contains("observed another output"));
}

#[test]
fn a_revoked_root_key() {
    let mut fleet = fleet();
    fleet.observe(0, 1, same());
    let root = keys().roots[0].public().id();
    fleet.set.revocations.push(revocation(0, root, None).sign(&keys().roots[0]).unwrap());
    refused_for(&fleet, "acme", "revoked-key");
}

#[test]
fn a_key_compromised_later_still_counts_where_a_receipt_shows_when() {
    let key = keys().workers[0].public().id();
    let since = NOON + 500;
    for (received, pinned, outcome) in [
        (Some(since - 1), true, "reproduced"),
        (Some(since), true, "inconclusive"),
        // The time of a clock that cannot be read.
        (Some(0), true, "inconclusive"),
        // A lease from before, and the thief's own clock: the lease may never have been answered.
        (None, true, "inconclusive"),
        // Without a pinned coordinator a receipt is nobody's word.
        (Some(since - 1), false, "inconclusive"),
    ] {
        let mut fleet = if pinned { Fleet::new(3, 2) } else { Fleet::unpinned(3, 2) };
        fleet.observe(1, 1, same());
        let observed = fleet.observe(0, 1, same());
        if let Some(at) = received {
            fleet.receipt(observed, at);
        }
        let signed = revocation(0, key, Some(since)).sign(&keys().roots[0]).unwrap();
        fleet.set.revocations.push(signed);
        assert_eq!(fleet.outcome(), outcome, "{received:?} {pinned}");
        // Of two revocations the stricter counts.
        fleet.set.revocations.push(revocation(0, key, None).sign(&keys().roots[0]).unwrap());
        assert_eq!(fleet.outcome(), "inconclusive");
    }
    // A receipt by somebody else says nothing.
    let mut fleet = Fleet::new(3, 2);
    fleet.observe(1, 1, same());
    let observed = fleet.observe(0, 1, same());
    fleet.receipt(observed, NOON);
    let receipt = Receipt::read_unverified(&fleet.set.receipts[0]).unwrap();
    fleet.set.receipts = vec![receipt.sign(&keys().stranger).unwrap()];
    let signed = revocation(0, key, Some(since)).sign(&keys().roots[0]).unwrap();
    fleet.set.revocations.push(signed);
    assert_eq!(fleet.outcome(), "inconclusive");
}

#[test]
fn an_expired_worker_record() {
    let mut fleet = fleet();
    let valid = Validity { from: time(0), until: time(NOON + 30) };
    fleet.set.workers[0] = vouch(0, 0, valid);
    fleet.observe(0, 1, same());
    refused_for(&fleet, "acme", "expired-record");
    // Setting the worker's clock back does not help: the lease says when it was.
    let mut fleet = super::fleet();
    let valid = Validity { from: time(0), until: time(NOON - 1) };
    fleet.set.workers[0] = vouch(0, 0, valid);
    fleet.observe_with(0, 1, same(), |o, _| o.observed_at = time(NOON - 500));
    refused_for(&fleet, "acme", "expired-record");
    // A second record that covers it does.
    fleet.set.workers.push(vouch(0, 0, forever()));
    assert_eq!(fleet.outcome(), "reproduced");
    // An operator that says when it operates is held to it.
    fleet.set.operators.push(operator_record(0, &[], valid));
    refused_for(&fleet, "acme", "expired-record");
    // A record about another root key says nothing about this one, whoever signed it.
    let mut another = OperatorRecord::read_unverified(&fleet.set.operators[0]).unwrap();
    another.root_key = keys().stranger.public().clone();
    fleet.set.operators = vec![another.sign(&keys().roots[0]).unwrap()];
    assert_eq!(fleet.outcome(), "reproduced");
}

#[test]
fn one_key_for_two_operators() {
    let mut fleet = Fleet::new(3, 2);
    fleet.set.workers.push(vouch(1, 0, forever()));
    fleet.observe(0, 1, same());
    let (mut observation, mut lease) = fleet.prepared(1, 1, same());
    observation.worker = worker(0);
    lease.worker = worker(0);
    fleet.lease(&lease);
    fleet.file(observation.sign(&keys().workers[0]).unwrap());
    assert_eq!(fleet.outcome(), "inconclusive");
    assert_eq!(
        (fleet.why("acme"), fleet.why("globex")),
        (vec!["two-operators".into()], vec!["two-operators".into()])
    );
    let judgement = fleet.judge();
    let names = |who: &str, other: &str| {
        let of = judgement.not_counted.iter().find(|n| n.operator == who).unwrap();
        assert!(of.why.ends_with(&format!("operator {other}")), "{}", of.why);
    };
    names("acme", "globex");
    names("globex", "acme");
    // Only vouching for somebody else's key does nothing to its owner.
    let mut fleet = Fleet::new(3, 2);
    fleet.set.workers.push(vouch(1, 0, forever()));
    fleet.observe(0, 1, same());
    fleet.observe(2, 1, same());
    assert_eq!(fleet.outcome(), "reproduced");
}
