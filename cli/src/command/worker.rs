//! `assay worker …`: makes a worker's folder, runs it, examines it.

use super::fleet::Connection;
use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
};
use attest::{id::OperatorId, key::PublicKey};
use proto::v1;
use std::{
    io::Read,
    path::{Path, PathBuf},
};
use worker::daemon::{
    self,
    child::{self, Launcher, Order},
    config::{Loaded, read_text},
    connect,
    identity::Identity,
    run::{Stop, Worker},
};

/// Largest order on standard input: a policy path and a few names.
const ORDER_BYTES_MAX: u64 = 1 << 20;

/// Subcommands of `worker`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Makes a worker's folder: its key, its configuration.
    Init {
        /// The folder.
        dir: PathBuf,
        /// https://host:port of the coordinator.
        #[arg(long)]
        coordinator: String,
        /// The coordinator's public key (`verdict.pub` of its folder): leases must be signed by it.
        #[arg(long)]
        coordinator_key: PathBuf,
        /// PEM of the authority of its certificate (`ca.pem` of its folder).
        #[arg(long)]
        ca: Option<PathBuf>,
        /// This worker's own policy.
        #[arg(long)]
        policy: PathBuf,
        /// The operator that will vouch for it.
        #[arg(long)]
        operator: OperatorId,
    },
    /// Runs the worker until it is told to stop (SIGTERM drains, a second one stops at once).
    Run {
        /// The folder.
        dir: PathBuf,
    },
    /// Looks whether the worker is fit to work.
    Doctor {
        /// The folder.
        dir: PathBuf,
        /// How the result is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Tells the coordinator to give a worker no new work, until it is told otherwise
    /// (administrators).
    Drain {
        /// The worker: sha256:… of its key.
        worker: String,
        /// Gives it work again.
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Builds one job; started by `worker run` in a process of its own.
    #[command(hide = true)]
    Execute,
    /// What the dishonest operator of `assay demo` runs in place of `execute`.
    #[command(hide = true)]
    Lie,
}

/// Runs a subcommand.
pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Init { dir, coordinator, coordinator_key, ca, policy, operator } => {
            let paths = InitPaths { coordinator_key, ca, policy };
            init(&dir, &coordinator, &paths, &operator)
        }
        Command::Run { dir } => work(&dir).await,
        Command::Doctor { dir, format } => doctor(&dir, format).await,
        Command::Drain { worker, undo, connection } => {
            let request = v1::DrainWorkerRequest { worker: worker.clone(), undo };
            connection.ask(connection.admin()?.drain_worker(request)).await?;
            output::say(&match undo {
                false => format!("{worker} gets no new work, until `--undo`"),
                true => format!("{worker} gets work again"),
            });
            Ok(0)
        }
        Command::Lie => super::demo::lie().await,
        Command::Execute => Err(Failure::Usage("`worker execute` reads an order itself".into())),
    }
}

struct InitPaths {
    coordinator_key: PathBuf,
    ca: Option<PathBuf>,
    policy: PathBuf,
}

fn init(dir: &Path, coordinator: &str, paths: &InitPaths, operator: &OperatorId) -> Outcome {
    if dir.join("worker.toml").exists() {
        let text =
            format!("{} is a worker's folder already; nothing was overwritten", dir.display());
        return Err(Failure::Usage(text));
    }
    let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
    connect::check_address(coordinator).map_err(|e| usage(&e))?;
    super::policy_file::read(&paths.policy)?;
    let pem = read_text(&paths.coordinator_key).map_err(|e| usage(&e))?;
    PublicKey::from_pem(&pem)
        .map_err(|e| usage(&format!("{}: {e}", paths.coordinator_key.display())))?;
    if let Some(ca) = &paths.ca {
        let pem = read_text(ca).map_err(|e| usage(&e))?;
        connect::check_authority(&pem).map_err(|e| usage(&format!("{}: {e}", ca.display())))?;
    }
    std::fs::create_dir_all(dir)?;
    let absolute = |path: &Path| {
        std::path::absolute(path).map(|p| p.display().to_string()).map_err(Failure::from)
    };
    let identity = Identity::generate(&dir.join("worker.key"))?;
    std::fs::write(dir.join("worker.pub"), identity.key().public().to_pem())?;
    let ca = match &paths.ca {
        Some(ca) => format!("ca = {:?}\n", absolute(ca)?),
        None => String::new(),
    };
    let (key, policy) = (absolute(&paths.coordinator_key)?, absolute(&paths.policy)?);
    let text = format!(
        "# Assay worker. Unknown keys are refused; paths are relative to this file.\n\
         # `assay worker doctor {}` looks whether it is fit to work.\n\n\
         coordinator = {coordinator:?}\n{ca}coordinator_key = {key:?}\npolicy = {policy:?}\n\
         operator = \"{operator}\"\n\
         # operator_uri = \"https://operator.example/assay\"   # builder.id of what is signed here\n\
         # alpine_releases = \"https://…/releases.json\"   # keys of Alpine's repositories\n\
         slots = 1\nexecution_seconds_max = 3600\nmemory_mib_max = 2048\n",
        dir.display()
    );
    std::fs::write(dir.join("worker.toml"), text)?;
    output::say(&format!(
        "wrote {0}/worker.toml, {0}/worker.key (keep it secret) and {0}/worker.pub; the operator \
         enrols it with `assay operator enroll-worker {0}/worker.pub`",
        dir.display()
    ));
    output::data(&identity.worker().to_string())?;
    Ok(0)
}

async fn work(dir: &Path) -> Outcome {
    // What it signs says when: a clock that cannot be read would say 1970.
    super::fleet::now()?;
    let loaded = Loaded::read(dir).map_err(|e| Failure::Usage(e.to_string()))?;
    let identity = Identity::load(&loaded.key_path()).map_err(|e| Failure::Usage(e.to_string()))?;
    let worker = Worker::open(loaded, identity, Launcher::this_program()?)?;
    let stop = Stop::default();
    let signals = super::signals(stop.drain.clone(), stop.now.clone());
    let result = worker.run(stop).await;
    signals.abort();
    let left = result?;
    if left.refused > 0 {
        output::say(&format!(
            "{} results were refused by the coordinator for good and lie in {} with the reasons; \
             moved to ../pending they are sent again, removed they are forgotten",
            left.refused,
            dir.join("outbox/refused").display()
        ));
    }
    Ok(0)
}

async fn doctor(dir: &Path, format: Format) -> Outcome {
    let checks = daemon::doctor::examine(dir).await;
    match format {
        Format::Json => {
            let value = serde_json::json!({"schema": "assay/doctor/v1", "checks": checks});
            output::json(&value)?;
        }
        Format::Text => {
            let rows: Vec<Vec<String>> = checks
                .iter()
                .map(|c| {
                    let state = if c.good { "good" } else { "BAD" };
                    vec![c.name.to_owned(), state.to_owned(), c.detail.clone()]
                })
                .collect();
            output::data(&output::table(&["CHECK", "STATE", "FOUND"], &rows))?;
        }
    }
    Ok(u8::from(checks.iter().any(|c| !c.good)))
}

/// The building process: limits itself, reads an order, prints a draft. Has no key. What it could
/// not begin, or not report, says nothing about the image and has an exit code of its own.
pub fn execute() -> Outcome {
    match built() {
        Ok(()) => Ok(0),
        Err(failure) => {
            output::say(&format!("error: {failure}"));
            Ok(child::NOT_RUN)
        }
    }
}

fn built() -> Result<(), Failure> {
    if !child::bind_to_worker()? {
        return Err(Failure::Usage("the worker that started this is gone".into()));
    }
    let mut input = String::new();
    std::io::stdin().take(ORDER_BYTES_MAX).read_to_string(&mut input)?;
    let order: Order = serde_json::from_str(&input)?;
    child::confine_self(order.memory_mib_max)?;
    let draft = runtime(order.threads)?.block_on(daemon::draft::draft(&order));
    Ok(output::json(&draft)?)
}

/// Where the system gives no thread, the runtime panics in place of saying so.
fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, Failure> {
    let built = std::panic::catch_unwind(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.clamp(1, 4))
            .enable_all()
            .build()
    });
    let built = built.map_err(|_| Failure::Usage("expected threads to build with".into()))?;
    Ok(built?)
}
