//! "Error classes: infrastructure (re-offered, not counted), input unavailable (backoff 1 h, 6 h,
//! 24 h, then NotRebuildable), deterministic failure (two operators, same class: final), limit
//! exceeded (final, signed). At most 3 attempts, then PARKED with unpark."

use super::*;

fn failed(class: &str) -> Said {
    Said::BuildFailed { class: class.into() }
}

#[test]
fn infrastructure_is_offered_again_and_counts_for_nothing() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let offer = rig.lease(1);
    assert_eq!(rig.decline(1, &offer), Reply::Done);
    let state = rig.job(job);
    assert_eq!((state.open_slots(), state.answers.len(), state.attempt.0), (1, 0, 1));
    assert!(rig.offers(1).is_empty(), "others first: it is left alone for a minute");
    assert_eq!(rig.offers(2).len(), 1);
}

#[test]
fn whoever_gave_back_is_asked_again_after_a_minute_when_nobody_else_is_there() {
    let mut rig = Rig::new();
    rig.announce("m", 1);
    let offer = rig.lease(1);
    rig.decline(1, &offer);
    rig.pass(MINUTE);
    assert_eq!(rig.offers(1).len(), 1);
}

#[test]
fn one_broken_worker_does_not_spoil_what_others_built() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 3);
    rig.work(1, output("a"));
    let slow = rig.lease(2);
    for n in [3, 103] {
        rig.pass(MINUTE);
        let offer = rig.lease(n);
        rig.decline(n, &offer);
    }
    rig.pass(MINUTE);
    rig.heartbeat(2, &[&slow]);
    assert!(rig.offers(3).is_empty() && rig.offers(103).is_empty(), "left out of this attempt");
    // 8 tries for each of 3 slots, by ten others.
    for n in (0..22).map(|n| 10 + n / 2) {
        rig.pass(MINUTE);
        rig.heartbeat(2, &[&slow]);
        let offer = rig.lease(n);
        rig.decline(n, &offer);
    }
    assert!(rig.offers(4).is_empty(), "the tries of this attempt are used up");
    assert!(matches!(rig.job(job).slots[1], Slot::Leased { .. }), "who is at it may finish");
    assert_eq!(rig.asked_judge(), None);
    rig.submit(2, &slow, output("a"));
    assert_eq!(rig.asked_judge(), Some(Due::Exhausted));
    rig.judged(job, "reproduced", Need::Enough);
    assert!(matches!(rig.job(job).phase, Phase::Judged { .. }));
}

#[test]
fn one_that_declines_everything_parks_nothing_that_others_can_do() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    for _ in 0..20 {
        if let Some(offer) = rig.offers(1).first() {
            rig.decline(1, offer);
        }
        assert_eq!(rig.asked_judge(), None);
        rig.pass(MINUTE / 2);
        rig.restart();
    }
    assert_eq!(rig.job(job).tries, 2);
    rig.work(2, output("a"));
    assert_eq!(rig.asked_judge(), Some(Due::Complete));
    // The next attempt knows nothing of it.
    rig.judged(job, "disputed", Need::Reopen { wanted: 1, without: vec![] });
    rig.pass(6 * MINUTE);
    assert_eq!(rig.offers(1).len(), 1);
}

#[test]
fn a_job_for_which_nobody_is_left_is_judged_as_it_is() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 2);
    rig.work(2, output("a"));
    for _ in 0..2 {
        let offer = rig.lease(1);
        rig.decline(1, &offer);
        rig.pass(MINUTE);
    }
    for _ in 0..9 {
        assert_eq!(rig.asked_judge(), None);
        assert!(rig.offers(1).is_empty());
        rig.pass(MINUTE);
    }
    assert_eq!(rig.asked_judge(), Some(Due::Exhausted));
    rig.judged(job, "inconclusive", Need::More(1));
    let parked = rig.job(job).phase;
    assert!(matches!(parked, Phase::Parked { why: ParkReason::Operators, .. }), "{parked:?}");
}

#[test]
fn used_up_tries_park_a_job_that_the_judge_cannot_settle() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    for n in 0..8 {
        assert_eq!(rig.asked_judge(), None);
        let offer = rig.lease(n);
        rig.decline(n, &offer);
    }
    assert_eq!(rig.asked_judge(), Some(Due::Exhausted));
    // The judge is away: it is asked again each minute, also after a restart.
    rig.restart();
    rig.now += MINUTE;
    rig.apply(Event::Tick);
    assert_eq!(rig.asked_judge(), Some(Due::Exhausted));
    rig.judged(job, "inconclusive", Need::More(1));
    let parked = rig.job(job).phase;
    assert!(matches!(parked, Phase::Parked { why: ParkReason::Tries, .. }), "{parked:?}");
}

#[test]
fn a_missing_input_is_waited_for_1_h_6_h_and_24_h() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 2);
    for (i, hours) in [1, 6, 24].into_iter().enumerate() {
        rig.work(1, Said::InputUnavailable);
        let until = Millis(rig.now + hours * HOUR);
        assert_eq!(rig.job(job).phase, Phase::Deferred { until }, "wait {i}");
        assert!(rig.offers(2).is_empty(), "nobody is asked meanwhile");
        rig.pass(hours * HOUR - 1);
        assert!(rig.offers(2).is_empty());
        rig.pass(1);
    }
    rig.work(1, Said::InputUnavailable);
    assert_eq!(rig.asked_judge(), Some(Due::InputGone));
    // The judge wants a second operator: the first would only say it again.
    rig.judged(job, "inconclusive", Need::More(1));
    assert!(rig.offers(1).is_empty());
    rig.work(2, Said::InputUnavailable);
    assert_eq!(rig.asked_judge(), Some(Due::InputGone));
    rig.judged(job, "not-rebuildable", Need::Enough);
    assert_eq!(rig.job(job).answers.len(), 5);
}

#[test]
fn two_that_miss_an_input_at_the_same_time_make_one_wait() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 3);
    let (first, second, third) = (rig.lease(1), rig.lease(2), rig.lease(3));
    rig.submit(1, &first, Said::InputUnavailable);
    let phase = rig.job(job).phase;
    rig.pass(MINUTE / 2);
    rig.submit(2, &second, Said::InputUnavailable);
    assert_eq!((rig.job(job).phase, rig.job(job).deferrals), (phase, 1));
    // Who has it all the same is heard.
    assert_eq!(rig.submit(3, &third, output("a")), Reply::Filed(Filed::New(Role::Counted)));
}

#[test]
fn a_deferred_job_waits_on_disk_and_comes_back_at_its_time() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    rig.work(1, Said::InputUnavailable);
    let until = Millis(rig.now + HOUR);
    assert_eq!(rig.job(job).place(), Place::Deferred(until));
    let state = rig.job(job);
    assert!(rig.queue.evict(&job) && rig.queue.job(&job).is_none());
    assert!(rig.queue.next_timer().is_none());
    rig.now += HOUR;
    rig.queue.load(state, Millis(rig.now));
    assert_eq!(rig.offers(2).len(), 1);
}

#[test]
fn the_same_failure_by_two_operators_is_for_the_judge() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 4);
    rig.work(1, failed("compiler"));
    assert_eq!(rig.asked_judge(), None);
    rig.work(2, failed("disk"));
    assert_eq!(rig.asked_judge(), None, "another class");
    let busy = rig.lease(4);
    rig.work(3, failed("compiler"));
    assert_eq!(rig.asked_judge(), Some(Due::SameFailure));
    assert!(rig.offers(5).is_empty(), "nobody else is asked meanwhile");
    rig.judged(job, "not-rebuildable", Need::Enough);
    assert_eq!(rig.woken(), vec![], "its call is not held");
    assert_eq!(rig.heartbeat(4, &[&busy]).stop, vec![busy.grant.lease], "it may stop");
    let invalid = Said::RecipeInvalid { class: "compiler".into() };
    assert_ne!(invalid.failure(), failed("compiler").failure());
}

#[test]
fn an_exceeded_limit_is_for_the_judge_at_once() {
    let mut rig = Rig::new();
    rig.announce("m", 3);
    rig.work(1, Said::LimitExceeded { class: "bytes".into() });
    assert_eq!(rig.asked_judge(), Some(Due::LimitExceeded));
    assert!(rig.offers(2).is_empty());
}

#[test]
fn a_timeout_or_a_refusal_asks_another_operator() {
    for said in [Said::Timeout, Said::Refused] {
        let mut rig = Rig::new();
        let job = rig.announce("m", 1);
        rig.work(1, said.clone());
        assert_eq!((rig.asked_judge(), rig.job(job).open_slots()), (None, 1), "{said:?}");
        rig.pass(2 * MINUTE);
        assert!(rig.offers(1).is_empty() && rig.offers(101).is_empty(), "not this one again");
        assert_eq!(rig.offers(2).len(), 1);
    }
}

#[test]
fn dissent_opens_a_job_three_times_at_most_and_then_it_is_parked() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    for attempt in 1..=3u64 {
        assert_eq!(rig.job(job).attempt.0, attempt);
        rig.work(attempt as u32, output(&format!("{attempt}")));
        let without = vec![operator(attempt as u32)];
        rig.judged(job, "disputed", Need::Reopen { wanted: 1, without });
    }
    let phase = rig.job(job).phase;
    let parked = Phase::Parked { why: ParkReason::Attempts, outcome: Some("disputed".into()) };
    assert_eq!(phase, parked);
    assert_eq!(rig.job(job).place(), Place::Done);
    assert_eq!(rig.announce("m", 1), job);
    assert_eq!(rig.job(job).phase, parked, "asking again does not unpark");
    let reply = rig.apply(Event::Unpark { job });
    assert!(matches!(reply, Reply::Settled { phase: Phase::Open, attempt } if attempt.0 == 4));
    assert_eq!((rig.job(job).reopenings, rig.job(job).slots.len()), (0, 1));
    assert!(rig.offers(1).is_empty(), "a dissenter stays excluded");
    assert_eq!(rig.offers(4).len(), 1);
    assert_eq!(rig.apply(Event::Unpark { job }), Reply::Refused(Refusal::NotParked("open")));
}

#[test]
fn the_re_opened_attempt_asks_those_who_have_not_answered_first() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    rig.work(1, output("a"));
    rig.offers(2);
    rig.judged(job, "disputed", Need::Reopen { wanted: 1, without: vec![] });
    assert!(rig.offers(1).is_empty(), "operator 2 is there");
    rig.pass(6 * MINUTE);
    assert_eq!(rig.offers(1).len(), 1, "operator 2 was not heard for 5 minutes");
}

#[test]
fn more_is_one_at_least_and_more_than_can_be_parks() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    rig.work(1, output("a"));
    rig.judged(job, "inconclusive", Need::More(0));
    assert_eq!(rig.job(job).open_slots(), 1, "or it would wait for ever");
    let busy = rig.lease(2);
    rig.judged(job, "inconclusive", Need::More(40));
    let phase = rig.job(job).phase;
    assert!(matches!(phase, Phase::Parked { why: ParkReason::Operators, .. }), "{phase:?}");
    assert_eq!(rig.heartbeat(2, &[&busy]).stop, vec![busy.grant.lease]);
}

#[test]
fn a_recipe_in_which_two_find_the_same_gap_is_final() {
    let mut rig = Rig::new();
    rig.announce("m", 3);
    let gap = |class: &str| Said::RecipeInvalid { class: class.into() };
    rig.work(1, gap("unsupported-field"));
    rig.work(2, failed("unsupported-field"));
    assert_eq!(rig.asked_judge(), None, "a gap is no failing build, whatever it is called");
    rig.work(3, gap("unsupported-field"));
    assert_eq!(rig.asked_judge(), Some(Due::SameFailure));
}

#[test]
fn whoever_is_there_and_has_no_room_holds_nothing_up() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 3);
    rig.work(1, output("a"));
    rig.work(2, output("a"));
    let began = rig.now;
    while rig.asked_judge().is_none() {
        rig.sync_with(Report { slots_free: 0, ..report(3, &[]) });
        rig.pass(MINUTE);
        assert!(rig.now - began <= 11 * MINUTE, "still waits for who takes nothing");
    }
    assert_eq!((rig.asked_judge(), rig.now - began), (Some(Due::Exhausted), 10 * MINUTE));
    rig.judged(job, "reproduced", Need::Enough);
    assert!(matches!(rig.job(job).phase, Phase::Judged { .. }));
}

#[test]
fn whoever_is_busy_with_our_work_is_waited_for_but_not_for_ever() {
    let limits = Limits { unroutable_ms: 6 * HOUR, ..Limits::default() };
    let mut rig = Rig::with(limits);
    rig.announce_as(spec("long", 1), "ci", Class::Gate);
    let long = rig.sync_with(Report { slots_free: 1, ..report(2, &[]) }).offers.remove(0);
    rig.accept(2, &long);
    rig.announce("m", 1);
    let broken = rig.lease(1);
    rig.decline(1, &broken);
    for _ in 0..30 {
        rig.heartbeat(2, &[&long]);
        rig.pass(MINUTE);
        assert_eq!(rig.asked_judge(), None, "operator 2 will have room");
    }
    rig.submit(2, &long, output("a"));
    rig.judged(long.job, "reproduced", Need::Enough);
    let began = rig.now;
    while rig.asked_judge().is_none() {
        rig.sync_with(Report { slots_free: 0, ..report(2, &[]) });
        rig.pass(MINUTE);
    }
    assert!(rig.now - began <= 20 * MINUTE, "{}", rig.now - began);
}
