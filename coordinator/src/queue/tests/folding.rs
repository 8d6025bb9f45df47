//! What a job becomes by each transition, and which transitions do not fit: a journal that tells
//! something else was not written by this queue, and nothing is guessed.
//!
//! Invariant: transitions are made by hand here, the queue never decides anything.

use super::*;
use crate::queue::job::ANSWERS_MAX;
use attest::id::Attempt;

/// A job and what is folded into it.
struct Folding {
    job: Job,
    at: u64,
}

impl Folding {
    /// Announced, with so many slots.
    fn new(wanted: u32) -> Self {
        let spec = spec("m", wanted);
        let (at, tenant) = (HOUR, Tenant("ci".into()));
        let change = Change::Announced { spec: spec.clone(), tenant, class: Class::Push, rank: 5 };
        let step = Transition { at: Millis(at), job: spec.id, change };
        Self { job: Job::fold(None, &step).unwrap(), at }
    }

    fn fold(&self, change: Change) -> Result<Job, FoldError> {
        let step = Transition { at: Millis(self.at), job: self.job.id(), change };
        Job::fold(Some(self.job.clone()), &step)
    }

    fn step(&mut self, change: Change) {
        self.at += SECOND;
        self.job = self.fold(change).unwrap();
    }

    fn refuses(&self, change: Change, expected: &str) {
        match self.fold(change.clone()) {
            Ok(_) => panic!("{change:?} fits"),
            Err(error) => assert_eq!(error.expected, expected, "{change:?}"),
        }
    }

    /// Slot `slot` to worker `n` under fence `fence`, taken.
    fn lease(&mut self, slot: u32, n: u32, fence: u64) {
        self.step(offered(slot, n, fence));
        self.step(leased(slot, fence));
    }

    fn reopen(&mut self, why: ReopenReason) {
        self.step(reopened(self.job.attempt.0 + 1, why));
    }
}

fn grant(n: u32, fence: u64) -> Grant {
    let (lease, fence) = (LeaseId([fence as u8; 16]), Fence(fence));
    Grant { lease, fence, worker: worker(n), operator: operator(n) }
}

fn offered(slot: u32, n: u32, fence: u64) -> Change {
    Change::Offered { slot, grant: grant(n, fence), until: Millis(2 * HOUR) }
}

fn leased(slot: u32, fence: u64) -> Change {
    Change::Leased { slot, fence: Fence(fence), deadline: Millis(2 * HOUR), grace_ms: MINUTE }
}

fn skipped(fence: u64) -> Change {
    Change::Skipped { slot: 0, fence: Fence(fence), why: SkipReason::Silent }
}

fn reopened(attempt: u64, why: ReopenReason) -> Change {
    let (attempt, class) = (Attempt(attempt), Class::Recheck);
    Change::Reopened { attempt, wanted: 1, without: vec![], class, rank: 9, why, by: None }
}

/// What worker `n` says in the first attempt, filed as what it is.
fn answer(n: u32, fence: u64, said: Said) -> Answer {
    let role = if said.answers() { Role::Counted } else { Role::Noted };
    let text = format!("{n} {fence} {said:?}");
    Answer {
        observation: ObservationId(Digest::of(text.as_bytes())),
        operator: operator(n),
        worker: worker(n),
        attempt: Attempt(1),
        lease: LeaseId([fence as u8; 16]),
        fence: Fence(fence),
        said,
        role,
        duration_ms: 1,
        bytes: 0,
    }
}

fn observed(slot: u32, answer: Answer) -> Change {
    Change::Observed { slot, answer }
}

#[test]
fn a_transition_belongs_to_the_job_that_it_names() {
    let folding = Folding::new(1);
    let promoted = Change::Promoted { class: Class::Gate, rank: 1 };
    assert!(folding.fold(promoted.clone()).is_ok());
    let (at, job) = (Millis(folding.at), spec("other", 1).id);
    let step = Transition { at, job, change: promoted };
    let error = Job::fold(Some(folding.job.clone()), &step).unwrap_err();
    assert_eq!((error.job, error.expected.as_str()), (job, "a transition of this job"));
    let tenant = Tenant("ci".into());
    let change = Change::Announced { spec: spec("m", 1), tenant, class: Class::Push, rank: 0 };
    let error = Job::fold(None, &Transition { at, job, change }).unwrap_err();
    assert_eq!(error.expected, "the job's announcement first");
}

#[test]
fn an_offer_needs_an_open_slot_a_new_fence_and_another_operator() {
    let mut folding = Folding::new(2);
    folding.refuses(offered(2, 1, 1), "an open slot 2 of an unfinished job");
    folding.step(offered(0, 1, 3));
    folding.refuses(offered(0, 2, 4), "an open slot 0 of an unfinished job");
    for fence in [2, 3] {
        folding.refuses(offered(1, 2, fence), "a fence above 3");
    }
    // Worker 101 is another one of operator 1.
    folding.refuses(offered(1, 101, 4), "an operator without a part in this attempt");
    folding.step(skipped(3));
    folding.step(Change::Judged { outcome: "reproduced".into() });
    folding.refuses(offered(0, 2, 4), "an open slot 0 of an unfinished job");
}

#[test]
fn what_was_offered_moves_only_under_its_fence() {
    let mut folding = Folding::new(1);
    folding.step(offered(0, 1, 3));
    for fence in [2, 4] {
        let expected = format!("slot 0 held with fence {fence}");
        folding.refuses(skipped(fence), &expected);
        folding.refuses(leased(0, fence), &expected);
    }
    folding.refuses(Change::Suspected { slot: 0, fence: Fence(3) }, STATE);
    let silent = ExpireReason::Silent;
    let expired = Change::Expired { slot: 0, fence: Fence(3), why: silent };
    folding.refuses(expired.clone(), "a lease");
    folding.step(leased(0, 3));
    folding.refuses(leased(0, 3), "an offer");
    folding.refuses(skipped(3), "an offer");
    folding.step(expired);
    assert_eq!((folding.job.tries, folding.job.open_slots()), (1, 1));
    assert_eq!(folding.job.skips, vec![(operator(1), Millis(folding.at))]);
}

const STATE: &str = "a lease that was not in that state";

#[test]
fn a_lease_is_suspected_and_resumed_in_turns() {
    let mut folding = Folding::new(1);
    folding.lease(0, 1, 1);
    let (slot, fence) = (0, Fence(1));
    folding.refuses(Change::Resumed { slot, fence }, STATE);
    folding.step(Change::Suspected { slot, fence });
    let since = Millis(folding.at);
    folding.refuses(Change::Suspected { slot, fence }, STATE);
    assert!(matches!(folding.job.slots[0], Slot::Leased { suspect: Some(at), .. } if at == since));
    folding.step(Change::Resumed { slot, fence });
    assert!(matches!(folding.job.slots[0], Slot::Leased { suspect: None, .. }));
}

#[test]
fn tries_are_counted_one_by_one() {
    let mut folding = Folding::new(2);
    for (n, fence) in [(1, 1), (2, 2), (3, 3)] {
        folding.step(offered(0, n, fence));
        folding.step(skipped(fence));
    }
    assert_eq!((folding.job.tries, folding.job.skips.len()), (3, 3));
    // Who ran into the cap used up a try; that an input is missing is nobody's fault.
    folding.lease(0, 4, 4);
    folding.step(observed(0, answer(4, 4, Said::Timeout)));
    assert_eq!((folding.job.tries, folding.job.open_slots()), (4, 2));
    folding.lease(0, 5, 5);
    folding.step(observed(0, answer(5, 5, Said::InputUnavailable)));
    assert_eq!((folding.job.tries, folding.job.open_slots()), (4, 2));
    // Nor that what is out was taken back.
    folding.lease(0, 6, 6);
    let withdrawn = ExpireReason::Withdrawn;
    folding.step(Change::Expired { slot: 0, fence: Fence(6), why: withdrawn });
    assert_eq!((folding.job.tries, folding.job.skips.len()), (4, 3));
}

#[test]
fn an_observation_is_taken_only_from_the_lease_that_holds_the_slot() {
    const OWN: &str = "an observation under the slot's own lease";
    let mut folding = Folding::new(2);
    folding.step(offered(0, 1, 1));
    let good = answer(1, 1, output("a"));
    folding.refuses(observed(0, good.clone()), OWN);
    folding.step(leased(0, 1));
    folding.refuses(observed(0, Answer { worker: worker(101), ..good.clone() }), OWN);
    folding.refuses(observed(0, Answer { lease: LeaseId([9; 16]), ..good.clone() }), OWN);
    let other = Answer { fence: Fence(2), ..good.clone() };
    folding.refuses(observed(0, other), "slot 0 held with fence 2");
    let noted = Answer { role: Role::Noted, ..good.clone() };
    folding.refuses(observed(0, noted), "an answer of attempt 1 that is counted");
    let later = Answer { attempt: Attempt(2), ..good.clone() };
    folding.refuses(observed(0, later), "an answer of attempt 1 that is counted");
    folding.step(observed(0, good.clone()));
    assert!(
        matches!(&folding.job.slots[0], Slot::Answered { operator: by, .. } if *by == operator(1))
    );
    // By a state that no transition leads to: the same operator once more.
    let (grant, deadline) = (grant(101, 2), Millis(2 * HOUR));
    folding.job.slots[1] = Slot::Leased { grant, deadline, grace_ms: MINUTE, suspect: None };
    folding.job.fence = Fence(2);
    let second = answer(101, 2, output("b"));
    let expected = "at most one counted observation of an operator in an attempt";
    folding.refuses(observed(1, second.clone()), expected);
    let refusal = Answer { said: Said::Refused, role: Role::Noted, ..second };
    folding.step(observed(1, refusal));
    assert_eq!((folding.job.open_slots(), folding.job.answers.len()), (1, 2));
}

#[test]
fn evidence_beside_a_lease_is_filed_once_and_an_equivocation_excludes() {
    let mut folding = Folding::new(1);
    for role in [Role::Counted, Role::Noted] {
        let answer = Answer { role, ..answer(1, 1, output("a")) };
        folding.refuses(Change::Filed { answer }, "a volunteer or an equivocation");
    }
    let volunteer = Answer { role: Role::Volunteer, ..answer(1, 1, output("a")) };
    folding.step(Change::Filed { answer: volunteer.clone() });
    assert!(folding.job.excluded.is_empty() && folding.job.has_news());
    folding.refuses(Change::Filed { answer: volunteer }, "an observation that is new");
    let second = Answer { role: Role::Equivocation, ..answer(1, 1, output("b")) };
    folding.step(Change::Filed { answer: second });
    assert_eq!(folding.job.excluded, vec![operator(1)]);
    while folding.job.answers.len() < ANSWERS_MAX {
        let said = output(&folding.job.answers.len().to_string());
        let answer = Answer { role: Role::Equivocation, ..answer(1, 1, said) };
        folding.step(Change::Filed { answer });
    }
    assert_eq!(folding.job.excluded, vec![operator(1)]);
    let last = Answer { role: Role::Volunteer, ..answer(2, 1, output("a")) };
    folding.refuses(Change::Filed { answer: last }, "at most 256 answers");
}

#[test]
fn a_job_is_opened_again_as_its_next_attempt_and_with_nothing_held() {
    let mut folding = Folding::new(1);
    folding.lease(0, 1, 1);
    folding.refuses(reopened(2, ReopenReason::Recheck), "attempt 2 with nothing held");
    let judged = Change::Judged { outcome: "disputed".into() };
    folding.refuses(judged.clone(), "nothing held when a job ends");
    folding.step(observed(0, answer(1, 1, output("a"))));
    for attempt in [1, 3] {
        folding.refuses(reopened(attempt, ReopenReason::Recheck), "attempt 2 with nothing held");
    }
    assert!(!folding.job.answered_before(&operator(1)));
    folding.step(judged);
    assert!(!folding.job.has_news());
    for expected in [1, 2] {
        folding.reopen(ReopenReason::Dissent);
        assert_eq!(folding.job.reopenings, expected);
    }
    assert_eq!((folding.job.class, folding.job.rank), (Class::Recheck, 9));
    assert!(folding.job.answered_before(&operator(1)) && folding.job.open_slots() == 1);
    folding.reopen(ReopenReason::Unparked);
    assert_eq!((folding.job.reopenings, folding.job.attempt), (0, Attempt(4)));
}

#[test]
fn only_what_nobody_had_a_part_in_may_wait_on_disk() {
    let mut folding = Folding::new(2);
    assert_eq!(folding.job.place(), Place::Waiting(5));
    folding.lease(0, 1, 1);
    assert_eq!(folding.job.place(), Place::Active);
    let until = Millis(3 * HOUR);
    folding.step(Change::Deferred { until });
    assert_eq!(folding.job.place(), Place::Active, "somebody is at it");
    folding.step(observed(0, answer(1, 1, Said::InputUnavailable)));
    assert_eq!(folding.job.place(), Place::Deferred(until));
    folding.step(offered(0, 2, 2));
    let withdrawn = SkipReason::Withdrawn;
    folding.step(Change::Skipped { slot: 0, fence: Fence(2), why: withdrawn });
    assert_eq!(folding.job.place(), Place::Active, "it was tried in this attempt");
    // All slots open, no skip and no try: what was said in this attempt is a part, too.
    let mut folding = Folding::new(1);
    folding.lease(0, 1, 1);
    folding.step(observed(0, answer(1, 1, Said::InputUnavailable)));
    assert_eq!((folding.job.place(), folding.job.tries), (Place::Active, 0));
    folding.reopen(ReopenReason::Recheck);
    assert_eq!(folding.job.place(), Place::Waiting(9), "the next attempt knows nothing of it");
    folding.step(Change::Parked { why: ParkReason::Operators, outcome: None });
    assert_eq!(folding.job.place(), Place::Done);
}

#[test]
fn names_are_those_that_metrics_and_exports_show() {
    let said = [
        output("a"),
        Said::BuildFailed { class: "c".into() },
        Said::RecipeInvalid { class: "c".into() },
        Said::InputUnavailable,
        Said::Timeout,
        Said::LimitExceeded { class: "c".into() },
        Said::Refused,
    ];
    let names = [
        "OUTPUT",
        "BUILD_FAILED",
        "RECIPE_INVALID",
        "INPUT_UNAVAILABLE",
        "TIMEOUT",
        "LIMIT_EXCEEDED",
        "REFUSED",
    ];
    assert_eq!(said.map(|said| said.as_str()), names);
    let roles = [Role::Counted, Role::Noted, Role::Volunteer, Role::Equivocation];
    assert_eq!(roles.map(Role::as_str), ["counted", "noted", "volunteer", "equivocation"]);
    let (slot, fence) = (0, Fence(1));
    let skips = [SkipReason::Silent, SkipReason::Declined, SkipReason::Withdrawn];
    let skips = skips.map(|why| Change::Skipped { slot, fence, why }.name());
    assert_eq!(skips, ["offer-silent", "offer-declined", "offer-withdrawn"]);
    let ends = [
        ExpireReason::Silent,
        ExpireReason::Deadline,
        ExpireReason::GivenBack,
        ExpireReason::Withdrawn,
    ];
    let ends = ends.map(|why| Change::Expired { slot, fence, why }.name());
    assert_eq!(ends, ["lease-silent", "lease-deadline", "lease-given-back", "lease-withdrawn"]);
    let others = [
        offered(0, 1, 1),
        leased(0, 1),
        Change::Suspected { slot, fence },
        Change::Resumed { slot, fence },
        observed(0, answer(1, 1, output("a"))),
        Change::Filed { answer: answer(1, 1, output("a")) },
        Change::Promoted { class: Class::Gate, rank: 1 },
        Change::Deferred { until: Millis(1) },
        Change::Continued { slots: 1 },
        reopened(2, ReopenReason::Dissent),
        Change::Judged { outcome: "diverged".into() },
        Change::Parked { why: ParkReason::Tries, outcome: None },
    ];
    let names = "offered leased suspected resumed observed filed promoted deferred continued \
                 reopened judged parked";
    assert_eq!(others.map(|change| change.name()).join(" "), names);
}
