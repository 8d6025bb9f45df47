//! How transitions change a job: the fold of the journal.
//!
//! Invariant: total and pure: a transition that does not fit the state is an error, never a guess.
//! Fences only grow; answers are only added; a slot is filled at most once, and nothing is held
//! when a job ends.

use super::super::model::{Class, JobSpec, Millis, Tenant};
use super::super::transition::{
    Answer, Change, ExpireReason, Grant, ReopenReason, Role, Said, SkipReason, Transition,
};
use super::{Job, Phase, Slot};
use attest::id::{Attempt, Fence, JobId, OperatorId};

/// Most observations that are kept for one job: 3 attempts of at most 34 slots, and volunteers.
pub const ANSWERS_MAX: usize = 256;
/// Answers of earlier attempts that stay in the state when a job is rechecked or unparked, the
/// newest: the state is one row of the index (about 170 bytes an answer, 64 KB a row). The others
/// lie in the journal, and are shown to every judge.
const ANSWERS_KEPT: usize = 64;
/// Skips that are remembered in an attempt, the newest.
const SKIPS_KEPT_MAX: usize = 16;

/// A transition does not fit the state of its job: the journal or the index is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{job}: expected {expected}, found the transition {found}")]
pub struct FoldError {
    /// The job.
    pub job: JobId,
    /// What would fit.
    pub expected: String,
    /// What came.
    pub found: String,
}

impl Job {
    /// The state after a transition.
    pub fn fold(job: Option<Self>, step: &Transition) -> Result<Self, FoldError> {
        let error = |expected: &str| FoldError {
            job: step.job,
            expected: expected.to_owned(),
            found: String::from_utf8_lossy(&step.to_json()).chars().take(400).collect(),
        };
        match (job, &step.change) {
            (None, Change::Announced { spec, tenant, class, rank }) if spec.id == step.job => {
                Ok(Self::announced(spec.clone(), tenant.clone(), *class, *rank, step.at))
            }
            (None, _) => Err(error("the job's announcement first")),
            (Some(_), Change::Announced { .. }) => Err(error("one announcement")),
            (Some(mut job), change) if job.id() == step.job => {
                job.change(change, step.at).map_err(|expected| error(&expected))?;
                Ok(job)
            }
            (Some(_), _) => Err(error("a transition of this job")),
        }
    }

    fn announced(spec: JobSpec, tenant: Tenant, class: Class, rank: u64, at: Millis) -> Self {
        Self {
            slots: vec![Slot::Open; spec.wanted as usize],
            spec,
            tenant,
            class,
            rank,
            announced_at: at,
            opened_at: at,
            attempt: Attempt(1),
            reopenings: 0,
            phase: Phase::Open,
            fence: Fence(0),
            deferrals: 0,
            tries: 0,
            answers: Vec::new(),
            considered: 0,
            excluded: Vec::new(),
            skips: Vec::new(),
            fruitless: Vec::new(),
            asker: None,
        }
    }

    fn change(&mut self, change: &Change, at: Millis) -> Result<(), String> {
        match change {
            Change::Announced { .. } => Err("one announcement".into()),
            Change::Promoted { class, rank } => {
                (self.class, self.rank) = (*class, *rank);
                Ok(())
            }
            Change::Offered { slot, grant, until } => self.offered(*slot, grant, *until),
            Change::Skipped { slot, fence, why } => self.skipped(*slot, *fence, *why, at),
            Change::Leased { slot, fence, deadline, grace_ms } => {
                let Slot::Offered { grant, .. } = self.slot(*slot, *fence)? else {
                    return Err("an offer".into());
                };
                let grant = grant.clone();
                self.slots[*slot as usize] =
                    Slot::Leased { grant, deadline: *deadline, grace_ms: *grace_ms, suspect: None };
                Ok(())
            }
            Change::Suspected { slot, fence } => self.suspect(*slot, *fence, Some(at)),
            Change::Resumed { slot, fence } => self.suspect(*slot, *fence, None),
            Change::Expired { slot, fence, why } => self.expired(*slot, *fence, *why, at),
            Change::Observed { slot, answer } => self.observed(*slot, answer),
            Change::Filed { answer } => self.filed(answer),
            Change::Deferred { until } => {
                self.phase = Phase::Deferred { until: *until };
                self.deferrals += 1;
                Ok(())
            }
            Change::Continued { slots } => {
                self.considered = self.answers.len();
                self.slots.resize((*slots as usize).max(self.slots.len()), Slot::Open);
                self.phase = Phase::Open;
                Ok(())
            }
            Change::Reopened { .. } => self.reopened(change, at),
            Change::Judged { outcome } => self.finish(Phase::Judged { outcome: outcome.clone() }),
            Change::Parked { why, outcome } => {
                self.finish(Phase::Parked { why: *why, outcome: outcome.clone() })
            }
        }
    }

    /// The slot, which must be held under this fence.
    fn slot(&self, slot: u32, fence: Fence) -> Result<&Slot, String> {
        match self.slots.get(slot as usize) {
            Some(found) if found.grant().is_some_and(|grant| grant.fence == fence) => Ok(found),
            _ => Err(format!("slot {slot} held with fence {fence}")),
        }
    }

    fn offered(&mut self, slot: u32, grant: &Grant, until: Millis) -> Result<(), String> {
        if !matches!(self.slots.get(slot as usize), Some(Slot::Open)) || !self.unfinished() {
            return Err(format!("an open slot {slot} of an unfinished job"));
        }
        if grant.fence <= self.fence {
            return Err(format!("a fence above {}", self.fence));
        }
        if self.has_part(&grant.operator) {
            return Err("an operator without a part in this attempt".into());
        }
        self.phase = Phase::Open;
        self.fence = grant.fence;
        self.slots[slot as usize] = Slot::Offered { grant: grant.clone(), until };
        Ok(())
    }

    fn skipped(
        &mut self,
        slot: u32,
        fence: Fence,
        why: SkipReason,
        at: Millis,
    ) -> Result<(), String> {
        let Slot::Offered { grant, .. } = self.slot(slot, fence)? else {
            return Err("an offer".into());
        };
        let operator = grant.operator.clone();
        self.slots[slot as usize] = Slot::Open;
        if why != SkipReason::Withdrawn {
            self.was_fruitless(&operator);
        }
        self.leave_alone(operator, at);
        self.tries += 1;
        Ok(())
    }

    fn expired(
        &mut self,
        slot: u32,
        fence: Fence,
        why: ExpireReason,
        at: Millis,
    ) -> Result<(), String> {
        let Slot::Leased { grant, .. } = self.slot(slot, fence)? else {
            return Err("a lease".into());
        };
        let operator = grant.operator.clone();
        self.slots[slot as usize] = Slot::Open;
        if why != ExpireReason::Withdrawn {
            // Others first: one broken worker must not use up the tries of everybody.
            self.was_fruitless(&operator);
            self.leave_alone(operator, at);
            self.tries += 1;
        }
        Ok(())
    }

    fn was_fruitless(&mut self, operator: &OperatorId) {
        match self.fruitless.iter_mut().find(|(known, _)| known == operator) {
            Some((_, tries)) => *tries += 1,
            None => self.fruitless.push((operator.clone(), 1)),
        }
    }

    fn leave_alone(&mut self, operator: OperatorId, at: Millis) {
        if self.skips.len() >= SKIPS_KEPT_MAX {
            self.skips.remove(0);
        }
        self.skips.push((operator, at));
    }

    fn suspect(&mut self, slot: u32, fence: Fence, since: Option<Millis>) -> Result<(), String> {
        self.slot(slot, fence)?;
        match self.slots.get_mut(slot as usize) {
            Some(Slot::Leased { suspect, .. }) if suspect.is_none() == since.is_some() => {
                *suspect = since;
                Ok(())
            }
            _ => Err("a lease that was not in that state".into()),
        }
    }

    fn observed(&mut self, slot: u32, answer: &Answer) -> Result<(), String> {
        let grant = self.slot(slot, answer.fence)?.grant();
        if !matches!(self.slots.get(slot as usize), Some(Slot::Leased { .. }))
            || grant.is_none_or(|g| g.lease != answer.lease || g.worker != answer.worker)
        {
            return Err("an observation under the slot's own lease".into());
        }
        let role = if answer.said.answers() { Role::Counted } else { Role::Noted };
        if answer.role != role || answer.attempt != self.attempt {
            return Err(format!("an answer of attempt {} that is {}", self.attempt, role.as_str()));
        }
        if role == Role::Counted && self.counted().any(|a| a.operator == answer.operator) {
            return Err("at most one counted observation of an operator in an attempt".into());
        }
        self.slots[slot as usize] = if role == Role::Counted {
            let (operator, observation) = (answer.operator.clone(), answer.observation);
            Slot::Answered { operator, observation }
        } else {
            self.tries += u32::from(!matches!(answer.said, Said::InputUnavailable));
            Slot::Open
        };
        self.keep(answer)
    }

    fn filed(&mut self, answer: &Answer) -> Result<(), String> {
        match answer.role {
            Role::Volunteer => {}
            Role::Equivocation => self.exclude(std::slice::from_ref(&answer.operator)),
            Role::Counted | Role::Noted => return Err("a volunteer or an equivocation".into()),
        }
        self.keep(answer)
    }

    fn keep(&mut self, answer: &Answer) -> Result<(), String> {
        if self.answers.iter().any(|known| known.observation == answer.observation) {
            return Err("an observation that is new".into());
        }
        if self.answers.len() >= ANSWERS_MAX {
            return Err(format!("at most {ANSWERS_MAX} answers"));
        }
        self.answers.push(answer.clone());
        Ok(())
    }

    fn exclude(&mut self, operators: &[OperatorId]) {
        for operator in operators {
            if !self.excluded.contains(operator) {
                self.excluded.push(operator.clone());
            }
        }
    }

    fn reopened(&mut self, change: &Change, at: Millis) -> Result<(), String> {
        let Change::Reopened { attempt, wanted, without, class, rank, why, by } = change else {
            return Err("a re-opening".into());
        };
        if *attempt != self.attempt.next() || self.held() {
            return Err(format!("attempt {} with nothing held", self.attempt.next()));
        }
        let again = *why == ReopenReason::Dissent;
        self.reopenings = if again { self.reopenings + 1 } else { 0 };
        if !again {
            self.asker.clone_from(by);
        }
        (self.attempt, self.opened_at) = (*attempt, at);
        (self.class, self.rank) = (*class, *rank);
        self.exclude(without);
        if !again && self.answers.len() > ANSWERS_KEPT {
            self.answers.drain(..self.answers.len() - ANSWERS_KEPT);
        }
        self.start_attempt(*wanted);
        Ok(())
    }

    fn start_attempt(&mut self, wanted: u32) {
        self.phase = Phase::Open;
        self.slots = vec![Slot::Open; wanted as usize];
        (self.deferrals, self.tries) = (0, 0);
        self.considered = self.answers.len();
        self.skips.clear();
        self.fruitless.clear();
    }

    fn finish(&mut self, phase: Phase) -> Result<(), String> {
        if self.held() {
            return Err("nothing held when a job ends".into());
        }
        self.phase = phase;
        self.considered = self.answers.len();
        Ok(())
    }
}
