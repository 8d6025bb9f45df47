//! The loop: sync, accept, build, sign, hand in.
//!
//! Invariant: on every new connection the first call is a sync that compares receipts; only then
//! does what is in the outbox go, before anything else ([`hand_in`]). A job is given back (declined)
//! only where nothing was observed. No more jobs are taken than there are slots, whatever is
//! offered, and none while jobs cannot be run here ([`Fitness`]). The loop ends only when it is told
//! to, or when something on this side is wrong that no waiting mends (its own disk, its key).

mod hand_in;

use super::{
    cage,
    child::{self, ChildError, Launcher, Order},
    config::Loaded,
    connect::{self, Client, ConnectError, Connections},
    environment,
    fitness::Fitness,
    identity::Identity,
    observe::{self, Draft, Witness},
    offer::{self, CheckedOffer, OfferError},
    outbox::{Outbox, OutboxError, PendingResult},
};
use attest::{
    dsse::Envelope,
    id::{Fence, JournalPosition, LeaseId},
    observation::Observation,
    time::Timestamp,
};
use proto::v1;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Waiting after a failed call: doubles from the first to the last, with jitter.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_LAST: Duration = Duration::from_secs(30);
/// An acceptance is asked for again this often while the coordinator is away: for about 8 s.
const ACCEPT_TRIES_MAX: u32 = 6;
/// While jobs run, the coordinator hears of them this often (it suspects silence after 60 s).
const HEARTBEAT: Duration = Duration::from_secs(15);
/// An idle call is held this long on the other side.
const HOLD_SECONDS: u32 = 30;
/// A clock that is further off than this is said aloud.
const CLOCK_SKEW_MAX_SECONDS: i64 = 300;

/// Longest that no job is asked for after an offer that another key signed.
const STRANGER_REST_LAST: Duration = Duration::from_secs(60);

/// The file in a job's folder that names the lease's fence, for the next process.
const FENCE_FILE: &str = ".fence";
/// Folders of earlier jobs that are looked at: a worker holds at most 256 leases.
const LEFT_MAX: usize = 1024;

/// Every architecture that apko knows, in Go's words.
const ARCHITECTURES: [&str; 8] =
    ["386", "amd64", "arm", "arm64", "loong64", "ppc64le", "riscv64", "s390x"];

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
        let left = left_in(&work);
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

    async fn sync(&mut self, draining: bool) -> Result<Duration, RunError> {
        let free = self.room();
        // A held call would keep back what waits for the comparison, or for the end of a rest. What
        // waits says so itself: the connection may change under this very call.
        let nothing_waits = self.compared() && self.outbox.waiting()?.is_empty();
        let idle = self.running.is_empty() && !draining && nothing_waits;
        let rest = self.rest();
        let hold = if rest.is_zero() { HOLD_SECONDS } else { rest.as_secs().min(30) as u32 };
        let newest = self.outbox.newest_receipt();
        let request = v1::SyncRequest {
            worker_version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: Some(capabilities(self.loaded.config.memory_mib_max)),
            slots_free: if draining { 0 } else { free },
            draining,
            leases: self.held(),
            wait_seconds: if idle { hold } else { 0 },
            worker_time: now().unix(),
            newest_receipt_position: newest.map_or(0, |held| held.position.0),
            holds_receipts: newest.is_some(),
            newest_receipt_observation: newest
                .map_or_else(String::new, |held| held.observation.to_string()),
        };
        match self.client.sync(request).await {
            Ok(response) => {
                (self.failures, self.syncs) = (0, self.syncs + 1);
                let response = response.into_inner();
                self.obey(response).await
            }
            Err(status) => self.failed("sync", status),
        }
    }

    /// How long no job is asked for.
    fn rest(&self) -> Duration {
        let now = Instant::now();
        self.fitness.rest(now).max(self.strangers.rest(now))
    }

    /// How many jobs can be begun now.
    fn room(&self) -> u32 {
        if self.rest().is_zero() {
            self.loaded.config.slots.saturating_sub(self.running.len() as u32)
        } else {
            0
        }
    }

    fn held(&self) -> Vec<v1::HeldLease> {
        let held = self.running.values().map(|running| v1::HeldLease {
            lease: running.offer.lease.lease.to_string(),
            fence: running.offer.lease.fence.0,
            phase: "building".to_owned(),
            progress_percent: 0,
        });
        held.collect()
    }

    async fn obey(&mut self, response: v1::SyncResponse) -> Result<Duration, RunError> {
        let skew = response.coordinator_time - now().unix();
        if skew.abs() > CLOCK_SKEW_MAX_SECONDS {
            tracing::warn!(
                clock.skew_seconds = skew,
                "this machine's clock differs from the coordinator's"
            );
        }
        for lease in response.stop.iter().filter_map(|text| text.parse::<LeaseId>().ok()) {
            if let Some(running) = self.running.remove(&lease) {
                self.end(running.task, lease).await;
                tracing::info!(lease.id = %lease, "the coordinator ended the lease");
            }
        }
        if response.resubmit {
            let from = JournalPosition(response.resubmit_from_position);
            let results = self.outbox.reopen_from(from)?;
            tracing::warn!(
                journal.position = from.0,
                outbox.results = results,
                "the coordinator lost results that it had receipted: they are sent again"
            );
        }
        let newly = !self.compared();
        self.compared_on = Some(self.connections.newest());
        if newly || response.resubmit {
            self.send_pending().await?;
        }
        let mut offered = false;
        for offer in response.offers {
            offered |= self.take(&offer).await?;
        }
        let next = Duration::from_secs(u64::from(response.next_sync_seconds.min(60)));
        let free = self.room() > 0;
        Ok(match (self.running.is_empty(), offered) {
            (_, true) if free => Duration::ZERO,
            (false, _) => next.min(HEARTBEAT),
            (true, _) => next,
        })
    }

    /// Checks an offer, accepts it and starts the job; or says why not. True if the offer was the
    /// coordinator's.
    async fn take(&mut self, offer: &v1::Offer) -> Result<bool, RunError> {
        let key = &self.loaded.coordinator_key;
        let checked = match offer::read(offer, key, self.identity.worker()) {
            Ok(checked) => checked,
            Err(why) => {
                self.refuse(offer, &why).await;
                return Ok(false);
            }
        };
        self.refusing = None;
        self.strangers.ran();
        let lease = checked.lease.lease;
        if self.running.contains_key(&lease) || self.refused.contains(&lease) {
            return Ok(true);
        }
        if self.outbox.answered(&lease)? {
            return Ok(true);
        }
        if self.room() == 0 {
            let reason = "no slot of this worker is free".to_owned();
            self.decline_lease(lease, checked.lease.fence, reason).await;
            return Ok(true);
        }
        let request = v1::AcceptRequest { lease: lease.to_string(), fence: checked.lease.fence.0 };
        match self.accept(request).await {
            Ok(accepted) => {
                let allowed = Duration::from_secs(accepted.into_inner().execution_seconds_max);
                self.begin(checked, allowed)?;
            }
            Err(status) => {
                tracing::info!(lease.id = %lease, reason = %status.message(), "lease not granted");
            }
        }
        Ok(true)
    }

    /// Refuses an offer; said once, until there is another reason. Where another key signed it, the
    /// next will be no better: it is given back so that the job goes elsewhere, and none is asked
    /// for for a while, which doubles up to a minute.
    async fn refuse(&mut self, offer: &v1::Offer, why: &OfferError) {
        let reason = why.to_string();
        let said = self.refusing.as_ref() == Some(&reason);
        if !why.is_another_key() {
            if !said {
                tracing::warn!(offer.job = %offer.job, %reason, "offer refused");
            }
            self.refusing = Some(reason);
            return;
        }
        let jitter = rand::random_range(0.5..1.0);
        let (rest, _) = self.strangers.failed(Instant::now(), jitter);
        if !said {
            tracing::error!(
                offer.job = %offer.job,
                %reason,
                key.id = %self.loaded.coordinator_key.id(),
                worker.rest_ms = rest.as_millis() as u64,
                "offer refused: another key signed it than the configured `coordinator_key`; the \
                 waits before the next double until one is right"
            );
        }
        // Nobody vouches for this lease: it may name one that is really held here.
        if let Some(lease) = offer::unverified_lease(offer, self.identity.worker())
            && !self.running.contains_key(&lease.lease)
        {
            self.say_no(lease.lease, lease.fence, &reason).await;
        }
        self.refusing = Some(reason);
    }

    /// Asks until there is an answer: if only the answer was lost, the lease is held here, and would
    /// be silent until it expires.
    async fn accept(
        &mut self,
        request: v1::AcceptRequest,
    ) -> Result<tonic::Response<v1::AcceptResponse>, Status> {
        use tonic::Code;
        let mut tries = 1;
        loop {
            let answer = self.client.accept(request.clone()).await;
            let away = |status: &Status| matches!(status.code(), Code::Unavailable | Code::Unknown);
            match answer {
                Err(status) if away(&status) && tries < ACCEPT_TRIES_MAX => {
                    tokio::time::sleep(backoff(tries)).await;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }

    fn begin(&mut self, offer: CheckedOffer, allowed: Duration) -> Result<(), RunError> {
        let config = &self.loaded.config;
        let lease = offer.lease.lease;
        let work = self.loaded.work_folder().join(lease.to_string());
        let folder = |error| RunError::Folder { path: work.display().to_string(), error };
        fs::create_dir_all(&work).map_err(folder)?;
        let fence = offer.lease.fence.0.to_string();
        fs::write(work.join(FENCE_FILE), fence).map_err(folder)?;
        let order = Order {
            subject: offer.announce.subject.clone(),
            index: offer.announce.index,
            policy: self.loaded.policy_path.clone(),
            alpine_releases: config.alpine_releases.clone(),
            store: self.loaded.store_folder(),
            store_mib_max: config.store_mib_max,
            work: work.clone(),
            memory_mib_max: config.memory_mib_max,
            threads: std::thread::available_parallelism()
                .map_or(1, |n| n.get().div_ceil(config.slots.max(1) as usize)),
        };
        let own = Duration::from_secs(config.execution_seconds_max);
        let cap = if allowed.is_zero() { own } else { own.min(allowed) };
        let (launcher, finished) = (self.launcher.clone(), self.finished.0.clone());
        tracing::info!(job.subject = %order.subject, lease.id = %lease, "job started");
        let task = tokio::spawn(async move {
            let draft = child::execute(&launcher, &order, cap).await;
            let _ = finished.send(Finished { lease, draft }).await;
        });
        self.running.insert(lease, Running { offer, task });
        Ok(())
    }

    /// Signs what a job said and hands it in; gives the lease back where it said nothing. The job's
    /// folder, which names the lease to the next process, is there until one of the two is done.
    async fn finish(&mut self, finished: Finished) -> Result<(), RunError> {
        let Some(running) = self.running.remove(&finished.lease) else { return Ok(()) };
        let (lease, fence) = (finished.lease, running.offer.lease.fence);
        match self.signed(finished.draft, &running.offer) {
            Ok((envelope, explanation)) => {
                let result = PendingResult { lease, fence, envelope, explanation };
                self.outbox.put(&result)?;
                self.remove_folder(lease);
                self.submit(&result).await
            }
            Err(reason) => {
                self.decline(&running.offer, reason).await;
                self.remove_folder(lease);
                Ok(())
            }
        }
    }

    fn remove_folder(&self, lease: LeaseId) {
        let _ = fs::remove_dir_all(self.loaded.work_folder().join(lease.to_string()));
    }

    /// The observation and its explanation, or why there is none.
    fn signed(
        &mut self,
        draft: Result<Draft, ChildError>,
        offer: &CheckedOffer,
    ) -> Result<(Envelope, Vec<u8>), String> {
        let draft = draft.map_err(|error| {
            self.unfit(&error);
            error.to_string()
        })?;
        if self.fitness.ran() {
            tracing::info!("jobs can be run again");
        }
        let draft = observe::check_recipes(draft, offer);
        let problem = draft.problem.clone();
        let explanation = draft.explanation.clone().into_bytes();
        match observe::observation(draft, offer, &self.witness()) {
            Some(observation) => Ok((self.sign(&observation, offer)?, explanation)),
            None => Err(problem.unwrap_or_else(|| "the build said nothing".to_owned())),
        }
    }

    /// A job could not be run: for a while none is asked for. Said aloud once in a row.
    fn unfit(&mut self, error: &ChildError) {
        let (rest, first) = self.fitness.failed(Instant::now(), rand::random_range(0.5..1.0));
        if first {
            tracing::error!(
                %error,
                worker.rest_ms = rest.as_millis() as u64,
                "a job could not be run on this machine; the waits before the next double until \
                 one runs"
            );
        }
    }

    fn sign(&self, observation: &Observation, offer: &CheckedOffer) -> Result<Envelope, String> {
        let outcome = observation.outcome.as_str();
        let envelope = observation.sign(self.identity.key()).map_err(|e| e.to_string())?;
        tracing::info!(
            job.subject = %offer.announce.subject,
            observation.outcome = outcome,
            job.fetch_ms = observation.durations.fetch_ms,
            job.build_ms = observation.durations.build_ms,
            job.compare_ms = observation.durations.compare_ms,
            job.cpu_ms = observation.durations.cpu_ms,
            observation.id = %envelope.observation_id(),
            "job finished"
        );
        Ok(envelope)
    }

    fn witness(&self) -> Witness {
        let config = &self.loaded.config;
        let uri = config.operator_uri.clone();
        Witness {
            worker: self.identity.worker(),
            operator: config.operator.clone(),
            operator_uri: uri.unwrap_or_else(|| Observation::operator_urn(&config.operator)),
            environment: environment::read(&self.loaded.work_folder()),
            now: now(),
        }
    }

    async fn decline(&mut self, offer: &CheckedOffer, reason: String) {
        self.decline_lease(offer.lease.lease, offer.lease.fence, reason).await;
    }

    /// True if nothing more is to be said about the lease.
    async fn decline_lease(&mut self, lease: LeaseId, fence: Fence, reason: String) -> bool {
        tracing::warn!(lease.id = %lease, %reason, "lease given back");
        self.refused.insert(lease);
        self.say_no(lease, fence, &reason).await
    }

    /// True if nothing more is to be said about the lease.
    async fn say_no(&mut self, lease: LeaseId, fence: Fence, reason: &str) -> bool {
        let request = v1::DeclineRequest {
            lease: lease.to_string(),
            fence: fence.0,
            reason: reason.chars().take(500).collect(),
        };
        match self.client.decline(request).await {
            Ok(_) => true,
            Err(status) => {
                // It will expire on the other side.
                tracing::warn!(reason = %status.message(), "could not give the lease back");
                status.code() != tonic::Code::Unavailable
            }
        }
    }

    /// Gives back what an earlier process was at, unless it was answered.
    async fn give_back_left(&mut self) -> Result<(), RunError> {
        for (lease, fence) in std::mem::take(&mut self.left) {
            let reason = "the worker was killed while it was at it".to_owned();
            if !self.outbox.answered(&lease)? && !self.decline_lease(lease, fence, reason).await {
                self.left.push((lease, fence));
            }
        }
        Ok(())
    }

    /// Ends a job in the middle, with its processes and its files.
    async fn end(&self, task: JoinHandle<()>, lease: LeaseId) {
        task.abort();
        let _ = task.await;
        let work = self.loaded.work_folder().join(lease.to_string());
        if !cage::Cage::new(&work, self.loaded.config.memory_mib_max).end().await {
            tracing::error!(lease.id = %lease, "processes of the job could not be ended");
        }
        self.remove_folder(lease);
    }

    async fn give_back(&mut self) {
        let running = std::mem::take(&mut self.running);
        for (lease, job) in running {
            self.end(job.task, lease).await;
            self.decline(&job.offer, "the worker is stopping".to_owned()).await;
        }
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

/// The leases whose folders are there, with their fences.
fn left_in(work: &Path) -> Vec<(LeaseId, Fence)> {
    let Ok(entries) = fs::read_dir(work) else { return Vec::new() };
    let read = |entry: fs::DirEntry| {
        let lease = entry.file_name().to_str()?.parse().ok()?;
        let fence = fs::read_to_string(entry.path().join(FENCE_FILE)).ok()?;
        Some((lease, Fence(fence.parse().ok()?)))
    };
    entries.flatten().take(LEFT_MAX).filter_map(read).collect()
}

fn backoff(failures: u32) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(1 << failures.min(16).saturating_sub(1));
    let jitter = rand::random_range(0.5..1.0);
    doubled.min(BACKOFF_LAST).mul_f64(jitter)
}

fn capabilities(memory_mib_max: u64) -> v1::Capabilities {
    v1::Capabilities {
        memory_mib: u32::try_from(memory_mib_max).unwrap_or(u32::MAX),
        // The apko assembler runs no foreign code: every architecture is built anywhere.
        architectures: ARCHITECTURES.map(str::to_owned).to_vec(),
        rebuilders: vec!["apko".to_owned()],
        isolation: "process".to_owned(),
    }
}

fn now() -> Timestamp {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Timestamp::from_unix(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default()
}
