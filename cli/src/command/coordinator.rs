//! `assay coordinator …`: makes a coordinator's folder, checks it, runs it.

use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
};
use coordinator::{
    daemon::Daemon,
    queue::Limits,
    setup::{
        InitOptions, Loaded,
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
}

/// Runs a subcommand.
pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Init { dir, listen, listen_http, names, verifier_id } => {
            init(&dir, &InitOptions { listen, listen_http, names, verifier_id })?;
            output::say(&format!(
                "wrote {0}: coordinator.toml, policy.toml, keys and certificates. Workers and \
                 clients need {0}/ca.pem and {0}/verdict.pub; admin.key is for administrators",
                dir.display()
            ));
            Ok(0)
        }
        Command::Run { dir } => {
            let loaded = read(&dir)?;
            let daemon = Daemon::open(loaded, Limits::default()).await?;
            output::say(&format!("gRPC on {}, HTTPS on {}", daemon.grpc, daemon.http));
            let stop = CancellationToken::new();
            let signals = tokio::spawn(super::signals(stop.clone(), CancellationToken::new()));
            let result = daemon.run(stop).await;
            signals.abort();
            result?;
            Ok(0)
        }
        Command::CheckConfig { dir, format } => check(&read(&dir)?, format).await,
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

fn read(dir: &std::path::Path) -> Result<Loaded, Failure> {
    use coordinator::setup::ConfigError;
    Loaded::read(dir).map_err(|error| match error {
        ConfigError::Policy { .. } => Failure::Policy(error.to_string()),
        ConfigError::Invalid { .. } => Failure::Usage(error.to_string()),
        other => other.into(),
    })
}
