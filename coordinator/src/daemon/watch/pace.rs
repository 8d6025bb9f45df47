//! How fast registries are asked: a token bucket for each host.
//!
//! Invariant: every request of a look is paid for before it is made; a registry that asked to be
//! left alone is left alone, also by looks at its other repositories.

use crate::queue::{Buckets, Millis, Rate};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Requests to one registry: 20 at once, then 10 in a second. A look at 1,000 tags takes 100 s.
const RATE: Rate = Rate { burst: 20, per_second: 10 };
/// A look does not wait longer than this for a registry; it tries again at its next time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The registry asked to be left alone for longer than a look waits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected the registry to take requests, found that it asked to wait {} s more", .0.as_secs())]
pub struct Paused(pub Duration);

/// The budgets of all registries.
pub struct Pace {
    buckets: Mutex<Buckets<String>>,
    started: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self { buckets: Mutex::new(Buckets::new(RATE)), started: Instant::now() }
    }
}

impl Pace {
    fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Waits until so many requests may be made.
    pub async fn spend(&self, host: &str, requests: u32) -> Result<(), Paused> {
        let host = host.to_owned();
        for _ in 0..requests {
            loop {
                let now = self.now();
                let taken =
                    self.buckets.lock().unwrap_or_else(PoisonError::into_inner).take(&host, now);
                let Err(ms) = taken else { break };
                let wait = Duration::from_millis(ms);
                if wait > PATIENCE {
                    return Err(Paused(wait));
                }
                tokio::time::sleep(wait).await;
            }
        }
        Ok(())
    }

    /// The registry asked to be left alone.
    pub fn pause(&self, host: &str, wait: Duration) {
        let now = self.now();
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.sweep(now);
        buckets.pause(&host.to_owned(), now, ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_is_free_and_a_pause_holds_for_its_host_only() {
        let pace = Pace::default();
        pace.spend("a.example", 20).await.unwrap();
        pace.spend("a.example", 1).await.unwrap();
        pace.pause("a.example", Duration::from_secs(3600));
        let refused = pace.spend("a.example", 1).await.unwrap_err();
        assert!(refused.0 > PATIENCE, "{refused}");
        pace.spend("b.example", 1).await.unwrap();
        // A shorter word does not take back a longer one.
        pace.pause("a.example", Duration::from_millis(1));
        assert!(pace.spend("a.example", 1).await.is_err());
    }
}
