//! `assay coordinator …`: makes a coordinator's folder, checks it, runs it, looks after its data.

use super::named;
use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
};
use coordinator::{
    daemon::{Daemon, DaemonError},
    queue::Limits,
    setup::{
        InitError, InitOptions, Loaded,
        check::{State, examine},
        init,
    },
};
use std::{net::SocketAddr, path::PathBuf};
use tokio_util::sync::CancellationToken;

/// Subcommands of `coordinator`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Makes a coordinator's folder: keys, certificates, a commented configuration.
    Init {
        /// The folder; it must be empty or not exist.
        dir: PathBuf,
        /// Where gRPC listens.
        #[arg(long, default_value = "127.0.0.1:7443")]
        listen: SocketAddr,
        /// Where HTTPS listens.
        #[arg(long, default_value = "127.0.0.1:7480")]
        listen_http: SocketAddr,
        /// Names and addresses that the certificate is for.
        #[arg(long = "name", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned()])]
        names: Vec<String>,
        /// The URI that it signs as; choose one that you own.
        #[arg(long, default_value = "https://localhost/assay")]
        verifier_id: String,
        /// Where attestations go: registry.example/assay/{host}/{repository}, a repository of ours
        /// for each that is judged. Without it they are served over HTTPS only.
        #[arg(long)]
        publish: Option<String>,
    },
    /// Runs the coordinator until it is told to stop.
    Run {
        /// The folder.
        dir: PathBuf,
    },
    /// Looks at the configuration and everything it names: keys, certificate, ports, clients, policy,
    /// quorum, disk, limits, where attestations go. Exit 2 if something is bad.
    CheckConfig {
        /// The folder.
        dir: PathBuf,
        /// How the result is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Makes the index of a stopped coordinator again from its journal.
    Reindex {
        /// The folder.
        dir: PathBuf,
    },
    /// Reads the whole journal of a stopped coordinator and holds the index against it.
    ///
    /// Exit codes: 0 good, 20 the index alone is in doubt, 21 the journal is damaged.
    Fsck(super::upkeep::FsckArgs),
    /// Copies the journal of a coordinator, which may be running. No key is copied.
    Backup {
        /// The folder.
        dir: PathBuf,
        /// Where the copy goes: an empty folder, or none.
        target: PathBuf,
    },
    /// Verifies a backup and puts it into a coordinator's folder that has no journal.
    Restore {
        /// The backup.
        backup: PathBuf,
        /// The coordinator's folder.
        dir: PathBuf,
    },
}

/// Runs a subcommand.
pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Init { dir, listen, listen_http, names, verifier_id, publish } => {
            let options = InitOptions { listen, listen_http, names, verifier_id, publish };
            init(&dir, &options).map_err(|error| match &error {
                InitError::Publish(_) | InitError::NotEmpty(_) => Failure::Usage(error.to_string()),
                InitError::Folder { error: cause, .. } if named::is_of_the_call(cause) => {
                    Failure::Usage(error.to_string())
                }
                _ => error.into(),
            })?;
            output::say(&format!(
                "wrote {0}: coordinator.toml, policy.toml, keys and certificates. Workers and \
                 clients need {0}/ca.pem and {0}/verdict.pub; admin.key is for administrators",
                dir.display()
            ));
            Ok(0)
        }
        Command::Run { dir } => {
            // What it signs says when: a clock that cannot be read would say 1970.
            super::fleet::now()?;
            let loaded = read(&dir)?;
            let daemon = Daemon::open(loaded, Limits::default()).await;
            let daemon = daemon.map_err(|error| not_open(&error))?;
            let stop = CancellationToken::new();
            let signals = super::signals(stop.clone(), CancellationToken::new());
            output::say(&format!("gRPC on {}, HTTPS on {}", daemon.grpc, daemon.http));
            let result = daemon.run(stop).await;
            signals.abort();
            result?;
            Ok(0)
        }
        Command::CheckConfig { dir, format } => check(&read(&dir)?, format).await,
        Command::Reindex { dir } => super::upkeep::reindex(&dir),
        Command::Fsck(args) => super::upkeep::examine(&args),
        Command::Backup { dir, target } => super::upkeep::back_up(&dir, &target),
        Command::Restore { backup, dir } => super::upkeep::restore(&backup, &dir),
    }
}

async fn check(loaded: &Loaded, format: Format) -> Outcome {
    let checks = examine(loaded).await;
    let bad = checks.iter().any(|check| check.state == State::Bad);
    if format == Format::Json {
        let value = serde_json::json!({
            "schema": "assay/check-config/v1", "good": !bad, "checks": checks,
        });
        output::json(&value)?;
        return Ok(if bad { 2 } else { 0 });
    }
    let rows: Vec<Vec<String>> = checks
        .iter()
        .map(|check| {
            let state = match check.state {
                State::Good => "good",
                State::Doubt => "doubt",
                State::Bad => "BAD",
            };
            [check.name, state, &check.found, &check.hint].map(str::to_owned).to_vec()
        })
        .collect();
    let table = output::table(&["CHECK", "STATE", "FOUND", "WHAT TO DO"], &rows);
    output::data(&format!("{table}\n{}", loaded.policy.explain()))?;
    Ok(if bad { 2 } else { 0 })
}

/// Why the daemon did not open its data, and what to do about it.
fn not_open(error: &DaemonError) -> Failure {
    let hint = match error {
        DaemonError::Store(store) => store.hint(),
        _ => None,
    };
    let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    Failure::Operation(anyhow::anyhow!("{error}{hint}"))
}

fn read(dir: &std::path::Path) -> Result<Loaded, Failure> {
    use coordinator::setup::ConfigError;
    Loaded::read(dir).map_err(|error| match error {
        ConfigError::Policy { .. } => Failure::Policy(error.to_string()),
        _ => Failure::Usage(error.to_string()),
    })
}
