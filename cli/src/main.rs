//! The `assay` binary: every role is a subcommand, thin over the libraries.
//!
//! Invariant: data on standard output, everything else on standard error; exit codes are those of
//! the table in docs/CLI.md. No logic that a library should have.

mod command;
mod exit;
mod output;
mod progress;
mod whole_file;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Does its recipe really build it? Rebuilds published container images, by independent parties.
#[derive(Debug, Parser)]
#[command(name = "assay", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// What is logged to standard error, for instance `info` or `worker=debug`.
    #[arg(long, global = true, env = "ASSAY_LOG", default_value = "warn", hide_env_values = true)]
    log: String,
    /// Logs as JSON, one object a line.
    #[arg(long, global = true, env = "ASSAY_LOG_JSON")]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Rebuilds a published image here and compares, without any coordinator.
    Verify(command::verify::Args),
    /// Makes an image from an apko configuration, with the bytes that apko gives it.
    Assemble(Box<command::assemble::Args>),
    /// Compares two images, difference by difference.
    Diff(command::diff::Args),
    /// Drafts, checks and explains policy files.
    #[command(subcommand)]
    Policy(command::policy::Command),
    /// Runs and looks after a coordinator.
    #[command(subcommand)]
    Coordinator(command::coordinator::Command),
    /// Keys and records of an operator.
    #[command(subcommand)]
    Operator(command::operator::Command),
    /// Runs a worker.
    #[command(subcommand)]
    Worker(command::worker::Command),
    /// Asks a coordinator to judge an image.
    Submit(command::submit::Args),
    /// What a coordinator knows about an image or about itself.
    Status(command::status::Args),
    /// Puts a verdict and its grounds into words.
    Explain(command::explain::Args),
    /// Observations and verdicts of a repository or an image.
    History(command::history::Args),
    /// Everything that was observed, for research.
    Export(command::history::ExportArgs),
    /// Repositories whose tags a coordinator follows.
    #[command(subcommand)]
    Watch(command::watch::Command),
    /// Decides whether an image may pass.
    #[command(subcommand)]
    Gate(command::gate::Command),
    /// What is to be published and did not arrive yet (administrators).
    Publish(command::publish::Args),
    /// Opens jobs that were put aside (administrators).
    Unpark(command::unpark::Args),
    /// A whole fleet in one process: published images, five operators, one of them dishonest.
    Demo(command::demo::Args),
    /// Shell completions.
    Completions(command::shell::CompletionsArgs),
    /// Manual pages.
    Man(command::shell::ManArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(&cli);
    // One TLS provider in the whole process: two would panic at the first handshake.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Command::Worker(command::worker::Command::Execute) = cli.command {
        return exit::finish(command::worker::execute());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(cli.command));
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            exit::finish(outcome)
        }
        Err(error) => exit::finish(Err(error.into())),
    }
}

async fn run(command: Command) -> exit::Outcome {
    match command {
        Command::Verify(args) => command::verify::run(args).await,
        Command::Assemble(args) => command::assemble::run(*args).await,
        Command::Diff(args) => command::diff::run(args).await,
        Command::Policy(command) => command::policy::run(command).await,
        Command::Coordinator(command) => command::coordinator::run(command).await,
        Command::Operator(command) => command::operator::run(command).await,
        Command::Worker(command) => command::worker::run(command).await,
        Command::Submit(args) => command::submit::run(args).await,
        Command::Status(args) => command::status::run(args).await,
        Command::Explain(args) => command::explain::run(args).await,
        Command::History(args) => command::history::run(args).await,
        Command::Export(args) => command::history::export(args).await,
        Command::Watch(command) => command::watch::run(command).await,
        Command::Gate(command) => command::gate::run(command).await,
        Command::Publish(args) => command::publish::run(args).await,
        Command::Unpark(args) => command::unpark::run(args).await,
        Command::Demo(args) => command::demo::run(args).await,
        Command::Completions(args) => command::shell::completions::<Cli>(&args),
        Command::Man(args) => command::shell::man::<Cli>(&args),
    }
}

fn log_to_stderr(cli: &Cli) {
    let filter = EnvFilter::try_new(&cli.log).unwrap_or_else(|_| EnvFilter::new("warn"));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let colours = output::progress() && output::colours();
    if cli.log_json {
        let _ = registry.with(layer.json()).try_init();
    } else {
        let _ = registry.with(layer.with_ansi(colours).with_target(false)).try_init();
    }
}
