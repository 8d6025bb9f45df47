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
}
