//! Tests of the gate from outside: whole decisions from real evidence, attackers, faults.

// What is `pub` here is shared by the modules of this one test binary only.
#![allow(missing_docs, clippy::new_without_default)]

mod attackers;
mod decisions;
mod fleet;
mod network;
mod offline;

use attest::{Platform, policy::Policy, policy::Source};
pub use fleet::NOON;
use fleet::{Fleet, Published, publish, time};
use gate::{Check, Checked, EvidenceSource, GateError, check};
use oci::{Credentials, ImageReference, SourceOptions, Timing};
use std::{path::Path, time::Duration};

/// Short waits, so that faults show at once; the policy's network exceptions; no credentials.
pub fn options(policy: &Policy) -> SourceOptions {
    let timing = Timing {
        connect: Duration::from_secs(2),
        idle: Duration::from_millis(500),
        answer: Duration::from_secs(2),
        blob: Duration::from_secs(2),
        attempts: 2,
        backoff: Duration::from_millis(10),
        wait_max: Duration::from_secs(1),
    };
    gate::collect::options(policy, Credentials::Anonymous, timing)
}

/// A check an hour after noon.
pub async fn run(policy: &Policy, image: &str, evidence: &[EvidenceSource]) -> Checked {
    try_run(policy, image, evidence, NOON + 3600, false).await.unwrap()
}

pub async fn try_run(
    policy: &Policy,
    image: &str,
    evidence: &[EvidenceSource],
    now: i64,
    offline: bool,
) -> Result<Checked, GateError> {
    let reference: ImageReference = image.parse().unwrap();
    let options = options(policy);
    let request = Check {
        reference: &reference,
        policy,
        evidence,
        options: &options,
        now: time(now),
        offline,
    };
    check(&request).await
}

pub fn path(path: impl AsRef<Path>) -> EvidenceSource {
    EvidenceSource::Path(path.as_ref().to_owned())
}

/// A fleet, and an image `oci:DIR:demo/hello:latest`.
pub struct Bench {
    pub fleet: Fleet,
    pub image: Published,
    pub reference: String,
}

impl Bench {
    pub fn new() -> Self {
        let fleet = Fleet::new();
        let image = publish(&fleet.path("layout"), "demo/hello", "latest", "hello");
        let reference = format!("oci:{}:demo/hello:latest", fleet.path("layout").display());
        Self { fleet, image, reference }
    }

    /// `oci:DIR:demo/hello@sha256:…` of the index.
    pub fn by_digest(&self) -> String {
        let layout = self.fleet.path("layout");
        format!("oci:{}:demo/hello@{}", layout.display(), self.image.index.digest)
    }

    /// Sets of both platforms, reproduced by three.
    pub fn reproduced(&self) -> Vec<attest::evidence_set::EvidenceSet> {
        self.fleet.reproduced(Source::Layout, "demo/hello", &self.image)
    }

    /// The set of one platform, not observed yet.
    pub fn set(&self, which: usize) -> attest::evidence_set::EvidenceSet {
        self.fleet.set(Source::Layout, "demo/hello", &self.image, which)
    }

    /// Two sets; the first changed, the second reproduced.
    pub fn with_first(
        &self,
        first: attest::evidence_set::EvidenceSet,
    ) -> Vec<attest::evidence_set::EvidenceSet> {
        vec![first, self.reproduced().remove(1)]
    }
}

pub fn amd64() -> Platform {
    Platform::linux("amd64")
}
