//! Whether jobs can be run on this machine at all, and how long none is asked for if not.
//!
//! A worker whose builds cannot be started (its program was replaced, the machine has no memory or
//! no process numbers left) would otherwise take the fleet's jobs and give them back as fast as the
//! coordinator offers them.
//! Invariant: pure, the clock comes from outside; it ends no lease and no worker, it only waits. The
//! first job that runs ends the waiting.

use std::time::Duration;
use tokio::time::Instant;

/// The wait after the first job that could not be run; it doubles with each in a row.
const REST_FIRST: Duration = Duration::from_secs(1);
/// The longest: a machine that was mended is at work again within five minutes.
const REST_LAST: Duration = Duration::from_secs(300);

/// What became of the last jobs.
#[derive(Debug)]
pub struct Fitness {
    failures: u32,
    until: Option<Instant>,
    longest: Duration,
}

impl Default for Fitness {
    fn default() -> Self {
        Self::resting_at_most(REST_LAST)
    }
}

impl Fitness {
    /// With a longest wait of its own.
    pub fn resting_at_most(longest: Duration) -> Self {
        Self { failures: 0, until: None, longest }
    }

    /// A job could not be run. `jitter` is a number from 0.5 to 1, so that the workers of one broken
    /// machine do not come back together. Gives the wait, and whether it is the first in a row.
    pub fn failed(&mut self, now: Instant, jitter: f64) -> (Duration, bool) {
        self.failures = self.failures.saturating_add(1);
        let doubled = REST_FIRST.saturating_mul(1 << (self.failures - 1).min(16));
        let rest = doubled.min(self.longest).mul_f64(jitter.clamp(0.5, 1.0));
        self.until = Some(now + rest);
        (rest, self.failures == 1)
    }

    /// A job was run. True if it is the first after some that could not be.
    pub fn ran(&mut self) -> bool {
        self.until = None;
        std::mem::take(&mut self.failures) > 0
    }

    /// How long no job is asked for; zero where one may be.
    pub fn rest(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_to_five_minutes_and_the_first_job_that_runs_ends_it() {
        let (mut fitness, now) = (Fitness::default(), Instant::now());
        assert_eq!(fitness.rest(now), Duration::ZERO);
        assert_eq!(fitness.failed(now, 1.0), (Duration::from_secs(1), true));
        assert_eq!(fitness.rest(now), Duration::from_secs(1));
        assert_eq!(fitness.rest(now + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(fitness.failed(now, 0.5), (Duration::from_secs(1), false));
        for _ in 0..100 {
            fitness.failed(now, 1.0);
        }
        assert_eq!(fitness.rest(now), REST_LAST);
        assert!(fitness.ran() && !fitness.ran());
        assert_eq!(fitness.rest(now), Duration::ZERO);
        assert_eq!(fitness.failed(now, 0.0), (Duration::from_millis(500), true));
    }
}
