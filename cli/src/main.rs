//! The `assay` binary: every role is a subcommand, thin over the libraries.
//!
//! Invariant: data on standard output, everything else on standard error; exit codes are those of
//! the table in docs/CLI.md. No logic that a library should have.

mod command;
mod examples;
mod exit;
mod no_answer;
mod output;
mod progress;
mod scratch;
mod whole_file;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// An index that is made again leaves holes of several GiB in the heap of glibc (docs/LOAD.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Does its recipe really build it? Rebuilds published container images, by independent parties.
#[derive(Debug, Parser)]
#[command(name = "assay", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// What is logged to standard error, for instance `info` or `worker=debug`.
    #[arg(long, global = true, env = "ASSAY_LOG", default_value = "warn", hide_env_values = true)]
    #[arg(value_parser = log_filter)]
    log: String,
    /// Logs as JSON, one object a line.
    #[arg(long, global = true, env = "ASSAY_LOG_JSON", hide_env_values = true)]
    #[arg(value_parser = truth)]
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

/// Refuses what is no filter: nothing would be logged as somebody wanted it.
fn log_filter(text: &str) -> Result<String, String> {
    let bad = |why: &dyn std::fmt::Display| {
        format!("expected levels, like `info` or `worker=debug,warn`: {why}")
    };
    EnvFilter::try_new(text).map_err(|error| bad(&error))?;
    // The filter takes any word for the name of a module.
    let known = |c: char| c.is_ascii_alphanumeric() || "_:=,.-[]{}\"/ *".contains(c);
    match text.chars().find(|c| !known(*c)) {
        Some(c) => Err(bad(&format!("found {c:?}"))),
        None => Ok(text.to_owned()),
    }
}

/// What people write into a variable that says yes or no; nothing means no.
fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" | "y" | "t" => Ok(true),
        "" | "0" | "false" | "no" | "off" | "n" | "f" => Ok(false),
        _ => Err("expected 1 or 0, true or false, yes or no".to_owned()),
    }
}

/// The command line as `--help`, completions and manual pages show it.
fn described() -> clap::Command {
    examples::add(Cli::command())
}

fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&described().get_matches()).unwrap_or_else(|e| e.exit());
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
            scratch::sweep();
            exit::finish(outcome)
        }
        Err(error) => exit::finish(Err(error.into())),
    }
}

async fn run(command: Command) -> exit::Outcome {
    match command {
        Command::Verify(args) => scratch::until_signalled(command::verify::run(args)).await,
        Command::Assemble(args) => scratch::until_signalled(command::assemble::run(*args)).await,
        Command::Diff(args) => scratch::until_signalled(command::diff::run(args)).await,
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
        Command::Demo(args) => scratch::until_signalled(command::demo::run(args)).await,
        Command::Completions(args) => command::shell::completions(described(), &args),
        Command::Man(args) => command::shell::man(described(), &args),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_environment_are_understood_or_refused() {
        for (text, means) in [("1", true), ("TRUE", true), ("0", false), ("", false), ("no", false)]
        {
            assert_eq!(truth(text), Ok(means), "{text:?}");
        }
        assert!(truth("maybe").is_err());
        for good in ["info", "worker=debug,warn", "off", ""] {
            assert!(log_filter(good).is_ok(), "{good:?}");
        }
        for bad in ["!!!", "worker=loud", "worker=debug=info"] {
            assert!(log_filter(bad).is_err(), "{bad:?}");
        }
    }
}
