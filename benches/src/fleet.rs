//! A coordinator's folder with operators and workers, as a measurement needs it.

use anyhow::{Context, Result};
use attest::{
    id::{OperatorId, WorkerId},
    key::SigningKey,
    record::{Capabilities, EnvironmentClass, OperatorRecord, Record, Validity, WorkerRecord},
    time::Timestamp,
};
use coordinator::{
    daemon::{Daemon, roster::Roster},
    journal::NewRecord,
    queue::Limits,
    setup::{InitOptions, Loaded, init},
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Operators; workers are dealt to them in turn.
pub const OPERATORS: usize = 20;

/// A worker of the fleet.
pub struct Member {
    /// Its operator.
    pub operator: OperatorId,
    /// Its key.
    pub key: SigningKey,
}

impl Member {
    /// Its identity.
    pub fn id(&self) -> WorkerId {
        WorkerId(self.key.public().id())
    }
}

/// The queue's numbers without the protection of foreign registries: there is none here.
pub fn limits() -> Limits {
    let open = coordinator::queue::Rate { burst: 1_000_000, per_second: 1_000_000 };
    Limits { registry: open, announce: open, ..Limits::default() }
}

/// Makes the folder: `required` operators must agree, `wanted` are asked.
pub fn make(folder: &Path, workers: usize, wanted: u32) -> Result<Vec<Member>> {
    let home = home(folder);
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    let loopback = "127.0.0.1:0".parse()?;
    init(
        &home,
        &InitOptions {
            listen: loopback,
            listen_http: loopback,
            names: vec!["localhost".into(), "127.0.0.1".into()],
            verifier_id: "https://load.example/coordinator".into(),
            publish: None,
        },
    )?;
    let path = home.join("coordinator.toml");
    let text = fs::read_to_string(&path)?
        .replace("observations_wanted = 3", &format!("observations_wanted = {wanted}"));
    let limits = "connections_per_address_max = 20000\nobservations_per_minute = 60000\n\
                  submissions_per_minute = 1000000\nwaiting_jobs_max = 1000000\n\
                  waiting_jobs_per_client_max = 1000000\n";
    fs::write(&path, text + limits)?;
    let publisher = SigningKey::generate()?;
    fs::write(folder.join("publisher.key"), publisher.to_pem())?;
    let roots: Vec<(OperatorId, SigningKey)> = (0..OPERATORS)
        .map(|n| Ok((format!("operator-{n}").parse()?, SigningKey::generate()?)))
        .collect::<Result<_>>()?;
    write_policy(&home, &publisher, &roots, wanted)?;
    enrol(folder, &roots, workers)
}

/// The coordinator's own folder.
pub fn home(folder: &Path) -> PathBuf {
    folder.join("coordinator")
}

/// The publisher's key.
pub fn publisher(folder: &Path) -> Result<SigningKey> {
    Ok(SigningKey::from_pem(&fs::read_to_string(folder.join("publisher.key"))?)?)
}

fn write_policy(
    home: &Path,
    publisher: &SigningKey,
    roots: &[(OperatorId, SigningKey)],
    required: u32,
) -> Result<()> {
    let keys = home.join("keys");
    fs::create_dir_all(&keys)?;
    fs::write(keys.join("publisher.pub"), publisher.public().to_pem())?;
    let mut text = "[[publisher]]\nrepositories = [\"registry.example/load/*\"]\n\
                    key = \"keys/publisher.pub\"\ntransparency = \"none\"\n\n\
                    [coordinator]\nkey = \"verdict.pub\"\n\n"
        .to_owned();
    let mut names = Vec::new();
    for (name, root) in roots {
        fs::write(keys.join(format!("{name}.pub")), root.public().to_pem())?;
        names.push(format!("{:?}", name.as_str()));
        text += &format!("[[operator]]\nname = \"{name}\"\nroot_key = \"keys/{name}.pub\"\n\n");
    }
    text += &format!(
        "[quorum]\noperators = [{}]\nreproduced = {required}\nlevel = \"config\"\n\
         tier = \"attested\"\n",
        names.join(", ")
    );
    fs::write(home.join("policy.toml"), text)?;
    Ok(())
}

/// Appends the signed records, as the administration service would, in one piece.
fn enrol(folder: &Path, roots: &[(OperatorId, SigningKey)], workers: usize) -> Result<Vec<Member>> {
    let now = super::image::now().unix();
    let valid = Validity {
        from: Timestamp::from_unix(now - 3600)?,
        until: Timestamp::from_unix(now + 86_400)?,
    };
    let mut roster = Roster::default();
    let mut records: Vec<NewRecord> = Vec::new();
    for (name, root) in roots {
        let record = OperatorRecord {
            operator: name.clone(),
            root_key: root.public().clone(),
            organisation: format!("{name} (load)"),
            affiliations: Vec::new(),
            contact: String::new(),
            valid,
        };
        records.push(roster.take_operator(&record.sign(root)?)?);
    }
    let mut members = Vec::with_capacity(workers);
    for n in 0..workers {
        let (operator, root) = roots.get(n % roots.len()).context("no operators")?;
        let key = SigningKey::generate()?;
        let record = WorkerRecord {
            operator: operator.clone(),
            key: key.public().clone(),
            capabilities: Capabilities::default(),
            environment: EnvironmentClass::default(),
            valid,
        };
        records.push(roster.take_worker(&record.sign(root)?)?);
        members.push(Member { operator: operator.clone(), key });
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let daemon = Daemon::open(Loaded::read(&home(folder))?, limits()).await?;
        let core = daemon.core();
        for chunk in records.chunks(500) {
            core.store.append(chunk.to_vec()).await?;
        }
        anyhow::Ok(())
    })?;
    Ok(members)
}

/// A connection of its own for this key, with TLS and a client certificate.
pub async fn connect(folder: &Path, address: &str, key: &SigningKey) -> Result<Channel> {
    let pair = rcgen::KeyPair::from_pem(&key.to_pem())?;
    let certificate = rcgen::CertificateParams::new(Vec::<String>::new())?.self_signed(&pair)?;
    let authority = fs::read_to_string(home(folder).join("ca.pem"))?;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority))
        .identity(Identity::from_pem(certificate.pem(), key.to_pem()));
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?
        .tls_config(tls)?
        .http2_keep_alive_interval(std::time::Duration::from_secs(20))
        .keep_alive_while_idle(true);
    Ok(endpoint.connect().await?)
}

/// The administrator's connection.
pub async fn connect_admin(folder: &Path, address: &str) -> Result<Channel> {
    let key = SigningKey::from_pem(&fs::read_to_string(home(folder).join("admin.key"))?)?;
    connect(folder, address, &key).await
}
