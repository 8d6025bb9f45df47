//! Token buckets by name: registries, tenants, workers.
//!
//! Invariant: integers only, so that the same events give the same answers everywhere. A bucket
//! that is full is forgotten; the table is bounded, and a full table lets through rather than lies:
//! quotas protect the queue, its own limits protect the memory.

use super::limits::Rate;
use super::model::Millis;
use std::collections::BTreeMap;

/// Buckets that are not full, at most: 65,536 names of about 100 bytes.
const BUCKETS_MAX: usize = 65_536;
/// Longest time that a registry may ask to be left alone: 24 h.
const PAUSE_MS_MAX: u64 = 24 * 3600 * 1000;

#[derive(Debug, Clone)]
struct Bucket {
    /// Thousandths of a token.
    millitokens: u64,
    at: Millis,
    paused_until: Millis,
}

/// Buckets of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Buckets<K: Ord + Clone> {
    rate: Rate,
    buckets: BTreeMap<K, Bucket>,
}

impl<K: Ord + Clone> Buckets<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: BTreeMap::new() }
    }

    /// Takes a token, or says how long to wait.
    pub(crate) fn take(&mut self, name: &K, now: Millis) -> Result<(), u64> {
        let wait = self.wait(name, now);
        if wait > 0 {
            return Err(wait);
        }
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(name) {
            return Ok(());
        }
        let level = self.level(name, now);
        let bucket = self.bucket(name, now);
        bucket.millitokens = level.saturating_sub(1000);
        bucket.at = now;
        Ok(())
    }

    /// How long until there is a token; 0 if there is one.
    pub(crate) fn wait(&self, name: &K, now: Millis) -> u64 {
        let paused = self.buckets.get(name).map_or(0, |b| b.paused_until.since(now));
        let missing = 1000u64.saturating_sub(self.level(name, now));
        paused.max(missing.div_ceil(self.rate.per_second.max(1)))
    }

    /// Takes no token for so long.
    pub(crate) fn pause(&mut self, name: &K, now: Millis, ms: u64) {
        if self.buckets.len() < BUCKETS_MAX || self.buckets.contains_key(name) {
            let until = now.plus(ms.min(PAUSE_MS_MAX));
            let bucket = self.bucket(name, now);
            bucket.paused_until = bucket.paused_until.max(until);
        }
    }

    /// Forgets full buckets.
    pub(crate) fn sweep(&mut self, now: Millis) {
        let full = self.rate.burst * 1000;
        let names: Vec<K> = self.buckets.keys().cloned().collect();
        for name in names {
            if self.level(&name, now) >= full && self.wait(&name, now) == 0 {
                self.buckets.remove(&name);
            }
        }
    }

    fn bucket(&mut self, name: &K, now: Millis) -> &mut Bucket {
        let full = self.rate.burst * 1000;
        self.buckets.entry(name.clone()).or_insert(Bucket {
            millitokens: full,
            at: now,
            paused_until: Millis(0),
        })
    }

    fn level(&self, name: &K, now: Millis) -> u64 {
        let full = self.rate.burst * 1000;
        self.buckets.get(name).map_or(full, |bucket| {
            // One token in a second is one thousandth in a millisecond.
            let gained = now.since(bucket.at).saturating_mul(self.rate.per_second);
            bucket.millitokens.saturating_add(gained).min(full)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_fills_and_is_forgotten() {
        let mut buckets = Buckets::new(Rate { burst: 2, per_second: 4 });
        let at = Millis;
        assert_eq!(buckets.take(&"r", at(1000)), Ok(()));
        assert_eq!(buckets.take(&"r", at(1000)), Ok(()));
        assert_eq!(buckets.take(&"r", at(1000)), Err(250));
        assert_eq!(buckets.take(&"other", at(1000)), Ok(()));
        assert_eq!(buckets.take(&"r", at(1249)), Err(1));
        assert_eq!(buckets.take(&"r", at(1250)), Ok(()));
        buckets.pause(&"r", at(2000), 5000);
        assert_eq!(buckets.take(&"r", at(4000)), Err(3000));
        buckets.sweep(at(4000));
        assert_eq!(buckets.buckets.len(), 1);
        buckets.sweep(at(7000));
        assert_eq!(buckets.buckets.len(), 0);
    }

    #[test]
    fn only_a_full_bucket_is_forgotten() {
        let mut buckets = Buckets::new(Rate { burst: 2, per_second: 4 });
        let at = Millis;
        for _ in 0..2 {
            assert_eq!(buckets.take(&"r", at(1000)), Ok(()));
        }
        // One token and a half: it may be taken from, and is not as if it was never taken from.
        buckets.sweep(at(1375));
        assert_eq!(buckets.take(&"r", at(1375)), Ok(()));
        assert_eq!(buckets.take(&"r", at(1375)), Err(125));
        buckets.sweep(at(1375 + 374));
        assert_eq!(buckets.buckets.len(), 1);
        buckets.sweep(at(1375 + 375));
        assert_eq!(buckets.buckets.len(), 0);
    }

    #[test]
    fn a_pause_takes_no_tokens() {
        let mut buckets = Buckets::new(Rate { burst: 2, per_second: 4 });
        let at = Millis;
        buckets.pause(&"r", at(1000), 1);
        assert_eq!(buckets.take(&"r", at(1000)), Err(1));
        for _ in 0..2 {
            assert_eq!(buckets.take(&"r", at(1001)), Ok(()));
        }
        assert_eq!(buckets.take(&"r", at(1001)), Err(250));
        // A shorter pause does not end a longer one, and none is longer than a day.
        buckets.pause(&"r", at(2000), u64::MAX);
        buckets.pause(&"r", at(2000), 1);
        assert_eq!(buckets.wait(&"r", at(2000)), PAUSE_MS_MAX);
    }

    #[test]
    fn a_full_table_still_counts_for_the_names_it_has() {
        let mut buckets = Buckets::new(Rate { burst: 1, per_second: 1 });
        let (at, new) = (Millis(1000), BUCKETS_MAX as u32);
        for name in 0..new {
            assert_eq!(buckets.take(&name, at), Ok(()));
        }
        assert_eq!(buckets.take(&0, at), Err(1000));
        assert_eq!((buckets.take(&new, at), buckets.take(&new, at)), (Ok(()), Ok(())));
        buckets.pause(&new, at, 5000);
        assert_eq!(buckets.wait(&new, at), 0, "no room to note it");
        buckets.pause(&0, at, 5000);
        assert_eq!(buckets.wait(&0, at), 5000);
        assert_eq!(buckets.buckets.len(), BUCKETS_MAX);
    }
}
