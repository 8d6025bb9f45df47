//! The loop: sync, accept, build, sign, hand in.
//!
//! Invariant: on every new connection the first call is a sync that compares receipts; only then
//! does what is in the outbox go, before anything else ([`hand_in`]). A job is given back (declined)
//! only where nothing was observed. No more jobs are taken than there are slots, whatever is
//! offered, and none while jobs cannot be run here ([`Fitness`]). The loop ends only when it is told
//! to, or when something on this side is wrong that no waiting mends (its own disk, its key).

mod give_back;
mod hand_in;
mod job_folder;
mod jobs;
mod offers;
mod sync;

use super::{
    cage,
    child::{ChildError, Launcher},
    config::Loaded,
    connect::{self, Client, ConnectError, Connections},
    fitness::Fitness,
    identity::Identity,
    observe::Draft,
    offer::CheckedOffer,
    outbox::{Outbox, OutboxError},
};
use attest::{
    id::{Fence, LeaseId},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Waiting after a failed call: doubles from the first to the last, with jitter.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_LAST: Duration = Duration::from_secs(30);
/// Longest that no job is asked for after an offer that another key signed.
const STRANGER_REST_LAST: Duration = Duration::from_secs(60);

/// Why the worker ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The connection can't be set up at all.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The coordinator refuses this worker.
    #[error("the coordinator refuses this worker: {0}; has its operator enrolled it?")]
    Refused(String),
    /// A folder of the worker.
    #[error("expected to use {path}: {error}")]
    Folder {
        /// Which.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
}

/// How a worker is stopped.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// No new work; ends when the running jobs are handed in.
    pub drain: CancellationToken,
    /// Ends at once: jobs are killed and given back.
    pub now: CancellationToken,
}

struct Running {
    offer: CheckedOffer,
    task: JoinHandle<()>,
}

/// What a job's task reports: the lease and what the build said.
struct Finished {
    lease: LeaseId,
    draft: Result<Draft, ChildError>,
}

/// What a worker that was stopped leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Results that the coordinator refused for good, kept in `outbox/refused`: of this run, and of
    /// earlier ones.
    pub refused: usize,
}

/// A worker at work.
pub struct Worker {
    loaded: Arc<Loaded>,
    identity: Identity,
    outbox: Outbox,
    client: Client,
    connections: Connections,
    /// The connection on which receipts were compared.
    compared_on: Option<u64>,
    /// Syncs that were answered.
    syncs: u64,
    /// Results that were refused for good once, and after which sync.
    refusals: BTreeMap<LeaseId, u64>,
    fitness: Fitness,
    /// How long none is asked for since another key signed offers.
    strangers: Fitness,
    /// Why the last offer was refused, if it was: said once, not with each.
    refusing: Option<String>,
    launcher: Launcher,
    running: BTreeMap<LeaseId, Running>,
    finished: (mpsc::Sender<Finished>, mpsc::Receiver<Finished>),
    refused: BTreeSet<LeaseId>,
    /// Leases that an earlier process was at when it was killed: to be given back.
    left: Vec<(LeaseId, Fence)>,
    failures: u32,
    /// One process for a folder: two would kill each other's jobs and answer one lease twice.
    _lock: fs::File,
}

impl Worker {
    /// Opens the worker's folders and prepares the connection. Processes and temporary files that an
    /// earlier process left are ended and removed.
    pub fn open(loaded: Loaded, identity: Identity, launcher: Launcher) -> Result<Self, RunError> {
        let work = loaded.work_folder();
        let folder = |error| RunError::Folder { path: work.display().to_string(), error };
        // Before anything is swept: the jobs of another process on this folder are not leftovers.
        let path = loaded.folder.join("LOCK");
        let lock = fs::File::options().create(true).write(true).truncate(false).open(&path);
        let lock = lock.map_err(folder)?;
        if lock.try_lock().is_err() {
            let path = loaded.folder.display().to_string();
            let error = std::io::Error::other("another worker is at work there; stop it first");
            return Err(RunError::Folder { path, error });
        }
        match cage::sweep(&work) {
            Some(0) => {}
            Some(killed) => {
                tracing::warn!(processes.killed = killed, "processes of an earlier worker ended");
            }
            None => {
                let why = "processes of an earlier worker use it and could not be ended";
                return Err(folder(std::io::Error::other(why)));
            }
        }
        let left = job_folder::left_in(&work);
        if work.exists() {
            fs::remove_dir_all(&work).map_err(folder)?;
        }
        fs::create_dir_all(&work).map_err(folder)?;
        let outbox = Outbox::open(&loaded.outbox_folder())?;
        let (client, connections) =
            connect::client(&loaded.config.coordinator, loaded.ca_pem.as_deref(), &identity)?;
        Ok(Self {
            loaded: Arc::new(loaded),
            identity,
            outbox,
            client,
            connections,
            compared_on: None,
            syncs: 0,
            refusals: BTreeMap::new(),
            fitness: Fitness::default(),
            strangers: Fitness::resting_at_most(STRANGER_REST_LAST),
            refusing: None,
            launcher,
            running: BTreeMap::new(),
            finished: mpsc::channel(64),
            refused: BTreeSet::new(),
            left,
            failures: 0,
            _lock: lock,
        })
    }

    /// Works until it is stopped.
    pub async fn run(mut self, stop: Stop) -> Result<Left, RunError> {
        tracing::info!(worker.id = %self.identity.worker(), "worker started");
        while !stop.now.is_cancelled() {
            let handed_in = self.send_pending().await?;
            if stop.drain.is_cancelled() && self.running.is_empty() && handed_in {
                break;
            }
            self.give_back_left().await?;
            let draining = stop.drain.is_cancelled();
            let wait = tokio::select! {
                wait = self.sync(draining) => wait?,
                // A held call must not hold up the end.
                () = stop.now.cancelled() => break,
                () = stop.drain.cancelled(), if !draining => continue,
            };
            self.wait(wait, &stop).await?;
        }
        self.give_back().await;
        let refused = self.outbox.refused()?;
        tracing::info!(
            worker.id = %self.identity.worker(),
            outbox.refused = refused,
            "worker stopped"
        );
        Ok(Left { refused })
    }

    /// Waits for the next sync, a finished job, or being told to stop.
    async fn wait(&mut self, wait: Duration, stop: &Stop) -> Result<(), RunError> {
        let until = Instant::now() + wait;
        let drained = stop.drain.is_cancelled();
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = stop.now.cancelled() => {}
            () = stop.drain.cancelled(), if !drained => {}
            Some(finished) = self.finished.1.recv() => self.finish(finished).await?,
        }
        while let Ok(finished) = self.finished.1.try_recv() {
            self.finish(finished).await?;
        }
        Ok(())
    }

    fn failed(&mut self, call: &str, status: Status) -> Result<Duration, RunError> {
        use tonic::Code;
        if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated) {
            return Err(RunError::Refused(status.message().to_owned()));
        }
        self.failures = self.failures.saturating_add(1);
        let wait = proto::status::retry_after(&status).unwrap_or_else(|| backoff(self.failures));
        tracing::warn!(
            call.method = call,
            reason = %status.message(),
            call.retry_ms = wait.as_millis() as u64,
            "the coordinator does not answer"
        );
        Ok(wait)
    }
}

fn backoff(failures: u32) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(1 << failures.min(16).saturating_sub(1));
    let jitter = rand::random_range(0.5..1.0);
    doubled.min(BACKOFF_LAST).mul_f64(jitter)
}

fn now() -> Timestamp {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Timestamp::from_unix(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default()
}
