//! The worker's configuration: `worker.toml` in its folder.
//!
//! Invariant: unknown keys are refused; paths are relative to the file. No secret is in it: the key
//! is a file of its own.

use super::connect;
use crate::material::release_list;
use attest::{id::OperatorId, key::PublicKey, policy::Policy};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Largest configuration file.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// What can be wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("expected to read {path}: {problem}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What stood in the way.
        problem: String,
    },
    /// A file does not say what it should.
    #[error("{path}: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        problem: String,
    },
}

/// `worker.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// `https://host:port` of the coordinator.
    pub coordinator: String,
    /// PEM of the authority that signs the coordinator's certificate.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The coordinator's public key: leases and jobs that it did not sign are refused.
    pub coordinator_key: PathBuf,
    /// This worker's own policy: a recipe outside it is refused.
    pub policy: PathBuf,
    /// Where Alpine's release list is: the keys that it names count for repositories of Alpine's
    /// shape whose keys the policy leaves to discovery.
    #[serde(default)]
    pub alpine_releases: Option<String>,
    /// The operator that vouches for this worker.
    pub operator: OperatorId,
    /// The operator's own URI, the `builder.id` of what is signed here.
    #[serde(default)]
    pub operator_uri: Option<String>,
    /// Jobs at the same time.
    #[serde(default = "one")]
    pub slots: u32,
    /// Hard cap on one job, seconds.
    #[serde(default = "an_hour")]
    pub execution_seconds_max: u64,
    /// Memory of one job, MiB.
    #[serde(default = "two_gib")]
    pub memory_mib_max: u64,
    /// Bound of the content store, MiB.
    #[serde(default = "store_default")]
    pub store_mib_max: u64,
}

const fn one() -> u32 {
    1
}
const fn an_hour() -> u64 {
    3600
}
const fn two_gib() -> u64 {
    2048
}
const fn store_default() -> u64 {
    crate::material::store::STORE_BYTES_MAX_DEFAULT >> 20
}

/// The configuration with everything it names, read and checked.
pub struct Loaded {
    /// The folder that holds it all.
    pub folder: PathBuf,
    /// The file.
    pub config: WorkerConfig,
    /// The worker's policy.
    pub policy: Policy,
    /// Where the policy file is: the process that builds reads it again.
    pub policy_path: PathBuf,
    /// The coordinator's public key.
    pub coordinator_key: PublicKey,
    /// PEM of the coordinator's authority.
    pub ca_pem: Option<String>,
}

impl Loaded {
    /// Reads `<folder>/worker.toml` and what it names.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        // Absolute, because builds run in a folder of their own and get paths of this one.
        let folder = &fs::canonicalize(folder).map_err(|error| ConfigError::Read {
            path: folder.to_owned(),
            problem: error.to_string(),
        })?;
        let path = folder.join("worker.toml");
        let config: WorkerConfig = toml::from_str(&read_text(&path)?).map_err(|error| {
            ConfigError::Invalid { path: path.clone(), problem: error.to_string() }
        })?;
        connect::check_address(&config.coordinator).map_err(|error| ConfigError::Invalid {
            path: path.clone(),
            problem: format!("coordinator: {error}"),
        })?;
        if config.slots == 0 {
            let problem = "expected slots = 1 or more, found 0: no job could ever begin".to_owned();
            return Err(ConfigError::Invalid { path, problem });
        }
        if let Some(list) = &config.alpine_releases {
            release_list::address(list)
                .map_err(|problem| ConfigError::Invalid { path: path.clone(), problem })?;
        }
        let policy_path = folder.join(&config.policy);
        let policy = read_policy(&policy_path)?;
        let key_path = folder.join(&config.coordinator_key);
        let coordinator_key = PublicKey::from_pem(&read_text(&key_path)?)
            .map_err(|error| ConfigError::Invalid { path: key_path, problem: error.to_string() })?;
        let ca_pem = config.ca.as_ref().map(|ca| read_text(&folder.join(ca))).transpose()?;
        let folder = folder.to_owned();
        Ok(Self { folder, config, policy, policy_path, coordinator_key, ca_pem })
    }

    /// Results on their way.
    pub fn outbox_folder(&self) -> PathBuf {
        self.folder.join("outbox")
    }

    /// Inputs by digest.
    pub fn store_folder(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// Temporary files of jobs; swept at start.
    pub fn work_folder(&self) -> PathBuf {
        self.folder.join("work")
    }

    /// The secret key.
    pub fn key_path(&self) -> PathBuf {
        self.folder.join("worker.key")
    }
}

/// Reads a policy file and the key files it names, relative to it.
pub fn read_policy(path: &Path) -> Result<Policy, ConfigError> {
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let read_key = |name: &str| read_bytes(&folder.join(name)).map_err(|error| error.to_string());
    Policy::parse(&read_text(path)?, &read_key)
        .map_err(|error| ConfigError::Invalid { path: path.to_owned(), problem: error.to_string() })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |problem: String| ConfigError::Read { path: path.to_owned(), problem };
    let size = fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
    if size > CONFIG_BYTES_MAX {
        return Err(failed(format!("expected at most {CONFIG_BYTES_MAX} bytes, found {size}")));
    }
    fs::read(path).map_err(|e| failed(e.to_string()))
}

/// Reads a small text file that a configuration or a call names.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    String::from_utf8(read_bytes(path)?).map_err(|_| ConfigError::Invalid {
        path: path.to_owned(),
        problem: "expected UTF-8 text".to_owned(),
    })
}
