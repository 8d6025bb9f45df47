//! Recipes: what trusted statements say was built, and how.

mod tier;

pub use tier::{Tier, UnknownTier};
