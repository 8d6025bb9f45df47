//! The edge where time and randomness come in.
//!
//! Invariant: [`Clock::now`] never goes back, also across restarts: it goes on from the last value
//! that the journal has. The wall clock is informative and may be anything.

use crate::queue::{Entropy, Millis};
use attest::time::Timestamp;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where time and randomness come from.
pub trait Surroundings: Send + Sync + 'static {
    /// The coordinator's clock.
    fn now(&self) -> Millis;
    /// The wall clock.
    fn wall(&self) -> Timestamp;
    /// Fresh randomness.
    fn entropy(&self) -> Entropy;
    /// The journal's clock stands at this moment: [`Surroundings::now`] goes on from there.
    fn go_on_from(&self, at: Millis);
}

/// The operating system's clocks and random numbers.
#[derive(Debug)]
pub struct SystemSurroundings {
    started: Instant,
    base: std::sync::atomic::AtomicU64,
}

impl Default for SystemSurroundings {
    fn default() -> Self {
        Self { started: Instant::now(), base: 0.into() }
    }
}

impl Surroundings for SystemSurroundings {
    fn now(&self) -> Millis {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Millis(self.base.load(std::sync::atomic::Ordering::Relaxed)).plus(since)
    }

    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs())
            .ok()
            .and_then(|seconds| Timestamp::from_unix(seconds).ok())
            .unwrap_or_default()
    }

    fn entropy(&self) -> Entropy {
        Entropy(rand::random())
    }

    fn go_on_from(&self, at: Millis) {
        self.base.fetch_max(at.0, std::sync::atomic::Ordering::Relaxed);
    }
}
