//! "Two-stage expiry: a heartbeat each 15 s; silent for 60 s = SUSPECT (shown, not reassigned);
//! EXPIRED at max(10 min, 25 % of the p95 build time of that recipe). After a restart of the
//! coordinator all expiry clocks pause until two heartbeats after boot." And the hard cap.

use super::*;

fn state(rig: &Rig, job: JobId) -> &'static str {
    match rig.job(job).slots[0] {
        Slot::Open => "open",
        Slot::Offered { .. } => "offered",
        Slot::Leased { suspect: None, .. } => "leased",
        Slot::Leased { suspect: Some(_), .. } => "suspect",
        Slot::Answered { .. } => "answered",
    }
}

#[test]
fn silence_makes_a_suspect_after_60_s_and_ends_the_lease_after_10_min() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let offer = rig.lease(1);
    rig.pass(MINUTE - 1);
    assert_eq!(state(&rig, job), "leased");
    rig.pass(1);
    assert_eq!(state(&rig, job), "suspect");
    assert_eq!(rig.queue.figures().suspects, 1);
    assert!(rig.offers(2).is_empty(), "shown, not reassigned");
    assert_eq!(rig.heartbeat(1, &[&offer]).stop, vec![]);
    assert_eq!(state(&rig, job), "leased");
    rig.pass(MINUTE - 1);
    assert_eq!(state(&rig, job), "leased");
    rig.pass(1);
    assert_eq!(state(&rig, job), "suspect", "again, a minute after it was heard");
    rig.pass(9 * MINUTE - 1);
    assert_eq!(state(&rig, job), "suspect");
    rig.pass(1);
    assert_eq!(state(&rig, job), "open");
    let why = rig.steps.iter().rev().find_map(|step| match step.change {
        Change::Expired { why, .. } => Some(why),
        _ => None,
    });
    assert_eq!(why, Some(ExpireReason::Silent));
    assert_eq!(rig.heartbeat(1, &[&offer]).stop, vec![offer.grant.lease], "it is told to stop");
    let next = rig.lease(2);
    assert!(next.grant.fence > offer.grant.fence, "the next one has a new fence");
}

#[test]
fn heartbeats_keep_a_lease_up_to_the_hard_cap_and_not_beyond() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let offer = rig.lease(1);
    for _ in 0..HOUR / (15 * SECOND) - 1 {
        rig.pass(15 * SECOND);
        rig.heartbeat(1, &[&offer]);
        assert_eq!(state(&rig, job), "leased");
    }
    rig.pass(15 * SECOND - 1);
    assert_eq!(state(&rig, job), "leased");
    rig.pass(1);
    assert_eq!(state(&rig, job), "open");
    let last = rig.steps.iter().rfind(|step| matches!(step.change, Change::Expired { .. }));
    assert!(matches!(
        last.map(|step| &step.change),
        Some(Change::Expired { why: ExpireReason::Deadline, .. })
    ));
}

#[test]
fn a_slow_recipe_has_a_quarter_of_its_p95_build_time_for_silence() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let offer = rig.lease(1);
    let slow = Submission { duration_ms: 56 * MINUTE, ..submission(1, &offer, output("a")) };
    rig.apply(Event::Submit(slow));
    // What nobody asked for says nothing about how long it takes.
    let unasked = Submission {
        duration_ms: 24 * HOUR,
        lease: LeaseId([7; 16]),
        ..submission(3, &offer, output("a"))
    };
    rig.apply(Event::Submit(unasked));
    rig.judged(job, "inconclusive", Need::More(1));
    rig.lease(2);
    let grace = rig.steps.iter().rev().find_map(|step| match step.change {
        Change::Leased { grace_ms, .. } => Some(grace_ms),
        _ => None,
    });
    assert_eq!(grace, Some(14 * MINUTE));
}

#[test]
fn a_heartbeat_with_a_stale_fence_does_not_keep_a_lease() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let mut stale = rig.lease(1);
    stale.grant.fence = Fence(0);
    for _ in 0..10 {
        rig.pass(MINUTE);
        rig.heartbeat(1, &[&stale]);
    }
    assert_eq!(state(&rig, job), "open");
}

#[test]
fn the_p95_is_the_95th_of_a_hundred() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 20);
    for n in 0..20 {
        let offer = rig.lease(n);
        let minutes = [60, 3, 3].get(n as usize).copied().unwrap_or(44);
        let said =
            Submission { duration_ms: minutes * MINUTE, ..submission(n, &offer, output("a")) };
        rig.apply(Event::Submit(said));
    }
    rig.judged(job, "inconclusive", Need::More(1));
    rig.lease(30);
    let slot = rig.job(job).slots[20].clone();
    assert!(matches!(slot, Slot::Leased { grace_ms: 660_000, .. }), "{slot:?}");
}

#[test]
fn an_offer_lapses_after_30_s_and_the_next_is_asked() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let offer = rig.offers(1).remove(0);
    assert_eq!(offer.until, Millis(rig.now + 30 * SECOND));
    rig.pass(30 * SECOND - 1);
    assert_eq!(state(&rig, job), "offered");
    rig.pass(1);
    assert_eq!(state(&rig, job), "open");
    assert!(matches!(
        rig.steps.last().map(|step| &step.change),
        Some(Change::Skipped { why: SkipReason::Silent, .. })
    ));
    assert_eq!(rig.accept(1, &offer), Reply::Refused(Refusal::NoLease(offer.grant.lease)));
    assert!(rig.offers(1).is_empty(), "it is left alone for a minute");
    assert_eq!(rig.offers(2).len(), 1);
}

#[test]
fn all_clocks_pause_for_two_heartbeats_after_a_restart() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 2);
    let leased = rig.lease(1);
    let offered = rig.offers(2).remove(0);
    rig.pass(29 * SECOND);
    rig.restart();
    let started = rig.now;
    rig.pass(30 * SECOND - 1);
    assert_eq!(rig.job(job).open_slots(), 0, "the offer stands until {} + 30 s", started);
    rig.pass(1);
    assert_eq!(rig.job(job).open_slots(), 1, "the offer lapsed");
    assert_eq!(state(&rig, job), "leased");
    rig.pass(MINUTE - 1);
    assert_eq!(state(&rig, job), "leased", "silence counts from the end of the pause");
    rig.pass(1);
    assert_eq!(state(&rig, job), "suspect");
    rig.restart();
    rig.pass(30 * SECOND + 10 * MINUTE - 1);
    assert_eq!(state(&rig, job), "suspect");
    rig.pass(1);
    assert_eq!(state(&rig, job), "open");
    assert!(matches!(rig.accept(2, &offered), Reply::Refused(Refusal::NoLease(_))));
    assert!(matches!(rig.accept(1, &leased), Reply::Refused(Refusal::NoLease(_))));
}

#[test]
fn the_hard_cap_does_not_end_a_lease_in_the_pause() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let offer = rig.lease(1);
    for _ in 0..239 {
        rig.pass(15 * SECOND);
        rig.heartbeat(1, &[&offer]);
    }
    rig.now += 14 * SECOND;
    rig.restart();
    rig.pass(30 * SECOND - 1);
    assert_eq!(state(&rig, job), "leased");
    rig.pass(1);
    assert_eq!(state(&rig, job), "open");
}

#[test]
fn accepting_twice_is_the_same_lease_with_what_is_left_of_the_cap() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let offer = rig.offers(1).remove(0);
    assert_eq!(rig.accept(1, &offer), Reply::Granted { job, execution_ms: HOUR });
    rig.pass(50 * SECOND);
    let before = rig.job(job);
    assert_eq!(rig.accept(1, &offer), Reply::Granted { job, execution_ms: HOUR - 50 * SECOND });
    assert_eq!(rig.job(job), before);
    rig.pass(59 * SECOND);
    assert_eq!(state(&rig, job), "leased", "accepting is a sign of life");
}

#[test]
fn an_offer_is_shown_again_until_it_is_taken() {
    let mut rig = Rig::new();
    rig.announce("m", 1);
    let offers = rig.offers(1);
    assert_eq!(rig.offers(1), offers);
    // It may name the offer, when it is not sure whether its acceptance arrived.
    assert_eq!(rig.sync_with(report(1, &[&offers[0]])).stop, vec![]);
    rig.accept(1, &offers[0]);
    assert!(rig.heartbeat(1, &[&offers[0]]).offers.is_empty());
}
