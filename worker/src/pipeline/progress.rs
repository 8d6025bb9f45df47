//! Who hears how far a rebuild is.
//!
//! Invariant: lines for people. It must never decide anything.

use attest::Platform;

/// Hears how far it is. Lines for people; decides nothing.
pub trait Progress: Send + Sync {
    /// A new phase of a platform: `fetching`, `building`, `comparing`.
    fn phase(&self, platform: &Platform, phase: &str);
}

/// Hears nothing.
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _: &Platform, _: &str) {}
}
