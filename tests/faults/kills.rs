//! SIGKILL of the coordinator and of real workers under load, at any moment.
//!
//! The workers are the real daemon with its outbox; only the building process is the one that claims
//! what is published. Invariant: at the end every result in an outbox that has a receipt is in the
//! journal exactly once, at the place that the receipt names, and every image is judged.

use crate::{
    Arguments, Ended,
    clients::{Load, all_settled},
    coordinator::{Home, Process},
    press::Press,
    say, shown,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use worker::daemon::{
    child::Launcher,
    config::Loaded,
    identity::Identity,
    run::{Stop, Worker},
};

/// Operators, each with one worker process; three are asked for every image.
const OPERATORS: usize = 4;
const WANTED: usize = 3;
/// Images that are there at first, and how many come with each kill.
const IMAGES_AT_FIRST: u64 = 20;
const IMAGES_PER_KILL: u64 = 2;

/// The scenario.
pub async fn run(arguments: &Arguments) -> Ended {
    let assay = arguments.path("assay")?;
    let kills = arguments.number("kills", 1000)?;
    let seed = arguments.number("seed", 1)?;
    let settle = arguments.number("settle", 1800)?;
    let started = Instant::now();
    let root = tempfile::tempdir().map_err(shown)?;
    let press = Press::start().await?;
    let home = Arc::new(Home::make(&assay, root.path(), &press.trust(), OPERATORS, WANTED)?);
    let load = Load::new(Arc::clone(&home), press, 0, IMAGES_AT_FIRST);
    let mut random = StdRng::seed_from_u64(seed);
    let mut coordinator = home.start(|_| {})?;
    home.enrol().await?;
    let mut workers = Vec::new();
    for (name, _) in &home.operators {
        workers.push(start_worker(&home, name)?);
    }
    let submitting = tokio::spawn(Arc::clone(&load).submitter());
    let (mut of_coordinator, mut of_workers) = (0, 0);
    while of_coordinator + of_workers < kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(20..160))).await;
        load.check()?;
        if random.random_bool(0.5) {
            coordinator.kill()?;
            coordinator = home.start(|_| {})?;
            of_coordinator += 1;
        } else {
            let which = random.random_range(0..workers.len());
            workers[which].kill()?;
            workers[which] = start_worker(&home, &home.operators[which].0)?;
            of_workers += 1;
        }
        // Work does not run out, whatever single images wait for.
        load.images_max.fetch_add(IMAGES_PER_KILL, Ordering::SeqCst);
        if (of_coordinator + of_workers) % kills.div_ceil(10) == 0 {
            let done = of_coordinator + of_workers;
            say(&format!("{done} kills, {} s", started.elapsed().as_secs()));
        }
    }
    load.images_max.store(0, Ordering::SeqCst);
    let outcomes = all_settled(&load, Duration::from_secs(settle)).await?;
    submitting.abort();
    for worker in &mut workers {
        if let Some(status) = worker.ended()? {
            return Err(format!("a worker ended with {status}: {}", worker.said()));
        }
        worker.stop()?;
    }
    let status = coordinator.stop()?;
    let mut left = 0;
    for (name, _) in &home.operators {
        left += read_outbox(&home.worker(name), &load)?;
    }
    let found = crate::powercut::check(&load, &home.data())?;
    Ok(format!(
        "kills: {of_coordinator} of the coordinator, {of_workers} of workers; {} receipts in \
         outboxes, {left} results without one, {} acknowledged submissions in {} records: {} lost, \
         {} doubled. Afterwards: {outcomes}; the end: {status}. Seed {seed}, {} s",
        load.ledger.receipts(),
        load.ledger.jobs(),
        found.records,
        found.lost + found.jobs_lost,
        found.doubled,
        started.elapsed().as_secs()
    ))
}

/// Starts a worker that claims what is published.
pub fn start_worker(home: &Home, name: &str) -> Result<Process, String> {
    let mut command = Command::new(std::env::current_exe().map_err(shown)?);
    command.arg("worker").arg("--folder").arg(home.worker(name)).arg("--assay").arg(&home.assay);
    Process::start(command, None)
}

/// A worker process: the real daemon.
pub async fn worker(arguments: &Arguments) -> Ended {
    let (folder, program) = (arguments.path("folder")?, arguments.path("assay")?);
    let loaded = Loaded::read(&folder).map_err(shown)?;
    let identity = Identity::load(&loaded.key_path()).map_err(shown)?;
    let arguments = arguments.words("execute", &["worker", "lie"]);
    let worker = Worker::open(loaded, identity, Launcher { program, arguments }).map_err(shown)?;
    let stop = Stop::default();
    let drain = stop.now.clone();
    tokio::spawn(async move {
        let kind = tokio::signal::unix::SignalKind::terminate();
        if let Ok(mut terminate) = tokio::signal::unix::signal(kind) {
            terminate.recv().await;
            drain.cancel();
        }
    });
    let ended = worker.run(stop).await;
    if let Err(error) = &ended {
        use std::io::Write;
        let _ = writeln!(std::io::stderr().lock(), "{error}");
    }
    ended.map(|_| "stopped".to_owned()).map_err(shown)
}

/// Takes every receipt of an outbox into the ledger; gives how many results wait for one.
pub fn read_outbox(worker: &Path, load: &Load) -> Result<usize, String> {
    let folder = worker.join("outbox");
    for entry in fs::read_dir(folder.join("receipted")).map_err(shown)?.flatten() {
        let bytes = fs::read(entry.path()).map_err(shown)?;
        let stored: serde_json::Value = serde_json::from_slice(&bytes).map_err(shown)?;
        let envelope = attest::dsse::Envelope::from_value(stored["envelope"].clone());
        let position = stored["position"].as_u64().ok_or("expected a position")?;
        load.ledger.receipt(&envelope.map_err(shown)?.to_json(), position);
    }
    Ok(fs::read_dir(folder.join("pending")).map_err(shown)?.flatten().count())
}
