//! `coordinator.toml`: where the coordinator listens, what it judges by, where it publishes.
//!
//! Invariant: unknown keys are refused; paths are relative to the file; a limit that is not given
//! has the documented default.

use super::secret::{SecretError, read_secret};
use crate::queue;
use attest::{
    Digest,
    key::{PublicKey, SigningKey},
    policy::{Policy, PolicyError},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Largest file that the configuration names.
const FILE_BYTES_MAX: u64 = 4 << 20;

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
    /// The policy file.
    #[error("{path}: {error}")]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: PolicyError,
    },
    /// A secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Where verdicts are published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PublishTarget {
    /// As OCI referrers in repositories of ours: `registry.example/assay/{host}/{repository}`, where
    /// `{repository}` becomes the image's path, and `{host}` its host.
    Sidecar {
        /// The repository, with `{host}` and `{repository}`: one for each of the publishers'.
        repository: String,
    },
    /// Into the image's own repository, after a pre-flight.
    Beside,
    /// Into an OCI layout.
    Folder {
        /// The folder.
        path: PathBuf,
    },
}

/// A client that may submit: its certificate's key, and its name as a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRule {
    /// The tenant's name.
    pub name: String,
    /// SHA-256 of the SPKI of its certificate's key.
    pub key: Digest,
    /// True for those who may call the administration service.
    #[serde(default)]
    pub administrator: bool,
}

/// Limits that keep the coordinator within its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// gRPC connections at the same time.
    pub connections_max: usize,
    /// HTTP connections at the same time.
    pub http_connections_max: usize,
    /// Connections of one address (IPv6: of one /64) at the same time, for each protocol.
    pub connections_per_address_max: usize,
    /// Jobs that are announced and not done.
    pub waiting_jobs_max: usize,
    /// The same for one submitter, so that one cannot fill the queue.
    pub waiting_jobs_per_client_max: usize,
    /// Submissions a minute for each submitter.
    pub submissions_per_minute: u32,
    /// Observations a minute for each worker.
    pub observations_per_minute: u32,
    /// Hard cap on one execution, seconds.
    pub execution_seconds_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            http_connections_max: 1000,
            connections_per_address_max: 1000,
            waiting_jobs_max: 100_000,
            waiting_jobs_per_client_max: 50_000,
            submissions_per_minute: 600,
            observations_per_minute: 1200,
            execution_seconds_max: 3600,
        }
    }
}

impl Limits {
    /// The queue's numbers, with those that are set here.
    pub fn queue(&self, defaults: queue::Limits) -> queue::Limits {
        let each_second = u64::from(self.observations_per_minute.div_ceil(60)).max(1);
        queue::Limits {
            unfinished_max: self.waiting_jobs_max as u64,
            unfinished_per_tenant_max: self.waiting_jobs_per_client_max as u64,
            // After a stop a worker's outbox holds a few minutes of results.
            submit: queue::Rate { burst: 10 * each_second, per_second: each_second },
            ..defaults
        }
    }

    /// A limit of nothing is a mistake, not a wish.
    fn check(&self) -> Result<(), String> {
        let all = [
            ("connections_max", self.connections_max),
            ("http_connections_max", self.http_connections_max),
            ("connections_per_address_max", self.connections_per_address_max),
            ("waiting_jobs_max", self.waiting_jobs_max),
            ("waiting_jobs_per_client_max", self.waiting_jobs_per_client_max),
            ("submissions_per_minute", self.submissions_per_minute as usize),
            ("observations_per_minute", self.observations_per_minute as usize),
        ];
        match all.iter().find(|(_, limit)| *limit == 0) {
            Some((name, _)) => Err(format!("expected {name} of at least 1, found 0")),
            None => Ok(()),
        }
    }
}

/// `coordinator.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorConfig {
    /// gRPC, with TLS.
    pub listen: SocketAddr,
    /// HTTP with the same certificate: evidence, health, metrics.
    pub listen_http: SocketAddr,
    /// The URI of this coordinator as a verifier (`verifier.id` of its attestations).
    pub verifier_id: String,
    /// The policy that it judges by.
    pub policy: PathBuf,
    /// m: observations wanted at first.
    #[serde(default = "three")]
    pub observations_wanted: u32,
    /// Where verdicts go.
    #[serde(default)]
    pub publish: Option<PublishTarget>,
    /// Who may submit.
    #[serde(default, rename = "client")]
    pub clients: Vec<ClientRule>,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
}

const fn three() -> u32 {
    3
}

/// The configuration with everything it names.
pub struct Loaded {
    /// The folder.
    pub folder: PathBuf,
    /// The file.
    pub config: CoordinatorConfig,
    /// The policy.
    pub policy: Policy,
    /// Signs verdicts, leases, jobs and receipts.
    pub verdict_key: SigningKey,
    /// The certificate chain, PEM.
    pub certificate_pem: String,
    /// The certificate's key, PEM. Never printed.
    pub(crate) tls_key_pem: String,
}

impl Loaded {
    /// Reads `<folder>/coordinator.toml` and what it names.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("coordinator.toml");
        let config: CoordinatorConfig = toml::from_str(&read_text(&path)?)
            .map_err(|e| ConfigError::Invalid { path: path.clone(), problem: e.to_string() })?;
        if config.observations_wanted == 0 {
            let problem = "expected observations_wanted of at least 1, found 0".to_owned();
            return Err(ConfigError::Invalid { path, problem });
        }
        if let Err(problem) = config.limits.check() {
            return Err(ConfigError::Invalid { path, problem });
        }
        check_target(config.publish.as_ref())
            .map_err(|problem| ConfigError::Invalid { path: path.clone(), problem })?;
        let policy_path = folder.join(&config.policy);
        let policy = read_policy(&policy_path)?;
        let key_path = folder.join("verdict.key");
        let verdict_key = SigningKey::from_pem(&read_secret(&key_path)?)
            .map_err(|e| ConfigError::Invalid { path: key_path, problem: e.to_string() })?;
        Ok(Self {
            folder: folder.to_owned(),
            config,
            policy,
            verdict_key,
            certificate_pem: read_text(&folder.join("tls.crt"))?,
            tls_key_pem: read_secret(&folder.join("tls.key"))?,
        })
    }

    /// Journal, index, and what else must survive.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The verdict key again, for the part that signs leases.
    pub(crate) fn verdict_key_again(&self) -> Result<SigningKey, attest::key::KeyError> {
        self.verdict_key.duplicate()
    }

    /// The public half of the verdict key.
    pub fn public_key(&self) -> &PublicKey {
        self.verdict_key.public()
    }
}

/// Verifiers of attestations compare digests only, so two repositories that hold the same bytes must
/// not share one place for attestations: one could be reproduced and the other untrusted.
pub(crate) fn check_target(target: Option<&PublishTarget>) -> Result<(), String> {
    let Some(PublishTarget::Sidecar { repository }) = target else { return Ok(()) };
    if !repository.contains("{repository}") || !repository.contains("{host}") {
        return Err(format!(
            "expected a publish.repository with {{host}} and {{repository}} in it, as in \
             registry.example/assay/{{host}}/{{repository}}, found {repository:?}: what is attested \
             in one repository must not be found for the same bytes in another, and two registries \
             may have repositories of one path; put both into it"
        ));
    }
    let example = repository.replace("{repository}", "team/app").replace("{host}", "host");
    example.parse::<attest::Repository>().map(|_| ()).map_err(|error| {
        format!("expected publish.repository to become a repository, found {repository:?}: {error}")
    })
}

/// Reads a policy file and the key files it names, relative to it.
pub fn read_policy(path: &Path) -> Result<Policy, ConfigError> {
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let read_key = |name: &str| read_bytes(&folder.join(name)).map_err(|error| error.to_string());
    Policy::parse(&read_text(path)?, &read_key)
        .map_err(|error| ConfigError::Policy { path: path.to_owned(), error })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |problem: String| ConfigError::Read { path: path.to_owned(), problem };
    let size = fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(failed(format!("expected at most {FILE_BYTES_MAX} bytes, found {size}")));
    }
    fs::read(path).map_err(|e| failed(e.to_string()))
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    String::from_utf8(read_bytes(path)?).map_err(|_| ConfigError::Invalid {
        path: path.to_owned(),
        problem: "expected UTF-8 text".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_reach_the_queue_and_none_may_be_nothing() {
        let text = "waiting_jobs_max = 7\nwaiting_jobs_per_client_max = 5\n\
                    observations_per_minute = 90\n";
        let limits: Limits = toml::from_str(text).unwrap();
        let queue = limits.queue(queue::Limits::default());
        assert_eq!((queue.unfinished_max, queue.unfinished_per_tenant_max), (7, 5));
        assert_eq!(queue.submit, queue::Rate { burst: 20, per_second: 2 });
        limits.check().unwrap();
        let zero: Limits = toml::from_str("connections_per_address_max = 0").unwrap();
        assert!(zero.check().unwrap_err().contains("connections_per_address_max"));
    }
}
