//! What the queue talks about: jobs to do, who wants them, how urgent, the logical clock.
//!
//! Invariant: values are checked where they are made ([`JobSpec::new`]), and trusted inside. Nothing
//! here reads a clock: [`Millis`] is given from outside and only ever grows, across restarts too.

use attest::{Digest, Repository, Subject, id::JobId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most observations that one attempt may want: 32, more operators than any fleet that is known.
pub const WANTED_MAX: u32 = 32;
/// Most recipes of one job (the publisher's trusted statements, see `attest::recipe`).
pub const RECIPES_MAX: usize = 4;
/// Longest name of a rebuilder or a tenant.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest hard cap on one execution: 24 h.
pub const EXECUTION_MS_MAX: u64 = 24 * 3600 * 1000;

/// Milliseconds of the coordinator's own clock. It stands still while the coordinator is down, and
/// goes on from the last recorded value: leases are not lost to a long stop.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// This moment and `ms` more.
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; 0 if it is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// How urgent a job is, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Somebody's release waits for it.
    Gate,
    /// A new image.
    Push,
    /// A look whether something that was broken still is.
    Regression,
    /// A look whether something that was good still is.
    Recheck,
    /// Old images.
    Backfill,
}

impl Class {
    /// Every class, the most urgent first.
    pub const ALL: [Self; 5] =
        [Self::Gate, Self::Push, Self::Regression, Self::Recheck, Self::Backfill];

    /// The name in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Push => "push",
            Self::Regression => "regression",
            Self::Recheck => "recheck",
            Self::Backfill => "backfill",
        }
    }

    /// How much later than a gate's a job of this class may be served, in milliseconds of waiting:
    /// this is priority and ageing in one number (see `Limits` for the other half).
    pub const fn handicap_ms(self) -> u64 {
        const MINUTE: u64 = 60_000;
        match self {
            Self::Gate => 0,
            Self::Push => 10 * MINUTE,
            Self::Regression => 60 * MINUTE,
            Self::Recheck => 6 * 60 * MINUTE,
            Self::Backfill => 24 * 60 * MINUTE,
        }
    }

    /// A judged job is opened again by these, and only by these.
    pub const fn rechecks(self) -> bool {
        matches!(self, Self::Regression | Self::Recheck)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who asked: the name of a client certificate, or of a watch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tenant(pub String);

/// A job cannot be described like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct SpecError {
    /// What would have been accepted.
    pub expected: &'static str,
    /// What was given.
    pub found: String,
}

/// One subject to be judged under its recipes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The job's identity: follows from subject and recipes.
    pub id: JobId,
    /// The published image.
    pub subject: Subject,
    /// The recipes, ascending.
    pub recipes: Vec<Digest>,
    /// Which rebuilder can do it: `apko`.
    pub rebuilder: String,
    /// Memory that it needs, in MiB; 0 if any worker will do.
    pub memory_mib: u32,
    /// m: how many observations of distinct operators are wanted at first.
    pub wanted: u32,
    /// The hard cap on one execution.
    pub execution_ms_max: u64,
}

impl JobSpec {
    /// A job, its limits checked and its identity computed.
    pub fn new(
        subject: Subject,
        mut recipes: Vec<Digest>,
        rebuilder: &str,
        memory_mib: u32,
        wanted: u32,
        execution_ms_max: u64,
    ) -> Result<Self, SpecError> {
        recipes.sort_unstable();
        recipes.dedup();
        let wrong = |expected, found: String| Err(SpecError { expected, found });
        if recipes.len() > RECIPES_MAX {
            return wrong("at most 4 recipes", recipes.len().to_string());
        }
        if !(1..=WANTED_MAX).contains(&wanted) {
            return wrong("1 to 32 wanted observations", wanted.to_string());
        }
        if rebuilder.is_empty() || rebuilder.len() > NAME_BYTES_MAX {
            return wrong("a rebuilder's name of 1 to 64 bytes", rebuilder.len().to_string());
        }
        if !(1..=EXECUTION_MS_MAX).contains(&execution_ms_max) {
            return wrong("a cap of 1 ms to 24 h on execution", execution_ms_max.to_string());
        }
        let id = JobId::of(&subject.repository, &subject.digest, &subject.platform, &recipes);
        let rebuilder = rebuilder.to_owned();
        Ok(Self { id, subject, recipes, rebuilder, memory_mib, wanted, execution_ms_max })
    }

    /// Where it may run and what it takes from.
    pub fn route(&self) -> Route {
        let registry = registry_of(&self.subject.repository);
        Route {
            architecture: self.subject.platform.architecture.clone(),
            rebuilder: self.rebuilder.clone(),
            memory_class: memory_class_needed(self.memory_mib),
            registry: registry.to_owned(),
        }
    }
}

/// Jobs of one route go to the same workers and draw on the same registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// `amd64`.
    pub architecture: String,
    /// `apko`.
    pub rebuilder: String,
    /// The power of two of MiB that suffices, 0 for anything.
    pub memory_class: u32,
    /// The registry's host; empty for names without one.
    pub registry: String,
}

/// The registry that a repository lies in; empty for names without one.
pub fn registry_of(repository: &Repository) -> &str {
    let (host, _) = repository.as_str().split_once('/').unwrap_or_default();
    if host.contains(['.', ':', '[']) { host } else { "" }
}

/// The smallest power of two of MiB that holds this much.
fn memory_class_needed(mib: u32) -> u32 {
    if mib == 0 { 0 } else { mib.checked_next_power_of_two().map_or(32, u32::ilog2) }
}

/// The largest power of two of MiB that this much holds; 32 when nothing was said.
pub(super) fn memory_class_offered(mib: u32) -> u32 {
    mib.checked_ilog2().unwrap_or(32)
}

/// Randomness from outside: 32 bytes, spread by SHA-256.
#[derive(Clone, Copy)]
pub struct Entropy(pub [u8; 32]);

impl Entropy {
    /// The `n`th draw: independent of all others.
    pub fn draw(&self, n: u64) -> [u8; 32] {
        let mut input = [0; 40];
        input[..32].copy_from_slice(&self.0);
        input[32..].copy_from_slice(&n.to_le_bytes());
        *Digest::of(&input).raw()
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Lease identities follow from it.
        f.write_str("Entropy(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_not_shown_and_a_time_has_its_unit() {
        assert_eq!(format!("{:?}", Entropy([7; 32])), "Entropy(..)");
        assert_eq!(Millis(1500).to_string(), "1500 ms");
    }

    #[test]
    fn memory_routes_up_not_down() {
        assert_eq!(memory_class_needed(0), 0);
        for (need, has, fits) in
            [(1024, 1024, true), (1025, 1024, false), (1025, 2048, true), (3000, 3000, false)]
        {
            let ok = memory_class_needed(need) <= memory_class_offered(has);
            assert_eq!(ok, fits, "{need} on {has}");
        }
        assert!(memory_class_needed(u32::MAX) <= memory_class_offered(0));
    }

    #[test]
    fn a_spec_has_limits_and_its_content_is_its_name() {
        let subject = |name: &str| Subject {
            repository: name.parse().unwrap(),
            digest: Digest::of(b"m"),
            platform: attest::Platform::linux("amd64"),
        };
        let new =
            |wanted, cap| JobSpec::new(subject("r.example/a"), vec![], "apko", 0, wanted, cap);
        assert!(new(0, 1).is_err() && new(33, 1).is_err() && new(1, 0).is_err());
        let spec = new(3, 1000).unwrap();
        assert_eq!(spec.route().registry, "r.example");
        let plain = JobSpec::new(subject("demo/a"), vec![], "apko", 0, 3, 1000).unwrap();
        assert_eq!(plain.route().registry, "");
        assert_ne!(plain.id, spec.id);
    }
}
