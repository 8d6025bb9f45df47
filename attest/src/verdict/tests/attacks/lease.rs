//! Leases, fences, attempts and announcements: what the coordinator did not give counts for nothing
//! but a veto, and no worker's clock orders anything.

use super::super::fleet::*;
use super::{fleet, refused_for};
use crate::{
    Digest,
    dsse::Envelope,
    id::{Attempt, Fence, LeaseId},
    record::Record,
};

#[test]
fn a_worker_whose_clock_is_off_by_a_day() {
    // Nothing is ordered by a worker's clock: where the coordinator is pinned, its lease says when.
    for off in [-86_400, 86_400] {
        let mut fleet = fleet();
        fleet.observe_with(0, 1, same(), |o, _| o.observed_at = time(NOON + off));
        assert_eq!(fleet.outcome(), "reproduced", "{off}");
        // Nor does it make a dissent earlier or later than it was.
        let mut fleet = super::fleet();
        fleet.observe(0, 1, same());
        fleet.observe_with(2, 1, other(1), |o, _| o.observed_at = time(NOON + off));
        assert_eq!(fleet.outcome(), "disputed", "{off}");
    }
}

#[test]
fn the_lease_of_another_worker() {
    let mut fleet = fleet();
    let (_, theirs) = fleet.prepared(2, 1, same());
    fleet.lease(&theirs);
    let (mut observation, _) = fleet.prepared(0, 1, same());
    observation.lease = theirs.lease;
    observation.fence = theirs.fence;
    fleet.file(observation.sign(&keys().workers[0]).unwrap());
    refused_for(&fleet, "acme", "lease-of-another-worker");
}

#[test]
fn a_lease_that_nobody_or_a_stranger_signed() {
    let mut fleet = fleet();
    fleet.volunteer(0, same());
    refused_for(&fleet, "acme", "no-lease");
    let (observation, lease) = fleet.prepared(2, 1, same());
    fleet.set.leases.push(lease.sign(&keys().stranger).unwrap());
    fleet.file(observation.sign(&keys().workers[2]).unwrap());
    refused_for(&fleet, "hooli", "no-lease");
}

#[test]
fn a_stale_fence_and_another_attempt() {
    let mut fleet = fleet();
    fleet.observe_with(0, 1, same(), |o, _| o.fence = Fence(999));
    refused_for(&fleet, "acme", "stale-fence");
    let mut fleet = super::fleet();
    fleet.observe_with(0, 1, same(), |o, _| o.attempt = Attempt(2));
    refused_for(&fleet, "acme", "other-lease");
    // The slot was leased anew before the answer came: it is late.
    let mut fleet = super::fleet();
    fleet.observe(0, 1, same());
    let (_, mut newer) = fleet.prepared(2, 1, same());
    newer.slot = 0;
    fleet.lease(&newer);
    refused_for(&fleet, "acme", "stale-fence");
    // Another slot, or another attempt, says nothing about it.
    let mut fleet = super::fleet();
    fleet.observe(0, 1, same());
    let (_, mut later) = fleet.prepared(2, 2, same());
    later.slot = 0;
    fleet.lease(&later);
    assert_eq!(fleet.outcome(), "reproduced");
}

#[test]
fn a_lease_of_another_job() {
    let mut fleet = fleet();
    let (observation, mut lease) = fleet.prepared(0, 1, same());
    lease.job = crate::id::JobId(Digest::of(b"another"));
    fleet.lease(&lease);
    fleet.file(observation.sign(&keys().workers[0]).unwrap());
    refused_for(&fleet, "acme", "no-lease");
}

#[test]
fn announcements_of_strangers_do_not_answer_a_dissent() {
    let mut fleet = Fleet::new(8, 1);
    fleet.observe(0, 1, same());
    let late = fleet.volunteer(7, other(1));
    for who in 0..6 {
        fleet.observe(who, 2, same());
    }
    fleet.announce(2, 3, &[late]);
    assert_eq!(fleet.outcome(), "reproduced");
    let announce = fleet.set.announces.pop().unwrap();
    let forged =
        Envelope::sign(&keys().stranger, &announce.payload_type, announce.payload).unwrap();
    fleet.set.announces.push(forged);
    assert_eq!(fleet.outcome(), "disputed");
    // A coordinator that announces a small m cannot go below the policy's k.
    let mut fleet = Fleet::new(8, 3);
    fleet.announce(1, 1, &[]);
    let dissent = fleet.observe(7, 1, other(1));
    fleet.announce(2, 1, &[dissent]);
    for who in 0..4 {
        fleet.observe(who, 2, same());
    }
    assert_eq!(fleet.outcome(), "disputed", "4 are fewer than k + 2");
    fleet.observe(4, 2, same());
    assert_eq!(fleet.outcome(), "reproduced");
}

#[test]
fn leases_with_one_identity_for_two_workers() {
    // A coordinator that gives one lease twice: each worker's answer fits its own copy.
    let mut fleet = Fleet::new(2, 2);
    for who in 0..2 {
        fleet.observe_with(who, 1, same(), |o, l| {
            o.lease = LeaseId([9; 16]);
            l.lease = LeaseId([9; 16]);
        });
    }
    assert_eq!(fleet.outcome(), "reproduced");
    assert!(fleet.judge().equivocations.is_empty());
}

#[test]
fn a_worker_cannot_open_the_job_again_by_saying_so() {
    let mut fleet = fleet();
    let (mut observation, _) = fleet.prepared(0, 1, same());
    observation.attempt = Attempt(1 << 50);
    fleet.file(observation.sign(&keys().workers[0]).unwrap());
    assert_eq!(fleet.judge().attempts, 1);
}
