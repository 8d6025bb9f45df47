//! Whoever serves the evidence: dissents left out, verdicts and copies put in, words without end.
//! What is in the set is judged by its own signatures, wherever it stands.

use super::super::fleet::*;
use super::fleet;
use crate::{
    dsse::Envelope,
    observation::Outcome,
    verdict::{Finding, VerdictOutcome},
};

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
    let mut fleet = super::fleet();
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
