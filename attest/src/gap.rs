//! Why a recipe cannot be rebuilt: the closed list of gap codes (design: command line, "Outcomes").
//!
//! Invariant: a gap means *unknown*, never *bad*. Code that meets something it cannot do returns a
//! gap; it must never let the difference that follows be called a divergence.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! gap_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// What a recipe lacks, or says that Assay cannot do. Written as its kebab-case text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[allow(missing_docs)]
        pub enum GapCode { $($(#[$doc])* $name,)+ }

        impl GapCode {
            /// Every code, in the order of the list.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code as it is written in results.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

gap_codes! {
    /// Trusted evidence has no recipe for this platform.
    NoRecipe = "no-recipe",
    /// The only recipe is attached to the index; what platforms share is not the recipe of one.
    IndexOnlyRecipe = "index-only-recipe",
    UnsupportedBuildType = "unsupported-build-type",
    UnsupportedField = "unsupported-field",
    UnsupportedVersion = "unsupported-version",
    /// Signing keys of packages, or keys in the image, that cannot be vouched for.
    Keys = "keys",
    SelfReference = "self-reference",
    ImportCache = "import-cache",
    LocalContext = "local-context",
    MinMode = "min-mode",
    NetworkRun = "network-run",
    UnpinnedMaterial = "unpinned-material",
    /// A verified index lacks the input, and no complete source has the file.
    MaterialGone = "material-gone",
    SecretRequired = "secret-required",
    PrivateFrontend = "private-frontend",
    Platform = "platform",
    EpochUnknown = "epoch-unknown",
    ExporterAttrs = "exporter-attrs",
    BuilderVersion = "builder-version",
    GoToolchain = "go-toolchain",
    BuildFailed = "build-failed",
    /// A limit on bytes, entries, depth, ratio or time was exceeded.
    Limit = "limit",
}

impl fmt::Display for GapCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not one of the codes of the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected one of the gap codes (no-recipe, index-only-recipe, …), found {0:?}")]
pub struct UnknownGapCode(pub String);

impl FromStr for GapCode {
    type Err = UnknownGapCode;

    fn from_str(text: &str) -> Result<Self, UnknownGapCode> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| UnknownGapCode(text.chars().take(64).collect()))
    }
}

/// One gap: its code, and the detail a person needs (which field, which version, which package).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// What kind of thing is lacking.
    pub code: GapCode,
    /// What exactly, in one line.
    pub detail: String,
}

impl Gap {
    /// A gap with its detail.
    pub fn new(code: GapCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_serde_agree() {
        for code in GapCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(code.as_str().parse::<GapCode>().unwrap(), *code);
        }
    }
}
