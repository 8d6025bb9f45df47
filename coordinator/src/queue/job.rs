//! The state of one job, and what follows from it.
//!
//! Invariant: the state is the fold of its transitions ([`Job::fold`]) and nothing else changes it.
//! Whoever asks "what next" finds it here ([`Job::due`], [`Job::place`]), so that the index and the
//! queue agree.

mod fold;

pub use fold::{ANSWERS_MAX, FoldError};

use super::model::{Class, JobSpec, Millis, Tenant};
use super::transition::{Answer, Grant, ParkReason, Role};
use attest::id::{Attempt, Fence, JobId, ObservationId, OperatorId};

/// Times that a missing input is waited for: after 1 h, 6 h and 24 h.
pub const DEFERRALS_MS: [u64; 3] = [3_600_000, 6 * 3_600_000, 24 * 3_600_000];
/// Offers and leases of one operator in an attempt that may end without an answer: then others are
/// asked. One that declines everything uses up nobody else's tries.
const FRUITLESS_MAX: u32 = 2;

/// Where a job is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub fruitless: Vec<(OperatorId, u32)>,
    /// Who asked for the recheck that it is in, or was in last.
    pub asker: Option<Tenant>,
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
}

/// Whoever refused, or ran into the cap, is not asked again in this attempt.
fn refuses(answer: &Answer) -> bool {
    matches!(answer.said, super::Said::Refused | super::Said::Timeout) && answer.role == Role::Noted
}
