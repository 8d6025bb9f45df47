//! What an attacker tries, each with the reason that names it.

use super::fleet::*;
use crate::{
    Digest, Platform,
    dsse::Envelope,
    id::{Attempt, Fence, LeaseId},
    key::SigningKey,
    observation::{Observation, Outcome},
    record::{OperatorRecord, Receipt, Record, Validity},
    verdict::{Finding, Need, VerdictOutcome, needs},
};

/// One honest match of globex; k = 2, so whatever acme does decides.
fn fleet() -> Fleet {
    let mut fleet = Fleet::new(3, 2);
    fleet.observe(1, 1, same());
    fleet
}

/// What acme did does not count, for this reason.
#[track_caller]
fn refused_for(fleet: &Fleet, who: &str, code: &str) {
    assert_eq!(fleet.why(who), [code], "{:#?}", fleet.judge().not_counted);
    assert_eq!(fleet.outcome(), "inconclusive");
}

#[test]
fn the_honest_case() {
    let mut fleet = fleet();
    fleet.observe(0, 1, same());
    assert_eq!(fleet.outcome(), "reproduced");
}

#[test]
fn replayed_from_another_repository_with_the_same_digest() {
    let mut fleet = fleet();
    let repository = "registry.example/demo/wrong-signer".parse().unwrap();
    fleet.observe_with(0, 1, same(), |o, _| o.subject.repository = repository);
    refused_for(&fleet, "acme", "other-repository");
}

#[test]
fn for_another_platform() {
    let mut fleet = fleet();
    fleet.observe_with(0, 1, same(), |o, _| o.subject.platform = Platform::linux("arm64"));
    refused_for(&fleet, "acme", "other-platform");
}

#[test]
fn for_another_image() {
    let mut fleet = fleet();
    fleet.observe_with(0, 1, same(), |o, _| o.subject.digest = Digest::of(b"another"));
    refused_for(&fleet, "acme", "other-image");
}

#[test]
fn for_another_job() {
    let mut fleet = fleet();
    fleet.observe_with(0, 1, same(), |o, _| o.job = crate::id::JobId(Digest::of(b"another")));
    refused_for(&fleet, "acme", "other-job");
}

/// The publisher states something more: there is another job, and who answered the first is not asked.
#[test]
fn a_dissent_stays_when_the_publisher_makes_another_job() {
    let elsewhere = |o: &mut Observation| o.job = crate::id::JobId(Digest::of(b"the job before"));
    let replaced = |o: &mut Observation| {
        elsewhere(o);
        o.recipe = Some(Digest::of(b"the recipe before"));
        o.recipes_tried = vec![Digest::of(b"the recipe before")];
    };
    for pinned in [true, false] {
        for change in [&elsewhere as &dyn Fn(&mut Observation), &replaced] {
            let fleet = || if pinned { Fleet::new(7, 2) } else { Fleet::unpinned(7, 2) };
            let mut one = fleet();
            one.observe(0, 1, same());
            one.observe(1, 1, same());
            assert_eq!(one.outcome(), "reproduced");
            let first = one.observe_with(2, 1, other(1), |o, _| change(o));
            let judgement = one.judge();
            assert_eq!(judgement.outcome.as_str(), "disputed", "{pinned}");
            let dissent = &judgement.dissent[0];
            assert_eq!((dissent.operator.clone(), dissent.leased), (operator(2), false));
            assert!(matches!(needs(&one.policy, &one.set), Need::ReopenWith(_)));
            // It is answered as any other: by m+2 others, leased after it.
            one.announce(1, 2, &[]);
            one.announce(2, 4, &[first]);
            for who in [0, 1, 3, 4] {
                one.observe(who, 2, same());
            }
            assert_eq!(one.outcome(), "reproduced", "{pinned}");
            assert_eq!(one.judge().dissent.len(), 1, "and is named for ever");
            // Two are never resolved by numbers, and accuse nobody of what this recipe builds.
            one.observe_with(5, 1, other(1), |o, _| change(o));
            assert_eq!(one.outcome(), "disputed");
            let mut many = fleet();
            for who in 0..4 {
                many.observe_with(who, 1, other(1), |o, _| change(o));
            }
            assert_eq!(many.outcome(), "disputed", "never diverged");
        }
    }
    // What failed elsewhere, or matched, or is about another platform, says nothing here.
    for (outcome, platform) in [(failed("x"), "amd64"), (same(), "amd64"), (other(1), "arm64")] {
        let mut fleet = fleet();
        fleet.observe(1, 1, same());
        fleet.observe_with(0, 1, outcome, |o, _| {
            elsewhere(o);
            o.subject.platform = Platform::linux(platform);
        });
        assert!(fleet.judge().dissent.is_empty());
    }
}

#[test]
fn of_another_recipe() {
    let mut fleet = fleet();
    let another = Digest::of(b"another recipe");
    fleet.observe_with(0, 1, same(), |o, _| {
        o.recipe = Some(another);
        o.recipes_tried = vec![another];
    });
    refused_for(&fleet, "acme", "other-recipe");
}

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
    let mut fleet = self::fleet();
    fleet.observe(0, 1, same());
    fleet.quorum().operators.retain(|name| *name != operator(0));
    refused_for(&fleet, "acme (unverified)", "not-in-quorum");
    // It cannot veto either.
    let mut fleet = self::fleet();
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
    let mut fleet = self::fleet();
    fleet.observe(0, 1, other(1));
    fleet.set.revocations.push(revocation.sign(&keys().roots[0]).unwrap());
    refused_for(&fleet, "acme", "revoked-key");
    assert!(fleet.judge().not_counted[0].why.contains("observed another output"));
    // What it said about another image is none.
    let mut fleet = self::fleet();
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
    let mut fleet = self::fleet();
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
fn a_worker_whose_clock_is_off_by_a_day() {
    // Nothing is ordered by a worker's clock: where the coordinator is pinned, its lease says when.
    for off in [-86_400, 86_400] {
        let mut fleet = fleet();
        fleet.observe_with(0, 1, same(), |o, _| o.observed_at = time(NOON + off));
        assert_eq!(fleet.outcome(), "reproduced", "{off}");
        // Nor does it make a dissent earlier or later than it was.
        let mut fleet = self::fleet();
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
    let mut fleet = self::fleet();
    fleet.observe_with(0, 1, same(), |o, _| o.attempt = Attempt(2));
    refused_for(&fleet, "acme", "other-lease");
    // The slot was leased anew before the answer came: it is late.
    let mut fleet = self::fleet();
    fleet.observe(0, 1, same());
    let (_, mut newer) = fleet.prepared(2, 1, same());
    newer.slot = 0;
    fleet.lease(&newer);
    refused_for(&fleet, "acme", "stale-fence");
    // Another slot, or another attempt, says nothing about it.
    let mut fleet = self::fleet();
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

#[test]
fn a_hidden_dissent_is_seen_by_whoever_has_it() {
    // Signatures prove presence, never absence: whoever serves the evidence can leave a dissent
    // out. Whoever holds it (its worker has a receipt) brings it back by merging.
    let mut whole = fleet();
    whole.observe(0, 1, same());
    let mut hidden = whole.set.clone();
    let dissent = whole.volunteer(2, other(1));
    assert_eq!(whole.outcome(), "disputed");
    let shown = Fleet { set: hidden.clone(), ..fleet() };
    assert_eq!(shown.outcome(), "reproduced");
    hidden.merge(whole.set.clone()).unwrap();
    let merged = Fleet { set: hidden, ..fleet() };
    assert_eq!(merged.outcome(), "disputed");
    assert_eq!(merged.judge().dissent[0].observations, [dissent]);
}

#[test]
fn a_forged_verdict_in_the_set_is_never_read() {
    let mut fleet = fleet();
    fleet.observe(0, 1, same());
    let good: Finding = (*fleet.judge()).clone();
    let mut fleet = self::fleet();
    let before = fleet.judge().to_canonical_json().unwrap();
    let payload = good.to_canonical_json().unwrap();
    for key in [&keys().coordinator, &keys().stranger] {
        let envelope =
            Envelope::sign(key, "application/vnd.assay.outcome+json", payload.clone()).unwrap();
        fleet.set.verdicts.push(envelope.clone());
        fleet.set.attestations.push(envelope.clone());
        fleet.set.receipts.push(envelope);
    }
    assert_eq!(fleet.judge().to_canonical_json().unwrap(), before);
    // Filed as an observation it is not one.
    let forged = fleet.set.verdicts[0].clone();
    fleet.file(forged);
    assert_eq!(fleet.why("unknown"), ["malformed"]);
    assert_eq!(fleet.outcome(), "inconclusive");
}

#[test]
fn wrong_manifest_bytes() {
    let mut fleet = fleet();
    fleet.observe(0, 1, same());
    fleet.set.manifest.push(b' ');
    let judgement = fleet.judge();
    assert!(matches!(judgement.outcome, VerdictOutcome::Inconclusive { .. }));
    assert!(judgement.reason.contains("the published manifest"), "{}", judgement.reason);
}

#[test]
fn an_output_whose_digest_is_only_claimed() {
    // The published digest over other bytes: no such observation can be signed, and none is read.
    let mut fleet = fleet();
    let (observation, lease) = fleet.prepared(0, 1, other(1));
    fleet.lease(&lease);
    let (payload_type, payload) = observation.encode().unwrap();
    let Outcome::Output(built) = &observation.outcome else { unreachable!() };
    let published = fleet.set.subject.digest.hex();
    let text = String::from_utf8(payload).unwrap().replace(&built.manifest.hex(), &published);
    fleet.file(Envelope::sign(&keys().workers[0], payload_type, text.into_bytes()).unwrap());
    refused_for(&fleet, "unknown", "malformed");
}

#[test]
fn records_of_one_image_in_the_set_of_another() {
    // Everything of `hello`, with another repository's name on the set.
    let mut fleet = fleet();
    fleet.observe(0, 1, same());
    assert_eq!(fleet.outcome(), "reproduced");
    fleet.set.subject.repository = "registry.example/demo/stolen".parse().unwrap();
    assert_eq!(fleet.outcome(), "inconclusive");
    assert_eq!(fleet.why("acme"), ["other-repository"]);
    // A repository whose publisher the policy does not know gets no further than its evidence.
    fleet.set.subject.repository = "elsewhere.example/demo/hello".parse().unwrap();
    assert_eq!(fleet.outcome(), "untrusted");
    // A layout is not a registry, whatever its repositories are called.
    let mut fleet = self::fleet();
    fleet.observe(0, 1, same());
    fleet.set.source = crate::policy::Source::Layout;
    assert_eq!(fleet.outcome(), "untrusted");
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
fn long_words_of_workers_are_cut() {
    let long = "x".repeat(4000);
    let mut fleet = Fleet::new(3, 2);
    let outcome =
        Outcome::Refused { reason: crate::observation::Refusal::Policy, detail: long.clone() };
    fleet.observe(0, 1, outcome);
    assert!(fleet.judge().not_counted[0].why.len() <= 500);
    for who in 1..3 {
        let gap = |n: usize| {
            crate::Gap::new(crate::GapCode::UnsupportedField, format!("{n} {who} {long}"))
        };
        fleet.observe(who, 1, Outcome::RecipeInvalid { gaps: (0..200).map(gap).collect() });
    }
    let VerdictOutcome::NotRebuildable { gaps } = fleet.judge().outcome.clone() else { panic!() };
    assert!(gaps.len() == 64 && gaps.iter().all(|gap| gap.detail.len() <= 500));
    // Many decided paths are counted, not repeated.
    let mut fleet = Fleet::new(1, 1);
    fleet.quorum().hints.insert("install-order-conflicts".into());
    let decided: Vec<String> = (0..256).map(|n| format!("etc/{n:04}")).collect();
    fleet.observe_with(0, 1, same(), |o, _| {
        o.hints = vec![crate::observation::Hint { name: "install-order".into(), decided }];
    });
    let judgement = fleet.judge();
    assert_eq!(judgement.hints[0].decided.len(), 65);
    assert_eq!(judgement.hints[0].decided[64], "and 192 more");
}

#[test]
fn a_worker_cannot_open_the_job_again_by_saying_so() {
    let mut fleet = fleet();
    let (mut observation, _) = fleet.prepared(0, 1, same());
    observation.attempt = Attempt(1 << 50);
    fleet.file(observation.sign(&keys().workers[0]).unwrap());
    assert_eq!(fleet.judge().attempts, 1);
}

/// Found by the simulator: whichever copy came first decided whether the forged one was listed.
#[test]
fn a_copy_with_a_forged_signature_changes_nothing_wherever_it_stands() {
    let mut fleet = fleet();
    fleet.observe(0, 1, same());
    let expected = fleet.judge().to_canonical_json().unwrap();
    let genuine = fleet.set.observations.last().unwrap().envelope.clone();
    let forged =
        Envelope::sign(&keys().stranger, &genuine.payload_type, genuine.payload.clone()).unwrap();
    assert_eq!(forged.observation_id(), genuine.observation_id());
    fleet.file(forged);
    assert_eq!(fleet.judge().to_canonical_json().unwrap(), expected, "behind it");
    fleet.set.observations.reverse();
    assert_eq!(fleet.judge().to_canonical_json().unwrap(), expected, "before it");
}
