//! Properties over random fleets: order changes nothing, a dissent never goes away, and a good
//! verdict always has k distinct operators behind it.

use super::fleet::*;
use crate::{
    id::OperatorId,
    observation::Outcome,
    verdict::{Finding, VerdictOutcome},
};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// What one operator does, once.
#[derive(Debug, Clone)]
struct Event {
    who: usize,
    attempt: u64,
    says: u8,
    leased: bool,
}

impl Event {
    fn outcome(&self) -> Outcome {
        match self.says {
            0..=3 => same(),
            4 | 5 => other(1),
            6 => other(2),
            7 => recompressed(),
            8 => failed("linker"),
            _ => refused(),
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    (0usize..6, 1u64..4, 0u8..10, prop::bool::weighted(0.85))
        .prop_map(|(who, attempt, says, leased)| Event { who, attempt, says, leased })
}

fn play(fleet: &mut Fleet, event: &Event) {
    if event.leased {
        fleet.observe(event.who, event.attempt, event.outcome());
    } else {
        fleet.volunteer(event.who, event.outcome());
    }
}

fn dissenters(finding: &Finding) -> BTreeSet<OperatorId> {
    finding.dissent.iter().map(|dissent| dissent.operator.clone()).collect()
}

/// Whatever is found must be true of what was played.
fn sound(fleet: &Fleet, finding: &Finding, events: &[Event]) {
    let quorum = fleet.policy.quorum.as_ref().unwrap();
    let saw = |says: &dyn Fn(u8) -> bool, leased: bool| -> BTreeSet<OperatorId> {
        let matching = events.iter().filter(|e| says(e.says) && (e.leased || !leased));
        let inside = matching.map(|e| operator(e.who)).filter(|o| quorum.operators.contains(o));
        inside.collect()
    };
    let differing = saw(&|says| (4..=6).contains(&says), false);
    assert_eq!(dissenters(finding), differing, "every dissent is listed, and no other");
    let matching = saw(&|says| says <= 3 || says == 7, true);
    let counted: BTreeSet<_> = finding.counted.iter().map(|c| c.operator.clone()).collect();
    assert_eq!(counted.len(), finding.counted.len(), "operators, not observations");
    assert!(counted.is_subset(&matching) && counted.is_disjoint(&differing));
    assert_eq!(finding.k as usize, counted.len());
    assert!(finding.k <= finding.n);
    match &finding.outcome {
        VerdictOutcome::Reproduced { level } => {
            assert!(finding.k >= quorum.reproduced && *level >= quorum.level);
            let strong = finding.counted.iter().filter(|c| c.level >= *level).count();
            assert!(strong >= quorum.reproduced as usize);
            assert!(differing.len() <= 1);
            if let Some(dissent) = finding.dissent.first() {
                let after = |c: &&OperatorId| {
                    events.iter().any(|e| {
                        operator(e.who) == **c && e.leased && e.attempt > dissent.attempt.0
                    })
                };
                assert!(dissent.resolved);
                assert!(counted.iter().filter(after).count() as u32 >= quorum.reproduced + 2);
            }
        }
        VerdictOutcome::Diverged => {
            let strongest = [4..=5, 6..=6]
                .into_iter()
                .map(|range| saw(&|says| range.contains(&says), true).len())
                .max();
            assert!(strongest >= Some(quorum.reproduced as usize));
            let published = saw(&|says| says <= 3 || says == 7, false);
            assert!(published.difference(&differing).count() <= 1);
        }
        VerdictOutcome::Flaky => assert!(differing.len() > 1),
        VerdictOutcome::Disputed => assert!(!differing.is_empty()),
        VerdictOutcome::NotRebuildable { .. } => {
            assert!(differing.len() <= 1);
            let failing = saw(&|says| says == 8, true).len();
            assert!(failing >= quorum.reproduced.min(2) as usize);
        }
        VerdictOutcome::Inconclusive { .. } => assert!(differing.len() <= 1),
        VerdictOutcome::Untrusted => panic!("the publisher is trusted"),
    }
}

/// Another order of everything, from a seed (splitmix64).
fn shuffle<T>(items: &mut [T], seed: &mut u64) {
    for at in (1..items.len()).rev() {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        items.swap(at, (z ^ (z >> 31)) as usize % (at + 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn order_changes_nothing_and_findings_are_sound(
        operators in 1usize..6, required in 1u32..4, pinned: bool, seed: u64,
        events in proptest::collection::vec(event(), 0..14), extra in event(),
    ) {
        let required = required.min(operators as u32);
        let mut fleet =
            if pinned { Fleet::new(operators, required) } else {
                Fleet::unpinned(operators, required)
            };
        for event in &events {
            play(&mut fleet, event);
        }
        let judgement = fleet.judge();
        // Without a pinned coordinator nobody can tell a volunteer from a leased worker.
        let mut seen = events.clone();
        if !pinned {
            for event in seen.iter_mut().filter(|event| !event.leased) {
                (event.leased, event.attempt) = (true, 1);
            }
        }
        sound(&fleet, &judgement, &seen);

        let bytes = judgement.to_canonical_json().unwrap();
        let mut seed = seed;
        let mut shuffled = Fleet { set: fleet.set.clone(), ..Fleet::new(operators, required) };
        shuffled.policy = fleet.policy.clone();
        shuffle(&mut shuffled.set.observations, &mut seed);
        shuffle(&mut shuffled.set.leases, &mut seed);
        shuffle(&mut shuffled.set.workers, &mut seed);
        prop_assert_eq!(&shuffled.judge().to_canonical_json().unwrap(), &bytes);
        // The same through the file.
        let file = shuffled.set.to_canonical_json().unwrap();
        shuffled.set = crate::evidence_set::EvidenceSet::parse(&file).unwrap();
        prop_assert_eq!(&shuffled.judge().to_canonical_json().unwrap(), &bytes);

        play(&mut fleet, &extra);
        let after = fleet.judge();
        prop_assert!(dissenters(&judgement).is_subset(&dissenters(&after)));
        prop_assert!(after.n >= judgement.n);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Evidence that is one operator short, with one byte of its file changed: whatever is still
    /// read is judged without a panic, and never becomes good.
    #[test]
    fn no_changed_byte_makes_it_good(at: prop::sample::Index, byte: u8) {
        let file = short_by_one();
        let mut changed = file.to_vec();
        let at = at.index(changed.len());
        changed[at] = byte;
        if let Ok(set) = crate::evidence_set::EvidenceSet::parse(&changed) {
            let fleet = Fleet { set, ..Fleet::new(4, 3) };
            prop_assert_ne!(fleet.outcome(), "reproduced");
            prop_assert_ne!(fleet.outcome(), "diverged");
        }
    }
}

/// Two matches of the three that are needed, and one of each kind that does not count.
fn short_by_one() -> &'static [u8] {
    static FILE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    FILE.get_or_init(|| {
        let mut fleet = Fleet::new(4, 3);
        fleet.observe(0, 1, same());
        fleet.observe(1, 1, same());
        fleet.volunteer(2, same());
        fleet.observe(3, 1, refused());
        fleet.announce(1, 3, &[]);
        fleet.set.to_canonical_json().unwrap()
    })
}
