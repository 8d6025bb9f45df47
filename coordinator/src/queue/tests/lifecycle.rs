//! Judging, waiting, and that every wait has an end (I10).

use super::*;

#[test]
fn a_job_from_announcement_to_verdict() {
    let mut rig = Rig::new();
    let reply = rig.announce_as(spec("m", 2), "ci", Class::Push);
    let id = spec("m", 2).id;
    let attempt = attest::id::Attempt(1);
    assert_eq!(reply, Reply::Announced { job: id, opened: true, phase: Phase::Open, attempt });
    assert_eq!(rig.job(id).place(), Place::Waiting(rig.job(id).rank));
    rig.work(1, output("a"));
    assert_eq!(rig.job(id).place(), Place::Active);
    assert!(!rig.queue.evict(&id), "somebody has a part in it");
    rig.work(2, output("a"));
    assert_eq!(rig.asked_judge(), Some(Due::Complete));
    let settled = rig.judged(id, "reproduced", Need::Enough);
    let phase = Phase::Judged { outcome: "reproduced".into() };
    assert_eq!(settled, Reply::Settled { phase, attempt });
    assert_eq!((rig.queue.totals().unfinished, rig.job(id).place()), (0, Place::Done));
    assert!(rig.queue.evict(&id));
}

#[test]
fn a_judgement_of_what_is_over_is_refused() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 2);
    rig.work(1, output("a"));
    let stale = |attempt, answers| Event::Judged {
        job,
        attempt: attest::id::Attempt(attempt),
        answers,
        outcome: "x".into(),
        need: Need::Enough,
    };
    let refused = Reply::Refused(Refusal::Stale { attempt: attest::id::Attempt(1), answers: 1 });
    for (attempt, answers) in [(1, 0), (1, 2), (2, 1), (0, 1)] {
        assert_eq!(rig.apply(stale(attempt, answers)), refused);
    }
    assert!(matches!(rig.apply(stale(1, 1)), Reply::Settled { .. }));
}

#[test]
fn a_judge_that_is_away_is_asked_again_each_minute() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    rig.work(1, output("a"));
    assert_eq!(rig.asked_judge(), Some(Due::Complete));
    for _ in 0..3 {
        rig.now += MINUTE;
        rig.apply(Event::Tick);
        assert_eq!(rig.asked_judge(), Some(Due::Complete));
    }
    let state = rig.job(job);
    let mut again = Queue::new(Limits::default(), Totals::default(), Millis(rig.now));
    let due = again.load(state, Millis(rig.now));
    assert!(matches!(due, Some(Effect::Judge { due: Due::Complete, .. })), "also after a restart");
}

#[test]
fn a_job_that_no_worker_can_do_is_parked_after_30_days() {
    let mut rig = Rig::new();
    let arm = spec_at("registry.example/a", "m", "apko", "arm64", 0, 1);
    let id = arm.id;
    rig.announce_as(arm, "ci", Class::Push);
    rig.offers(1);
    rig.pass(30 * 24 * HOUR - 1);
    assert_eq!(rig.job(id).phase, Phase::Open);
    rig.pass(1);
    let parked = Phase::Parked { why: ParkReason::Unroutable, outcome: None };
    assert_eq!(rig.job(id).phase, parked);
}

#[test]
fn a_job_for_which_no_operator_is_left_is_judged_as_it_is_after_10_min() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 2);
    rig.work(1, output("a"));
    rig.pass(10 * MINUTE - 1);
    assert_eq!(rig.asked_judge(), None);
    rig.heartbeat(1, &[]);
    rig.pass(1);
    assert_eq!(rig.asked_judge(), Some(Due::Exhausted));
    rig.judged(job, "inconclusive", Need::More(1));
    let parked = Phase::Parked { why: ParkReason::Operators, outcome: Some("inconclusive".into()) };
    assert_eq!(rig.job(job).phase, parked);
}

#[test]
fn a_job_whose_last_operator_is_always_busy_ends_too() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 2);
    rig.work(1, output("a"));
    let busy = Report { slots_free: 0, ..report(2, &[]) };
    for _ in 0..4 {
        rig.sync_with(busy.clone());
        rig.pass(4 * MINUTE);
        if rig.asked_judge().is_some() {
            rig.judged(job, "inconclusive", Need::More(1));
        }
        if !rig.job(job).unfinished() {
            break;
        }
    }
    assert!(matches!(rig.job(job).phase, Phase::Parked { why: ParkReason::Operators, .. }));
}

#[test]
fn a_recheck_opens_a_judged_job_and_nothing_else_does() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    rig.work(1, output("a"));
    rig.judged(job, "reproduced", Need::Enough);
    for class in [Class::Gate, Class::Push, Class::Backfill] {
        let reply = rig.announce_as(spec("m", 1), "ci", class);
        assert!(matches!(reply, Reply::Announced { opened: false, .. }), "{class}");
    }
    for (class, attempt) in [(Class::Regression, 2), (Class::Recheck, 3)] {
        let reply = rig.announce_as(spec("m", 1), "ci", class);
        assert!(matches!(reply, Reply::Announced { opened: true, .. }), "{class}");
        assert_eq!((rig.job(job).attempt.0, rig.job(job).class), (attempt, class));
        rig.work(attempt as u32, output("a"));
        rig.judged(job, "reproduced", Need::Enough);
    }
    assert_eq!(rig.job(job).answers.len(), 3);
}

#[test]
fn a_question_after_the_verdict_opens_another_attempt() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let offer = rig.work(1, output("a"));
    rig.judged(job, "reproduced", Need::Enough);
    let late = Submission { lease: LeaseId([3; 16]), ..submission(2, &offer, output("b")) };
    rig.apply(Event::Submit(late));
    rig.judged(job, "inconclusive", Need::More(2));
    assert_eq!((rig.job(job).attempt.0, rig.job(job).open_slots()), (2, 2));
}

#[test]
fn what_an_administrator_unsettles_uses_up_no_opening() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let offer = rig.work(1, output("a"));
    rig.judged(job, "reproduced", Need::Enough);
    // A key was revoked, or the policy is another: nothing came in, and the verdict is gone.
    for times in 1..=5 {
        let need = match times % 2 {
            0 => Need::More(1),
            _ => Need::Reopen { wanted: 1, without: vec![] },
        };
        rig.judged(job, "inconclusive", need);
        let state = rig.job(job);
        assert_eq!((state.attempt.0, state.reopenings, state.open_slots()), (times + 1, 0, 1));
        assert_eq!(state.class, Class::Recheck, "many come at once: behind fresh ones");
        rig.work(times as u32 + 1, output("a"));
        rig.judged(job, "reproduced", Need::Enough);
    }
    // Dissent is bounded as before: two more openings, then the job is parked.
    for reopenings in 1..=3 {
        let (who, lease) = (10 + reopenings, LeaseId([reopenings as u8; 16]));
        let late = Submission { lease, ..submission(who, &offer, output("b")) };
        rig.apply(Event::Submit(late));
        let reply = rig.judged(job, "disputed", Need::More(1));
        let parked = matches!(reply, Reply::Settled { phase: Phase::Parked { .. }, .. });
        assert_eq!(parked, reopenings == 3);
        if !parked {
            assert_eq!(rig.job(job).reopenings, reopenings);
            rig.work(20 + reopenings, output("a"));
            rig.judged(job, "reproduced", Need::Enough);
        }
    }
    // And a parked one is out of it until somebody takes it back.
    let reply = rig.judged(job, "inconclusive", Need::More(1));
    assert!(matches!(reply, Reply::Settled { phase: Phase::Parked { .. }, .. }), "{reply:?}");
}

#[test]
fn what_an_administrator_unsettles_opens_a_parked_job_as_a_recheck() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 2);
    let first = rig.work(1, output("a"));
    let out_of_operators =
        |phase: &Phase| matches!(phase, Phase::Parked { why: ParkReason::Operators, .. });
    for times in 1..=5 {
        rig.pass(10 * MINUTE);
        rig.heartbeat(1, &[]);
        rig.judged(job, "inconclusive", Need::More(1));
        assert!(out_of_operators(&rig.job(job).phase), "{:?}", rig.job(job).phase);
        // A key was revoked, or the policy is another: nothing came in, and more is needed.
        let need = match times % 2 {
            0 => Need::More(2),
            _ => Need::Reopen { wanted: 2, without: vec![] },
        };
        rig.judged(job, "inconclusive", need);
        let state = rig.job(job);
        assert_eq!((state.attempt.0, state.reopenings, state.phase), (times + 1, 0, Phase::Open));
        assert_eq!(state.class, Class::Recheck, "many come at once: behind fresh ones");
        rig.work(1, output("a"));
    }
    // What comes in after that is dissent, as before.
    rig.pass(10 * MINUTE);
    rig.heartbeat(1, &[]);
    rig.judged(job, "inconclusive", Need::More(1));
    assert!(out_of_operators(&rig.job(job).phase));
    let late = Submission { lease: LeaseId([3; 16]), ..submission(2, &first, output("b")) };
    rig.apply(Event::Submit(late));
    rig.judged(job, "disputed", Need::Reopen { wanted: 3, without: vec![] });
    assert_eq!((rig.job(job).reopenings, rig.job(job).phase), (1, Phase::Open));
}

#[test]
fn recheck_after_recheck_never_fills_a_job_up() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 3);
    for round in 0..120u32 {
        for n in 0..3 {
            rig.work(1 + (round * 3 + n) % 90, output("a"));
        }
        rig.judged(job, "reproduced", Need::Enough);
        rig.pass(24 * HOUR);
        rig.announce_as(spec("m", 3), "ci", Class::Recheck);
    }
    let state = rig.job(job);
    assert!(state.answers.len() <= job::ANSWERS_MAX / 2, "{}", state.answers.len());
}

#[test]
fn an_attempt_grows_by_two_at_most() {
    for (more, grows) in [(2, true), (3, false)] {
        let mut rig = Rig::new();
        let wanted = model::WANTED_MAX;
        let job = rig.announce("m", wanted);
        for n in 0..wanted {
            rig.work(n, output("a"));
        }
        for n in wanted..wanted + 4 {
            rig.offers(n);
        }
        rig.judged(job, "inconclusive", Need::More(more));
        let state = rig.job(job);
        assert_eq!(state.slots.len() as u32, if grows { wanted + more } else { wanted });
        assert_eq!(matches!(state.phase, Phase::Open), grows, "{:?}", state.phase);
    }
}

#[test]
fn an_opening_wants_one_observation_at_least_and_34_at_most() {
    for (wanted, slots) in [(0, 1), (34, 34), (100, 34)] {
        let mut rig = Rig::new();
        let job = rig.announce("m", 1);
        let broken = rig.lease(1);
        rig.decline(1, &broken);
        rig.work(2, output("a"));
        rig.judged(job, "disputed", Need::Reopen { wanted, without: vec![] });
        assert_eq!(rig.job(job).slots.len(), slots);
        rig.judged(job, "disputed", Need::Enough);
        assert_eq!(rig.queue.next_timer(), None, "nothing is looked at any more");
    }
}

#[test]
fn whatever_comes_in_is_judged_and_nothing_is_asked_for_twice() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let offer = rig.lease(1);
    rig.submit(1, &offer, output("a"));
    assert_eq!(rig.asked_judge(), Some(Due::Complete));
    // More urgent, but the judge was asked already.
    rig.announce_as(spec("m", 1), "ci", Class::Gate);
    assert_eq!(rig.asked_judge(), None);
    // Evidence that the judgement which is on its way may not have seen.
    for n in 2..4 {
        let volunteer =
            Submission { lease: LeaseId([n as u8; 16]), ..submission(n, &offer, output("a")) };
        rig.apply(Event::Submit(volunteer));
        assert_eq!(rig.asked_judge(), Some(Due::Complete));
    }
    rig.judged(job, "reproduced", Need::Enough);
    assert_eq!(rig.asked_judge(), None);
}

#[test]
fn a_refused_append_takes_the_queue_back_to_the_disk() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let state = rig.job(job);
    let taken = rig.lease(1);
    let totals = rig.queue.totals().clone();
    rig.queue.reset(totals, Millis(rig.now));
    assert!(rig.queue.job(&job).is_none() && rig.queue.held_leases().is_empty());
    rig.queue.load(state.clone(), Millis(rig.now));
    rig.folded.insert(job, state);
    assert!(matches!(rig.accept(1, &taken), Reply::Refused(Refusal::NoLease(_))));
    let again = rig.sync_with(Report { slots_free: 1, ..report(1, &[]) }).offers;
    assert_eq!(again.len(), 1, "the worker is known, and has room again");
}

#[test]
fn transitions_that_do_not_fit_are_errors() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let state = rig.job(job);
    let fence = Fence(1);
    let at = Millis(rig.now);
    let answer = |role| Answer {
        observation: ObservationId(Digest::of(b"o")),
        operator: operator(1),
        worker: worker(1),
        attempt: attest::id::Attempt(1),
        lease: LeaseId([1; 16]),
        fence,
        said: output("a"),
        role,
        duration_ms: 1,
        bytes: 0,
    };
    let changes = [
        Change::Announced {
            spec: spec("m", 1),
            tenant: Tenant("a".into()),
            class: Class::Gate,
            rank: 0,
        },
        Change::Skipped { slot: 0, fence, why: SkipReason::Silent },
        Change::Leased { slot: 0, fence, deadline: at, grace_ms: 1 },
        Change::Suspected { slot: 0, fence },
        Change::Resumed { slot: 7, fence },
        Change::Expired { slot: 0, fence, why: ExpireReason::Silent },
        Change::Observed { slot: 0, answer: answer(Role::Counted) },
        Change::Filed { answer: answer(Role::Counted) },
        Change::Filed { answer: answer(Role::Noted) },
        Change::Reopened {
            attempt: attest::id::Attempt(3),
            wanted: 1,
            without: vec![],
            class: Class::Push,
            rank: 1,
            why: ReopenReason::Dissent,
            by: None,
        },
    ];
    for change in changes {
        let step = Transition { at, job, change };
        assert!(Job::fold(Some(state.clone()), &step).is_err(), "{step:?}");
        if !matches!(step.change, Change::Announced { .. }) {
            assert!(Job::fold(None, &step).is_err());
        }
        let other = Transition { job: JobId(Digest::of(b"other")), ..step };
        assert!(Job::fold(Some(state.clone()), &other).is_err());
    }
}

#[test]
fn a_job_without_a_recipe_is_judged_and_offered_to_nobody() {
    let mut rig = Rig::new();
    let spec = JobSpec::new(spec("a", 2).subject, vec![], "apko", 0, 2, HOUR).unwrap();
    rig.announce_as(spec.clone(), "ci", Class::Push);
    let due = |effects: &[Effect]| {
        let judges = |effect: &&Effect| matches!(effect, Effect::Judge { due: Due::NoRecipe, job, .. } if *job == spec.id);
        effects.iter().filter(judges).count()
    };
    assert_eq!((due(&rig.effects), rig.offers(1).len()), (1, 0));
    // A stop between the announcement and its judgement: it is due again.
    let state = rig.job(spec.id);
    assert_eq!(state.place(), Place::Active, "it comes back at a start");
    let mut after = Queue::new(Limits::default(), Totals::default(), Millis(rig.now));
    let loaded = after.load(state, Millis(rig.now));
    assert_eq!(due(loaded.as_slice()), 1);
    rig.pass(MINUTE);
    assert_eq!(due(&rig.effects), 1, "and again, until somebody judged it");
    let judged = Event::Judged {
        job: spec.id,
        attempt: attest::id::Attempt(1),
        answers: 0,
        outcome: "untrusted".into(),
        need: Need::Enough,
    };
    rig.apply(judged);
    assert_eq!(rig.job(spec.id).due(), None);
}

#[test]
fn a_tick_leaves_to_the_next_what_is_more_than_a_group_of_the_journal() {
    let mut rig = Rig::with(Limits { effects_per_tick_max: 2, ..Limits::default() });
    for name in ["a", "b", "c", "d", "e"] {
        rig.announce(name, 1);
    }
    assert_eq!(rig.offers(1).len() + rig.offers(2).len(), 5);
    // Every offer lapses in the same moment.
    rig.now += MINUTE;
    let mut lapsed = Vec::new();
    for _ in 0..3 {
        rig.apply(Event::Tick);
        lapsed.push(rig.effects.iter().filter(|e| matches!(e, Effect::Journal(_))).count());
    }
    assert_eq!(lapsed, [2, 2, 1]);
}
