//! What a judge found: the outcome, and everything that a reader needs to recompute it.
//!
//! Invariant: equal evidence under equal policies gives equal bytes
//! ([`Finding::to_canonical_json`]): every list is sorted, nothing depends on the order in which
//! evidence came, on a clock or on a map. A [`Judgement`] can only come out of
//! [`super::judge`]; a [`Finding`] that was read from somewhere is a report, and signs nothing.

use super::why::{self, Why};
use crate::{
    Digest, Gap, Level, Subject,
    canonical::{self, CanonicalError},
    id::{Attempt, JobId, ObservationId, OperatorId},
    observation::{Hint, one_line},
    policy::Source,
};
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// The schema of a finding's JSON.
pub const FINDING_SCHEMA: &str = "assay/judgement/v1";
/// The version of the verdict function: it changes whenever equal evidence could be judged
/// otherwise.
pub const VERDICT_FUNCTION: &str = "assay-verdict/2";

/// Longest foreign text in a finding; what is longer is cut. 4096 observations that are not
/// counted, at 500 bytes and their identities, stay under the 4 MiB of a signed verdict.
pub(super) const WORDS_BYTES_MAX: usize = 500;
/// Most gaps of an outcome, and most paths of a hint, in a finding.
pub(super) const WORDS_MAX: usize = 64;

/// What is said of the image (design: command line, "Outcomes: one table").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum VerdictOutcome {
    /// Enough operators rebuilt the published digests.
    Reproduced {
        /// The level that k of them reached.
        level: Level,
    },
    /// Enough rebuilders agree with each other, on something else.
    Diverged,
    /// Rebuilders disagree with each other.
    Flaky,
    /// Dissent that is not resolved.
    Disputed,
    /// Evidence, but none by whom the policy names.
    Untrusted,
    /// The recipe cannot be rebuilt.
    NotRebuildable {
        /// Why.
        gaps: Vec<Gap>,
    },
    /// Not enough is known.
    Inconclusive {
        /// One sentence.
        reason: String,
    },
}

/// How a gate sees an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeClass {
    /// Reproduced.
    Good,
    /// Something speaks against the image.
    Bad,
    /// Nothing speaks for it.
    Unknown,
}

impl VerdictOutcome {
    /// The outcome as results write it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Reproduced { .. } => "reproduced",
            Self::Diverged => "diverged",
            Self::Flaky => "flaky",
            Self::Disputed => "disputed",
            Self::Untrusted => "untrusted",
            Self::NotRebuildable { .. } => "not-rebuildable",
            Self::Inconclusive { .. } => "inconclusive",
        }
    }

    /// The exit code of the command line.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Reproduced { .. } => 0,
            Self::Diverged => 10,
            Self::Inconclusive { .. } => 11,
            Self::Flaky | Self::Disputed => 12,
            Self::Untrusted => 13,
            Self::NotRebuildable { .. } => 14,
        }
    }

    /// How a gate sees it.
    pub const fn class(&self) -> OutcomeClass {
        match self {
            Self::Reproduced { .. } => OutcomeClass::Good,
            Self::Diverged | Self::Flaky | Self::Disputed | Self::Untrusted => OutcomeClass::Bad,
            Self::NotRebuildable { .. } | Self::Inconclusive { .. } => OutcomeClass::Unknown,
        }
    }

    /// The level that was reached; `None` for everything that is not reproduced.
    pub const fn level(&self) -> Level {
        match self {
            Self::Reproduced { level } => *level,
            _ => Level::None,
        }
    }
}

/// An operator that is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// Who.
    pub operator: OperatorId,
    /// By which observation.
    pub observation: ObservationId,
    /// At which level.
    pub level: Level,
    /// In which opening of the job.
    pub attempt: Attempt,
}

/// An operator that observed another output. It is named for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dissent {
    /// Who.
    pub operator: OperatorId,
    /// By which observations.
    pub observations: Vec<ObservationId>,
    /// What it built instead: manifest digests.
    pub outputs: Vec<Digest>,
    /// The first opening of the job in which it did.
    pub attempt: Attempt,
    /// False when it came late or without a lease: it can veto, and cannot add to a majority.
    pub leased: bool,
    /// Enough other operators, leased afterwards, agreed on the published image.
    pub resolved: bool,
}

/// An operator that could not build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Who.
    pub operator: OperatorId,
    /// By which observation.
    pub observation: ObservationId,
    /// `BUILD_FAILED`, `RECIPE_INVALID`, `INPUT_UNAVAILABLE`, `LIMIT_EXCEEDED`.
    pub outcome: String,
    /// The class in which two must agree.
    pub class: String,
}

/// An observation that is not counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotCounted {
    /// Whose it is; `acme (unverified)` where only the observation says so.
    pub operator: String,
    /// Which.
    pub observation: ObservationId,
    /// Why: a code, a colon, one sentence.
    pub why: String,
}

impl NotCounted {
    pub(super) fn new(operator: String, observation: ObservationId, why: &Why) -> Self {
        Self { operator, observation, why: one_line(&why.to_string(), WORDS_BYTES_MAX) }
    }

    /// Whether all that keeps it from counting is that its operator counts already: it matches at
    /// the policy's level, under a good key, from a granted lease.
    pub fn is_counted_already(&self) -> bool {
        why::says_counted_already(&self.why)
    }
}

/// Different answers where one is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Equivocation {
    /// Who.
    pub operator: OperatorId,
    /// The answers.
    pub observations: Vec<ObservationId>,
}

/// A statement of the publisher that the judge relied on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsedEvidence {
    /// SHA-256 of the blob that holds it.
    pub digest: Digest,
    /// Where it was found.
    pub uri: String,
}

/// What a judge found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// [`FINDING_SCHEMA`].
    pub schema: String,
    /// [`VERDICT_FUNCTION`].
    pub function: String,
    /// Where the image was read from.
    pub source: Source,
    /// The published image.
    pub subject: Subject,
    /// The index in which it was found.
    pub index: Option<Digest>,
    /// The job, where there is a recipe.
    pub job: Option<JobId>,
    /// The policy's digest.
    pub policy: Digest,
    /// The recipes that follow from the evidence, ascending.
    pub recipes: Vec<Digest>,
    /// Where trusted statements contradict each other.
    pub contradictions: Vec<String>,
    /// What is said of the image.
    pub outcome: VerdictOutcome,
    /// One sentence.
    pub reason: String,
    /// One sentence: what would have to change.
    pub to_pass: String,
    /// How many distinct operators the policy asks for.
    pub required: u32,
    /// How many are counted.
    pub k: u32,
    /// Distinct operators of the quorum with an OUTPUT in any attempt.
    pub n: u32,
    /// Of the counted, how many reached an exact level and are not affiliated with the publisher.
    pub independent: u32,
    /// How often the job was opened.
    pub attempts: u64,
    /// Who is counted, by name.
    pub counted: Vec<Counted>,
    /// Who observed another output, by name.
    pub dissent: Vec<Dissent>,
    /// Who could not build, by name.
    pub failures: Vec<Failure>,
    /// What is not counted, and why.
    pub not_counted: Vec<NotCounted>,
    /// Who gave different answers where one is allowed.
    pub equivocations: Vec<Equivocation>,
    /// Operators that stand alone against others that agree.
    pub suspects: Vec<OperatorId>,
    /// What the counted took from the published image.
    pub hints: Vec<Hint>,
    /// The publisher's statements that the recipe follows from.
    pub evidence: Vec<UsedEvidence>,
    /// Records that bind the named observations: SHA-256 of what was signed.
    pub records: Vec<Digest>,
}

impl Finding {
    /// The canonical bytes.
    pub fn to_canonical_json(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical::to_vec(self)
    }

    /// SHA-256 of the canonical bytes.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        Ok(Digest::of(&self.to_canonical_json()?))
    }
}

/// A finding that [`super::judge`] made. Read it through [`Finding`]'s fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement(Finding);

impl Judgement {
    pub(super) fn new(finding: Finding) -> Self {
        Self(finding)
    }

    /// The judgement as one that may be attested; none unless the image was reproduced.
    pub fn reproduced(&self) -> Option<Reproduced<'_>> {
        match self.0.outcome {
            VerdictOutcome::Reproduced { level } => Some(Reproduced { finding: &self.0, level }),
            _ => None,
        }
    }
}

impl Deref for Judgement {
    type Target = Finding;

    fn deref(&self) -> &Finding {
        &self.0
    }
}

/// A judgement whose outcome is `reproduced`: the only thing that a PASSED attestation is made of.
#[derive(Debug, Clone, Copy)]
pub struct Reproduced<'a> {
    finding: &'a Finding,
    level: Level,
}

impl<'a> Reproduced<'a> {
    /// What was found.
    pub fn finding(&self) -> &'a Finding {
        self.finding
    }

    /// The level that k operators reached.
    pub fn level(&self) -> Level {
        self.level
    }
}
