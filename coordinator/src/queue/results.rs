//! Observations come in, and the judge's word on them.
//!
//! Invariant: an observation moves a slot only under the slot's own lease and fence (I8); anything
//! else is kept and shown to the judge, and moves nothing. Nothing that was said is ever dropped or
//! changed (I6): a second, different answer for one lease is kept beside the first and excludes the
//! operator (I2).

use super::{
    Answer, Change, Class, Filed, Job, Need, ParkReason, Phase, Queue, Refusal, ReopenReason,
    Reply, Role, Said, Slot, Submission, Turn, job,
};
use attest::id::{Attempt, JobId};

/// When a worker that sent too much for one job may try again: an hour.
const QUOTA_RETRY_MS: u64 = 3_600_000;

impl Queue {
    /// [`super::Event::Submit`].
    pub(super) fn submit(&mut self, turn: &mut Turn, new: Submission) -> Result<Reply, Refusal> {
        let id = new.job;
        let job = self.jobs.get(&id).ok_or(Refusal::UnknownJob(id))?;
        if let Some(known) = job.answers.iter().find(|a| a.observation == new.observation) {
            return Ok(Reply::Filed(Filed::Known(known.role)));
        }
        self.submitters.take(&new.worker, turn.now).map_err(|retry_after_ms| {
            let limit = self.limits.submit.burst;
            Refusal::Exhausted { what: "observations of one worker", limit, retry_after_ms }
        })?;
        let twice = second_answer(job, &new);
        let slot = if twice { None } else { current_slot(job, &new) };
        let role = match slot {
            Some(_) if new.said.answers() => Role::Counted,
            Some(_) => Role::Noted,
            None if twice => Role::Equivocation,
            None => Role::Volunteer,
        };
        if slot.is_none() {
            self.quota(job, &new)?;
        }
        let worker = new.worker;
        let gone = matches!(new.said, Said::InputUnavailable) && slot.is_some();
        let answer = answer_of(new, role);
        match slot {
            Some(slot) => self.record(turn, id, Change::Observed { slot, answer })?,
            None => self.record(turn, id, Change::Filed { answer })?,
        }
        if gone {
            self.defer(turn, id)?;
        }
        if slot.is_some() {
            self.slot_is_free(turn, id)?;
            if self.workers.get(&worker).is_some_and(|known| known.waits) {
                self.dispatch_worker(turn, worker)?;
                if self.workers.held(&worker).any(|lease| self.offered(lease)) {
                    self.wake(turn, &worker);
                }
            }
        }
        Ok(Reply::Filed(Filed::New(role)))
    }

    fn offered(&self, lease: &attest::id::LeaseId) -> bool {
        let slot = self.leases.get(lease).and_then(|held| {
            self.jobs.get(&held.job).and_then(|job| job.slots.get(held.slot as usize))
        });
        matches!(slot, Some(Slot::Offered { .. }))
    }

    /// What was not asked for is bounded, for each operator and job, and leaves room for the leased.
    /// Not for each worker: an operator adds as many of those as it likes.
    fn quota(&self, job: &Job, new: &Submission) -> Result<(), Refusal> {
        let own = |a: &&Answer| a.operator == new.operator && !a.role.was_asked_for();
        let refuse =
            |what, limit| Err(Refusal::Exhausted { what, limit, retry_after_ms: QUOTA_RETRY_MS });
        let most = self.limits.volunteers_per_operator_max;
        if job.answers.iter().filter(own).count() >= most {
            return refuse("volunteer observations of one operator for one job", most as u64);
        }
        let most = job::ANSWERS_MAX / 2;
        if job.answers.len() >= most {
            return refuse("observations of one job, volunteers included", most as u64);
        }
        let bytes = |answers: &mut dyn Iterator<Item = &Answer>| {
            answers.fold(new.bytes, |sum, answer| sum.saturating_add(answer.bytes))
        };
        let most = self.limits.volunteer_bytes_per_operator_max;
        if bytes(&mut job.answers.iter().filter(own)) > most {
            return refuse("bytes of one operator's volunteer observations for one job", most);
        }
        // Who has said nothing yet may be the one that dissents: others must not silence it.
        let first = !job.answers.iter().any(|answer| own(&answer));
        if first && new.bytes <= self.limits.volunteer_bytes_always {
            return Ok(());
        }
        let most = self.limits.volunteer_bytes_per_job_max;
        if bytes(&mut job.answers.iter()) > most {
            return refuse("bytes of volunteer observations for one job", most);
        }
        Ok(())
    }

    /// An input is gone: wait, longer each time; after the last wait it is for the judge.
    fn defer(&mut self, turn: &mut Turn, id: JobId) -> Result<(), Refusal> {
        let Some(job) = self.jobs.get(&id) else { return Ok(()) };
        if !matches!(job.phase, Phase::Open) {
            return Ok(());
        }
        let wait = job::DEFERRALS_MS.get(job.deferrals as usize).copied().unwrap_or(0);
        let until = turn.now.plus(wait);
        self.record(turn, id, Change::Deferred { until })
    }

    /// [`super::Event::Judged`].
    pub(super) fn judged(
        &mut self,
        turn: &mut Turn,
        id: JobId,
        seen: (Attempt, usize),
        outcome: String,
        need: Need,
    ) -> Result<Reply, Refusal> {
        let job = self.jobs.get(&id).ok_or(Refusal::UnknownJob(id))?;
        let (attempt, answers) = (job.attempt, job.answers.len());
        if seen != (attempt, answers) {
            return Err(Refusal::Stale { attempt, answers });
        }
        match need {
            Need::Enough => {
                self.withdraw(turn, id)?;
                self.record(turn, id, Change::Judged { outcome })?;
            }
            Need::More(more) => self.more(turn, id, more, outcome)?,
            Need::Reopen { wanted, without } => {
                self.withdraw(turn, id)?;
                self.dissent(turn, id, wanted, without, outcome)?;
            }
        }
        self.dispatch_job(turn, id)?;
        self.settled(id)
    }

    fn more(
        &mut self,
        turn: &mut Turn,
        id: JobId,
        more: u32,
        outcome: String,
    ) -> Result<(), Refusal> {
        let Some(job) = self.jobs.get(&id) else { return Ok(()) };
        if !job.unfinished() {
            // It was settled, and something came in afterwards that leaves a question: another
            // attempt answers it.
            return self.dissent(turn, id, more.max(1), Vec::new(), outcome);
        }
        let answered = job.slots.iter().filter(|s| matches!(s, Slot::Answered { .. })).count();
        // "More" is one at least: a job without an open slot would wait for ever.
        let slots = (answered as u32).saturating_add(more.max(1)).max(job.slots.len() as u32);
        let too_many = slots > super::model::WANTED_MAX + 2;
        let spent = self.spent(job);
        if self.exhausted(job, turn.now) || too_many {
            self.withdraw(turn, id)?;
            let why = if spent { ParkReason::Tries } else { ParkReason::Operators };
            return self.record(turn, id, Change::Parked { why, outcome: Some(outcome) });
        }
        self.record(turn, id, Change::Continued { slots })
    }

    /// Opens the job again, or parks it when that happened often enough. What does not follow any
    /// more although nothing came in was unsettled by an administrator (a key that was revoked,
    /// another policy): that is a new question, like a recheck, and no dissent, also of a job that
    /// was parked because nobody could answer. All such jobs come at once, so they stand where
    /// rechecks stand: behind what is submitted fresh. One that dissent parked stays parked until
    /// somebody unparks it.
    fn dissent(
        &mut self,
        turn: &mut Turn,
        id: JobId,
        wanted: u32,
        without: Vec<attest::id::OperatorId>,
        outcome: String,
    ) -> Result<(), Refusal> {
        let Some(job) = self.jobs.get(&id) else { return Ok(()) };
        let spent = matches!(job.phase, Phase::Parked { why: ParkReason::Attempts, .. });
        let unsettled = !job.unfinished() && !spent && !job.has_news();
        if !unsettled && job.reopenings + 1 >= self.limits.attempts_max {
            let (why, outcome) = (ParkReason::Attempts, Some(outcome));
            return self.record(turn, id, Change::Parked { why, outcome });
        }
        let class = if unsettled { job.class.max(Class::Recheck) } else { job.class };
        let (attempt, payer) = (job.attempt.next(), job.payer().clone());
        let rank = self.rank(&payer, class, turn.now);
        let wanted = wanted.clamp(1, super::model::WANTED_MAX + 2);
        let why = if unsettled { ReopenReason::Recheck } else { ReopenReason::Dissent };
        // A dissent goes on with what was asked for; what an administrator unsettled nobody asked for.
        let by = None;
        self.record(turn, id, Change::Reopened { attempt, wanted, without, class, rank, why, by })
    }
}

/// The slot whose own lease this answers.
fn current_slot(job: &Job, new: &Submission) -> Option<u32> {
    let own = |slot: &Slot| match slot {
        Slot::Leased { grant, .. } => {
            grant.lease == new.lease
                && grant.fence == new.fence
                && grant.worker == new.worker
                && grant.operator == new.operator
        }
        _ => false,
    };
    if new.attempt != job.attempt || !job.unfinished() {
        return None;
    }
    let slot = job.slots.iter().position(own)?;
    // I2, should an operator ever hold two slots of an attempt.
    let twice = new.said.answers() && job.counted().any(|a| a.operator == new.operator);
    (!twice).then_some(slot as u32)
}

/// The lease was answered before, by the same worker, with something else.
fn second_answer(job: &Job, new: &Submission) -> bool {
    job.answers.iter().any(|known| {
        known.lease == new.lease
            && known.worker == new.worker
            && matches!(known.role, Role::Counted | Role::Noted | Role::Volunteer)
    })
}

fn answer_of(new: Submission, role: Role) -> Answer {
    Answer {
        observation: new.observation,
        operator: new.operator,
        worker: new.worker,
        attempt: new.attempt,
        lease: new.lease,
        fence: new.fence,
        said: new.said,
        role,
        duration_ms: new.duration_ms,
        bytes: if role.was_asked_for() { 0 } else { new.bytes },
    }
}
