//! What a job still needs: judging and queueing agree.

use super::fleet::*;
use crate::verdict::{Need, needs};

fn need(fleet: &Fleet) -> Need {
    needs(&fleet.policy, &fleet.set)
}

#[test]
fn m_observations_and_then_enough() {
    let mut fleet = Fleet::new(5, 2);
    assert_eq!(need(&fleet), Need::MoreObservations(2), "k, where nothing is announced");
    fleet.announce(1, 3, &[]);
    assert_eq!(need(&fleet), Need::MoreObservations(3));
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, same());
    assert_eq!(fleet.outcome(), "reproduced");
    assert_eq!(need(&fleet), Need::MoreObservations(1), "m are awaited: any dissent re-opens");
    fleet.observe(2, 1, same());
    assert_eq!(need(&fleet), Need::Enough);
}

#[test]
fn without_a_recipe_nothing_is_needed() {
    let mut fleet = Fleet::new(3, 2);
    fleet.set.publisher.clear();
    assert_eq!(need(&fleet), Need::Enough);
    let mut fleet = Fleet::new(3, 2);
    fleet.policy.quorum = None;
    assert_eq!(need(&fleet), Need::Enough);
}

#[test]
fn whoever_refuses_is_replaced() {
    let mut fleet = Fleet::new(3, 2);
    fleet.announce(1, 2, &[]);
    fleet.observe(0, 1, refused());
    assert_eq!(need(&fleet), Need::MoreObservations(2));
    fleet.observe(1, 1, refused());
    assert_eq!(need(&fleet), Need::MoreObservations(1), "no more than one operator is left");
    fleet.observe(2, 1, refused());
    assert_eq!(need(&fleet), Need::Enough);
    assert_eq!(fleet.outcome(), "inconclusive");
}

#[test]
fn a_dissent_opens_the_job_again_with_the_others() {
    let mut fleet = Fleet::new(8, 2);
    fleet.announce(1, 3, &[]);
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, same());
    let dissent = fleet.observe(7, 1, other(1));
    assert_eq!(need(&fleet), Need::ReopenWith(5));
    fleet.announce(2, 5, &[dissent]);
    assert_eq!(need(&fleet), Need::MoreObservations(5));
    for who in 0..5 {
        fleet.observe(who, 2, same());
    }
    assert_eq!(need(&fleet), Need::Enough);
    assert_eq!(fleet.outcome(), "reproduced");
}

#[test]
fn a_tampered_image_and_one_liar_end_diverged() {
    // Five operators, m = 3 of which 3 must agree: the demonstration's case.
    let mut fleet = Fleet::new(5, 3);
    fleet.announce(1, 3, &[]);
    fleet.observe(0, 1, same());
    let a = fleet.observe(1, 1, other(1));
    let b = fleet.observe(2, 1, other(1));
    assert_eq!(fleet.outcome(), "disputed");
    assert_eq!(need(&fleet), Need::ReopenWith(3), "the liar and the two that were not asked");
    fleet.announce(2, 3, &[a, b]);
    fleet.observe(3, 2, other(1));
    fleet.observe(4, 2, other(1));
    fleet.observe(0, 2, same());
    assert_eq!(need(&fleet), Need::Enough);
    assert_eq!(fleet.outcome(), "diverged");
    assert_eq!(fleet.judge().suspects, [operator(0)]);
}

#[test]
fn what_cannot_be_resolved_is_not_asked_for() {
    // Two against two of four: nobody is left to ask.
    let mut fleet = Fleet::new(4, 3);
    fleet.announce(1, 4, &[]);
    for who in 0..4 {
        fleet.observe(who, 1, if who < 2 { same() } else { other(1) });
    }
    assert_eq!(need(&fleet), Need::Enough);
    assert_eq!(fleet.outcome(), "disputed");
    // Two dissenters are not resolved by numbers, however many others there are.
    let mut fleet = Fleet::new(8, 3);
    fleet.announce(1, 4, &[]);
    for who in 0..4 {
        fleet.observe(who, 1, if who < 2 { same() } else { other(1) });
    }
    assert_eq!(need(&fleet), Need::Enough);
    // Who dissented is not asked again: three of five are left.
    let mut fleet = Fleet::new(5, 3);
    let dissents = [fleet.observe(0, 1, other(1)), fleet.observe(1, 1, other(1))];
    fleet.announce(2, 5, &dissents);
    assert_eq!(need(&fleet), Need::MoreObservations(3));
}

#[test]
fn openings_because_of_dissent_are_counted_and_rechecks_are_not() {
    // Two scheduled rechecks, and a dissent in the second: it is as fresh as one in the first.
    let mut fleet = Fleet::new(8, 2);
    for attempt in 1..=2 {
        fleet.announce(attempt, 2, &[]);
        fleet.observe(0, attempt, same());
        fleet.observe(1, attempt, same());
    }
    fleet.announce(3, 2, &[]);
    fleet.observe(0, 3, same());
    let dissent = fleet.observe(7, 3, other(1));
    assert_eq!(need(&fleet), Need::ReopenWith(4));
    // It is asked about twice more, as after the first opening, and then no more.
    fleet.announce(4, 4, &[dissent]);
    assert_eq!(need(&fleet), Need::MoreObservations(4));
    for who in 0..7 {
        fleet.observe(who, 4, if who < 3 { same() } else { refused() });
    }
    assert_eq!(need(&fleet), Need::ReopenWith(4));
    fleet.announce(5, 4, &[dissent]);
    for who in 0..7 {
        fleet.observe(who, 5, if who < 3 { same() } else { refused() });
    }
    assert_eq!((fleet.outcome(), need(&fleet)), ("disputed", Need::Enough));
    // A recheck afterwards counts from one again.
    fleet.announce(6, 2, &[]);
    fleet.observe(0, 6, same());
    fleet.observe(1, 6, same());
    assert_eq!(need(&fleet), Need::ReopenWith(4));
}

#[test]
fn a_policy_without_a_pinned_coordinator_counts_openings_by_what_was_announced() {
    let mut fleet = Fleet::unpinned(8, 2);
    for attempt in 1..=3 {
        fleet.announce(attempt, 2, &[]);
        fleet.observe(0, attempt, same());
    }
    for (who, says) in [(1, same()), (2, same()), (3, same())] {
        fleet.observe(who, 3, says);
    }
    let dissent = fleet.observe(7, 3, other(1));
    assert_eq!(need(&fleet), Need::ReopenWith(4));
    fleet.set.announces.clear();
    for attempt in 1..=3 {
        fleet.announce(attempt, 2, if attempt == 1 { &[] } else { std::slice::from_ref(&dissent) });
    }
    assert_eq!(need(&fleet), Need::Enough);
    // Nothing announced: the number of the attempt is all there is.
    fleet.set.announces.clear();
    assert_eq!(need(&fleet), Need::Enough);
}

#[test]
fn a_coordinator_that_follows_it_always_comes_to_an_end() {
    // Every pattern of honest, lying and failing operators among five.
    for pattern in 0..4u32.pow(5) {
        let mut fleet = Fleet::new(5, 2);
        let says = |who: usize| match pattern / 4u32.pow(who as u32) % 4 {
            0 => same(),
            1 => other(1),
            2 => other(2),
            _ => failed("linker"),
        };
        // Signing is what takes time: a seventh of the patterns is enough for each run.
        if pattern % 7 != 0 {
            continue;
        }
        let (mut attempt, mut wanted) = (1, 3);
        fleet.announce(attempt, wanted, &[]);
        let mut asked = 0;
        for round in 0.. {
            assert!(round < 20, "pattern {pattern} does not end");
            match need(&fleet) {
                Need::Enough => break,
                Need::MoreObservations(n) => {
                    assert!(n > 0 && asked + n as usize <= 5, "pattern {pattern}");
                    for _ in 0..n {
                        fleet.observe(asked, attempt, says(asked));
                        asked += 1;
                    }
                }
                Need::ReopenWith(m) => {
                    assert!(m > 0, "pattern {pattern}");
                    attempt += 1;
                    wanted = m;
                    let dissent = fleet.judge();
                    let dissent = dissent.dissent.iter().flat_map(|d| d.observations.clone());
                    let dissent: Vec<_> = dissent.collect();
                    fleet.announce(attempt, wanted, &dissent);
                    // Those without dissent are asked, in order.
                    let dissenters: Vec<_> =
                        fleet.judge().dissent.iter().map(|d| d.operator.clone()).collect();
                    let others = (0..5).filter(|who| !dissenters.contains(&operator(*who)));
                    for who in others.take(m as usize).collect::<Vec<_>>() {
                        fleet.observe(who, attempt, says(who));
                    }
                    asked = 5;
                }
            }
        }
        assert!(attempt <= 3);
    }
}

#[test]
fn the_last_operator_that_can_complete_the_quorum_is_asked() {
    let mut fleet = Fleet::new(3, 2);
    fleet.announce(1, 2, &[]);
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, failed("linker"));
    assert_eq!(need(&fleet), Need::MoreObservations(1), "one is lacking, and one is left");
    // Two are lacking and one is left: it could not change anything.
    let mut fleet = Fleet::new(3, 2);
    fleet.announce(1, 2, &[]);
    fleet.observe(0, 1, failed("linker"));
    fleet.observe(1, 1, failed("compiler"));
    assert_eq!(need(&fleet), Need::Enough);
}

#[test]
fn an_opening_whose_announcement_is_missing_wants_m_and_two_more() {
    let mut fleet = Fleet::new(8, 2);
    fleet.observe(7, 1, other(1));
    // Leased in a second attempt that nothing announces.
    fleet.observe(0, 2, same());
    assert_eq!(need(&fleet), Need::MoreObservations(3));
}

#[test]
fn where_everybody_has_spoken_nobody_is_asked_again() {
    // Two agree on another image, one saw the published one, three must agree.
    let mut fleet = Fleet::new(3, 3);
    fleet.announce(1, 3, &[]);
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, other(1));
    fleet.observe(2, 1, other(1));
    assert_eq!((fleet.outcome(), need(&fleet)), ("disputed", Need::Enough));
    // Two dissent, of whom one saw the published image before: he is no witness of the other.
    let mut fleet = Fleet::new(2, 2);
    fleet.announce(1, 2, &[]);
    fleet.observe(0, 1, same());
    let dissent = fleet.observe(1, 1, other(1));
    fleet.announce(2, 2, &[dissent]);
    fleet.observe(0, 2, other(1));
    assert_eq!((fleet.outcome(), need(&fleet)), ("disputed", Need::Enough));
}

#[test]
fn the_first_opening_is_the_first_of_its_row_whatever_it_says() {
    let mut fleet = Fleet::new(8, 2);
    let dissent = fleet.observe(7, 1, other(1));
    fleet.observe(0, 1, same());
    fleet.announce(1, 2, std::slice::from_ref(&dissent));
    fleet.announce(2, 4, &[dissent]);
    for who in 0..7 {
        fleet.observe(who, 2, if who < 3 { same() } else { refused() });
    }
    assert_eq!(need(&fleet), Need::ReopenWith(4), "two openings of three");
}

#[test]
fn those_who_are_silent_could_agree_with_the_one_who_dissents() {
    // Of four three must agree; the two that were not asked could join the dissenter.
    let mut fleet = Fleet::new(4, 3);
    fleet.announce(1, 2, &[]);
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, other(1));
    assert_eq!((fleet.outcome(), need(&fleet)), ("disputed", Need::ReopenWith(3)));
    // Of three only one is left: neither side can have three.
    let mut fleet = Fleet::new(3, 3);
    fleet.announce(1, 2, &[]);
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, other(1));
    assert_eq!((fleet.outcome(), need(&fleet)), ("disputed", Need::Enough));
}
