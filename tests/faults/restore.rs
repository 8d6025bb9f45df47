//! A coordinator that lost its disk, a backup from before, and workers that hold later receipts.
//!
//! Invariant: after the restore every result that a worker holds a receipt for is in the journal
//! again, exactly once, and the worker has a receipt that names its new place.

use crate::{
    Arguments, Ended,
    clients::{Load, all_settled},
    coordinator::{Home, Process},
    powercut::check,
    press::Press,
    shown,
};
use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

const OPERATORS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(120);

/// The scenario.
pub async fn run(arguments: &Arguments) -> Ended {
    let assay = arguments.path("assay")?;
    let started = Instant::now();
    let root = tempfile::tempdir().map_err(shown)?;
    let press = Press::start().await?;
    let home = Arc::new(Home::make(&assay, root.path(), &press.trust(), OPERATORS, OPERATORS)?);
    let load = Load::new(Arc::clone(&home), Arc::clone(&press), 0, 6);
    let mut coordinator = home.start(|_| {})?;
    home.enrol().await?;
    let mut workers = Vec::new();
    for (name, _) in &home.operators {
        let mut command = Command::new(std::env::current_exe().map_err(shown)?);
        command.arg("worker").arg("--folder").arg(home.worker(name)).arg("--assay").arg(&assay);
        workers.push(Process::start(command, None)?);
    }
    let submitting = tokio::spawn(Arc::clone(&load).submitter());
    submitted(&load, 6).await?;
    all_settled(&load, PATIENCE).await?;
    let copy = root.path().join("backup");
    assay_does(&assay, &["coordinator", "backup"], &[&home.folder, &copy])?;
    load.images_max.store(12, Ordering::SeqCst);
    submitted(&load, 12).await?;
    all_settled(&load, PATIENCE).await?;
    submitting.abort();
    // The disk is lost with everything that came after the backup.
    coordinator.kill()?;
    let before = held(&home)?;
    fs::remove_dir_all(home.data()).map_err(shown)?;
    assay_does(&assay, &["coordinator", "restore"], &[&copy, &home.folder])?;
    let mut coordinator = home.start(|_| {})?;
    // The lost images are submitted again, so that there is a job to file the results under.
    let outcomes = all_settled(&load, PATIENCE).await?;
    let until = Instant::now() + PATIENCE;
    let fresh = Load::new(Arc::clone(&home), press, 0, 0);
    loop {
        let waiting: usize =
            home.operators.iter().map(|(name, _)| waiting(&home.worker(name))).sum();
        if waiting == 0 && held(&home)? >= before {
            break;
        }
        if Instant::now() > until {
            return Err(format!("{waiting} results wait for a receipt: {}", coordinator.said()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked = coordinator.said().contains("acknowledged records were lost");
    for worker in &mut workers {
        worker.stop()?;
    }
    coordinator.stop()?;
    for (name, _) in &home.operators {
        crate::kills::read_outbox(&home.worker(name), &fresh)?;
    }
    let found = check(&fresh, &home.data())?;
    if !asked {
        return Err("the coordinator did not say that records were lost".to_owned());
    }
    Ok(format!(
        "restore: {} receipts before, {} after; {} lost, {} doubled; {outcomes}; {} s",
        before,
        fresh.ledger.receipts(),
        found.lost,
        found.doubled,
        started.elapsed().as_secs()
    ))
}

async fn submitted(load: &Load, images: u64) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    while load.ledger.jobs() < images {
        if Instant::now() > until {
            return Err(format!("expected {images} images, found {}", load.ledger.jobs()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Receipts in all outboxes.
fn held(home: &Home) -> Result<usize, String> {
    home.operators.iter().map(|(name, _)| receipted(&home.worker(name))).sum()
}

/// Receipts in a worker's outbox.
pub fn receipted(worker: &Path) -> Result<usize, String> {
    match fs::read_dir(worker.join("outbox/receipted")) {
        Ok(entries) => Ok(entries.flatten().count()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(shown(error)),
    }
}

fn waiting(worker: &Path) -> usize {
    fs::read_dir(worker.join("outbox/pending")).map_or(0, |entries| entries.flatten().count())
}

fn assay_does(assay: &Path, words: &[&str], paths: &[&Path]) -> Result<(), String> {
    let done = Command::new(assay).args(words).args(paths).output().map_err(shown)?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}
