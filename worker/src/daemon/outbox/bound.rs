//! How many receipted results are kept.
//!
//! They are kept for one purpose: a coordinator that was restored from a backup asks for what it
//! receipted after that backup. So they must reach back as far as a backup may be old.
//! Invariant: pure; what was filed last is always kept. Age is counted from the newest result, not
//! from a clock: a worker that stood still for a year drops nothing for that.

use std::time::{Duration, SystemTime};

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    /// So many.
    pub(super) results: usize,
    /// None that was filed longer before the newest.
    pub(super) age: Duration,
}

/// 30 days: backups are daily (docs/OPERATING.md), and one of last month is the oldest that anybody
/// restores. 50,000 results: one in 52 s, day and night, for these 30 days; at 60 KiB each (an
/// observation of 20 KiB, an explanation of 40) 3 GiB of disk.
pub(super) const RECEIPTED: Bound =
    Bound { results: 50_000, age: Duration::from_secs(30 * 24 * 3600) };

/// One result on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    /// When its receipt was filed.
    pub(super) filed: SystemTime,
    /// Its file.
    pub(super) name: String,
}

/// The names of those beyond the bound, the oldest first.
pub(super) fn surplus(mut held: Vec<Held>, most: Bound) -> Vec<String> {
    held.sort();
    let Some(newest) = held.pop() else { return Vec::new() };
    let too_many = (held.len() + 1).saturating_sub(most.results.max(1));
    let old = |held: &Held| newest.filed.duration_since(held.filed).is_ok_and(|d| d > most.age);
    let surplus = held.into_iter().enumerate().filter(|(at, held)| *at < too_many || old(held));
    surplus.map(|(_, held)| held.name).collect()
}
