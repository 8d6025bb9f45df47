//! The state of one job, and how transitions change it.
//!
//! Invariant: `fold` is total and pure: a transition that does not fit the state is an error, never
//! a guess. Fences only grow; answers are only added; a slot is filled at most once. Whoever asks
//! "what next" finds it here ([`Job::due`], [`Job::place`]), so that the index and the queue agree.

use super::model::{Class, JobSpec, Millis, Tenant};
use super::transition::{
    Answer, Change, ExpireReason, Grant, ParkReason, Role, SkipReason, Transition,
};
use attest::id::{Attempt, Fence, JobId, ObservationId, OperatorId};
use serde::{Deserialize, Serialize};

/// Most observations that are kept for one job: 3 attempts of at most 34 slots, and volunteers.
pub const ANSWERS_MAX: usize = 256;
/// Answers of earlier attempts that stay in the state when a job is rechecked or unparked, the
/// newest: the state is one row of the index (about 400 bytes an answer, 100 KB a row). The others
/// lie in the journal, and are shown to every judge.
const ANSWERS_KEPT: usize = 64;
/// Times that a missing input is waited for: after 1 h, 6 h and 24 h.
pub const DEFERRALS_MS: [u64; 3] = [3_600_000, 6 * 3_600_000, 24 * 3_600_000];
/// Offers and leases of one operator in an attempt that may end without an answer: then others are
/// asked. One that declines everything uses up nobody else's tries.
const FRUITLESS_MAX: u32 = 2;
/// Skips that are remembered in an attempt, the newest.
const SKIPS_KEPT_MAX: usize = 16;

/// Where a job is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// To be done.
    Open,
    /// Not before this moment: an input is missing.
    Deferred {
        /// The moment.
        until: Millis,
    },
    /// Judged.
    Judged {
        /// The outcome.
        outcome: String,
    },
    /// Put aside.
    Parked {
        /// Why.
        why: ParkReason,
        /// What is known of it, if it was judged.
        outcome: Option<String>,
    },
}

/// One of the wanted observations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    /// Nobody has it.
    Open,
    /// A worker may take it.
    Offered {
        /// Who and how.
        grant: Grant,
        /// Until when.
        until: Millis,
    },
    /// A worker is at it.
    Leased {
        /// Who and how.
        grant: Grant,
        /// The hard cap.
        deadline: Millis,
        /// Silence after which it expires.
        grace_ms: u64,
        /// Since when nothing was heard, if that is more than 60 s.
        suspect: Option<Millis>,
    },
    /// Answered.
    Answered {
        /// By whom.
        operator: OperatorId,
        /// With what.
        observation: ObservationId,
    },
}

impl Slot {
    /// The offer or lease that is out.
    pub const fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Offered { grant, .. } | Self::Leased { grant, .. } => Some(grant),
            _ => None,
        }
    }

    fn operator(&self) -> Option<&OperatorId> {
        match self {
            Self::Answered { operator, .. } => Some(operator),
            _ => self.grant().map(|grant| &grant.operator),
        }
    }
}

/// A job, as the fold of its transitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What is to be done.
    pub spec: JobSpec,
    /// Who asked first.
    pub tenant: Tenant,
    /// How urgent.
    pub class: Class,
    /// Its place in the queue: smaller is earlier.
    pub rank: u64,
    /// When it was announced.
    pub announced_at: Millis,
    /// When this attempt was opened.
    pub opened_at: Millis,
    /// Which opening it is in.
    pub attempt: Attempt,
    /// Openings because of dissent since it was announced, rechecked or unparked.
    pub reopenings: u32,
    /// Where it is.
    pub phase: Phase,
    /// The wanted observations of this attempt.
    pub slots: Vec<Slot>,
    /// The last fence that was given out.
    pub fence: Fence,
    /// How often it was deferred in this attempt.
    pub deferrals: u32,
    /// Leases and offers of this attempt that ended without an answer.
    pub tries: u32,
    /// What was said, over all attempts; of a job that was rechecked often, the newest.
    pub answers: Vec<Answer>,
    /// How many answers the last judgement saw.
    pub considered: usize,
    /// Operators that are not asked any more.
    pub excluded: Vec<OperatorId>,
    /// Operators that did not take an offer of this attempt, or ended a lease without an answer,
    /// and when.
    pub skips: Vec<(OperatorId, Millis)>,
    /// How many of the tries of this attempt each operator used up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fruitless: Vec<(OperatorId, u32)>,
    /// Who asked for the recheck that it is in, or was in last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asker: Option<Tenant>,
}

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

/// Why a judgement is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Due {
    /// Every slot is answered.
    Complete,
    /// Two operators failed in the same way.
    SameFailure,
    /// A limit was exceeded.
    LimitExceeded,
    /// An input is still gone after the last wait.
    InputGone,
    /// Something came in after the judgement.
    Afterwards,
    /// Slots are open, and nobody is there to fill them.
    Exhausted,
    /// There is no recipe: nobody is to be asked, the publisher's evidence says it all.
    NoRecipe,
}

/// Where a job lies when it is not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Untouched in this attempt: may wait on disk, in the order of its rank.
    Waiting(u64),
    /// Not before this moment, and nobody is at it: may wait on disk.
    Deferred(Millis),
    /// Somebody is at it, or it is to be judged: must be in memory.
    Active,
    /// Judged or parked.
    Done,
}

impl Job {
    /// The job's identity.
    pub const fn id(&self) -> JobId {
        self.spec.id
    }

    /// Whose share of the queue it takes: whoever asked for what is done now.
    pub fn payer(&self) -> &Tenant {
        self.asker.as_ref().unwrap_or(&self.tenant)
    }

    /// To be done, or being done?
    pub const fn unfinished(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Deferred { .. })
    }

    /// Slots that nobody has.
    pub fn open_slots(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Open)).count()
    }

    /// An offer or a lease is out.
    pub fn held(&self) -> bool {
        self.slots.iter().any(|slot| slot.grant().is_some())
    }

    /// What was said in this attempt and fills a slot.
    pub fn counted(&self) -> impl Iterator<Item = &Answer> {
        let attempt = self.attempt;
        let counts = move |a: &&Answer| a.role == Role::Counted && a.attempt == attempt;
        self.answers.iter().filter(counts)
    }

    /// Whether the operator has a part in this attempt that rules out another one.
    pub fn has_part(&self, operator: &OperatorId) -> bool {
        self.excluded.contains(operator)
            || self.slots.iter().any(|slot| slot.operator() == Some(operator))
            || self.answers.iter().any(|answer| {
                answer.operator == *operator
                    && answer.attempt == self.attempt
                    && (answer.role == Role::Counted
                        || refuses(answer)
                        || self.gone_for_good(answer))
            })
    }

    /// Whether the operator ended so many offers and leases of this attempt without an answer that it
    /// is left out of it. Asked before an offer only: journals of before have more of them.
    pub fn left_out(&self, operator: &OperatorId) -> bool {
        self.fruitless.iter().any(|(known, tries)| known == operator && *tries >= FRUITLESS_MAX)
    }

    /// Who says after the last wait that an input is gone would only say it again.
    fn gone_for_good(&self, answer: &Answer) -> bool {
        let waited = self.deferrals as usize > DEFERRALS_MS.len();
        waited && answer.role == Role::Noted && matches!(answer.said, super::Said::InputUnavailable)
    }

    /// Whether the operator answered in an earlier attempt: others are asked before it.
    pub fn answered_before(&self, operator: &OperatorId) -> bool {
        self.answers.iter().any(|a| a.operator == *operator && a.attempt < self.attempt)
    }

    /// Whether anything came in that no judgement looked at.
    pub fn has_news(&self) -> bool {
        self.answers.len() > self.considered
    }

    /// Whether a judgement is due, and why. `Exhausted` depends on who is there: not asked here.
    pub fn due(&self) -> Option<Due> {
        if self.spec.recipes.is_empty() && matches!(self.phase, Phase::Open) {
            return Some(Due::NoRecipe);
        }
        if !self.has_news() {
            return None;
        }
        if !self.unfinished() {
            return Some(Due::Afterwards);
        }
        if self.counted().any(|a| matches!(a.said, super::Said::LimitExceeded { .. })) {
            return Some(Due::LimitExceeded);
        }
        if self.deferrals as usize > DEFERRALS_MS.len() {
            return Some(Due::InputGone);
        }
        let mut failures: Vec<_> = self.counted().filter_map(|a| a.said.failure()).collect();
        failures.sort_unstable();
        if failures.windows(2).any(|pair| pair[0] == pair[1]) {
            return Some(Due::SameFailure);
        }
        let answered = |slot: &Slot| matches!(slot, Slot::Answered { .. });
        self.slots.iter().all(answered).then_some(Due::Complete)
    }

    /// Where it lies when it is not in memory.
    pub fn place(&self) -> Place {
        if self.due().is_some() {
            return Place::Active;
        }
        match &self.phase {
            Phase::Judged { .. } | Phase::Parked { .. } => Place::Done,
            _ if self.held() => Place::Active,
            Phase::Deferred { until } => Place::Deferred(*until),
            Phase::Open if self.untouched() => Place::Waiting(self.rank),
            Phase::Open => Place::Active,
        }
    }

    /// Nobody had a part in this attempt yet.
    pub fn untouched(&self) -> bool {
        self.skips.is_empty()
            && self.tries == 0
            && self.slots.iter().all(|slot| matches!(slot, Slot::Open))
            && self.answers.iter().all(|answer| answer.attempt < self.attempt)
    }

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
            self.tries += u32::from(!matches!(answer.said, super::Said::InputUnavailable));
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
        let again = *why == super::transition::ReopenReason::Dissent;
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

/// Whoever refused, or ran into the cap, is not asked again in this attempt.
fn refuses(answer: &Answer) -> bool {
    matches!(answer.said, super::Said::Refused | super::Said::Timeout) && answer.role == Role::Noted
}
