//! How long what failed is left alone.
//!
//! Invariant: waiting doubles from one second to five minutes and never ends: what is to be
//! published is tried until it arrived or was superseded. A host that is away is asked once for all
//! that goes there; what fails for a reason of its own waits alone. Nothing here is kept: a
//! coordinator that starts tries everything once.

use attest::Digest;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Waiting after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest waiting: a registry that was away for a night has everything five minutes after.
const LAST: Duration = Duration::from_secs(300);
/// Longest problem that is kept for people.
const PROBLEM_CHARS_MAX: usize = 300;

/// What is left alone.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Failures one after the other.
    pub failures: u32,
    /// Until when.
    pub until: Instant,
    /// What went wrong the last time.
    pub problem: String,
}

/// Who is left alone: hosts, and single publications.
#[derive(Debug, Default)]
pub struct Patience {
    hosts: BTreeMap<String, Waiting>,
    single: BTreeMap<Digest, Waiting>,
}

fn longer(before: Option<&Waiting>, now: Instant, problem: &str) -> Waiting {
    let failures = before.map_or(0, |waiting| waiting.failures).saturating_add(1);
    let doubled = FIRST.saturating_mul(1 << (failures - 1).min(16)).min(LAST);
    // Between three and four quarters of it, so that many coordinators do not come together.
    let jitter = rand::random_range(0.75..=1.0);
    let problem = problem.chars().take(PROBLEM_CHARS_MAX).collect();
    Waiting { failures, until: now + doubled.mul_f64(jitter), problem }
}

impl Patience {
    /// What a publication about `about`, going to `host`, waits for.
    pub fn waits(&self, host: &str, about: &Digest) -> Option<&Waiting> {
        let waiting = [self.hosts.get(host), self.single.get(about)];
        waiting.into_iter().flatten().max_by_key(|waiting| waiting.until)
    }

    /// The host did not answer.
    pub fn host_failed(&mut self, host: &str, now: Instant, problem: &str) {
        let waiting = longer(self.hosts.get(host), now, problem);
        self.hosts.insert(host.to_owned(), waiting);
    }

    /// This publication failed.
    pub fn failed(&mut self, about: Digest, now: Instant, problem: &str) {
        let waiting = longer(self.single.get(&about), now, problem);
        self.single.insert(about, waiting);
    }

    /// This publication arrived, so its host answers.
    pub fn arrived(&mut self, host: &str, about: &Digest) {
        self.hosts.remove(host);
        self.single.remove(about);
    }

    /// Forgets publications that do not wait any more.
    pub fn keep_only(&mut self, waiting: &BTreeSet<Digest>) {
        self.single.retain(|about, _| waiting.contains(about));
    }

    /// When something is to be tried again.
    pub fn next(&self) -> Option<Instant> {
        self.hosts.values().chain(self.single.values()).map(|waiting| waiting.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_a_bound_and_an_arrival_ends_it() {
        let (now, about) = (Instant::now(), Digest::of(b"image"));
        let mut patience = Patience::default();
        let mut before = Duration::ZERO;
        for failures in 1..40 {
            patience.host_failed("registry.example", now, "refused");
            let waiting = patience.waits("registry.example", &about).unwrap().clone();
            assert_eq!((waiting.failures, waiting.problem.as_str()), (failures, "refused"));
            let wait = waiting.until - now;
            assert!(wait <= LAST && (wait > before || failures > 9), "{failures}: {wait:?}");
            before = wait;
        }
        assert!(before >= LAST.mul_f64(0.75));
        patience.failed(about, now, "denied");
        assert!(patience.waits("other.example", &about).is_some());
        assert!(patience.waits("other.example", &Digest::of(b"other")).is_none());
        patience.arrived("registry.example", &about);
        assert!(patience.waits("registry.example", &about).is_none());
        assert_eq!(patience.next(), None);
    }
}
