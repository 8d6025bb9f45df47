//! `assay coordinator init DIR`: keys, certificates and a commented configuration.
//!
//! Invariant: nothing that exists is overwritten; what is printed for others to use (public key,
//! authority) is public. The authority's key is thrown away after it has signed the server's
//! certificate: nobody can make another certificate with it.

use super::config::{PublishTarget, check_target};
use super::secret::{SecretError, write_public, write_secret};
use attest::key::{KeyError, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is something already.
    #[error("expected {0} to be empty or not to exist; `init` overwrites nothing")]
    NotEmpty(PathBuf),
    /// The folder could not be made.
    #[error("expected to make {path}: {error}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The verdict key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The sidecar.
    #[error("{0}")]
    Publish(String),
    /// Certificates.
    #[error("expected to make certificates: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// What goes into the configuration.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Where gRPC listens.
    pub listen: SocketAddr,
    /// Where HTTP listens.
    pub listen_http: SocketAddr,
    /// Names and addresses that the certificate is for.
    pub names: Vec<String>,
    /// `verifier.id` of attestations.
    pub verifier_id: String,
    /// The sidecar that attestations go to; none: HTTP only.
    pub publish: Option<String>,
}

/// Makes a coordinator's folder. An administrator's client key is made with it.
pub fn init(folder: &Path, options: &InitOptions) -> Result<(), InitError> {
    if let Some(repository) = &options.publish {
        let target = PublishTarget::Sidecar { repository: repository.clone() };
        check_target(Some(&target)).map_err(InitError::Publish)?;
    }
    let at = |error| InitError::Folder { path: folder.to_owned(), error };
    fs::create_dir_all(folder.join("data")).map_err(at)?;
    let mut there = fs::read_dir(folder).map_err(at)?.flatten();
    if there.any(|entry| entry.file_name() != "data") {
        return Err(InitError::NotEmpty(folder.to_owned()));
    }
    let verdict = SigningKey::generate()?;
    write_secret(&folder.join("verdict.key"), &verdict.to_pem())?;
    write_public(&folder.join("verdict.pub"), &verdict.public().to_pem())?;
    let (authority, certificate, key) = certificates(&options.names)?;
    write_public(&folder.join("ca.pem"), &authority)?;
    write_public(&folder.join("tls.crt"), &certificate)?;
    write_secret(&folder.join("tls.key"), &key)?;
    let admin = SigningKey::generate()?;
    write_secret(&folder.join("admin.key"), &admin.to_pem())?;
    write_public(&folder.join("policy.toml"), POLICY)?;
    let text = configuration(options, &admin.public().id().to_string());
    write_public(&folder.join("coordinator.toml"), &text)?;
    Ok(())
}

fn certificates(names: &[String]) -> Result<(String, String, String), rcgen::Error> {
    let authority_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, "Assay coordinator authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::from_params(&params, &authority_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, "Assay coordinator");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((authority.pem(), certificate.pem(), key.serialize_pem()))
}

fn configuration(options: &InitOptions, admin_key: &str) -> String {
    let InitOptions { listen, listen_http, verifier_id, .. } = options;
    // A repository has no quote and no backslash, so it may stand between quotes.
    let publish = match &options.publish {
        Some(repository) => {
            format!("publish = {{ to = \"sidecar\", repository = \"{repository}\" }}")
        }
        None => "# publish = { to = \"sidecar\", repository = \
             \"registry.example/assay/{host}/{repository}\" }"
            .to_owned(),
    };
    format!(
        r#"# Assay coordinator. Unknown keys are refused; `assay coordinator check-config DIR` checks this file.
# Paths are relative to this file. Keys beside it: verdict.key (verdicts, leases, receipts), tls.key.

listen = "{listen}"           # gRPC with TLS; workers and clients show a certificate
listen_http = "{listen_http}"      # HTTPS with the same certificate: evidence, health, metrics

# The URI that this coordinator signs as. Gates compare it: choose one that you own.
verifier_id = "{verifier_id}"

policy = "policy.toml"             # what it judges by: publishers, operators, quorum
observations_wanted = 3            # m: how many operators are asked first

# Where verdicts go, beside the API. Without it they are served over HTTP only.
{publish}
# publish = {{ to = "folder", path = "published" }}

# Who may submit images: one table for each client, by the SHA-256 of its certificate's key
# (`assay operator keygen` prints it). Workers are let in by their enrolment, not here.
[[client]]
name = "admin"                     # holds admin.key
key = "{admin_key}"
administrator = true

[limits]
# connections_max = 20000          # gRPC, all together
# connections_per_address_max = 1000
# http_connections_max = 1000
# waiting_jobs_max = 100000
# waiting_jobs_per_client_max = 50000
# submissions_per_minute = 600     # of each client
# observations_per_minute = 1200   # of each worker
# execution_seconds_max = 3600
"#
    )
}

const POLICY: &str = "\
# Assay policy: who counts, how many, how fresh. `assay policy check` checks it, `assay policy explain`
# puts it into words. Without publishers nothing is trusted; without a quorum nothing is reproduced.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Loaded;

    #[test]
    fn what_is_made_can_be_loaded_and_is_not_made_twice() {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            listen: "127.0.0.1:7443".parse().unwrap(),
            listen_http: "127.0.0.1:7480".parse().unwrap(),
            names: vec!["localhost".into(), "127.0.0.1".into()],
            verifier_id: "https://coordinator.test/assay".into(),
            publish: Some("registry.test/assay/{host}/{repository}".into()),
        };
        init(dir.path(), &options).unwrap();
        let loaded = Loaded::read(dir.path()).unwrap();
        let repository = "registry.test/assay/{host}/{repository}".to_owned();
        assert_eq!(loaded.config.publish, Some(PublishTarget::Sidecar { repository }));
        assert_eq!(loaded.config.observations_wanted, 3);
        assert!(loaded.config.clients[0].administrator);
        assert!(matches!(init(dir.path(), &options), Err(InitError::NotEmpty(_))));
    }

    #[test]
    fn one_place_for_the_attestations_of_all_repositories_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for publish in [
            "registry.test/assay",
            "registry.test/assay/{repository}",
            "registry.test/assay/{host}",
            "registry.test/assay/{host}/{repository}\"}",
        ] {
            let options = InitOptions {
                listen: "127.0.0.1:7443".parse().unwrap(),
                listen_http: "127.0.0.1:7480".parse().unwrap(),
                names: vec!["localhost".into()],
                verifier_id: "https://coordinator.test/assay".into(),
                publish: Some(publish.into()),
            };
            let refused = init(dir.path(), &options);
            assert!(matches!(refused, Err(InitError::Publish(_))), "{publish}: {refused:?}");
        }
    }
}
