//! Power loss under load: the coordinator is killed, and goes on from what a disk may have kept.
//!
//! Invariant: recovery sees only the image that `image.rs` makes of the log of synced operations;
//! the live folder, which the page cache keeps whole, is thrown away. After each cut every receipt
//! that ever arrived is looked for in the journal's files.

use crate::{
    Arguments, Ended,
    clients::{Load, all_settled},
    coordinator::Home,
    image::{self, Lost},
    ledger::Found,
    press::Press,
    say, shown,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// Operators, each with a worker; all are asked for every image.
const OPERATORS: usize = 8;
/// Without one receipt for so long, something is stuck.
const STALL: Duration = Duration::from_secs(120);
/// Submitters at the same time.
const SUBMITTERS: usize = 4;

/// The scenario.
pub async fn run(arguments: &Arguments) -> Ended {
    let (assay, shim) = (arguments.path("assay")?, arguments.path("shim")?);
    let cuts = arguments.number("cuts", 100)?;
    let receipts = arguments.number("receipts", 100_000)?;
    let seed = arguments.number("seed", 1)?;
    let settle = arguments.number("settle", 1800)?;
    let started = Instant::now();
    let root = tempfile::tempdir().map_err(shown)?;
    let press = Press::start().await?;
    let home = Arc::new(Home::make(&assay, root.path(), &press.trust(), OPERATORS, OPERATORS)?);
    let load = Load::new(Arc::clone(&home), press, OPERATORS as u64, u64::MAX);
    let mut random = StdRng::seed_from_u64(seed);
    let (state, log) = (root.path().join("disk"), root.path().join("log"));
    fs::create_dir_all(&state).map_err(shown)?;
    let (mut lost, mut enrolled, mut tasks) = (Lost::default(), false, Vec::new());
    let mut found = Found::default();
    for cut in 1..=cuts {
        let data = home.data();
        let _ = fs::remove_dir_all(&data);
        image::copy(&state, &data).map_err(shown)?;
        let _ = fs::remove_file(&log);
        let base = fs::canonicalize(&data).map_err(shown)?;
        let mut process = home.start(|command| {
            command.env("LD_PRELOAD", &shim).env("POWERCUT_BASE", &base).env("POWERCUT_LOG", &log);
        })?;
        if !enrolled {
            home.enrol().await?;
            enrolled = true;
            tasks = begin(&load);
        }
        let goal = receipts * cut / cuts;
        let (mut before, mut moved) = (0, Instant::now());
        while load.ledger.receipts() < goal {
            if load.ledger.receipts() > before {
                (before, moved) = (load.ledger.receipts(), Instant::now());
            } else if moved.elapsed() > STALL {
                return Err(format!("nothing moves: {before} receipts, {}", process.said()));
            }
            load.check()?;
            if let Some(status) = process.ended()? {
                return Err(format!("the coordinator ended with {status}: {}", process.said()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
        process.kill()?;
        let fresh = root.path().join("disk.next");
        lost += image::after(&state, &log, &fresh, &mut random).map_err(shown)?;
        fs::remove_dir_all(&state).map_err(shown)?;
        fs::rename(&fresh, &state).map_err(shown)?;
        found = check(&load, &state)?;
        if cut % cuts.div_ceil(20) == 0 {
            say(&format!(
                "cut {cut}: {} records, {} receipts, {} s",
                found.records,
                load.ledger.receipts(),
                started.elapsed().as_secs()
            ));
        }
    }
    load.images_max.store(0, Ordering::SeqCst);
    let _ = fs::remove_dir_all(home.data());
    image::copy(&state, &home.data()).map_err(shown)?;
    let mut process = home.start(|_| {})?;
    let outcomes = all_settled(&load, Duration::from_secs(settle)).await?;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let status = process.stop()?;
    let last = check(&load, &home.data())?;
    Ok(format!(
        "powercut: {cuts} cuts, {} acknowledged observations and {} acknowledged submissions in \
         {} records: {} lost, {} doubled. Unsynced at the cuts: {} writes ({} lost in part or \
         whole), {} names ({} lost). Afterwards: {outcomes}; the end: {status}. Seed {seed}, {} s",
        load.ledger.receipts(),
        load.ledger.jobs(),
        last.records.max(found.records),
        last.lost + last.jobs_lost,
        last.doubled,
        lost.unsynced,
        lost.lost,
        lost.names_unsynced,
        lost.names_lost,
        started.elapsed().as_secs()
    ))
}

/// A disk whose syncs fail: the coordinator must end with 70, and everything that it acknowledged
/// before must be on what the disk kept.
pub async fn failing_syncs(arguments: &Arguments) -> Ended {
    let (assay, shim) = (arguments.path("assay")?, arguments.path("shim")?);
    let times = arguments.number("times", 10)?;
    let seed = arguments.number("seed", 1)?;
    let started = Instant::now();
    let root = tempfile::tempdir().map_err(shown)?;
    let press = Press::start().await?;
    let home = Arc::new(Home::make(&assay, root.path(), &press.trust(), OPERATORS, OPERATORS)?);
    let load = Load::new(Arc::clone(&home), press, OPERATORS as u64, u64::MAX);
    let mut random = StdRng::seed_from_u64(seed);
    let (state, log) = (root.path().join("disk"), root.path().join("log"));
    let mut process = home.start(|_| {})?;
    home.enrol().await?;
    process.stop()?;
    fs::rename(home.data(), &state).map_err(shown)?;
    let tasks = begin(&load);
    for _ in 0..times {
        let _ = fs::remove_dir_all(home.data());
        image::copy(&state, &home.data()).map_err(shown)?;
        let _ = fs::remove_file(&log);
        let base = fs::canonicalize(home.data()).map_err(shown)?;
        let after = random.random_range(40..200u64).to_string();
        let mut process = home.start(|command| {
            command.env("LD_PRELOAD", &shim).env("POWERCUT_BASE", &base).env("POWERCUT_LOG", &log);
            command.env("POWERCUT_EIO_AFTER", after);
        })?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = process.ended()? {
                break status;
            }
            if begun.elapsed() > STALL {
                return Err("a coordinator went on whose syncs fail".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        if status.code() != Some(70) || !process.said().contains("the journal cannot go on") {
            return Err(format!("expected the end with 70, found {status}: {}", process.said()));
        }
        let fresh = root.path().join("disk.next");
        image::after(&state, &log, &fresh, &mut random).map_err(shown)?;
        fs::remove_dir_all(&state).map_err(shown)?;
        fs::rename(&fresh, &state).map_err(shown)?;
        check(&load, &state)?;
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let found = check(&load, &state)?;
    Ok(format!(
        "eio: {times} times syncs failed, each time it ended with 70; {} acknowledged observations: \
         {} lost, {} doubled. Seed {seed}, {} s",
        load.ledger.receipts(),
        found.lost + found.jobs_lost,
        found.doubled,
        started.elapsed().as_secs()
    ))
}

fn begin(load: &Arc<Load>) -> Vec<tokio::task::JoinHandle<()>> {
    let mut tasks = Vec::new();
    for _ in 0..SUBMITTERS {
        let load = Arc::clone(load);
        tasks.push(tokio::spawn(async move {
            let ended = Arc::clone(&load).submitter().await;
            say(&format!("a submitter ended: {ended:?}"));
        }));
    }
    for (name, _) in &load.home.operators {
        let (load, name) = (Arc::clone(load), name.clone());
        tasks.push(tokio::spawn(async move {
            let ended = load.worker(name).await;
            say(&format!("a worker ended: {ended:?}"));
        }));
    }
    tasks
}

/// Everything that was acknowledged before now must be in the journal.
pub fn check(load: &Load, data: &Path) -> Result<Found, String> {
    load.check()?;
    let found = load.ledger.check(data)?;
    match found.good() {
        true => Ok(found),
        false => Err(format!("{found:?}")),
    }
}
