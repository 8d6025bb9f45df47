//! How a recipe came about: the tier (design: architecture, "recipe"; rebuild, 3.1).
//!
//! Invariant: the order is the order of strength, so `found >= required` is the whole question of
//! a policy. It must never be raised by a rebuild that matched: a tier says where the recipe came
//! from, not how the comparison ended.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Where a recipe's content came from. Stronger tiers compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Guessed from the published bytes, without any statement of the publisher.
    Inferred,
    /// Attested, but one of its inputs is named by an unverified hint only.
    Hinted,
    /// Everything follows from statements that a trusted publisher signed.
    Attested,
}

/// Not one of the tiers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a tier (attested, hinted, inferred), found {found:?}")]
pub struct UnknownTier {
    /// What stood there, at most 64 characters of it.
    pub found: String,
}

impl Tier {
    /// Every tier, the weakest first.
    pub const ALL: [Self; 3] = [Self::Inferred, Self::Hinted, Self::Attested];

    /// The tier as it is written in results and policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inferred => "inferred",
            Self::Hinted => "hinted",
            Self::Attested => "attested",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(text: &str) -> Result<Self, UnknownTier> {
        Self::ALL
            .into_iter()
            .find(|tier| tier.as_str() == text)
            .ok_or_else(|| UnknownTier { found: text.chars().take(64).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_order() {
        assert!(Tier::Inferred < Tier::Hinted && Tier::Hinted < Tier::Attested);
        for tier in Tier::ALL {
            assert_eq!(tier.as_str().parse::<Tier>(), Ok(tier));
            assert_eq!(serde_json::to_value(tier).unwrap(), tier.as_str());
        }
        assert!("Attested".parse::<Tier>().is_err());
    }
}
