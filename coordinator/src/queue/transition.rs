//! The steps of the state machine, as they are journaled (JSON, private, unsigned).
//!
//! Invariant: the state of a job is the fold of its transitions and nothing else
//! ([`super::Job::fold`]), so a journal that is read again gives exactly the same queue. A decision
//! (who gets an offer, until when) is in the transition; reading it again decides nothing.
//!
//! Numbers of states, as `transitions` of the research export show them: 1 announced, 2 drawn
//! (second stage), 3 offered, 4 leased, 5 suspect, 6 committed (second stage), 7 reveal-open (second
//! stage), 8 observed, 9 judged, 10 parked, 11 expired, 12 skipped, 13 withheld (second stage),
//! 14 disputed (second stage), 15 deferred.

use super::model::{Class, JobSpec, Millis, Tenant};
use attest::{
    Digest,
    id::{Attempt, Fence, JobId, LeaseId, ObservationId, OperatorId, WorkerId},
};
use serde::{Deserialize, Serialize};

/// One step of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The coordinator's clock.
    pub at: Millis,
    /// The job.
    pub job: JobId,
    /// What happened.
    pub change: Change,
}

impl Transition {
    /// The bytes in the journal.
    pub fn to_json(&self) -> Vec<u8> {
        // A transition holds text, numbers and lists only: writing it as JSON cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From the bytes in the journal.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is to be done.
    Announced {
        /// What is to be done.
        spec: JobSpec,
        /// Who asked first.
        tenant: Tenant,
        /// How urgent.
        class: Class,
        /// Its place in the queue: smaller is earlier.
        rank: u64,
    },
    /// Somebody more urgent asked for the same.
    Promoted {
        /// The new class.
        class: Class,
        /// The new place.
        rank: u64,
    },
    /// A worker may take it.
    Offered {
        /// Which of the wanted observations.
        slot: u32,
        /// Permission.
        grant: Grant,
        /// When the offer lapses.
        until: Millis,
    },
    /// Nobody took the offer, or it was declined: the next is asked.
    Skipped {
        /// The slot.
        slot: u32,
        /// The offer.
        fence: Fence,
        /// Why.
        why: SkipReason,
    },
    /// The worker took it.
    Leased {
        /// The slot.
        slot: u32,
        /// The lease.
        fence: Fence,
        /// The hard cap.
        deadline: Millis,
        /// Silence after which it expires.
        grace_ms: u64,
    },
    /// Nothing was heard for 60 s.
    Suspected {
        /// The slot.
        slot: u32,
        /// The lease.
        fence: Fence,
    },
    /// The suspect was heard again.
    Resumed {
        /// The slot.
        slot: u32,
        /// The lease.
        fence: Fence,
    },
    /// The lease is over without an observation.
    Expired {
        /// The slot.
        slot: u32,
        /// The lease.
        fence: Fence,
        /// Why.
        why: ExpireReason,
    },
    /// The worker of a current lease observed something. Follows its envelope in the journal.
    Observed {
        /// The slot.
        slot: u32,
        /// What was said.
        answer: Answer,
    },
    /// Evidence outside a current lease, kept. Follows its envelope in the journal.
    Filed {
        /// What was said.
        answer: Answer,
    },
    /// An input is missing: not before this moment.
    Deferred {
        /// When it may be offered again.
        until: Millis,
    },
    /// Judged for now: more observations are wanted in this attempt.
    Continued {
        /// How many slots there are from now on.
        slots: u32,
    },
    /// Opened again.
    Reopened {
        /// The new attempt.
        attempt: Attempt,
        /// How many observations it wants.
        wanted: u32,
        /// Who is not asked again.
        without: Vec<OperatorId>,
        /// How urgent.
        class: Class,
        /// Its place in the queue.
        rank: u64,
        /// Why.
        why: ReopenReason,
        /// Who asked for it; none: nobody did, and it is its first owner's again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Tenant>,
    },
    /// Judged. The verdict, where there is one, stands before it in the journal.
    Judged {
        /// `reproduced`, `diverged`, …
        outcome: String,
    },
    /// Put aside until somebody unparks it.
    Parked {
        /// Why.
        why: ParkReason,
        /// What is known of it, if it was judged.
        outcome: Option<String>,
    },
}

impl Change {
    /// The name in metrics: one word for each way in which something can happen.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Announced { .. } => "announced",
            Self::Promoted { .. } => "promoted",
            Self::Offered { .. } => "offered",
            Self::Skipped { why: SkipReason::Silent, .. } => "offer-silent",
            Self::Skipped { why: SkipReason::Declined, .. } => "offer-declined",
            Self::Skipped { why: SkipReason::Withdrawn, .. } => "offer-withdrawn",
            Self::Leased { .. } => "leased",
            Self::Suspected { .. } => "suspected",
            Self::Resumed { .. } => "resumed",
            Self::Expired { why: ExpireReason::Silent, .. } => "lease-silent",
            Self::Expired { why: ExpireReason::Deadline, .. } => "lease-deadline",
            Self::Expired { why: ExpireReason::GivenBack, .. } => "lease-given-back",
            Self::Expired { why: ExpireReason::Withdrawn, .. } => "lease-withdrawn",
            Self::Observed { .. } => "observed",
            Self::Filed { .. } => "filed",
            Self::Deferred { .. } => "deferred",
            Self::Continued { .. } => "continued",
            Self::Reopened { .. } => "reopened",
            Self::Judged { .. } => "judged",
            Self::Parked { .. } => "parked",
        }
    }
}

/// Permission for one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its identity.
    pub lease: LeaseId,
    /// Strictly increasing in the job.
    pub fence: Fence,
    /// Who may.
    pub worker: WorkerId,
    /// The party behind the worker.
    pub operator: OperatorId,
}

/// Why an offer was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// No answer in time.
    Silent,
    /// The worker said no.
    Declined,
    /// The slot is not needed any more.
    Withdrawn,
}

/// Why a lease ended without an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpireReason {
    /// Nothing was heard for too long.
    Silent,
    /// The hard cap on execution.
    Deadline,
    /// The worker gave it back: infrastructure.
    GivenBack,
    /// The attempt is over.
    Withdrawn,
}

/// Why a job was opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReopenReason {
    /// Operators disagree.
    Dissent,
    /// Somebody wants to know whether it still holds; or the verdict does not follow any more, by
    /// what is believed now (a key was revoked, the policy is another one).
    Recheck,
    /// Somebody took it out of the parking place.
    Unparked,
}

/// Why a job was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParkReason {
    /// Three attempts did not settle it.
    Attempts,
    /// Leases ended without an observation too often.
    Tries,
    /// No further operator is there to ask.
    Operators,
    /// No worker that can do it came for too long.
    Unroutable,
}

/// What an observation says, as far as the queue has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// Something was built.
    Output {
        /// The manifest that was built.
        manifest: Digest,
    },
    /// The build fails, and would again.
    BuildFailed {
        /// Two operators of one class are final.
        class: String,
    },
    /// The recipe lacks something.
    RecipeInvalid {
        /// The gaps' codes, in order.
        class: String,
    },
    /// An input is gone.
    InputUnavailable,
    /// The hard cap was reached.
    Timeout,
    /// A limit was exceeded.
    LimitExceeded {
        /// Which.
        class: String,
    },
    /// The worker's own policy forbids it.
    Refused,
}

impl Said {
    /// Whether it fills a slot. What does not is kept, and another worker is asked.
    pub const fn answers(&self) -> bool {
        matches!(
            self,
            Self::Output { .. }
                | Self::BuildFailed { .. }
                | Self::RecipeInvalid { .. }
                | Self::LimitExceeded { .. }
        )
    }

    /// The class in which two operators must agree to end the attempt early.
    pub fn failure(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::BuildFailed { class } => Some(("build-failed", class)),
            Self::RecipeInvalid { class } => Some(("recipe-invalid", class)),
            _ => None,
        }
    }

    /// The outcome's name, as observations write it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Output { .. } => "OUTPUT",
            Self::BuildFailed { .. } => "BUILD_FAILED",
            Self::RecipeInvalid { .. } => "RECIPE_INVALID",
            Self::InputUnavailable => "INPUT_UNAVAILABLE",
            Self::Timeout => "TIMEOUT",
            Self::LimitExceeded { .. } => "LIMIT_EXCEEDED",
            Self::Refused => "REFUSED",
        }
    }
}

/// How an observation was filed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Under a current lease, and it fills a slot.
    Counted,
    /// Under a current lease, but it fills no slot (input missing, refused, timeout).
    Noted,
    /// Late, or without a lease: it can veto, never count.
    Volunteer,
    /// A different second answer for one lease: its operator is excluded from the job.
    Equivocation,
}

impl Role {
    /// The name in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Noted => "noted",
            Self::Volunteer => "volunteer",
            Self::Equivocation => "equivocation",
        }
    }

    /// Whether it came under a current lease: how many such there are is bounded by the slots.
    pub const fn was_asked_for(self) -> bool {
        matches!(self, Self::Counted | Self::Noted)
    }
}

/// One observation in the state of a job. The envelope lies in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The observation.
    pub observation: ObservationId,
    /// Who.
    pub operator: OperatorId,
    /// By which worker.
    pub worker: WorkerId,
    /// In which attempt.
    pub attempt: Attempt,
    /// Under which lease (as the observation names it).
    pub lease: LeaseId,
    /// With which fence.
    pub fence: Fence,
    /// What it says.
    pub said: Said,
    /// How it was filed.
    pub role: Role,
    /// How long it took the worker.
    pub duration_ms: u64,
    /// Bytes of its envelope, of what nobody asked for: those are bounded. Else 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}
