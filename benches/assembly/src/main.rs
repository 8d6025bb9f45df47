//! How fast images are assembled, and in how much memory, against one thread that inflates and
//! hashes the same packages.
//!
//! `cargo run --release -p assay-assembly-bench` makes its repository from a seed, runs every case
//! in a process of its own, several times in turn, and prints the table of docs/PERFORMANCE.md.
//! Invariant: ratios are within one run, of the best of each; a case that gives another digest than
//! the others ends the run.

mod content;
mod machine;
mod measure;
mod report;
mod repository;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use measure::{Case, Measured};
use report::Row;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// As in the `assay` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the assembler.
#[derive(Debug, Parser)]
struct Args {
    /// Uncompressed MiB of all packages.
    #[arg(long, default_value_t = 600)]
    mib: u64,
    /// Packages.
    #[arg(long, default_value_t = 60)]
    packages: usize,
    /// Files in all of them.
    #[arg(long, default_value_t = 24_000)]
    files: usize,
    /// What the contents follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Every case is run so many times; its best counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Keeps the repository here, and takes it from here if it is there already.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Only makes the repository.
    #[arg(long)]
    make_only: bool,
    /// Also 10 to 200 packages of the same size each.
    #[arg(long)]
    growth: bool,
    /// Layers of packages at most; 0 for a single layer.
    #[arg(long, default_value_t = 10)]
    budget: u32,
    /// One case, in this process.
    #[arg(long, hide = true)]
    case: Option<Case>,
    /// The repository of that case.
    #[arg(long, hide = true)]
    repository: Option<PathBuf>,
    /// The store of that case.
    #[arg(long, hide = true)]
    store: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let (Some(case), Some(repository), Some(store)) = (args.case, &args.repository, &args.store)
    {
        let measured = measure::run(case, repository, store, args.packages, args.budget)?;
        return report::print(&serde_json::to_string(&measured)?);
    }
    let temporary = tempfile::tempdir()?;
    let folder = args.keep.clone().unwrap_or_else(|| temporary.path().join("repository"));
    let made = repository::make(&folder, &args_of(&args))?;
    if args.make_only {
        return report::print(&made.to_string());
    }
    report::print(&format!("{made}\n"))?;
    let rows = table(&args, &folder, args.packages)?;
    report::print(&report::table(&rows))?;
    if args.growth {
        growth(&args, &folder)?;
    }
    Ok(())
}

fn args_of(args: &Args) -> repository::Size {
    repository::Size { mib: args.mib, packages: args.packages, files: args.files, seed: args.seed }
}

/// All cases in turn, and again; the best of each.
fn table(args: &Args, folder: &Path, packages: usize) -> Result<Vec<Row>> {
    let stores = tempfile::tempdir_in(folder.parent().unwrap_or(Path::new(".")))?;
    let full = stores.path().join("full");
    let part = stores.path().join("part");
    let new = stores.path().join("new");
    child(args, Case::Fill, folder, &full, packages)?;
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..args.rounds {
        for case in Case::MEASURED {
            let store = match case {
                Case::WarmConfig | Case::WarmManifest => &full,
                Case::SharedConfig | Case::SharedManifest => {
                    // Four of five packages are there already, from another image.
                    child(args, Case::Fill, folder, &part, packages * 4 / 5)?;
                    &part
                }
                _ => &new,
            };
            let measured = child(args, *case, folder, store, packages)?;
            for used in [&part, &new] {
                if used.exists() {
                    std::fs::remove_dir_all(used)?;
                }
            }
            report::note(&mut rows, *case, &measured)?;
        }
    }
    Ok(rows)
}

fn child(
    args: &Args,
    case: Case,
    repository: &Path,
    store: &Path,
    packages: usize,
) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--case", case.name(), "--packages", &packages.to_string()]);
    command.args(["--budget", &args.budget.to_string()]);
    command.arg("--repository").arg(repository).arg("--store").arg(store);
    let started = Instant::now();
    let output = command.output()?;
    let process_seconds = started.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}: {said}", case.name());
    let measured: Measured = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{}: {said}", case.name()))?;
    Ok(Measured { process_seconds, ..measured })
}

/// How time and memory grow with the number of packages.
fn growth(args: &Args, folder: &Path) -> Result<()> {
    let size =
        repository::Size { mib: args.mib, packages: 200, files: args.files, seed: args.seed + 1 };
    let folder = folder.with_extension("growth");
    let made = repository::make(&folder, &size)?;
    report::print(&format!("\n{made}\n"))?;
    let mut lines = Vec::new();
    for packages in [10, 25, 50, 100, 200] {
        let store = folder.with_extension("store");
        let mut best: Vec<Row> = Vec::new();
        for _ in 0..args.rounds.min(2) {
            for case in [Case::Baseline, Case::ColdConfig, Case::ColdManifest] {
                report::note(&mut best, case, &child(args, case, &folder, &store, packages)?)?;
            }
            child(args, Case::Fill, &folder, &store, packages)?;
            for case in [Case::WarmConfig, Case::WarmManifest] {
                report::note(&mut best, case, &child(args, case, &folder, &store, packages)?)?;
            }
            std::fs::remove_dir_all(&store)?;
        }
        lines.push((packages, best));
    }
    report::print(&report::growth(&lines))
}
