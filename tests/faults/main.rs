//! `faults`: puts the built `assay` binary under real faults and counts what was lost or doubled.
//!
//! ```text
//! faults powercut --assay BIN --shim powercut.so [--cuts 100] [--records 100000]
//!                 [--journals 10] [--seed 1]
//! faults eio      --assay BIN --shim powercut.so [--times 10] [--seed 1]
//! faults kills    --assay BIN [--kills 1000] [--seed 1]
//! faults restore  --assay BIN
//! faults full     --assay BIN          (needs the right to mount a tmpfs)
//! faults registry --assay BIN
//! ```
//! Every scenario runs real processes over real gRPC; what is acknowledged is written down by the
//! client side and held against the journal afterwards. Exit code 0 only if nothing was lost,
//! nothing doubled, and every job ended. Invariant: the driver never reads a coordinator's word on
//! what it kept; it reads the journal's files. Nothing here is part of Assay.

mod clients;
mod coordinator;
mod full;
mod image;
mod kills;
mod ledger;
mod powercut;
mod press;
mod registry;
mod restore;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

/// What a scenario ends with: a line of figures, or what went wrong.
pub type Ended = Result<String, String>;

/// The arguments after the scenario's name.
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    fn read(words: &[String]) -> Result<Self, String> {
        let mut found = BTreeMap::new();
        for pair in words.chunks(2) {
            match pair {
                [name, value] if name.starts_with("--") => {
                    found.insert(name[2..].to_owned(), value.clone());
                }
                _ => return Err(format!("expected --name value, found {pair:?}")),
            }
        }
        Ok(Self(found))
    }

    /// A path that must be given.
    pub fn path(&self, name: &str) -> Result<PathBuf, String> {
        let given = self.0.get(name).ok_or(format!("expected --{name}"))?;
        std::fs::canonicalize(given).map_err(|error| format!("--{name} {given}: {error}"))
    }

    /// Words, separated by blanks, or their default.
    pub fn words(&self, name: &str, default: &[&str]) -> Vec<std::ffi::OsString> {
        match self.0.get(name) {
            Some(text) => text.split(' ').map(Into::into).collect(),
            None => default.iter().map(Into::into).collect(),
        }
    }

    /// A number, or its default.
    pub fn number(&self, name: &str, default: u64) -> Result<u64, String> {
        self.0.get(name).map_or(Ok(default), |text| {
            text.parse().map_err(|_| format!("expected a number for --{name}, found {text}"))
        })
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match (words.split_first(), runtime) {
        (Some((scenario, rest)), Ok(runtime)) => Arguments::read(rest).and_then(|arguments| {
            let outcome = runtime.block_on(run(scenario, &arguments));
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            outcome
        }),
        (None, _) => Err("expected powercut, eio, kills, restore, full or registry".to_owned()),
        (_, Err(error)) => Err(error.to_string()),
    };
    match ended {
        Ok(figures) => {
            say(&figures);
            ExitCode::SUCCESS
        }
        Err(problem) => {
            say(&format!("FAILED: {problem}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(scenario: &str, arguments: &Arguments) -> Ended {
    match scenario {
        "powercut" => powercut::run(arguments).await,
        "eio" => powercut::failing_syncs(arguments).await,
        "kills" => kills::run(arguments).await,
        "restore" => restore::run(arguments).await,
        "full" => full::run(arguments).await,
        "registry" => registry::run(arguments).await,
        // One worker process of `kills`: killed like any other.
        "worker" => kills::worker(arguments).await,
        other => {
            Err(format!("expected powercut, eio, kills, restore, full or registry, found {other}"))
        }
    }
}

/// One line for whoever watches.
pub fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Any error as the problem that it is.
pub fn shown(error: impl std::fmt::Display) -> String {
    error.to_string()
}
