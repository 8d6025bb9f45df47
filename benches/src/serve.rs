//! The server process: a real daemon on a folder, and, where asked, somebody who announces jobs.
//!
//! It prints one line when it listens, serves until its input ends, and prints one line about what
//! it did.

use crate::{arguments::Arguments, fleet, image::Image};
use anyhow::{Context, Result};
use attest::{Digest, id::JobId};
use coordinator::{
    daemon::{Core, Daemon, evidence, notary, wall},
    journal::{Kind, NewRecord},
    queue::{Class, Event, Job, JobSpec, Tenant},
    setup::Loaded,
};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Jobs that wait, at least, while the feeder works.
const AHEAD: u64 = 1000;
/// Jobs that are not judged, at most: offers that nobody took are counted as taken.
const UNJUDGED_MAX: u64 = 50_000;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listening {
    /// Where gRPC listens.
    pub grpc: String,
    /// How long opening the store took.
    pub open_ms: u64,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Served {
    /// Jobs that were announced.
    pub announced: u64,
    /// Jobs that were judged.
    pub judged: u64,
}

/// A server process, and how to end it.
pub struct Server {
    /// What it said first.
    pub listening: Listening,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
}

impl Server {
    /// Starts one on this folder; `jobs` are announced as they are needed.
    pub fn start(folder: &Path, jobs: u64, wanted: u32) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--folder"])
            .arg(folder)
            .args(["--jobs", &jobs.to_string(), "--wanted", &wanted.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let listening = serde_json::from_str(&line).context("the server did not start")?;
        Ok(Self { listening, child, input, output })
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Tells the feeder to begin.
    pub fn feed(&mut self) -> Result<()> {
        let input = self.input.as_mut().context("the server was stopped")?;
        Ok(input.write_all(b"feed\n")?)
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<Served> {
        drop(self.input.take());
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        self.child.wait()?;
        serde_json::from_str(&line).context("the server said nothing at its end")
    }
}

/// The process.
pub fn run(arguments: &Arguments) -> Result<()> {
    let (folder, jobs) = (arguments.folder()?, arguments.get("jobs", 0u64)?);
    let wanted = arguments.get("wanted", 1u32)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let started = Instant::now();
        let daemon = Daemon::open(Loaded::read(&fleet::home(&folder))?, fleet::limits()).await?;
        let open_ms = u64::try_from(started.elapsed().as_millis())?;
        let (core, stop) = (daemon.core(), CancellationToken::new());
        let before = core.store.totals().unfinished;
        let prepared = prepare(&folder, &core, jobs, wanted)?;
        let listening = Listening { grpc: daemon.grpc.to_string(), open_ms };
        let serving = tokio::spawn(daemon.run(stop.clone()));
        say(&listening)?;
        let fed = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?;
        let announced = AtomicU64::new(0);
        if fed.is_some() {
            let feeding = feed(&core, prepared, &announced);
            let ended =
                tokio::task::spawn_blocking(|| while std::io::stdin().lines().next().is_some() {});
            tokio::select! {
                fed = feeding => fed?,
                _ = ended => {}
            }
        }
        let announced = announced.into_inner();
        let judged = (before + announced).saturating_sub(core.store.totals().unfinished);
        say(&Served { announced, judged })?;
        stop.cancel();
        serving.await??;
        anyhow::Ok(())
    })
}

fn say(line: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

struct Prepared {
    spec: JobSpec,
    pieces: Vec<NewRecord>,
    evidence: Vec<Digest>,
}

/// Makes the images before anything is measured: publishers sign elsewhere.
fn prepare(folder: &Path, core: &Core, jobs: u64, wanted: u32) -> Result<Vec<Prepared>> {
    let publisher = fleet::publisher(folder)?;
    let each = (0..jobs).map(|number| {
        let image = Image::new(number, &publisher, &core.loaded.policy)?;
        let recipes = image.recipes.clone();
        let spec = JobSpec::new(image.subject, recipes, "apko", 0, wanted, 3_600_000)?;
        let evidence = image.set.publisher.iter().map(|e| e.digest).collect();
        let pieces = evidence::pieces(&spec.id, &image.set)?;
        anyhow::Ok(Prepared { spec, pieces, evidence })
    });
    each.collect()
}

/// Announces so that jobs always wait, and never many.
async fn feed(core: &Arc<Core>, prepared: Vec<Prepared>, announced: &AtomicU64) -> Result<()> {
    let wanted = prepared.first().map_or(1, |job| u64::from(job.spec.wanted));
    let mut jobs = prepared.into_iter();
    loop {
        // What is observed and not judged yet waits for nobody.
        let offered = core.store.tallies().get("offered").copied().unwrap_or_default();
        let waiting = announced.load(Ordering::Relaxed).saturating_sub(offered / wanted);
        let unjudged = core.store.totals().unfinished;
        let room = AHEAD.saturating_sub(waiting).min(UNJUDGED_MAX.saturating_sub(unjudged));
        let room = usize::try_from(room)?;
        let batch: Vec<Prepared> = jobs.by_ref().take(room).collect();
        if batch.is_empty() {
            if jobs.len() == 0 {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        }
        let mut calls = stream::iter(batch).map(|job| announce(core, job)).buffer_unordered(64);
        while let Some(done) = calls.next().await {
            done?;
            announced.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn announce(core: &Arc<Core>, job: Prepared) -> Result<JobId> {
    let Prepared { spec, pieces, evidence } = job;
    let (id, shared) = (spec.id, Arc::clone(core));
    let facts = notary::AnnouncedFacts { index: None, evidence, reopened_by: Vec::new() };
    let attach = Box::new(move |job: &Job| {
        let key = &shared.loaded.verdict_key;
        let announce = notary::announcement(job, &facts, key, wall::now());
        let announce = announce.map(|body| NewRecord::new(Kind::ANNOUNCE, job.spec.id.0, body));
        pieces.into_iter().chain(announce).collect()
    });
    let event = Event::Announce { spec, tenant: Tenant("load".into()), class: Class::Push };
    core.store.act(event, attach).await?;
    Ok(id)
}
