//! The words of a decision: outcomes with their exit codes and order, classes, admissions.
//!
//! Invariant: the nine outcomes are those of the command line's table, and only `reproduced` is
//! good. `stale` and `error` are the gate's own: the verdict knows neither a clock nor a network.

use attest::verdict::VerdictOutcome;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is known of an image, as a gate says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Enough operators rebuilt the published digests.
    Reproduced,
    /// Enough rebuilders agree with each other, on something else.
    Diverged,
    /// Rebuilders disagree with each other.
    Flaky,
    /// Dissent that is not resolved.
    Disputed,
    /// Evidence, but none by whom the policy names.
    Untrusted,
    /// The recipe cannot be rebuilt.
    NotRebuildable,
    /// Not enough is known.
    Inconclusive,
    /// Reproduced, but longer ago than the policy allows.
    Stale,
    /// The image or the evidence could not be read: nothing was judged.
    Error,
}

/// How a gate sees an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Reproduced.
    Good,
    /// Something speaks against the image.
    Bad,
    /// Nothing speaks for it.
    Unknown,
    /// Nobody could look.
    Error,
}

/// What a gate does. The order is from the mildest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// The image passes.
    Admit,
    /// The image passes, and somebody should look at it.
    Warn,
    /// The image does not pass.
    Deny,
}

impl Outcome {
    /// All of them, from the one that counts most for an image of several platforms.
    pub const WORST_FIRST: [Self; 9] = [
        Self::Untrusted,
        Self::Diverged,
        Self::Flaky,
        Self::Disputed,
        Self::Error,
        Self::NotRebuildable,
        Self::Stale,
        Self::Inconclusive,
        Self::Reproduced,
    ];

    /// The outcome as results write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::Diverged => "diverged",
            Self::Flaky => "flaky",
            Self::Disputed => "disputed",
            Self::Untrusted => "untrusted",
            Self::NotRebuildable => "not-rebuildable",
            Self::Inconclusive => "inconclusive",
            Self::Stale => "stale",
            Self::Error => "error",
        }
    }

    /// The exit code of the command line.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Reproduced => 0,
            Self::Error => 1,
            Self::Diverged => 10,
            Self::Inconclusive => 11,
            Self::Flaky | Self::Disputed => 12,
            Self::Untrusted => 13,
            Self::NotRebuildable => 14,
            Self::Stale => 15,
        }
    }

    /// How a gate sees it.
    pub const fn class(self) -> Class {
        match self {
            Self::Reproduced => Class::Good,
            Self::Diverged | Self::Flaky | Self::Disputed | Self::Untrusted => Class::Bad,
            Self::NotRebuildable | Self::Inconclusive | Self::Stale => Class::Unknown,
            Self::Error => Class::Error,
        }
    }

    /// Its place among the outcomes of several platforms: 0 is the best, the highest counts.
    pub fn severity(self) -> usize {
        Self::WORST_FIRST.iter().rev().position(|outcome| *outcome == self).unwrap_or_default()
    }
}

impl From<&VerdictOutcome> for Outcome {
    fn from(outcome: &VerdictOutcome) -> Self {
        match outcome {
            VerdictOutcome::Reproduced { .. } => Self::Reproduced,
            VerdictOutcome::Diverged => Self::Diverged,
            VerdictOutcome::Flaky => Self::Flaky,
            VerdictOutcome::Disputed => Self::Disputed,
            VerdictOutcome::Untrusted => Self::Untrusted,
            VerdictOutcome::NotRebuildable { .. } => Self::NotRebuildable,
            VerdictOutcome::Inconclusive { .. } => Self::Inconclusive,
        }
    }
}

impl Class {
    /// The class as results write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
            Self::Error => "error",
        }
    }
}

impl Admission {
    /// The admission as results write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }

    /// True when the image passes.
    pub const fn admits(self) -> bool {
        !matches!(self, Self::Deny)
    }
}

macro_rules! display_as_str {
    ($($name:ty),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+};
}
display_as_str!(Outcome, Class, Admission);

#[cfg(test)]
mod tests {
    use super::*;
    use attest::verdict::OutcomeClass;

    #[test]
    fn the_order_of_the_contract() {
        let codes: Vec<u8> = Outcome::WORST_FIRST.iter().map(|o| o.exit_code()).collect();
        assert_eq!(codes, [13, 10, 12, 12, 1, 14, 15, 11, 0]);
        for pair in Outcome::WORST_FIRST.windows(2) {
            assert!(pair[0].severity() > pair[1].severity());
        }
        assert_eq!(Outcome::Reproduced.severity(), 0);
        for outcome in Outcome::WORST_FIRST {
            let json = serde_json::to_string(&outcome).unwrap();
            assert_eq!(json, format!("\"{outcome}\""));
            assert_eq!(outcome.class() == Class::Good, outcome.exit_code() == 0);
        }
    }

    #[test]
    fn the_verdicts_words_are_the_gates() {
        let reason = String::new();
        for verdict in [
            VerdictOutcome::Reproduced { level: attest::Level::Config },
            VerdictOutcome::Diverged,
            VerdictOutcome::Flaky,
            VerdictOutcome::Disputed,
            VerdictOutcome::Untrusted,
            VerdictOutcome::NotRebuildable { gaps: vec![] },
            VerdictOutcome::Inconclusive { reason },
        ] {
            let outcome = Outcome::from(&verdict);
            assert_eq!(outcome.as_str(), verdict.as_str());
            assert_eq!(outcome.exit_code(), verdict.exit_code());
            let class = match verdict.class() {
                OutcomeClass::Good => Class::Good,
                OutcomeClass::Bad => Class::Bad,
                OutcomeClass::Unknown => Class::Unknown,
            };
            assert_eq!(outcome.class(), class);
        }
    }
}
