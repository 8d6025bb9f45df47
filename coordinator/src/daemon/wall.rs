//! This machine's wall clock, as it goes into signed records, answers and metrics.
//!
//! Invariant: it orders nothing and no lease ends by it; what is ordered is ordered by the journal
//! and by the store's own clock ([`crate::store::Store::now`]). It must never stand in for either.

use attest::time::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// The time by this machine, in whole seconds. A clock before 1970 or beyond the year 9999 gives
/// 1970: what is signed then is old, never from a time to come.
pub fn now() -> Timestamp {
    at(SystemTime::now())
}

fn at(time: SystemTime) -> Timestamp {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Timestamp::from_unix(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_clock_that_is_out_of_range_gives_the_oldest_time() {
        let after = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(at(after(1_800_000_000)).unix(), 1_800_000_000);
        assert_eq!(at(UNIX_EPOCH - Duration::from_secs(1)), Timestamp::default());
        assert_eq!(at(after(300_000_000_000)), Timestamp::default());
    }
}
