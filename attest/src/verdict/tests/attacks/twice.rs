//! One operator that answers more than once: equal words count once, different ones are
//! equivocation, and neither takes back a dissent.

use super::super::fleet::*;
use crate::{id::Fence, observation::Outcome};

#[test]
fn one_operator_with_two_workers_counts_once() {
    let mut fleet = Fleet::new(2, 2);
    fleet.set.workers.push(vouch(0, 6, forever()));
    let twice = |fleet: &mut Fleet| {
        fleet.observe(0, 1, same());
        let (mut observation, mut lease) = fleet.prepared(0, 1, same());
        observation.worker = worker(6);
        lease.worker = worker(6);
        lease.slot = 7;
        fleet.lease(&lease);
        fleet.file(observation.sign(&keys().workers[6]).unwrap());
    };
    twice(&mut fleet);
    // Both leases stand, so it is equivocation: nothing of acme counts.
    assert_eq!(fleet.outcome(), "inconclusive");
    assert_eq!(fleet.why("acme"), ["equivocation", "equivocation"]);
    assert_eq!(fleet.judge().equivocations[0].operator, operator(0));
    fleet.observe(1, 1, same());
    assert_eq!(fleet.outcome(), "inconclusive");
    // A worker that refused, and another one of its operator that built: one answer that counts.
    let mut fleet = Fleet::new(2, 2);
    fleet.set.workers.push(vouch(0, 6, forever()));
    fleet.observe(0, 1, refused());
    let (mut observation, mut lease) = fleet.prepared(0, 1, same());
    observation.worker = worker(6);
    (lease.worker, lease.slot) = (worker(6), 7);
    fleet.lease(&lease);
    fleet.file(observation.sign(&keys().workers[6]).unwrap());
    fleet.observe(1, 1, same());
    assert_eq!((fleet.outcome(), fleet.why("acme")), ("reproduced", vec!["refused".to_owned()]));
    // In another attempt each counts, but the operator only once.
    let mut fleet = Fleet::new(2, 2);
    fleet.observe(0, 1, same());
    fleet.observe(0, 2, same());
    assert_eq!(fleet.why("acme"), ["counted-already"]);
    assert_eq!(fleet.outcome(), "inconclusive");
    // Without a pinned coordinator the higher fence counts, once.
    let mut fleet = Fleet::unpinned(2, 1);
    fleet.set.workers.push(vouch(0, 6, forever()));
    twice(&mut fleet);
    assert_eq!(fleet.why("acme"), ["stale-fence"]);
    assert_eq!((fleet.judge().k, fleet.outcome()), (1, "reproduced"));
}

#[test]
fn equal_results_under_two_leases_of_one_fence_count_once_where_no_coordinator_is_pinned() {
    // A restored coordinator forgot the first lease and numbers its fences anew: the worker, asked
    // again, says the same again.
    let again = |pinned: bool, second: Outcome| {
        let mut fleet = if pinned { Fleet::new(3, 2) } else { Fleet::unpinned(3, 2) };
        fleet.observe(1, 1, same());
        let first = fleet.observe(0, 1, same());
        let fence = Fence(fleet.fence);
        let second = fleet.observe_with(0, 1, second, |observation, lease| {
            (observation.fence, lease.fence, lease.slot) = (fence, fence, 7);
        });
        (fleet, first, second)
    };
    let (fleet, first, second) = again(false, same());
    assert_eq!((fleet.outcome(), fleet.judge().k), ("reproduced", 2));
    assert_eq!(fleet.why("acme"), ["counted-already"]);
    assert!(fleet.judge().equivocations.is_empty());
    // In any order of the evidence.
    let (mut fleet, ..) = again(false, same());
    fleet.set.observations.reverse();
    assert_eq!((fleet.outcome(), fleet.judge().k), ("reproduced", 2));
    assert_ne!(first, second);
    // Two images that are the same to the policy's level and differ in a byte are two answers.
    for differing in [recompressed(), other(1)] {
        let (fleet, first, second) = again(false, differing);
        assert_ne!(fleet.outcome(), "reproduced");
        let mut both = vec![first, second];
        both.sort_unstable();
        assert_eq!(fleet.judge().equivocations[0].observations, both);
    }
    // A pinned coordinator that signed both leases granted what it must not.
    let (fleet, ..) = again(true, same());
    assert_eq!(fleet.judge().equivocations[0].operator, operator(0));
}

#[test]
fn a_worker_that_answers_twice_differently() {
    for pinned in [true, false] {
        let mut fleet = if pinned { Fleet::new(4, 2) } else { Fleet::unpinned(4, 2) };
        fleet.observe(1, 1, same());
        let (first, lease) = fleet.prepared(0, 1, same());
        fleet.lease(&lease);
        let mut second = first.clone();
        second.tag = Some("another word".into());
        let a = fleet.file(first.sign(&keys().workers[0]).unwrap());
        assert_eq!(fleet.outcome(), "reproduced");
        let b = fleet.file(second.sign(&keys().workers[0]).unwrap());
        assert_eq!(fleet.outcome(), "inconclusive");
        assert_eq!(fleet.why("acme"), ["equivocation", "equivocation"]);
        let mut both = vec![a, b];
        both.sort_unstable();
        assert_eq!(fleet.judge().equivocations[0].observations, both);
        // Whoever contradicts itself still cannot take back a dissent.
        let mut third = first.clone();
        third.outcome = other(1);
        fleet.file(third.sign(&keys().workers[0]).unwrap());
        fleet.observe(2, 1, same());
        fleet.observe(3, 1, same());
        assert_eq!(fleet.outcome(), "disputed");
    }
}

#[test]
fn an_equivocator_does_not_add_to_an_accusation() {
    let mut fleet = Fleet::new(4, 2);
    fleet.observe(1, 1, other(1));
    let (first, lease) = fleet.prepared(0, 1, other(1));
    fleet.lease(&lease);
    let mut second = first.clone();
    second.tag = Some("another word".into());
    fleet.file(first.sign(&keys().workers[0]).unwrap());
    assert_eq!(fleet.outcome(), "diverged");
    fleet.file(second.sign(&keys().workers[0]).unwrap());
    assert_eq!(fleet.outcome(), "disputed");
}
