//! A full disk under the coordinator, and one under a worker.
//!
//! The data directory, then a worker's outbox, lies on a tmpfs of a few megabytes, which is made
//! larger later. Invariant: what was acknowledged before, while and after the disk is full is in the
//! journal exactly once; whoever cannot go on says so, with the right exit code.

use crate::{
    Arguments, Ended,
    clients::{Load, all_settled},
    coordinator::{Home, Process},
    powercut::check,
    press::Press,
    say, shown,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

const OPERATORS: usize = 3;
/// How long anything may take that should happen.
const PATIENCE: Duration = Duration::from_secs(120);
/// The coordinator's exit code when the journal cannot go on.
const FATAL: i32 = 70;

/// A tmpfs, gone at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: &Path, megabytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(shown)?;
        mount(&["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"], at)?;
        Ok(Self(at.to_owned()))
    }

    fn resize(&self, megabytes: u64) -> Result<(), String> {
        mount(&["-o", &format!("remount,size={megabytes}m")], &self.0)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], at: &Path) -> Result<(), String> {
    let done = Command::new("mount").args(arguments).arg(at).output().map_err(shown)?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("mount: {}", String::from_utf8_lossy(&done.stderr).trim())),
    }
}

/// The scenario.
pub async fn run(arguments: &Arguments) -> Ended {
    let assay = arguments.path("assay")?;
    let megabytes = arguments.number("megabytes", 6)?;
    let coordinator = of_the_coordinator(&assay, megabytes).await?;
    say(&coordinator);
    let settle = Duration::from_secs(arguments.number("settle", 1800)?);
    let worker = of_a_worker(&assay, settle).await?;
    say(&worker);
    Ok("full: nothing lost, nothing doubled".to_owned())
}

async fn of_the_coordinator(assay: &Path, megabytes: u64) -> Ended {
    let started = Instant::now();
    let root = tempfile::tempdir().map_err(shown)?;
    let press = Press::start().await?;
    let home = Arc::new(Home::make(assay, root.path(), &press.trust(), OPERATORS, OPERATORS)?);
    let disk = Mounted::new(&home.data(), megabytes)?;
    let load = Load::new(Arc::clone(&home), press, OPERATORS as u64, u64::MAX);
    let mut process = home.start(|_| {})?;
    home.enrol().await?;
    let mut tasks = vec![tokio::spawn(Arc::clone(&load).submitter())];
    for (name, _) in &home.operators {
        tasks.push(tokio::spawn(Arc::clone(&load).worker(name.clone())));
    }
    // Full: it refuses, or it ends.
    let until = Instant::now() + PATIENCE;
    let mut ended = None;
    while load.refused.load(Ordering::SeqCst) < 50 && ended.is_none() {
        load.check()?;
        ended = process.ended()?;
        if Instant::now() > until {
            return Err("the disk did not become full".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refusal = load.refusal.lock().map_err(shown)?.clone();
    let how = match ended {
        None => format!("it refuses and goes on: {refusal:?}"),
        Some(status) if status.code() == Some(FATAL) => format!("it ended with {FATAL}"),
        Some(status) => return Err(format!("it ended with {status}: {}", process.said())),
    };
    let before = load.ledger.receipts();
    // Room again: it goes on by itself, or after a start.
    disk.resize(256)?;
    if ended.is_some() {
        process = home.start(|_| {})?;
    }
    let until = Instant::now() + PATIENCE;
    let mut restarts = u64::from(ended.is_some());
    while load.ledger.receipts() < before + 100 {
        load.check()?;
        if let Some(status) = process.ended()? {
            if status.code() != Some(FATAL) {
                return Err(format!("it ended with {status}: {}", process.said()));
            }
            restarts += 1;
            process = home.start(|_| {})?;
        }
        if Instant::now() > until {
            return Err(format!("it did not go on when there was room: {}", process.said()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    load.images_max.store(0, Ordering::SeqCst);
    let outcomes = all_settled(&load, PATIENCE).await?;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    process.stop()?;
    let found = check(&load, &home.data())?;
    Ok(format!(
        "full coordinator disk ({megabytes} MB): {how}; {before} receipts until then, {} at the \
         end, {restarts} starts needed, {} lost, {} doubled; {outcomes}; {} s",
        load.ledger.receipts(),
        found.lost + found.jobs_lost,
        found.doubled,
        started.elapsed().as_secs()
    ))
}

async fn of_a_worker(assay: &Path, settle: Duration) -> Ended {
    let started = Instant::now();
    let root = tempfile::tempdir().map_err(shown)?;
    let press = Press::start().await?;
    let home = Arc::new(Home::make(assay, root.path(), &press.trust(), 1, 1)?);
    let load = Load::new(Arc::clone(&home), press, 0, 20);
    let mut coordinator = home.start(|_| {})?;
    home.enrol().await?;
    let (name, _) = &home.operators[0];
    let folder = home.worker(name);
    std::fs::create_dir_all(folder.join("outbox")).map_err(shown)?;
    let disk = Mounted::new(&folder.join("outbox"), 1)?;
    // Filled to the last page; the ballast is what is freed later.
    let ballast = folder.join("outbox/ballast");
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=4096", &format!("of={}", ballast.display())])
        .output();
    filled.map_err(shown)?;
    let submitting = tokio::spawn(Arc::clone(&load).submitter());
    let mut command = Command::new(std::env::current_exe().map_err(shown)?);
    command.arg("worker").arg("--folder").arg(&folder).arg("--assay").arg(assay);
    let mut worker = Process::start(command, None)?;
    let status = worker.ends(PATIENCE).await?;
    let status = status.ok_or("a worker whose outbox has no room went on")?;
    let said = worker.said();
    if status.success() || !said.contains("No space left on device") {
        return Err(format!("the worker ended with {status}: {said}"));
    }
    std::fs::remove_file(&ballast).map_err(shown)?;
    disk.resize(16)?;
    let mut command = Command::new(std::env::current_exe().map_err(shown)?);
    command.arg("worker").arg("--folder").arg(&folder).arg("--assay").arg(assay);
    let mut worker = Process::start(command, None)?;
    // What the process that ended had begun is given back, and its jobs leave it alone for a while.
    let until = Instant::now() + 4 * PATIENCE;
    while crate::restore::receipted(&folder)? < 10 {
        if let Some(status) = worker.ended()? {
            return Err(format!("the worker ended with {status}: {}", worker.said()));
        }
        if Instant::now() > until {
            return Err("the worker did not go on when there was room".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The leases of the process that ended last ten minutes.
    let outcomes = all_settled(&load, settle).await?;
    submitting.abort();
    worker.stop()?;
    coordinator.stop()?;
    let left = crate::kills::read_outbox(&folder, &load)?;
    let found = check(&load, &home.data())?;
    let first = said.lines().last().unwrap_or_default().to_owned();
    Ok(format!(
        "full worker disk: it ended with {status} and {first:?}; with room again {} receipts, \
         {left} results without one, {} lost, {} doubled; {outcomes}; {} s",
        load.ledger.receipts(),
        found.lost,
        found.doubled,
        started.elapsed().as_secs()
    ))
}
