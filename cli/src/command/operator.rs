//! `assay operator …`: the root key of an operator, and what it vouches for.
//!
//! Invariant: the root key is read only to sign records, here; it never goes to a coordinator.

use super::{
    fleet::{self, Connection},
    named,
};
use crate::{
    exit::{Failure, Outcome},
    output, whole_file,
};
use attest::{
    Digest,
    dsse::Envelope,
    id::OperatorId,
    key::{PublicKey, SigningKey},
    record::{EnvironmentClass, KeyRevocation, OperatorRecord, Record, Validity, WorkerRecord},
    time::Timestamp,
};
use std::path::{Path, PathBuf};

/// Subcommands of `operator`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Makes a root key (or a client key): DIR/NAME.key and DIR/NAME.pub.
    Keygen {
        /// The name: 1 to 64 of a-z 0-9 . _ -
        name: OperatorId,
        /// Where the files go.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// Signs an operator's record and hands it to the coordinator (administrators).
    Add {
        /// The operator's name, as in policies.
        name: OperatorId,
        /// The operator's root key; it signs here and goes nowhere.
        #[arg(long)]
        root_key: PathBuf,
        /// Publishers that it belongs to.
        #[arg(long = "affiliation")]
        affiliations: Vec<String>,
        /// The organisation's name.
        #[arg(long, default_value = "")]
        organisation: String,
        /// How to reach it.
        #[arg(long, default_value = "")]
        contact: String,
        /// How long the record holds.
        #[arg(long, default_value_t = 730)]
        days: u32,
        #[command(flatten)]
        connection: Connection,
    },
    /// Vouches for a worker's key and hands the record to the coordinator.
    EnrollWorker {
        /// The worker's public key, `worker.pub` of its folder.
        worker: PathBuf,
        /// The operator's name.
        #[arg(long)]
        operator: OperatorId,
        /// The operator's root key.
        #[arg(long)]
        root_key: PathBuf,
        /// How long the record holds.
        #[arg(long, default_value_t = 365)]
        days: u32,
        #[command(flatten)]
        connection: Connection,
    },
    /// Operators and workers that the coordinator knows.
    List {
        #[command(flatten)]
        connection: Connection,
        /// How the result is printed.
        #[arg(long, value_enum, default_value_t)]
        format: output::Format,
    },
    /// Replaces a worker's key: vouches for the new one and revokes the old one.
    Rotate {
        /// The new public key.
        new: PathBuf,
        /// The old public key.
        #[arg(long)]
        old: PathBuf,
        /// The operator's name.
        #[arg(long)]
        operator: OperatorId,
        /// The operator's root key.
        #[arg(long)]
        root_key: PathBuf,
        /// How long the new record holds.
        #[arg(long, default_value_t = 365)]
        days: u32,
        #[command(flatten)]
        connection: Connection,
    },
    /// Takes a key back: nothing that it signed (since a moment) is believed any more.
    Revoke {
        /// The public key.
        public: PathBuf,
        /// The operator's name.
        #[arg(long)]
        operator: OperatorId,
        /// The operator's root key.
        #[arg(long)]
        root_key: PathBuf,
        /// Since when others may have had it; without it, nothing that it ever signed is believed.
        #[arg(long)]
        since: Option<Timestamp>,
        /// Why, for people.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// Runs a subcommand.
pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Keygen { name, dir } => keygen(&name, &dir),
        Command::Add { name, root_key, affiliations, organisation, contact, days, connection } => {
            let root = read_secret_key(&root_key)?;
            let record = OperatorRecord {
                operator: name,
                root_key: root.public().clone(),
                organisation,
                affiliations,
                contact,
                valid: validity(days)?,
            };
            fleet::add_operator(&connection, &record.sign(&root)?).await?;
            Ok(0)
        }
        Command::EnrollWorker { worker, operator, root_key, days, connection } => {
            let root = read_secret_key(&root_key)?;
            enroll(&worker, operator, &root, days, &connection).await?;
            Ok(0)
        }
        Command::List { connection, format } => fleet::list_operators(&connection, format).await,
        Command::Rotate { new, old, operator, root_key, days, connection } => {
            let root = read_secret_key(&root_key)?;
            enroll(&new, operator.clone(), &root, days, &connection).await?;
            let old = read_public_key(&old)?.id();
            let reason = "rotated".to_owned();
            let revocation = revocation(operator, old, Some(fleet::now()?), reason)?;
            fleet::revoke(&connection, &revocation.sign(&root)?).await?;
            Ok(0)
        }
        Command::Revoke { public, operator, root_key, since, reason, connection } => {
            let root = read_secret_key(&root_key)?;
            let key = read_public_key(&public)?.id();
            let envelope: Envelope = revocation(operator, key, since, reason)?.sign(&root)?;
            fleet::revoke(&connection, &envelope).await?;
            Ok(0)
        }
    }
}

fn keygen(name: &OperatorId, dir: &Path) -> Outcome {
    named::folder("--dir", dir)?;
    let key = SigningKey::generate()?;
    let secret = dir.join(format!("{name}.key"));
    let public = dir.join(format!("{name}.pub"));
    if public.exists() {
        return Err(Failure::Usage(format!(
            "{} exists; nothing was overwritten",
            public.display()
        )));
    }
    coordinator::setup::write_secret(&secret, &key.to_pem())?;
    whole_file::write(&public, key.public().to_pem().as_bytes())?;
    output::say(&format!("wrote {} (keep it secret) and {}", secret.display(), public.display()));
    output::data(&key.public().id().to_string())?;
    Ok(0)
}

async fn enroll(
    worker: &Path,
    operator: OperatorId,
    root: &SigningKey,
    days: u32,
    connection: &Connection,
) -> Result<(), Failure> {
    let record = WorkerRecord {
        operator,
        key: read_public_key(worker)?,
        capabilities: attest::record::Capabilities::default(),
        environment: EnvironmentClass::default(),
        valid: validity(days)?,
    };
    fleet::enroll_worker(connection, &record.sign(root)?).await
}

fn revocation(
    operator: OperatorId,
    key: Digest,
    compromised_since: Option<Timestamp>,
    reason: String,
) -> Result<KeyRevocation, Failure> {
    let revoked_at = fleet::now()?;
    Ok(KeyRevocation { operator, key, compromised_since, reason, revoked_at })
}

/// From an hour ago, so that a clock that is a little behind does not refuse a fresh record.
fn validity(days: u32) -> Result<Validity, Failure> {
    let now = fleet::now()?.unix();
    Ok(Validity {
        from: Timestamp::from_unix(now - 3600)?,
        until: Timestamp::from_unix(now + i64::from(days) * 86_400)?,
    })
}

fn read_secret_key(path: &Path) -> Result<SigningKey, Failure> {
    let pem = coordinator::setup::read_secret(path).map_err(|e| Failure::Usage(e.to_string()))?;
    SigningKey::from_pem(&pem)
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

fn read_public_key(path: &Path) -> Result<PublicKey, Failure> {
    let pem = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    PublicKey::from_pem(&pem)
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}
