//! Evidence about something else: another repository, platform, image, job or recipe, or bytes that
//! are not those of the digest. It adds to nothing here, and a dissent outlives the job.

use super::super::fleet::*;
use super::{fleet, refused_for};
use crate::{
    Digest, Platform,
    dsse::Envelope,
    observation::{Observation, Outcome},
    verdict::{Need, VerdictOutcome, needs},
};

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
    let mut fleet = super::fleet();
    fleet.observe(0, 1, same());
    fleet.set.source = crate::policy::Source::Layout;
    assert_eq!(fleet.outcome(), "untrusted");
}
