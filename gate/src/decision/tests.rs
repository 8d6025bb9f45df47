//! Every branch of the decision, and what must hold for any facts under any rules.

use super::*;
use attest::policy::{RepositoryPattern, WaiverTarget};
use proptest::prelude::*;

const NOW: i64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}

fn waiver(outcomes: &[&str], expires: i64) -> Waiver {
    let pattern: RepositoryPattern = "registry.example/*".parse().unwrap();
    Waiver {
        target: WaiverTarget::Repositories(pattern),
        outcomes: outcomes.iter().map(|o| (*o).to_owned()).collect(),
        reason: "issue 123".into(),
        owner: "release@example".into(),
        expires: at(expires),
    }
}

fn facts(outcome: Outcome) -> Facts<'static> {
    Facts {
        outcome,
        reason: "So it is.",
        to_pass: "Something else.",
        verdict_time: Some(at(NOW - 60)),
        before: Before::NotGood,
    }
}

fn run(facts: &Facts<'_>, gate: &GatePolicy, waivers: &[&Waiver]) -> Decision {
    decide(facts, &Rules { gate, waivers, now: at(NOW) })
}

#[test]
fn every_mode_with_every_class() {
    use Admission::{Admit, Deny, Warn};
    let later = at(NOW + 1);
    let passed = at(NOW);
    // mode, until, unknown rule; good, bad, unknown, error
    let table = [
        (Mode::Observe, None, UnknownRule::Fail, [Admit, Admit, Admit, Deny]),
        (Mode::Warn, None, UnknownRule::Fail, [Admit, Warn, Warn, Deny]),
        (Mode::Warn, None, UnknownRule::Pass, [Admit, Warn, Admit, Deny]),
        (Mode::Delay, Some(later), UnknownRule::Fail, [Admit, Warn, Warn, Deny]),
        (Mode::Delay, Some(passed), UnknownRule::Fail, [Admit, Deny, Deny, Deny]),
        (Mode::Delay, None, UnknownRule::Fail, [Admit, Deny, Deny, Deny]),
        (Mode::Enforce, None, UnknownRule::Fail, [Admit, Deny, Deny, Deny]),
        (Mode::Enforce, None, UnknownRule::Warn, [Admit, Deny, Warn, Deny]),
        (Mode::Enforce, None, UnknownRule::Pass, [Admit, Deny, Admit, Deny]),
        (Mode::Enforce, Some(later), UnknownRule::Fail, [Admit, Deny, Deny, Deny]),
    ];
    for (mode, delay_until, unknown, expected) in table {
        let gate = GatePolicy { mode, delay_until, unknown, ..GatePolicy::default() };
        for outcome in Outcome::WORST_FIRST {
            let decision = run(&facts(outcome), &gate, &[]);
            let want = match outcome.class() {
                Class::Good => expected[0],
                Class::Bad => expected[1],
                Class::Unknown => expected[2],
                Class::Error => expected[3],
            };
            assert_eq!(decision.admission, want, "{mode} {unknown} {outcome}");
            assert_eq!((decision.outcome, decision.class), (outcome, outcome.class()));
            assert_eq!((decision.mode, decision.waiver), (mode, None));
            assert!(decision.reason.ends_with('.') && !decision.reason.contains(".;"));
        }
    }
}

#[test]
fn the_reason_says_what_softened_the_decision() {
    let gate = GatePolicy { unknown: UnknownRule::Pass, ..GatePolicy::default() };
    let reason = run(&facts(Outcome::Inconclusive), &gate, &[]).reason;
    assert_eq!(reason, "So it is; the policy lets unknown images pass.");
    let gate = GatePolicy { mode: Mode::Warn, ..GatePolicy::default() };
    let reason = run(&facts(Outcome::Diverged), &gate, &[]).reason;
    assert_eq!(reason, "So it is; the policy's mode is warn.");
    let gate = GatePolicy {
        mode: Mode::Delay,
        delay_until: Some(at(1_900_000_000)),
        ..GatePolicy::default()
    };
    let reason = run(&facts(Outcome::Diverged), &gate, &[]).reason;
    assert_eq!(reason, "So it is; the policy enforces from 2030-03-17T17:46:40Z.");
    let reason = run(&facts(Outcome::Reproduced), &gate, &[]).reason;
    assert_eq!(reason, "So it is.");
}

#[test]
fn age_makes_good_stale_and_nothing_else() {
    let gate = GatePolicy { max_age_seconds: Some(30 * DAY), ..GatePolicy::default() };
    let old =
        |seconds: i64, outcome| Facts { verdict_time: Some(at(NOW - seconds)), ..facts(outcome) };
    let limit = 30 * DAY as i64;
    let kept = run(&old(limit, Outcome::Reproduced), &gate, &[]);
    assert_eq!((kept.outcome, kept.admission), (Outcome::Reproduced, Admission::Admit));
    let stale = run(&old(limit + 1, Outcome::Reproduced), &gate, &[]);
    assert_eq!((stale.outcome, stale.admission), (Outcome::Stale, Admission::Deny));
    assert!(stale.reason.contains("30 days"), "{}", stale.reason);
    // A clock that is a little ahead is fresh, one that is far ahead says nothing.
    let ahead = crate::age::CLOCK_SKEW_SECONDS_MAX;
    assert_eq!(run(&old(-ahead, Outcome::Reproduced), &gate, &[]).outcome, Outcome::Reproduced);
    assert_eq!(run(&old(-ahead - 1, Outcome::Reproduced), &gate, &[]).outcome, Outcome::Stale);
    let never = Facts { verdict_time: None, ..facts(Outcome::Reproduced) };
    assert_eq!(run(&never, &gate, &[]).outcome, Outcome::Stale);
    assert_eq!(run(&never, &GatePolicy::default(), &[]).outcome, Outcome::Reproduced);
    for outcome in Outcome::WORST_FIRST.into_iter().filter(|o| *o != Outcome::Reproduced) {
        assert_eq!(run(&old(limit * 9, outcome), &gate, &[]).outcome, outcome);
    }
}

#[test]
fn a_waiver_warns_names_itself_and_ends() {
    let gate = GatePolicy::default();
    let waives = waiver(&["diverged"], NOW + 1);
    let decision = run(&facts(Outcome::Diverged), &gate, &[&waives]);
    assert_eq!((decision.outcome, decision.admission), (Outcome::Diverged, Admission::Warn));
    assert!(decision.reason.contains("release@example (issue 123)"), "{}", decision.reason);
    assert_eq!(decision.waiver.unwrap().owner, "release@example");
    // Not for another outcome, and not from its last moment on.
    assert_eq!(run(&facts(Outcome::Flaky), &gate, &[&waives]).admission, Admission::Deny);
    let ended = waiver(&["diverged"], NOW);
    let decision = run(&facts(Outcome::Diverged), &gate, &[&ended]);
    assert_eq!((decision.admission, &decision.waiver), (Admission::Deny, &None));
    assert!(decision.reason.contains("ended at"), "{}", decision.reason);
    // Stale can be waived; an error never, and what is good needs none.
    let gate = GatePolicy { max_age_seconds: Some(1), ..gate };
    let stale = waiver(&["stale", "diverged"], NOW + 1);
    let decision = run(&facts(Outcome::Reproduced), &gate, &[&stale]);
    assert_eq!((decision.outcome, decision.admission), (Outcome::Stale, Admission::Warn));
    let all = waiver(&["error"], NOW + 1);
    let decision = run(&facts(Outcome::Error), &gate, &[&all]);
    assert_eq!((decision.admission, decision.waiver), (Admission::Deny, None));
}

#[test]
fn regressions_only_denies_what_was_good() {
    let gate = GatePolicy { regressions_only: true, ..GatePolicy::default() };
    for outcome in [Outcome::Diverged, Outcome::Inconclusive] {
        let new = run(&facts(outcome), &gate, &[]);
        assert_eq!(new.admission, Admission::Warn);
        assert!(new.reason.contains("is known to be better"));
        for before in [Before::Good, Before::Unknown] {
            let regressed = Facts { before, ..facts(outcome) };
            let decision = run(&regressed, &gate, &[]);
            assert_eq!(decision.admission, Admission::Deny);
            let says = decision.reason.contains("whether it is a regression is not known");
            assert_eq!(says, before == Before::Unknown, "{}", decision.reason);
        }
    }
    assert_eq!(run(&facts(Outcome::Error), &gate, &[]).admission, Admission::Deny);
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    proptest::sample::select(Outcome::WORST_FIRST.to_vec())
}

prop_compose! {
    fn any_gate()(
        mode in proptest::sample::select(vec![
            Mode::Observe, Mode::Warn, Mode::Delay, Mode::Enforce,
        ]),
        unknown in proptest::sample::select(vec![
            UnknownRule::Pass, UnknownRule::Warn, UnknownRule::Fail,
        ]),
        max_age_seconds in proptest::option::of(1..100 * DAY),
        delay in proptest::option::of(-2i64..3),
        regressions_only in any::<bool>(),
    ) -> GatePolicy {
        let delay_until = delay.map(|d| at(NOW + d));
        GatePolicy { mode, unknown, max_age_seconds, delay_until, regressions_only }
    }
}

prop_compose! {
    fn any_waiver()(outcome in any_outcome(), expires in -2i64..3) -> Waiver {
        waiver(&[outcome.as_str()], NOW + expires)
    }
}

proptest! {
    #[test]
    fn nothing_gets_better_than_it_is(
        outcome in any_outcome(),
        gate in any_gate(),
        waivers in proptest::collection::vec(any_waiver(), 0..4),
        age in proptest::option::of(-2000i64..200 * DAY as i64),
        before in proptest::sample::select(vec![Before::Good, Before::NotGood, Before::Unknown]),
    ) {
        let verdict_time = age.map(|age| at(NOW - age));
        let facts = Facts { verdict_time, before, ..facts(outcome) };
        let waivers: Vec<&Waiver> = waivers.iter().collect();
        let decision = run(&facts, &gate, &waivers);
        // Only `reproduced` is good, and only from `reproduced`.
        prop_assert_eq!(decision.class == Class::Good, decision.outcome == Outcome::Reproduced);
        prop_assert!(decision.outcome == outcome
            || (outcome == Outcome::Reproduced && decision.outcome == Outcome::Stale));
        // Nobody passes whom nobody could look at.
        if decision.class == Class::Error {
            prop_assert_eq!(decision.admission, Admission::Deny);
        }
        // Without a waiver, enforcement admits only what the rules say, and new images where
        // regressions alone count and the past is known.
        let softened = gate.regressions_only && before == Before::NotGood;
        if decision.enforced && decision.waiver.is_none() && !softened {
            match decision.class {
                Class::Good => prop_assert_eq!(decision.admission, Admission::Admit),
                Class::Bad | Class::Error => prop_assert_eq!(decision.admission, Admission::Deny),
                Class::Unknown => prop_assert_eq!(
                    decision.admission == Admission::Deny, gate.unknown == UnknownRule::Fail
                ),
            }
        }
        // What is bad is admitted without a word only where the gate observes.
        if decision.class == Class::Bad && decision.admission == Admission::Admit {
            prop_assert_eq!(gate.mode, Mode::Observe);
        }
        // A waiver is for this outcome, has not ended, and is told.
        if let Some(used) = &decision.waiver {
            prop_assert!(used.expires > at(NOW) && decision.class != Class::Good);
            prop_assert!(decision.reason.contains(&used.owner));
        }
        // More waivers never deny, a stricter mode never admits.
        prop_assert!(run(&facts, &gate, &[]).admission >= decision.admission);
        let enforce = GatePolicy { mode: Mode::Enforce, ..gate.clone() };
        prop_assert!(run(&facts, &enforce, &waivers).admission >= decision.admission);
        // Older never helps.
        let older = Facts { verdict_time: verdict_time.map(|t| at(t.unix() - 1000)), ..facts };
        if age.is_none_or(|age| age >= 0) {
            prop_assert!(run(&older, &gate, &[]).admission >= run(&facts, &gate, &[]).admission);
        }
    }
}
