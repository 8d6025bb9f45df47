//! The verdict rule, case by case (protocol, "Verdict rule (the strict default)").

use super::fleet::*;
use crate::{Gap, GapCode, Level, observation::Outcome, verdict::*};

#[test]
fn k_distinct_operators_reproduce() {
    let mut fleet = Fleet::new(3, 2);
    assert_eq!(fleet.outcome(), "inconclusive");
    let first = fleet.observe(0, 1, same());
    assert_eq!(fleet.judge().reason, "1 of the 2 required operators rebuilt the published image.");
    // The same again changes nothing.
    let before = fleet.judge().to_canonical_json().unwrap();
    let again = fleet.set.observations[0].envelope.clone();
    fleet.file(again);
    assert_eq!(fleet.judge().to_canonical_json().unwrap(), before);
    fleet.observe(2, 1, same());
    let judgement = fleet.judge();
    assert_eq!(judgement.outcome, VerdictOutcome::Reproduced { level: Level::Manifest });
    assert_eq!((judgement.k, judgement.n, judgement.required, judgement.attempts), (2, 2, 2, 1));
    assert_eq!(judgement.counted[0].observation, first);
    assert_eq!(judgement.recipes, fleet.recipes);
    assert_eq!(judgement.job, Some(fleet.job()));
    assert_eq!(judgement.policy, fleet.policy.digest());
    assert_eq!(judgement.evidence.len(), 1);
    assert_eq!(judgement.records.len(), 4, "two worker records, two leases");
    assert_eq!(
        judgement.reason,
        "2 operators (acme, hooli) rebuilt the published image at level manifest; 2 are required."
    );
    assert!(judgement.dissent.is_empty() && judgement.not_counted.is_empty());
    assert!(judgement.reproduced().is_some());
    // The finding reads back from its own bytes.
    let bytes = judgement.to_canonical_json().unwrap();
    let read: Finding = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(&read, &*judgement);
}

#[test]
fn one_dissent_is_never_outvoted() {
    let mut fleet = Fleet::new(8, 2);
    let dissent = fleet.observe(7, 1, other(1));
    for who in 0..7 {
        fleet.observe(who, 1, same());
    }
    let judgement = fleet.judge();
    assert_eq!(judgement.outcome, VerdictOutcome::Disputed, "7 in the same attempt are not later");
    assert_eq!(judgement.dissent[0].observations, [dissent]);
    assert_eq!(judgement.suspects, [operator(7)]);
    assert!(judgement.reproduced().is_none());
}

#[test]
fn a_dissent_is_resolved_by_m_plus_two_others_leased_after_it() {
    // m is 3 by the announcement, so 5 others are needed.
    let mut fleet = Fleet::new(8, 2);
    fleet.announce(1, 3, &[]);
    let dissent = fleet.observe(7, 1, other(1));
    fleet.observe(0, 1, same());
    fleet.announce(2, 5, &[dissent]);
    for who in 0..4 {
        fleet.observe(who, 2, same());
        assert_eq!(fleet.outcome(), "disputed");
    }
    fleet.observe(4, 2, same());
    let judgement = fleet.judge();
    assert_eq!(judgement.outcome, VerdictOutcome::Reproduced { level: Level::Manifest });
    assert!(judgement.dissent[0].resolved, "and named for ever");
    assert_eq!((judgement.k, judgement.n, judgement.attempts), (5, 6, 2));
    assert_eq!(judgement.suspects, [operator(7)]);
    assert!(judgement.reason.contains("wayne observed another output, which 5 others"));
    // The dissenter itself can't take it back.
    fleet.observe(7, 2, same());
    assert_eq!(fleet.judge().k, 5);
    assert_eq!(fleet.why("wayne"), ["own-dissent"]);
    assert!(fleet.judge().dissent[0].resolved);
}

#[test]
fn two_dissenters_are_never_resolved_by_numbers() {
    let mut fleet = Fleet::new(8, 2);
    fleet.quorum().reproduced = 3;
    fleet.observe(6, 1, other(1));
    fleet.observe(7, 1, other(1));
    for attempt in 2..=3 {
        for who in 0..6 {
            fleet.observe(who, attempt, same());
        }
    }
    let judgement = fleet.judge();
    assert_eq!(judgement.outcome, VerdictOutcome::Disputed);
    assert!(judgement.to_pass.starts_with("Nothing by numbers"));
    assert!(judgement.dissent.iter().all(|dissent| !dissent.resolved));
}

#[test]
fn agreement_on_something_else_is_diverged() {
    let mut fleet = Fleet::new(5, 3);
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, other(1));
    fleet.observe(2, 1, other(1));
    assert_eq!(fleet.outcome(), "disputed", "two are not three");
    fleet.observe(3, 2, other(1));
    let judgement = fleet.judge();
    assert_eq!(judgement.outcome, VerdictOutcome::Diverged);
    assert_eq!(judgement.suspects, [operator(0)], "the one that claims the published digests");
    let Outcome::Output(built) = other(1) else { unreachable!() };
    assert!(judgement.reason.contains(&built.manifest.to_string()), "{}", judgement.reason);
    // Two that match are too many for an accusation.
    fleet.observe(4, 2, same());
    assert_eq!(fleet.outcome(), "disputed");
    // One alone, with k = 1, is no majority against one other.
    let mut even = Fleet::new(2, 1);
    even.observe(0, 1, same());
    even.observe(1, 1, other(1));
    assert_eq!(even.outcome(), "disputed");
    let mut alone = Fleet::new(2, 1);
    alone.observe(1, 1, other(1));
    assert_eq!(alone.outcome(), "diverged");
}

#[test]
fn rebuilders_that_differ_are_flaky() {
    let mut fleet = Fleet::new(5, 2);
    fleet.observe(0, 1, other(1));
    fleet.observe(1, 1, other(2));
    assert_eq!(fleet.outcome(), "flaky");
    fleet.observe(2, 1, other(3));
    assert_eq!(fleet.outcome(), "flaky");
    // k that agree, one outlier: consistent. Two outliers: not.
    let mut fleet = Fleet::new(5, 2);
    fleet.observe(0, 1, other(1));
    fleet.observe(1, 1, other(1));
    fleet.observe(2, 1, other(2));
    assert_eq!(fleet.judge().outcome, VerdictOutcome::Diverged);
    assert_eq!(fleet.judge().suspects, [operator(2)]);
    fleet.observe(3, 1, same());
    assert_eq!(fleet.outcome(), "flaky");
}

#[test]
fn a_volunteer_vetoes_and_adds_to_nothing() {
    let mut fleet = Fleet::new(8, 2);
    fleet.observe(0, 1, same());
    fleet.volunteer(1, same());
    assert_eq!(fleet.outcome(), "inconclusive");
    assert_eq!(fleet.why("globex"), ["no-lease"]);
    assert_eq!(fleet.judge().n, 2, "it is an OUTPUT all the same");
    fleet.observe(1, 1, same());
    assert_eq!(fleet.outcome(), "reproduced");
    let late = fleet.volunteer(7, other(1));
    let judgement = fleet.judge();
    assert_eq!(judgement.outcome, VerdictOutcome::Disputed);
    assert!(!judgement.dissent[0].leased);
    // It is answered by an attempt that was opened because of it, not by any other.
    for who in 2..6 {
        fleet.observe(who, 2, same());
    }
    assert_eq!(fleet.outcome(), "disputed");
    fleet.announce(2, 4, &[late]);
    assert_eq!(fleet.outcome(), "reproduced");
    // The first attempt that was opened because of it counts, however often it is named.
    fleet.announce(3, 4, &[late]);
    assert_eq!(fleet.outcome(), "reproduced");
    fleet.set.announces.reverse();
    assert_eq!(fleet.outcome(), "reproduced");
    // Volunteers alone never make an accusation.
    let mut fleet = Fleet::new(3, 2);
    fleet.volunteer(0, other(1));
    fleet.volunteer(1, other(1));
    assert_eq!(fleet.outcome(), "disputed");
}

#[test]
fn failures_on_which_two_agree_are_gaps() {
    let mut fleet = Fleet::new(3, 2);
    fleet.observe(0, 1, failed("linker"));
    assert_eq!(fleet.outcome(), "inconclusive");
    fleet.observe(1, 1, failed("compiler"));
    assert_eq!(fleet.outcome(), "inconclusive", "another class");
    fleet.observe(2, 1, failed("linker"));
    let judgement = fleet.judge();
    let gap = Gap::new(GapCode::BuildFailed, "linker: no such thing");
    assert_eq!(judgement.outcome, VerdictOutcome::NotRebuildable { gaps: vec![gap] });
    assert_eq!(judgement.failures.len(), 3);

    let mut fleet = Fleet::new(3, 2);
    fleet.observe(0, 1, invalid("contents.foo"));
    fleet.observe(1, 1, invalid("contents.foo, in other words"));
    let VerdictOutcome::NotRebuildable { gaps } = fleet.judge().outcome.clone() else { panic!() };
    assert_eq!(gaps.len(), 2, "the codes agree, both details are kept");
    // Who could build it all the same proves more.
    fleet.observe(2, 1, same());
    assert_eq!(fleet.outcome(), "not-rebuildable");
    fleet.observe(0, 2, same());
    assert_eq!(fleet.outcome(), "reproduced");

    for outcome in [
        Outcome::LimitExceeded { limit: "layer-bytes".into(), detail: "9 GiB".into() },
        Outcome::InputUnavailable {
            gap: Gap::new(GapCode::MaterialGone, "hello=2.12-r2"),
            uri: "https://packages.example/hello.apk".into(),
        },
    ] {
        let mut fleet = Fleet::new(3, 2);
        fleet.observe(0, 1, outcome.clone());
        fleet.observe(1, 1, outcome);
        assert_eq!(fleet.outcome(), "not-rebuildable");
        fleet.observe(2, 1, other(1));
        assert_eq!(fleet.outcome(), "disputed", "a dissent is never hidden by failures");
    }
    let mut fleet = Fleet::new(3, 2);
    let timeout = Outcome::Timeout { limit_seconds: 60 };
    for who in 0..3 {
        fleet.observe(who, 1, if who == 0 { refused() } else { timeout.clone() });
    }
    assert_eq!(fleet.outcome(), "inconclusive");
    assert_eq!(
        (fleet.why("acme"), fleet.why("globex")),
        (vec!["refused".into()], vec!["timeout".into()])
    );
}

#[test]
fn without_a_usable_recipe_no_observation_counts() {
    let mut fleet = Fleet::new(2, 2);
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, same());
    assert_eq!(fleet.outcome(), "reproduced");
    let evidence = fleet.set.publisher.clone();
    fleet.set.publisher.clear();
    let VerdictOutcome::NotRebuildable { gaps } = fleet.judge().outcome.clone() else { panic!() };
    assert_eq!(gaps[0].code, GapCode::NoRecipe);
    let digest = fleet.set.subject.digest;
    fleet.set.publisher = vec![stated(&keys().stranger, &digest, configuration("a=1"))];
    assert_eq!(fleet.outcome(), "untrusted");
    assert!(fleet.judge().reason.contains("none counts"), "{}", fleet.judge().reason);
    // A stranger beside the publisher changes nothing.
    fleet.set.publisher.extend(evidence);
    assert_eq!(fleet.outcome(), "reproduced");
    assert_eq!(fleet.judge().evidence.len(), 1);
}

#[test]
fn statements_that_cannot_be_used_forbid_the_accusation() {
    let mut fleet = Fleet::new(3, 2);
    let digest = fleet.set.subject.digest;
    // Signed by the publisher for another architecture: trusted, and of no use.
    let mut useless = configuration("a=1");
    useless["archs"] = serde_json::json!(["arm64"]);
    fleet.set.publisher.push(stated(&keys().publisher, &digest, useless));
    fleet.derive();
    fleet.observe(0, 1, other(1));
    fleet.observe(1, 1, other(1));
    assert_eq!(fleet.outcome(), "not-rebuildable", "{}", fleet.judge().reason);
    assert_eq!(fleet.judge().dissent.len(), 2);
    // One that rebuilds it is proof all the same, but the dissent stands.
    fleet.observe(2, 1, same());
    assert_eq!(fleet.outcome(), "disputed");
    let mut fleet = Fleet::new(3, 2);
    let mut useless = configuration("a=1");
    useless["archs"] = serde_json::json!(["arm64"]);
    fleet.set.publisher.push(stated(&keys().publisher, &digest, useless));
    fleet.derive();
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, same());
    assert_eq!(fleet.outcome(), "reproduced");
}

#[test]
fn several_recipes_must_all_be_tried_before_a_difference_counts() {
    let mut fleet = Fleet::new(3, 2);
    let digest = fleet.set.subject.digest;
    fleet.set.publisher.push(stated(&keys().publisher, &digest, configuration("a=2")));
    fleet.derive();
    assert_eq!(fleet.recipes.len(), 2);
    fleet.observe_with(0, 1, other(1), |o, _| {
        o.recipes_tried.truncate(1);
    });
    assert_eq!(fleet.why("acme"), ["incomplete-recipes"]);
    assert_eq!(fleet.outcome(), "inconclusive");
    // One recipe that rebuilds the image is enough.
    fleet.observe_with(1, 1, same(), |o, _| {
        o.recipes_tried.truncate(1);
    });
    fleet.observe(2, 1, same());
    assert_eq!(fleet.outcome(), "reproduced");
    assert!(!fleet.judge().contradictions.is_empty());
}

#[test]
fn what_the_policy_asks_for_and_cannot_be_checked_is_never_good() {
    let mut fleet = Fleet::new(2, 2);
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, same());
    fleet.quorum().dissent_sources = vec!["https://acme.example/".into()];
    assert_eq!(fleet.outcome(), "inconclusive");
    assert!(fleet.judge().reason.contains("quorum.dissent_sources"));
    fleet.quorum().dissent_sources.clear();
    fleet.policy.log.inclusion = crate::policy::Inclusion::Required;
    assert!(fleet.judge().reason.contains("log.inclusion"));
    fleet.policy.log.inclusion = crate::policy::Inclusion::None;
    fleet.policy.quorum = None;
    assert_eq!(fleet.outcome(), "inconclusive");
    assert!(fleet.judge().reason.contains("no [quorum]"));
}

#[test]
fn the_k_must_differ_where_the_policy_says_so() {
    let mut fleet = Fleet::new(3, 2);
    fleet.quorum().diversity = vec!["kernel".into()];
    fleet.observe(0, 1, same());
    fleet.observe_with(1, 1, same(), |o, _| o.environment.kernel = "Linux 6.0".into());
    assert_eq!(fleet.outcome(), "inconclusive");
    assert!(fleet.judge().reason.contains("diversity"), "{}", fleet.judge().reason);
    fleet.observe(2, 1, same());
    assert_eq!(fleet.outcome(), "reproduced");
    fleet.quorum().diversity.push("cpu-vendor".into());
    assert_eq!(fleet.outcome(), "inconclusive");
}

#[test]
fn exit_codes_and_classes_of_the_contract() {
    let all = [
        (VerdictOutcome::Reproduced { level: Level::Config }, 0, OutcomeClass::Good),
        (VerdictOutcome::Diverged, 10, OutcomeClass::Bad),
        (VerdictOutcome::Inconclusive { reason: String::new() }, 11, OutcomeClass::Unknown),
        (VerdictOutcome::Flaky, 12, OutcomeClass::Bad),
        (VerdictOutcome::Disputed, 12, OutcomeClass::Bad),
        (VerdictOutcome::Untrusted, 13, OutcomeClass::Bad),
        (VerdictOutcome::NotRebuildable { gaps: vec![] }, 14, OutcomeClass::Unknown),
    ];
    for (outcome, exit, class) in all {
        assert_eq!((outcome.exit_code(), outcome.class()), (exit, class), "{}", outcome.as_str());
        let json = serde_json::to_value(&outcome).unwrap();
        assert_eq!(json["name"], outcome.as_str());
    }
}

#[test]
fn whoever_saw_both_is_a_dissenter_and_no_witness_for_the_accusation() {
    let mut fleet = Fleet::new(4, 2);
    fleet.observe(0, 1, other(1));
    fleet.observe(1, 1, other(1));
    assert_eq!(fleet.outcome(), "diverged");
    // In another attempt the same operator builds the published image: nondeterminism, or a lie.
    fleet.observe(0, 2, same());
    let judgement = fleet.judge();
    assert_eq!(judgement.outcome, VerdictOutcome::Disputed);
    assert_eq!(judgement.dissent.len(), 2);
    assert_eq!(fleet.why("acme"), ["own-dissent"]);
    // One that built two other images is none either.
    let mut fleet = Fleet::new(4, 2);
    fleet.observe(0, 1, other(1));
    fleet.observe(1, 1, other(1));
    fleet.observe(0, 2, other(2));
    assert_eq!(fleet.outcome(), "flaky");
    assert_eq!(fleet.judge().dissent[0].outputs.len(), 2);
    // Alone with two other outputs, it disagrees with itself: the others are not called flaky.
    let mut fleet = Fleet::new(4, 2);
    fleet.observe(0, 1, other(1));
    fleet.observe(0, 2, other(2));
    fleet.observe(1, 1, same());
    fleet.observe(2, 1, same());
    assert_eq!(fleet.outcome(), "disputed");
}

#[test]
fn the_first_dissent_of_an_operator_is_the_one_to_be_answered() {
    // Once per operator and subject: dissenting again does not ask for yet another attempt.
    let mut fleet = Fleet::new(8, 1);
    fleet.observe(7, 1, other(1));
    for who in 0..3 {
        fleet.observe(who, 2, same());
    }
    assert_eq!(fleet.outcome(), "reproduced");
    fleet.observe(7, 2, other(1));
    let judgement = fleet.judge();
    assert_eq!(judgement.outcome.as_str(), "reproduced");
    assert_eq!((judgement.dissent[0].observations.len(), judgement.dissent[0].attempt.0), (2, 1));
}

#[test]
fn a_reason_shows_three_gaps_and_counts_the_others() {
    for (gaps, ending) in [(3, "g2."), (4, "g2; and 1 more."), (6, "g2; and 3 more.")] {
        let mut fleet = Fleet::new(2, 2);
        let gap = |n: usize| Gap::new(GapCode::UnsupportedField, format!("g{n}"));
        for who in 0..2 {
            let gaps = (0..gaps).map(gap).collect();
            fleet.observe(who, 1, Outcome::RecipeInvalid { gaps });
        }
        let judgement = fleet.judge();
        assert!(judgement.reason.ends_with(ending), "{}", judgement.reason);
        let VerdictOutcome::NotRebuildable { gaps: all } = &judgement.outcome else { panic!() };
        assert_eq!(all.len(), gaps);
    }
}

#[test]
fn one_word_against_one_makes_nobody_a_suspect() {
    let mut fleet = Fleet::new(8, 2);
    fleet.announce(1, 2, &[]);
    fleet.observe(0, 1, same());
    let dissent = fleet.observe(1, 1, other(1));
    let judgement = fleet.judge();
    assert_eq!((judgement.outcome.as_str(), judgement.suspects.len()), ("disputed", 0));
    assert!(judgement.reason.starts_with("globex observed another output, 1 operators"));
    fleet.announce(2, 4, &[dissent]);
    fleet.observe(2, 2, same());
    let judgement = fleet.judge();
    assert_eq!(judgement.suspects, [operator(1)], "it stands alone against two");
    assert!(judgement.to_pass.starts_with("4 other operators"), "{}", judgement.to_pass);
    assert!(judgement.to_pass.ends_with("(1 so far)."), "{}", judgement.to_pass);
}

#[test]
fn of_two_agreed_failures_the_more_frequent_is_the_reason_and_of_equal_ones_the_first() {
    for (compiler, linker, expected) in [(2, 3, "linker"), (3, 2, "compiler"), (2, 2, "compiler")] {
        let mut fleet = Fleet::new(6, 3);
        for who in 0..compiler + linker {
            fleet.observe(who, 1, failed(if who < compiler { "compiler" } else { "linker" }));
        }
        let VerdictOutcome::NotRebuildable { gaps } = fleet.judge().outcome.clone() else {
            panic!("{}", fleet.judge().reason);
        };
        assert!(gaps.len() == 1 && gaps[0].detail.starts_with(expected), "{gaps:?}");
    }
}

#[test]
fn a_verdict_rests_on_the_records_of_those_it_names_and_on_no_other() {
    let mut fleet = Fleet::new(4, 2);
    let named = [fleet.observe(0, 1, same()), fleet.observe(1, 1, same())];
    let records = |fleet: &Fleet| fleet.judge().records.clone();
    let two = records(&fleet);
    assert_eq!(two.len(), 4, "a worker's record and a lease for each");
    // Evidence without a lease is not counted, and a refusal is no answer.
    fleet.volunteer(2, same());
    fleet.observe(3, 1, refused());
    let counted: Vec<_> = fleet.judge().counted.iter().map(|c| c.observation).collect();
    assert_eq!(counted.len(), named.len());
    assert_eq!(records(&fleet), two);
    // A dissenter is named, whoever refuses is not.
    let mut fleet = Fleet::new(4, 2);
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, other(1));
    let two = records(&fleet);
    assert_eq!(two.len(), 4);
    fleet.observe(3, 1, refused());
    assert_eq!(records(&fleet), two);
}
