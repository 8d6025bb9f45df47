//! Measurements of the coordinator. Each prints a table and one line of JSON.
//!
//! ```text
//! transitions [--seconds N]                    durable transitions: 256 callers, one, sled, SQLite
//! cycles [--connections N] [--seconds N] [--wanted M] [--slots S] [--rate R]   jobs over gRPC
//! idle [--workers N]                           workers whose calls are held: memory
//! history [--observations N] [--folder DIR]    a long history: start, memory, questions
//! ```
//! Server and generator are two processes of this same program, on the same machine.
//! Invariant: what is measured is the real thing (signatures, TLS, `fdatasync`); what was made
//! easier for the generator is said in docs/LOAD.md.

mod arguments;
mod cycles;
mod fleet;
mod history;
mod idle;
mod image;
mod machine;
mod past;
mod report;
mod rivals;
mod serve;
mod transitions;

use anyhow::{Result, bail};
use arguments::Arguments;

/// Runs the measurement, or the role of a helper process, that the arguments name.
pub fn run(arguments: &[String]) -> Result<()> {
    let (name, rest) = match arguments.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => bail!("expected transitions, cycles, idle or history"),
    };
    let arguments = Arguments::read(rest)?;
    match name {
        "transitions" => transitions::run(&arguments),
        "cycles" => cycles::run(&arguments),
        "idle" => idle::run(&arguments),
        "history" => history::run(&arguments),
        "serve" => serve::run(&arguments),
        other => bail!("expected transitions, cycles, idle or history, found {other:?}"),
    }
}
