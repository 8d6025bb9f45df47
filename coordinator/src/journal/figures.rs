//! How the journal's syncs are spread: how long each took, how many appends each served.
//!
//! Invariant: counting costs two relaxed additions a sync; nothing is decided by these numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of a sync's time, in microseconds: a fast NVMe to a dying disk.
pub const SYNC_MICROS_BOUNDS: [u64; 12] =
    [250, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];
/// Upper bounds of the appends that one sync served.
pub const GROUP_BOUNDS: [u64; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096];

/// Counts by bound; the last counter is for what is above all of them.
#[derive(Debug)]
pub(super) struct Tally {
    bounds: &'static [u64; 12],
    counts: [AtomicU64; 13],
    sum: AtomicU64,
}

impl Tally {
    pub(super) const fn new(bounds: &'static [u64; 12]) -> Self {
        Self { bounds, counts: [const { AtomicU64::new(0) }; 13], sum: AtomicU64::new(0) }
    }

    pub(super) fn count(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn spread(&self) -> Spread {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Spread { bounds: self.bounds, counts, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// Upper bounds, ascending.
    pub bounds: &'static [u64; 12],
    /// How many values lie within each bound and above the one before; then how many above all.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: u64,
}

/// Figures of a journal at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncFigures {
    /// Microseconds of each sync.
    pub micros: Spread,
    /// Appends that each sync served.
    pub groups: Spread,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_under_their_bound() {
        let tally = Tally::new(&GROUP_BOUNDS);
        for value in [0, 1, 2, 3, 4096, 5000] {
            tally.count(value);
        }
        let spread = tally.spread();
        assert_eq!(spread.counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(spread.sum, 9102);
    }
}
