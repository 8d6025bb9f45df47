//! Submissions of each client in a minute.
//!
//! Counted before anything is fetched: the quota protects registries and the network as much as the
//! queue. Invariant: a client that is refused hears when to come again; clients are those of the
//! configuration, so the table cannot grow.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The buckets, one for each client's name.
#[derive(Debug)]
pub struct Submissions {
    per_minute: u32,
    /// When each client's bucket would be full again (the virtual clock of a leaky bucket).
    full_at: Mutex<HashMap<String, Instant>>,
}

impl Submissions {
    /// So many in a minute; that many at once, if the minute before was quiet.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute: per_minute.max(1), full_at: Mutex::default() }
    }

    /// The most in a minute.
    pub fn per_minute(&self) -> u32 {
        self.per_minute
    }

    /// Counts one; or says how long to wait.
    pub fn take(&self, client: &str, now: Instant) -> Result<(), Duration> {
        let minute = Duration::from_secs(60);
        let each = minute / self.per_minute;
        let mut table = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = table.get(client).copied().unwrap_or(now).max(now);
        let after = full_at + each;
        // Rounding of `each` must not cost the last token of a full bucket.
        let over = after.saturating_duration_since(now + minute);
        if over > Duration::from_nanos(u64::from(self.per_minute)) {
            return Err(over);
        }
        table.insert(client.to_owned(), after);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_holds_so_many_and_no_more_whatever_the_number() {
        for per_minute in [1, 7, 60, 600] {
            let (quota, start) = (Submissions::new(per_minute), Instant::now());
            for _ in 0..per_minute {
                quota.take("a", start).unwrap();
            }
            let wait = quota.take("a", start).unwrap_err();
            assert!(wait <= Duration::from_secs(60) / per_minute, "{per_minute}: {wait:?}");
            quota.take("b", start).unwrap();
            quota.take("a", start + wait).unwrap();
            quota.take("a", start + wait).unwrap_err();
        }
    }
}
