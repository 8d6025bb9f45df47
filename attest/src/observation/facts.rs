//! The parts of an observation: outcome, environment, materials, hints, hygiene.
//!
//! Invariant: plain facts with one JSON spelling each; unknown fields are refused. Lists keep the
//! order in which the worker gave them. What is bounded how is in `check.rs`.

use crate::{Digest, Gap, Level, base64_text};
use serde::{Deserialize, Serialize};

/// What happened to one execution of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "SCREAMING_SNAKE_CASE", deny_unknown_fields)]
pub enum Outcome {
    /// An image was built, equal to the published one or not.
    Output(Output),
    /// The build failed, and would fail again.
    BuildFailed {
        /// A short kebab-case name of the failure; two that agree on it are final.
        class: String,
        /// One line for people.
        detail: String,
    },
    /// The recipe lacks something, or says something that Assay cannot do.
    RecipeInvalid {
        /// What it is; never empty.
        gaps: Vec<Gap>,
    },
    /// An input is gone: verifiably withdrawn, not merely out of reach.
    InputUnavailable {
        /// Which, as a gap.
        gap: Gap,
        /// Where it should have been.
        uri: String,
    },
    /// The hard cap on execution was reached.
    Timeout {
        /// The cap.
        limit_seconds: u64,
    },
    /// A limit on bytes, entries, depth, ratio or memory was exceeded.
    LimitExceeded {
        /// A short kebab-case name of the limit.
        limit: String,
        /// One line for people.
        detail: String,
    },
    /// The worker's own policy does not allow the job.
    Refused {
        /// Why.
        reason: Refusal,
        /// One line for people.
        detail: String,
    },
}

impl Outcome {
    /// The outcome's name, as on the wire.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Output(_) => "OUTPUT",
            Self::BuildFailed { .. } => "BUILD_FAILED",
            Self::RecipeInvalid { .. } => "RECIPE_INVALID",
            Self::InputUnavailable { .. } => "INPUT_UNAVAILABLE",
            Self::Timeout { .. } => "TIMEOUT",
            Self::LimitExceeded { .. } => "LIMIT_EXCEEDED",
            Self::Refused { .. } => "REFUSED",
        }
    }
}

/// Why a worker refused a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The worker's policy does not cover this image, builder or input.
    Policy,
    /// There is evidence, but by nobody whom the worker's policy names.
    Untrusted,
}

/// What was built. The digests are checked against `manifest_bytes` whenever one is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The rebuilt manifest.
    pub manifest: Digest,
    /// The rebuilt image configuration: the image ID.
    pub config: Digest,
    /// The rebuilt layers, in order.
    pub layers: Vec<LayerOutput>,
    /// The rebuilt manifest itself, at most [`super::MANIFEST_BYTES_MAX`]; base64 in JSON.
    #[serde(with = "base64_text")]
    pub manifest_bytes: Vec<u8>,
    /// The rebuilt index, if its bytes followed from the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
}

/// One rebuilt layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerOutput {
    /// The layer as the rebuilt manifest names it; when present it is that descriptor's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Digest>,
    /// SHA-256 of the uncompressed layer.
    pub diff_id: Digest,
    /// Bytes of the layer as the rebuilt manifest names it.
    pub size: u64,
}

/// The builder that a recipe names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Builder {
    /// `apko`.
    pub name: String,
    /// Its version as attested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The source that the evidence names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The repository's URI.
    pub repository: String,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// Where a build ran. The worker's own word; an empty text means that it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The worker's version.
    pub worker_version: String,
    /// What rebuilt, with its version: `assay-apko 0.1.0`.
    pub rebuilder: String,
    /// Kernel name and release.
    pub kernel: String,
    /// The CPU's model.
    pub cpu: String,
    /// The CPU's vendor, as the CPU names it: `AuthenticAMD`, `GenuineIntel`, `ARM`.
    pub cpu_vendor: String,
    /// The file system of the work folder.
    pub filesystem: String,
    /// In octal: `0022`.
    pub umask: String,
    /// The time zone.
    pub timezone: String,
    /// The locale.
    pub locale: String,
    /// How many CPUs the build could use.
    pub cpus: u32,
    /// The worker's own architecture in Go's words.
    pub architecture: String,
}

/// One input that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// The URI that the recipe implies.
    pub uri: String,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Where the bytes came from, if elsewhere (a mirror).
    pub from: Option<String>,
    /// What vouched for the bytes: `index-signature`, `recipe-digest`, `pinned-key`.
    pub verified_by: String,
}

/// Something that was taken from the published image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hint {
    /// `epoch`, `install-order`, `key-set`.
    pub name: String,
    /// The paths whose content it decided: a policy must allow `<name>-conflicts` for those.
    pub decided: Vec<String>,
}

/// An engine flag that was found by trying.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Searched {
    /// Which: `gzip`.
    pub flag: String,
    /// What was found: `E3`.
    pub value: String,
}

/// Whether a published layer holds nothing beside its tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerHygieneFact {
    /// True when it does not.
    pub clean: bool,
    /// What is wrong; or, for a clean one, what is worth listing (MTIME, XFL, OS).
    pub why: Vec<String>,
}

/// The worker's own comparison. Informative: nobody's verdict depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// The strongest level that it found.
    pub level: Level,
    /// Layers whose blob is the published one.
    pub layers_equal: u32,
    /// Layers whose uncompressed content is the published one.
    pub diff_ids_equal: u32,
    /// Differences in the explanation.
    pub differences: u64,
}

/// Where inputs came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheState {
    /// Every input was fetched for this job.
    Cold,
    /// Some came from the worker's content store, by digest.
    Warm,
}

/// How long an execution took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Durations {
    /// Fetching and checking inputs.
    pub fetch_ms: u64,
    /// Building.
    pub build_ms: u64,
    /// Comparing.
    pub compare_ms: u64,
    /// CPU time of all of it.
    pub cpu_ms: u64,
}
