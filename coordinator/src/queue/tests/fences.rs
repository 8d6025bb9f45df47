//! "Fence: strictly increasing per job and slot. A stale fence never changes lease state; late or
//! unleased work is kept as volunteer evidence (cannot add to k, can veto)." I2, I6, I8.

use super::*;

#[test]
fn fences_only_grow_over_slots_attempts_and_restarts() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 2);
    let mut last = Fence(0);
    for round in 0..3u32 {
        for n in [1, 2] {
            let offer = rig.lease(n + 10 * round);
            assert!(offer.grant.fence > last, "{} after {last}", offer.grant.fence);
            last = offer.grant.fence;
            rig.restart();
            rig.submit(n + 10 * round, &offer, output("a"));
        }
        rig.judged(job, "disputed", Need::Reopen { wanted: 2, without: vec![] });
    }
    assert_eq!(rig.job(job).fence, last);
}

#[test]
fn a_stale_fence_or_a_foreign_lease_moves_nothing() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 2);
    let first = rig.lease(1);
    let second = rig.lease(2);
    let before = rig.job(job);
    let mut stale = second.clone();
    stale.grant.fence = first.grant.fence;
    let no_lease = Reply::Refused(Refusal::NoLease(second.grant.lease));
    assert_eq!(rig.accept(2, &stale), no_lease);
    assert_eq!(rig.decline(2, &stale), no_lease);
    assert_eq!(rig.accept(1, &second), no_lease, "somebody else's");
    assert_eq!(rig.heartbeat(2, &[&stale]).stop, vec![second.grant.lease]);
    assert_eq!(rig.job(job), before);
    let filed = rig.submit(2, &stale, output("a"));
    assert_eq!(filed, Reply::Filed(Filed::New(Role::Volunteer)));
    assert_eq!(rig.job(job).slots, before.slots);
    // Another operator that names the lease of the second.
    let mut theirs = submission(3, &second, output("a"));
    assert_eq!(rig.apply(Event::Submit(theirs.clone())), Reply::Filed(Filed::New(Role::Volunteer)));
    // The right worker under another operator's name.
    (theirs.worker, theirs.observation) = (worker(2), ObservationId(Digest::of(b"x")));
    assert_ne!(rig.apply(Event::Submit(theirs)), Reply::Filed(Filed::New(Role::Counted)));
    assert_eq!(rig.job(job).counted().count(), 0);
}

#[test]
fn a_lease_that_is_current_does_not_carry_an_answer_to_another_attempt() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let offer = rig.lease(1);
    let elsewhere =
        Submission { attempt: attest::id::Attempt(2), ..submission(1, &offer, output("a")) };
    assert_eq!(rig.apply(Event::Submit(elsewhere)), Reply::Filed(Filed::New(Role::Volunteer)));
    assert!(matches!(rig.job(job).slots[0], Slot::Leased { .. }), "it is still at it");
}

#[test]
fn late_work_is_kept_and_shown_to_the_judge_and_fills_nothing() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let late = rig.lease(1);
    rig.pass(11 * MINUTE);
    assert_eq!(rig.job(job).open_slots(), 1);
    assert_eq!(rig.submit(1, &late, output("a")), Reply::Filed(Filed::New(Role::Volunteer)));
    assert_eq!((rig.job(job).open_slots(), rig.job(job).answers.len()), (1, 1));
    assert_eq!(rig.asked_judge(), None, "an open attempt is judged when it is complete");
    rig.work(2, output("b"));
    assert_eq!(rig.asked_judge(), Some(Due::Complete));
    rig.judged(job, "reproduced", Need::Enough);
    // After the judgement a late one asks for another: it may be a veto.
    let mut later = submission(3, &late, output("c"));
    later.attempt = attest::id::Attempt(1);
    rig.apply(Event::Submit(later));
    assert_eq!(rig.asked_judge(), Some(Due::Afterwards));
    let reopen = Need::Reopen { wanted: 3, without: vec![operator(3)] };
    rig.judged(job, "disputed", reopen);
    assert_eq!((rig.job(job).attempt.0, rig.job(job).slots.len()), (2, 3));
    assert_eq!(rig.job(job).answers.len(), 3, "evidence only grows");
}

#[test]
fn the_same_observation_twice_changes_nothing_and_another_one_excludes() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 2);
    let offer = rig.work(1, output("a"));
    let before = rig.job(job);
    let steps = rig.steps.len();
    assert_eq!(rig.submit(1, &offer, output("a")), Reply::Filed(Filed::Known(Role::Counted)));
    assert_eq!((rig.job(job), rig.steps.len()), (before, steps));
    let filed = rig.submit(1, &offer, output("b"));
    assert_eq!(filed, Reply::Filed(Filed::New(Role::Equivocation)));
    assert_eq!(rig.job(job).excluded, vec![operator(1)]);
    assert_eq!(rig.job(job).counted().count(), 1, "the first stays as it was");
    rig.judged(job, "inconclusive", Need::More(2));
    assert!(rig.offers(1).is_empty() && rig.offers(101).is_empty(), "it is not asked again");
    assert_eq!(rig.offers(2).len(), 1);
}

#[test]
fn a_second_answer_for_a_noted_or_volunteered_lease_is_equivocation_too() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 3);
    let offer = rig.work(1, Said::Refused);
    let filed = rig.submit(1, &offer, output("b"));
    assert_eq!(filed, Reply::Filed(Filed::New(Role::Equivocation)));
    let expired = rig.lease(2);
    rig.pass(11 * MINUTE);
    rig.submit(2, &expired, output("a"));
    let filed = rig.submit(2, &expired, output("b"));
    assert_eq!(filed, Reply::Filed(Filed::New(Role::Equivocation)));
    assert_eq!(rig.job(job).excluded, vec![operator(1), operator(2)]);
}

#[test]
fn an_operator_counts_once_in_an_attempt_however_many_workers_it_has() {
    let mut rig = Rig::new();
    rig.announce("m", 2);
    let offer = rig.lease(1);
    assert!(rig.offers(101).is_empty(), "its operator has a part already");
    rig.submit(1, &offer, output("a"));
    assert!(rig.offers(101).is_empty());
    assert_eq!(rig.offers(2).len(), 1);
}

#[test]
fn a_job_that_nobody_announced_takes_no_observation() {
    let mut rig = Rig::new();
    rig.announce("m", 1);
    let offer = rig.lease(1);
    let unknown = JobId(Digest::of(b"unknown"));
    let new = Submission { job: unknown, ..submission(1, &offer, output("a")) };
    assert_eq!(rig.apply(Event::Submit(new)), Reply::Refused(Refusal::UnknownJob(unknown)));
}
