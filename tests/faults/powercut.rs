//! Power loss under load: the coordinator is killed, and goes on from what a disk may have kept.
//!
//! Invariant: recovery sees only the image that `image.rs` makes of the log of synced operations;
//! the live folder, which the page cache keeps whole, is thrown away. After each cut every receipt
//! that ever arrived is looked for in the journal's files.

use crate::{
    Arguments, Ended,
    clients::{Load, all_settled},
    coordinator::{Home, Process},
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

/// What one journal's cuts add up to.
#[derive(Default)]
struct Sum {
    acknowledged: u64,
    receipts: u64,
    submissions: u64,
    records: u64,
    lost: Lost,
    found: Found,
}

/// The scenario: several journals, each cut many times.
pub async fn run(arguments: &Arguments) -> Ended {
    let cuts = arguments.number("cuts", 100)?;
    let records = arguments.number("records", 100_000)?;
    let journals = arguments.number("journals", 10)?.clamp(1, cuts);
    let seed = arguments.number("seed", 1)?;
    let started = Instant::now();
    let mut random = StdRng::seed_from_u64(seed);
    let mut sum = Sum::default();
    let mut outcomes = String::new();
    for n in 1..=journals {
        let share = |of: u64| of * n / journals - of * (n - 1) / journals;
        let settle = if n == journals { arguments.number("settle", 1800)? } else { 0 };
        let size = (share(cuts), share(records), settle);
        outcomes = one(arguments, size, &mut random, &mut sum).await?;
        say(&format!(
            "journal {n}: so far {} acknowledged records of {}, {} s",
            sum.acknowledged,
            sum.records,
            started.elapsed().as_secs()
        ));
    }
    let Sum { acknowledged, receipts, submissions, records, lost, found } = sum;
    Ok(format!(
        "powercut: {cuts} cuts of {journals} journals with {records} records; {acknowledged} \
         acknowledged ({receipts} observations, the rest leases and announcements) and \
         {submissions} answered submissions: {} lost, {} doubled. Unsynced at the cuts: {} writes ({} lost in part or whole), {} names ({} lost). After the last: \
         {outcomes}. Seed {seed}, {} s",
        found.lost,
        found.doubled,
        lost.unsynced,
        lost.lost,
        lost.names_unsynced,
        lost.names_lost,
        started.elapsed().as_secs()
    ))
}

/// One journal: cut, look, go on from what is left.
async fn one(
    arguments: &Arguments,
    (cuts, records, settle): (u64, u64, u64),
    random: &mut StdRng,
    sum: &mut Sum,
) -> Ended {
    let (assay, shim) = (arguments.path("assay")?, arguments.path("shim")?);
    let root = tempfile::tempdir().map_err(shown)?;
    let press = Press::start().await?;
    let home = Arc::new(Home::make(&assay, root.path(), &press.trust(), OPERATORS, OPERATORS)?);
    let load = Load::new(Arc::clone(&home), press, OPERATORS as u64, u64::MAX);
    let (state, log) = (root.path().join("disk"), root.path().join("log"));
    fs::create_dir_all(&state).map_err(shown)?;
    let mut tasks = Vec::new();
    for cut in 1..=cuts {
        let mut process = start_on(&home, &state, &log, &shim, None)?;
        if tasks.is_empty() {
            home.enrol().await?;
            tasks = begin(&load);
        }
        progress(&load, &mut process, records * cut / cuts).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
        process.kill()?;
        sum.lost += go_on(root.path(), &state, &log, random)?;
        check(&load, &state)?;
    }
    load.images_max.store(0, Ordering::SeqCst);
    let mut process = start_on(&home, &state, &log, &shim, None)?;
    let outcomes = all_settled(&load, Duration::from_secs(settle)).await?;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    process.stop()?;
    let found = check(&load, &home.data())?;
    sum.acknowledged += load.ledger.acknowledged();
    sum.receipts += load.ledger.receipts();
    sum.submissions += load.ledger.jobs();
    sum.records += found.records;
    sum.found.lost += found.lost + found.jobs_lost;
    sum.found.doubled += found.doubled;
    Ok(outcomes)
}

/// Starts a coordinator on a copy of the disk, recorded.
fn start_on(
    home: &Home,
    state: &Path,
    log: &Path,
    shim: &Path,
    fails_after: Option<u64>,
) -> Result<Process, String> {
    let _ = fs::remove_dir_all(home.data());
    image::copy(state, &home.data()).map_err(shown)?;
    let _ = fs::remove_file(log);
    let base = fs::canonicalize(home.data()).map_err(shown)?;
    home.start(|command| {
        command.env("LD_PRELOAD", shim).env("POWERCUT_BASE", &base).env("POWERCUT_LOG", log);
        if let Some(syncs) = fails_after {
            command.env("POWERCUT_EIO_AFTER", syncs.to_string());
        }
    })
}

/// Puts in the disk's place what is left of it.
fn go_on(root: &Path, state: &Path, log: &Path, random: &mut StdRng) -> Result<Lost, String> {
    let fresh = root.join("disk.next");
    let lost = image::after(state, log, &fresh, random).map_err(shown)?;
    // The machine was started again: it has another boot identity.
    let mark = fresh.join("index.open");
    if mark.exists() {
        fs::write(&mark, "the boot before").map_err(shown)?;
    }
    fs::remove_dir_all(state).map_err(shown)?;
    fs::rename(&fresh, state).map_err(shown)?;
    Ok(lost)
}

/// Waits for acknowledged records.
async fn progress(load: &Load, process: &mut Process, goal: u64) -> Result<(), String> {
    let (mut before, mut moved) = (0, Instant::now());
    while load.ledger.acknowledged() < goal {
        if load.ledger.acknowledged() > before {
            (before, moved) = (load.ledger.acknowledged(), Instant::now());
        } else if moved.elapsed() > STALL {
            return Err(format!("nothing moves: {before} records, {}", process.said()));
        }
        load.check()?;
        if let Some(status) = process.ended()? {
            return Err(format!("the coordinator ended with {status}: {}", process.said()));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
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
        let after = random.random_range(40..200u64);
        let mut process = start_on(&home, &state, &log, &shim, Some(after))?;
        let status = process.ends(STALL).await?;
        let status = status.ok_or("a coordinator went on whose syncs fail")?;
        if status.code() != Some(70) || !process.said().contains("the journal cannot go on") {
            return Err(format!("expected the end with 70, found {status}: {}", process.said()));
        }
        go_on(root.path(), &state, &log, &mut random)?;
        check(&load, &state)?;
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let found = check(&load, &state)?;
    Ok(format!(
        "eio: {times} times syncs failed, each time it ended with 70; {} acknowledged \
         observations: {} lost, {} doubled. Seed {seed}, {} s",
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
