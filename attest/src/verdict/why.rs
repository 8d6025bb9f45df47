//! Why an observation does not count: one named reason each.
//!
//! Invariant: every way not to be counted has its own code, and a person reads with it what was
//! expected and what was found. The texts hold foreign words only where they are typed (digests,
//! names) or already bounded to one line.

use crate::{
    Digest, Level, Platform, Repository,
    id::{Attempt, Fence, LeaseId, ObservationId, OperatorId, WorkerId},
    recipe::Tier,
    time::Timestamp,
};
use std::fmt;

/// Why an observation does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are what the sentence shows.
pub enum Why {
    /// Not an observation.
    Malformed { error: String },
    /// An operator that the policy does not name.
    UnknownOperator,
    /// An operator that the policy names, but not in its quorum.
    NotInQuorum,
    /// No record of this operator vouches for the worker.
    UnvouchedWorker { worker: WorkerId },
    /// A record names operator and worker, but another key than the policy's root key signed it.
    ForeignRootKey { worker: WorkerId },
    /// Signed by another key than the worker's that it names.
    WrongSignature { worker: WorkerId },
    /// The operator revoked the worker's key, or its own.
    RevokedKey { since: Option<Timestamp>, dissent: bool },
    /// No record of the operator held at that time.
    ExpiredRecord { at: Timestamp },
    /// Another repository, though perhaps the same digest.
    OtherRepository { found: Repository },
    /// Another image of this repository.
    OtherImage { found: Digest },
    /// Another platform.
    OtherPlatform { found: Platform },
    /// A recipe that does not follow from the publisher's evidence under this policy.
    OtherRecipe { found: Digest },
    /// Another job.
    OtherJob,
    /// It differs, but not every recipe was tried: one of the others may be right.
    IncompleteRecipes { tried: usize, known: usize },
    /// The coordinator that the policy pins signed no such lease.
    NoLease { lease: LeaseId },
    /// The lease is for another job or attempt.
    OtherLease { lease: LeaseId, attempt: Attempt },
    /// The lease is another worker's.
    LeaseOfAnotherWorker { lease: LeaseId, worker: WorkerId },
    /// The fence is not the current one.
    StaleFence { found: Fence, current: Fence },
    /// Two different answers where one is allowed: nothing of this operator counts.
    Equivocation { other: ObservationId },
    /// The same key answers for two operators: nothing of either counts.
    TwoOperators { other: OperatorId },
    /// This operator also observed another output.
    OwnDissent { other: ObservationId },
    /// Another observation of this operator is the one that counts.
    CountedAlready { other: ObservationId },
    /// Weaker than the policy asks.
    BelowLevel { found: Level, required: Level, detail: String },
    /// The recipe's tier is weaker than the policy asks.
    BelowTier { found: Tier, required: Tier },
    /// Something was taken from the published image that the policy does not allow.
    HintNotAllowed { hint: String },
    /// The worker's own policy refused.
    Refused { detail: String },
    /// The worker ran out of time.
    Timeout { limit_seconds: u64 },
}

/// The reason's name of what counts already.
const COUNTED_ALREADY: &str = "counted-already";

/// Whether these words (a code, a colon, one sentence) say that its operator is counted already: the
/// observation matches like the one that counts, and adds nothing.
pub(super) fn says_counted_already(words: &str) -> bool {
    words.split_once(':').is_some_and(|(code, _)| code == COUNTED_ALREADY)
}

impl Why {
    /// The reason's name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::UnknownOperator => "unknown-operator",
            Self::NotInQuorum => "not-in-quorum",
            Self::UnvouchedWorker { .. } => "unvouched-worker",
            Self::ForeignRootKey { .. } => "foreign-root-key",
            Self::WrongSignature { .. } => "wrong-signature",
            Self::RevokedKey { .. } => "revoked-key",
            Self::ExpiredRecord { .. } => "expired-record",
            Self::OtherRepository { .. } => "other-repository",
            Self::OtherImage { .. } => "other-image",
            Self::OtherPlatform { .. } => "other-platform",
            Self::OtherRecipe { .. } => "other-recipe",
            Self::OtherJob => "other-job",
            Self::IncompleteRecipes { .. } => "incomplete-recipes",
            Self::NoLease { .. } => "no-lease",
            Self::OtherLease { .. } => "other-lease",
            Self::LeaseOfAnotherWorker { .. } => "lease-of-another-worker",
            Self::StaleFence { .. } => "stale-fence",
            Self::Equivocation { .. } => "equivocation",
            Self::TwoOperators { .. } => "two-operators",
            Self::OwnDissent { .. } => "own-dissent",
            Self::CountedAlready { .. } => COUNTED_ALREADY,
            Self::BelowLevel { .. } => "below-level",
            Self::BelowTier { .. } => "below-tier",
            Self::HintNotAllowed { .. } => "hint-not-allowed",
            Self::Refused { .. } => "refused",
            Self::Timeout { .. } => "timeout",
        }
    }
}

impl fmt::Display for Why {
    /// `<code>: <one sentence>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.code())?;
        self.sentence(f)
    }
}

impl Why {
    fn sentence(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { error } => write!(f, "{error}"),
            Self::UnknownOperator => f.write_str("the policy names no such operator"),
            Self::NotInQuorum => f.write_str("the policy's quorum does not list this operator"),
            Self::UnvouchedWorker { worker } => {
                write!(f, "no record by the operator's root key vouches for worker {worker}")
            }
            Self::ForeignRootKey { worker } => write!(
                f,
                "worker {worker} is vouched for by another key than the policy's root key"
            ),
            Self::WrongSignature { worker } => {
                write!(f, "expected a signature by worker {worker}, found none that verifies")
            }
            Self::RevokedKey { since, dissent } => {
                let since =
                    since.map_or_else(|| "all it signed".to_owned(), |t| format!("from {t}"));
                let what = if *dissent { "; it observed another output" } else { "" };
                write!(f, "the operator revoked the key ({since}){what}")
            }
            Self::ExpiredRecord { at } => write!(f, "no record of the operator was valid at {at}"),
            Self::OtherRepository { found } => write!(f, "it is about repository {found}"),
            Self::OtherImage { found } => write!(f, "it is about image {found}"),
            Self::OtherPlatform { found } => write!(f, "it is about platform {found}"),
            Self::OtherRecipe { found } => write!(
                f,
                "recipe {found} does not follow from the publisher's evidence under this policy"
            ),
            Self::OtherJob => f.write_str("it answers another job"),
            Self::IncompleteRecipes { tried, known } => {
                write!(f, "it differs, but only {tried} of {known} recipes were tried")
            }
            Self::NoLease { lease } => {
                write!(f, "the policy's coordinator signed no lease {lease}")
            }
            Self::OtherLease { lease, attempt } => {
                write!(f, "lease {lease} is for another job, or for attempt {attempt}")
            }
            Self::LeaseOfAnotherWorker { lease, worker } => {
                write!(f, "lease {lease} belongs to worker {worker}")
            }
            Self::StaleFence { found, current } => {
                write!(f, "expected fence {current}, found {found}: it came late")
            }
            Self::Equivocation { other } => {
                write!(f, "a second, different answer where one is allowed: see {other}")
            }
            Self::TwoOperators { other } => {
                write!(f, "the same key also answers for operator {other}")
            }
            Self::OwnDissent { other } => {
                write!(f, "the same operator observed another output: see {other}")
            }
            Self::CountedAlready { other } => {
                write!(f, "the operator is counted once, by {other}")
            }
            Self::BelowLevel { found, required, detail } => {
                write!(f, "level {found}, the policy asks for {required} ({detail})")
            }
            Self::BelowTier { found, required } => {
                write!(f, "the recipe is {found}, the policy asks for {required}")
            }
            Self::HintNotAllowed { hint } => {
                write!(f, "it used hint {hint:?}, which the policy does not allow")
            }
            Self::Refused { detail } => write!(f, "the worker's own policy refused: {detail}"),
            Self::Timeout { limit_seconds } => {
                write!(f, "the worker stopped after {limit_seconds} s")
            }
        }
    }
}
