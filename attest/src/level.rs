//! The ladder of equality: how much of a published image a rebuild gave back (design:
//! architecture, "The ladder of equality"). What each level requires is decided in the crate
//! `rebuild`, module `compare::ladder`; this is only its name and its order.
//!
//! Invariant: the order is the order of strength, `None` the least and `Manifest` the most, so
//! `found >= required` is the whole question of a policy. It must never gain a level between two
//! others without a new schema of everything that stores one.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How equal the rebuilt image is. Written in kebab-case; stronger levels compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// None of the others: explained, difference by difference.
    None,
    /// The same tree and hygiene; order, mtimes, tar format or layer split may differ.
    Rootfs,
    /// The same image configuration, and clean layers that decompress to its diffIDs.
    Config,
    /// The published manifest digest, after compressing our tar with an engine found by search.
    ManifestRecompressed,
    /// The published manifest digest, from the build and the compression that the recipe implies.
    Manifest,
}

/// Not one of the levels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a level (manifest, manifest-recompressed, config, rootfs, none), found {found:?}"
)]
pub struct UnknownLevel {
    /// What stood there, at most 64 characters of it.
    pub found: String,
}

impl Level {
    /// Every level, the weakest first.
    pub const ALL: [Self; 5] =
        [Self::None, Self::Rootfs, Self::Config, Self::ManifestRecompressed, Self::Manifest];

    /// The level as it is written in results and policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Rootfs => "rootfs",
            Self::Config => "config",
            Self::ManifestRecompressed => "manifest-recompressed",
            Self::Manifest => "manifest",
        }
    }

    /// True where the image may be called reproduced at all: the image ID and every layer's
    /// content came out of our own build. `Rootfs` may not.
    pub const fn is_reproduced(self) -> bool {
        matches!(self, Self::Config | Self::ManifestRecompressed | Self::Manifest)
    }

    /// True where the published manifest digest itself was rebuilt.
    pub const fn is_exact(self) -> bool {
        matches!(self, Self::ManifestRecompressed | Self::Manifest)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| UnknownLevel { found: text.chars().take(64).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_order() {
        for pair in Level::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
        }
        for level in Level::ALL {
            assert_eq!(level.as_str().parse::<Level>(), Ok(level));
            let json = serde_json::to_string(&level).unwrap();
            assert_eq!(json, format!("\"{level}\""));
            assert_eq!(serde_json::from_str::<Level>(&json).unwrap(), level);
        }
        assert!("Manifest".parse::<Level>().is_err());
        assert!(!Level::Rootfs.is_reproduced() && Level::Config.is_reproduced());
        assert!(!Level::Config.is_exact() && Level::ManifestRecompressed.is_exact());
    }
}
