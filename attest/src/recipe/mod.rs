//! Recipes: what trusted statements say was built, and how.
//!
//! Invariant: a recipe is content. Its canonical bytes and digest say what would be built, for
//! which platform, by which builder; not who signed it, not where it was found: whoever derives it
//! from the same statements has the same digest. Whether every field of the configuration is
//! supported is for the builder's own code to say (`rebuild`), never assumed here.

mod apko;
mod content;
mod derive;
mod tier;

pub use apko::{APKO_BUILD_TYPE, APKO_CONFIGURATION, CONFIGURATION_BYTES_MAX};
pub use derive::{Derivation, RECIPES_MAX, derive};
pub use tier::{Tier, UnknownTier};

use crate::{Digest, Platform, canonical};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Which code turns a recipe into an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuilderKind {
    /// apko: an image from packages.
    Apko,
}

impl BuilderKind {
    /// The name as it is written in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apko => "apko",
        }
    }
}

impl std::fmt::Display for BuilderKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One recipe for one platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Which code builds it.
    pub builder: BuilderKind,
    /// The builder's version, as the provenance writes it; none where no provenance names one.
    pub version: Option<String>,
    /// The provenance's build type; empty without a provenance.
    pub build_type: String,
    /// The provenance's builder; empty without a provenance.
    pub builder_id: String,
    /// What it is built for.
    pub platform: Platform,
    /// Where the content comes from. Not part of the digest.
    pub tier: Tier,
    /// The attested apko configuration, as it was stated.
    pub config: Value,
    /// Packages and versions that the provenance says were installed; empty without a provenance.
    pub packages: BTreeMap<String, String>,
    /// Who stated it; several are joined by `, `. Not part of the digest.
    pub signer: String,
    /// The blobs that state it, sorted. Not part of the digest.
    pub evidence: Vec<Digest>,
}

impl Recipe {
    /// The content's canonical bytes.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let content = json!({
            "schema": "assay/recipe/v1",
            "builder": self.builder,
            "version": self.version,
            "build_type": self.build_type,
            "builder_id": self.builder_id,
            "platform": self.platform,
            "config": self.config,
            "packages": self.packages,
        });
        // `derive` makes no recipe without a canonical form. One that was put together otherwise
        // still has stable bytes, which no derived recipe has.
        canonical::to_vec(&content).unwrap_or_else(|_| format!("not canonical {content}").into())
    }

    /// The identity of the recipe: SHA-256 of its canonical bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.canonical_bytes())
    }
}

#[cfg(test)]
mod tests;
