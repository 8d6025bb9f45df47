//! What a gate does with an outcome: modes, overrides, waivers.
//!
//! Invariant: without a `[gate]` table a gate enforces and an unknown image fails. A waiver always
//! has a reason, an owner and an end.

use super::{RepositoryPattern, Source, words};
use crate::{Digest, Platform, Repository, time::Timestamp};
use serde::{Deserialize, Serialize};

/// Outcomes that a waiver can be for: every one that is not good.
pub(super) const WAIVABLE: &[&str] =
    &["diverged", "disputed", "flaky", "inconclusive", "not-rebuildable", "stale", "untrusted"];

words! {
    /// What a gate does with what it finds.
    Mode "observe, warn, delay or enforce" {
        /// Decides nothing, records everything.
        Observe = "observe",
        /// Admits and says so.
        Warn = "warn",
        /// Warns until `delay_until`, then enforces.
        Delay = "delay",
        /// Denies what is not good.
        Enforce = "enforce",
    }
    /// What a gate does with an image that nobody judged.
    UnknownRule "pass, warn or fail" {
        /// Admits it, and shows it as unknown.
        Pass = "pass",
        /// Admits it with a warning.
        Warn = "warn",
        /// Denies it.
        Fail = "fail",
    }
}

/// The gate's rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatePolicy {
    /// What happens to images that are not good.
    pub mode: Mode,
    /// What happens to images that nobody judged.
    pub unknown: UnknownRule,
    /// Oldest verdict that counts, by its signed time.
    pub max_age_seconds: Option<u64>,
    /// When `delay` starts to enforce.
    pub delay_until: Option<Timestamp>,
    /// Only images that were good before are denied.
    pub regressions_only: bool,
}

impl Default for GatePolicy {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            unknown: UnknownRule::Fail,
            max_age_seconds: None,
            delay_until: None,
            regressions_only: false,
        }
    }
}

/// Another mode for some repositories or platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// For these.
    pub repositories: Vec<RepositoryPattern>,
    /// For these; empty means every platform.
    pub platforms: Vec<Platform>,
    /// The mode there.
    pub mode: Mode,
}

impl Override {
    /// True when this override is for such an image, however its host and its platform are
    /// spelled: whoever pushes or pulls an image chooses among the spellings.
    pub fn applies(&self, source: Source, repository: &Repository, platform: &Platform) -> bool {
        self.repositories.iter().any(|pattern| pattern.matches_place(source, repository))
            && (self.platforms.is_empty() || self.platforms.iter().any(|p| p.covers(platform)))
    }
}

/// What a waiver is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaiverTarget {
    /// One image (platform manifest or index) of one repository.
    Image {
        /// The repository, written without `*`.
        repository: RepositoryPattern,
        /// The digest of the manifest or the index.
        digest: Digest,
    },
    /// Every image of these repositories.
    Repositories(RepositoryPattern),
}

/// An image that passes for a time in spite of its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// Which image.
    pub target: WaiverTarget,
    /// For which outcomes, by their names: `diverged`.
    pub outcomes: Vec<String>,
    /// Why; shown with every decision that uses it.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// From this moment on it does not count: 00:00 UTC of the day in the file.
    pub expires: Timestamp,
}

impl Waiver {
    /// True when the waiver is about this image. `digests` are those of its manifest and index.
    pub fn covers(&self, source: Source, repository: &Repository, digests: &[Digest]) -> bool {
        match &self.target {
            WaiverTarget::Image { repository: pattern, digest } => {
                pattern.matches(source, repository) && digests.contains(digest)
            }
            WaiverTarget::Repositories(pattern) => pattern.matches(source, repository),
        }
    }

    /// True when the waiver is for this outcome and has not ended.
    pub fn counts(&self, outcome: &str, now: Timestamp) -> bool {
        now < self.expires && self.outcomes.iter().any(|name| name == outcome)
    }
}
