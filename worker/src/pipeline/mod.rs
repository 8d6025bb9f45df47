//! From a published image to what a rebuild of it gives.
//!
//! `examine` looks at an image once (platforms, evidence, trust, recipes); `attempt` rebuilds one
//! platform; `verify` does both for every platform and says so in the form of the command line.
//! Invariant: a failure to fetch anything is an error, never a verdict; `diverged` comes only from
//! two images that were both read completely and a recipe in which everything is supported.

pub mod apko;
pub mod attempt;
pub mod clues;
pub mod examine;
pub mod hints;
pub mod index;
pub mod keep;
pub mod progress;
pub mod published;
pub mod verify;

use crate::material::{ContentStore, MaterialError, Places};
use attest::policy::{Mirror, Policy, Source};
use oci::{HostException, ImageReference, NetworkPolicy};
use std::{path::PathBuf, sync::Arc};

/// Who may sign a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signers {
    /// The publishers of the policy.
    Policy,
    /// Anybody; who did is said. Not for gates.
    Any,
}

/// Everything that a rebuild needs beside the image.
#[derive(Clone)]
pub struct Workshop {
    /// Whose word counts, where packages may come from, which level is enough.
    pub policy: Arc<Policy>,
    /// Who may sign.
    pub signers: Signers,
    /// Mirrors and network.
    pub places: Arc<Places>,
    /// Where Alpine's release list is: its keys count for repositories of Alpine's shape whose
    /// keys the policy leaves to discovery.
    pub alpine_releases: Option<String>,
    /// Inputs by digest.
    pub store: Arc<ContentStore>,
    /// Where temporary files go.
    pub work: PathBuf,
    /// Threads of one build.
    pub threads: usize,
}

impl Workshop {
    /// Puts a workshop together; `mirrors` come before those of the policy.
    pub fn new(
        policy: Arc<Policy>,
        signers: Signers,
        mirrors: Vec<Mirror>,
        store: Arc<ContentStore>,
        work: PathBuf,
    ) -> Result<Self, MaterialError> {
        let all = mirrors.into_iter().chain(policy.mirrors.iter().cloned()).collect();
        let places = Arc::new(Places::new(all, &network(&policy))?);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { policy, signers, places, alpine_releases: None, store, work, threads })
    }
}

/// The exceptions of the policy's `[[registry]]` tables.
pub fn network(policy: &Policy) -> NetworkPolicy {
    let hosts = policy.registries.iter().map(|registry| HostException {
        host: registry.host.clone(),
        plain_http: registry.plain_http,
        ca_pem: registry.ca.as_ref().map(|pem| String::from_utf8_lossy(pem).into_owned()),
    });
    NetworkPolicy { hosts: hosts.collect() }
}

/// Where an image is read from: it decides which patterns of the policy apply.
pub fn source_of(reference: &ImageReference) -> Source {
    match reference {
        ImageReference::Layout { .. } => Source::Layout,
        ImageReference::Registry { .. } => Source::Registry,
    }
}
