//! What an assembly is asked for, what it is made with, and who hears how far it is.
//!
//! Invariant: nothing is read and nothing is spoken to here.

use super::AssembleFailure;
use crate::material::{ContentStore, Places};
use attest::policy::{Mirror, Policy};
use rebuild::apko::BuildTimes;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// What is asked for, as the command line has it.
#[derive(Debug, Clone, Default)]
pub struct AssembleRequest {
    /// YAML, attested JSON, or `apko.lock.json`.
    pub config: PathBuf,
    /// Architectures by either name; empty means those of the configuration.
    pub architectures: Vec<String>,
    /// Which packages, in which order.
    pub lockfile: Option<PathBuf>,
    /// More repositories, folders or URLs, as apko's `--repository-append`.
    pub repositories: Vec<String>,
    /// More keys, files or URLs, as apko's `--keyring-append`.
    pub keyring: Vec<String>,
    /// Where Alpine's release list is: its keys are added for repositories of Alpine's shape.
    pub alpine_releases: Option<String>,
    /// Indexes need no signature.
    pub ignore_signatures: bool,
    /// The version of apko to be; none means the newest known.
    pub version: Option<String>,
    /// An image or a file that has the order of installation.
    pub order_from: Option<String>,
    /// `SOURCE_DATE_EPOCH` and `--build-date`.
    pub times: BuildTimes,
    /// Annotations that win over those of the configuration.
    pub annotations: Vec<(String, String)>,
    /// The folder that the layout becomes; new or empty.
    pub output: PathBuf,
}

/// What the work is done with.
pub struct AssembleTools {
    /// Exceptions of network safety and, where it names repositories, whose keys count.
    pub policy: Arc<Policy>,
    /// Mirrors and network.
    pub places: Arc<Places>,
    /// Inputs by digest.
    pub store: Arc<ContentStore>,
    /// A folder for temporary files, on a disk.
    pub work: PathBuf,
    /// Threads of one build; the bytes do not depend on it.
    pub threads: usize,
}

impl AssembleTools {
    /// Puts the tools together; `mirrors` come before those of the policy.
    pub fn new(
        policy: Arc<Policy>,
        mirrors: Vec<Mirror>,
        store: Arc<ContentStore>,
        work: PathBuf,
    ) -> Result<Self, AssembleFailure> {
        let all = mirrors.into_iter().chain(policy.mirrors.iter().cloned()).collect();
        let places = Arc::new(Places::new(all, &crate::pipeline::network(&policy))?);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { policy, places, store, work, threads })
    }
}

/// Hears how far it is. Decides nothing.
pub trait AssembleProgress: Send + Sync {
    /// Something new begins; `total` is 0 where it is not known.
    fn begin(&self, what: &str, total: u64, bytes: bool);
    /// So much more of it is done.
    fn advance(&self, done: u64);
    /// Something that a person should know.
    fn remark(&self, text: &str);
    /// A folder that is the run's own until it ends. A thread that still writes keeps it: whoever
    /// ends the process then has to remove it.
    fn temporary(&self, folder: &Path);
}

/// Hears nothing.
pub struct Silent;

impl AssembleProgress for Silent {
    fn begin(&self, _: &str, _: u64, _: bool) {}
    fn advance(&self, _: u64) {}
    fn remark(&self, _: &str) {}
    fn temporary(&self, _: &Path) {}
}
