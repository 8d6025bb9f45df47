//! What `assay verify` found, in the shape that scripts depend on (`assay/verify/v1`).
//!
//! Invariant: field names and values here are a contract; fields may be added, never renamed. A
//! report says what was built and what was published; the outcome is computed from both, it is
//! never a field that somebody sets.

use attest::{Digest, Gap, Level, Platform, Repository};
use serde::Serialize;

/// The schema of [`VerifyReport`].
pub const VERIFY_SCHEMA: &str = "assay/verify/v1";

/// The answer for one image or one platform. One table decides text, exit code and class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyOutcome {
    /// The published digests were rebuilt here, at the policy's level.
    Reproduced,
    /// Something else was built, and every field and the builder's version are supported.
    Diverged,
    /// Evidence, but none by whom the policy names.
    Untrusted,
    /// The recipe lacks something, or says something that Assay cannot do.
    NotRebuildable,
    /// Not all of the image was looked at.
    Inconclusive,
    /// Network, registry, disk: nothing can be said.
    Error,
}

impl VerifyOutcome {
    /// The exit code of the command line.
    pub const fn exit(self) -> u8 {
        match self {
            Self::Reproduced => 0,
            Self::Error => 1,
            Self::Diverged => 10,
            Self::Inconclusive => 11,
            Self::Untrusted => 13,
            Self::NotRebuildable => 14,
        }
    }

    /// The text of results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::Diverged => "diverged",
            Self::Untrusted => "untrusted",
            Self::NotRebuildable => "not-rebuildable",
            Self::Inconclusive => "inconclusive",
            Self::Error => "error",
        }
    }

    /// Of several platforms the worst counts: 13, 10, 1, 14, 11, 0.
    pub fn worst(outcomes: impl IntoIterator<Item = Self>) -> Option<Self> {
        const WORST_FIRST: [VerifyOutcome; 6] = [
            VerifyOutcome::Untrusted,
            VerifyOutcome::Diverged,
            VerifyOutcome::Error,
            VerifyOutcome::NotRebuildable,
            VerifyOutcome::Inconclusive,
            VerifyOutcome::Reproduced,
        ];
        let rank = |o: &Self| WORST_FIRST.iter().position(|w| w == o);
        outcomes.into_iter().min_by_key(rank)
    }
}

/// Digests of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerDigests {
    /// Of the compressed blob; absent where the rebuild stopped before compressing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<Digest>,
    /// Of the uncompressed tar; absent where a published layer could not be decompressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
}

/// Digests of an image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageDigests {
    /// Of the manifest; absent where the rebuild stopped at level `config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// Of the configuration: the image ID.
    pub config: Digest,
    /// In order, the base first.
    pub layers: Vec<LayerDigests>,
}

/// Something that was taken from the published image, because it only chooses among outputs that
/// the attested recipe allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HintReport {
    /// `epoch`, `install-order`, `key-set`.
    pub name: String,
    /// What it decided: paths, a time, key files.
    pub decided: Vec<String>,
}

/// A capability of the builder that was found by search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SearchReport {
    /// Which capability.
    pub flag: String,
    /// The value that matched.
    pub value: String,
}

/// A statement that was not used, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IgnoredReport {
    /// Who signed it, as far as that is known.
    pub signer: String,
    /// Why it does not count.
    pub reason: String,
}

/// Which recipe was rebuilt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RecipeReport {
    /// The recipe's digest; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// `apko`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builder: Option<String>,
    /// The builder's version as attested, or as found by search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `attested`, `hinted`, `inferred`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Who signed the recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// What it lacks.
    pub gaps: Vec<Gap>,
    /// What was taken from the published image.
    pub hints: Vec<HintReport>,
    /// What was found by search.
    pub searched: Vec<SearchReport>,
    /// Where trusted statements contradict each other.
    pub contradictions: Vec<String>,
    /// Statements that were not used.
    pub ignored: Vec<IgnoredReport>,
}

/// One input of the build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MaterialReport {
    /// Where the recipe says it is.
    pub uri: String,
    /// SHA-256 of the file, 64 hex digits behind `sha256:`.
    pub sha256: Digest,
    /// Where the bytes came from.
    pub from: String,
    /// What vouches for it: an index signature, the package's own signature, a pin.
    pub verified_by: String,
}

/// The explanation of a difference, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplanationReport {
    /// Of the canonical JSON of the explanation.
    pub digest: Digest,
    /// How many differences there are.
    pub differences: u64,
    /// Their causes, the most frequent first.
    pub causes: Vec<String>,
    /// Those that change what a container may do.
    pub security: Vec<String>,
}

/// How long the phases took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PhaseSeconds {
    /// Evidence, image and materials.
    pub fetch: f64,
    /// Assembling and compressing.
    pub build: f64,
    /// Comparing with the published image.
    pub compare: f64,
}

/// One platform, or one entry of an index that lists a platform twice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlatformReport {
    /// `linux/amd64`.
    pub platform: Platform,
    /// The entry's position in the index, where the platform occurs twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<usize>,
    /// The answer.
    pub outcome: VerifyOutcome,
    /// The strongest level of equality that holds.
    pub level: Level,
    /// What is published.
    pub published: Option<ImageDigests>,
    /// What was built; filled whenever something was built, also when it differs.
    pub rebuilt: Option<ImageDigests>,
    /// The recipe, or why there is none.
    pub recipe: RecipeReport,
    /// The inputs, sorted by URI.
    pub materials: Vec<MaterialReport>,
    /// Why the level is not `manifest`.
    pub explanation: Option<ExplanationReport>,
    /// One sentence for a person: why this outcome, and what to do.
    pub detail: String,
    /// How long it took. Never part of anything that is hashed or signed.
    pub seconds: PhaseSeconds,
}

/// The whole answer of `assay verify`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// [`VERIFY_SCHEMA`].
    pub schema: &'static str,
    /// The reference as it was given.
    pub image: String,
    /// Where it is published.
    pub repository: Repository,
    /// The digest that the reference meant; of an index, or of a bare manifest.
    pub index: Digest,
    /// True only if the index's bytes followed from evidence.
    pub index_reproduced: bool,
    /// The worst of the platforms.
    pub outcome: VerifyOutcome,
    /// The exit code.
    pub exit: u8,
    /// Entries that were not judged.
    pub platforms_unchecked: Vec<String>,
    /// One for every entry that was judged.
    pub platforms: Vec<PlatformReport>,
}

#[cfg(test)]
mod tests {
    use super::VerifyOutcome::{self, *};

    #[test]
    fn the_worst_platform_counts() {
        let worst = |outcomes: &[VerifyOutcome]| VerifyOutcome::worst(outcomes.iter().copied());
        assert_eq!(worst(&[Reproduced, Diverged, NotRebuildable]), Some(Diverged));
        assert_eq!(worst(&[Reproduced, NotRebuildable, Error]), Some(Error));
        assert_eq!(worst(&[Diverged, Untrusted]), Some(Untrusted));
        assert_eq!(worst(&[Reproduced, Inconclusive]), Some(Inconclusive));
        assert_eq!(worst(&[]), None);
    }
}
