//! A coordinator that does what a test says, so that the real worker can be tried against a hostile
//! one: real gRPC over TLS, the real contract, signatures by whichever key the test chooses.
//!
//! Invariant: everything that a worker sends is noted before it is answered; tests wait for what
//! was noted, never for a time.

use attest::{
    Digest, Subject,
    dsse::Envelope,
    id::{Attempt, Fence, JobId, JournalPosition, LeaseId, WorkerId},
    key::SigningKey,
    record::{JobAnnounce, Lease, Receipt, Record},
    time::Timestamp,
};
use coordinator::setup::{InitOptions, init};
use proto::v1::{
    self,
    worker_service_server::{WorkerService, WorkerServiceServer},
};
use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};

/// Longest that a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the next results are acknowledged; without more of these, rightly.
#[derive(Debug, Clone)]
pub enum Acknowledge {
    /// With these bytes for a receipt.
    With(Vec<u8>),
    /// With a receipt for another observation.
    ForAnother,
    /// With a receipt that another key signed.
    ByAnother,
}

/// What came, and what is to be answered.
#[derive(Default)]
pub struct State {
    /// Calls of `Sync`.
    pub syncs: Vec<v1::SyncRequest>,
    /// Leases that were accepted.
    pub accepted: Vec<String>,
    /// Leases that were given back, with the reason.
    pub declined: Vec<(String, String)>,
    /// Results as they came, repetitions included.
    pub results: Vec<v1::SubmitRequest>,
    /// One goes out with each sync.
    pub offers: VecDeque<v1::Offer>,
    /// How results are acknowledged.
    pub acknowledge: VecDeque<Acknowledge>,
    /// Seconds by which this clock is off.
    pub clock_off: i64,
    /// Hard cap that is granted, seconds.
    pub execution_seconds: u64,
    /// Asks once for results from this position on.
    pub resubmit_from: Option<u64>,
    /// Results are refused with this.
    pub refuse: Option<(Code, String)>,
    /// Offers go out also to who has no free slot.
    pub pushes: bool,
    /// Grows with every worker that was killed: a call that it left behind, held here until its end
    /// is noticed, must not take what the next one waits for.
    pub killed: u64,
    positions: BTreeMap<Vec<u8>, u64>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    key: SigningKey,
}

/// The coordinator.
pub struct Scripted {
    /// `https://127.0.0.1:PORT`.
    pub address: String,
    /// Its folder: `ca.pem`, `verdict.pub`.
    pub folder: PathBuf,
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    /// Starts it, with keys and certificates as `coordinator init` makes them.
    pub async fn start(folder: &Path) -> Self {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let options = InitOptions {
            listen: loopback,
            listen_http: loopback,
            names: vec!["127.0.0.1".to_owned()],
            verifier_id: "https://coordinator.assay.test".to_owned(),
            publish: None,
        };
        init(folder, &options).unwrap();
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let key = SigningKey::from_pem(&text("verdict.key")).unwrap();
        let state = Mutex::new(State { execution_seconds: 600, ..State::default() });
        let shared = Arc::new(Shared { state, changed: Notify::new(), key });
        let listener = TcpListener::bind(loopback).await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let task = serve(folder, listener, Arc::clone(&shared), stop.clone());
        Self { address, folder: folder.to_owned(), shared, stop, task }
    }

    /// Ends every connection, changes what is answered, and listens on the same port again: another
    /// process, for its peers.
    pub async fn restart(&mut self, change: impl FnOnce(&mut State)) {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
        self.change(change);
        let port = self.address.trim_start_matches("https://").to_owned();
        let listener = TcpListener::bind(port).await.unwrap();
        self.stop = CancellationToken::new();
        self.task = serve(&self.folder, listener, Arc::clone(&self.shared), self.stop.clone());
    }

    /// The key that signs leases and receipts.
    pub fn key(&self) -> &SigningKey {
        &self.shared.key
    }

    /// What came so far; what is changed here counts from the next call on.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Changes what is answered, and wakes a held call.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.shared.changed.notify_waiters();
    }

    /// Waits until something is so.
    pub async fn wait<T>(&self, what: &str, mut is_so: impl FnMut(&State) -> Option<T>) -> T {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = is_so(&self.state()) {
                    return found;
                }
                changed.await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("expected {what} to happen"))
    }

    /// Waits for the next result of this lease after the first `seen` results of any.
    pub async fn result(&self, lease: &LeaseId, seen: usize) -> v1::SubmitRequest {
        let lease = lease.to_string();
        self.wait(&format!("a result for {lease}"), |state| {
            state.results.iter().skip(seen).find(|r| r.lease == lease).cloned()
        })
        .await
    }
}

fn serve(
    folder: &Path,
    listener: TcpListener,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> JoinHandle<()> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(text("tls.crt"), text("tls.key")));
    let server = Server::builder()
        .tls_config(tls)
        .unwrap()
        .add_service(WorkerServiceServer::new(Service(shared)))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned());
    tokio::spawn(async move { server.await.unwrap() })
}

/// A lease and its job, as an honest coordinator would make them.
pub fn honest(
    subject: &Subject,
    index: Option<Digest>,
    recipes: &[Digest],
    worker: WorkerId,
    serial: u8,
) -> (Lease, JobAnnounce) {
    let recipes = recipes.to_vec();
    let job = JobId::of(&subject.repository, &subject.digest, &subject.platform, &recipes);
    let announce = JobAnnounce {
        job,
        subject: subject.clone(),
        index,
        recipes,
        evidence: Vec::new(),
        rebuilder: "apko".into(),
        observations_wanted: 3,
        class: "push".into(),
        attempt: Attempt(1),
        reopened_by: Vec::new(),
        announced_at: now(),
        eligible_checkpoint: None,
        beacon_round: None,
    };
    let lease = Lease {
        job,
        attempt: Attempt(1),
        slot: 0,
        worker,
        lease: LeaseId([serial; 16]),
        fence: Fence(u64::from(serial)),
        issued_at: now(),
        not_after: Timestamp::from_unix(now().unix() + 3600).unwrap(),
        salt: None,
    };
    (lease, announce)
}

/// An offer of this lease and job, each signed by a key.
pub fn offer(lease: (&Lease, &SigningKey), announce: (&JobAnnounce, &SigningKey)) -> v1::Offer {
    v1::Offer {
        job: announce.0.job.to_string(),
        lease_envelope: lease.0.sign(lease.1).unwrap().to_json(),
        announce_envelope: announce.0.sign(announce.1).unwrap().to_json(),
        not_after_seconds: 3600,
    }
}

/// This machine's clock.
pub fn now() -> Timestamp {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Timestamp::from_unix(i64::try_from(seconds).unwrap()).unwrap()
}

struct Service(Arc<Shared>);

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn receipt(&self, envelope: &Envelope, request: &v1::SubmitRequest) -> Receipt {
        let mut state = self.state();
        let next = state.positions.len() as u64 + 1;
        let position = *state.positions.entry(request.envelope.clone()).or_insert(next);
        Receipt {
            observation: envelope.observation_id(),
            job: JobId(Digest::of(b"a job")),
            lease: request.lease.parse().unwrap(),
            position: JournalPosition(position),
            received_at: now(),
            log_index: None,
        }
    }
}

#[tonic::async_trait]
impl WorkerService for Service {
    async fn sync(
        &self,
        request: Request<v1::SyncRequest>,
    ) -> Result<Response<v1::SyncResponse>, Status> {
        let request = request.into_inner();
        let idle = request.wait_seconds > 0;
        let free = request.slots_free > 0;
        let killed = self.state().killed;
        let answer = |state: &mut State| {
            if state.killed != killed {
                return (true, v1::SyncResponse::default());
            }
            let resubmit = state.resubmit_from.take();
            let wanted = free || state.pushes;
            let offer = if wanted { state.offers.pop_front() } else { None };
            let offers: Vec<v1::Offer> = offer.into_iter().collect();
            let something = resubmit.is_some() || !offers.is_empty();
            let response = v1::SyncResponse {
                offers,
                stop: Vec::new(),
                next_sync_seconds: u32::from(!idle),
                coordinator_time: now().unix() + state.clock_off,
                resubmit: resubmit.is_some(),
                resubmit_from_position: resubmit.unwrap_or(0),
                coordinator_key: String::new(),
            };
            (something, response)
        };
        self.state().syncs.push(request);
        self.0.changed.notify_waiters();
        let changed = self.0.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let (something, response) = answer(&mut self.state());
        if something || !idle {
            return Ok(Response::new(response));
        }
        // Held, as a coordinator with nothing to offer does.
        let _ = tokio::time::timeout(Duration::from_secs(1), changed).await;
        let (_, response) = answer(&mut self.state());
        Ok(Response::new(response))
    }

    async fn accept(
        &self,
        request: Request<v1::AcceptRequest>,
    ) -> Result<Response<v1::AcceptResponse>, Status> {
        self.state().accepted.push(request.into_inner().lease);
        self.0.changed.notify_waiters();
        let execution_seconds_max = self.state().execution_seconds;
        Ok(Response::new(v1::AcceptResponse { execution_seconds_max }))
    }

    async fn decline(
        &self,
        request: Request<v1::DeclineRequest>,
    ) -> Result<Response<v1::DeclineResponse>, Status> {
        let request = request.into_inner();
        self.state().declined.push((request.lease, request.reason));
        self.0.changed.notify_waiters();
        Ok(Response::new(v1::DeclineResponse {}))
    }

    async fn fetch_job(
        &self,
        _: Request<v1::FetchJobRequest>,
    ) -> Result<Response<v1::FetchJobResponse>, Status> {
        Err(Status::not_found("nothing is kept here"))
    }

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let request = request.into_inner();
        let refuse = self.state().refuse.clone();
        if let Some((code, why)) = refuse {
            self.state().results.push(request);
            self.0.changed.notify_waiters();
            return Err(Status::new(code, why));
        }
        let envelope = Envelope::parse(&request.envelope)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let mut receipt = self.receipt(&envelope, &request);
        let how = self.state().acknowledge.pop_front();
        let another = SigningKey::generate().unwrap();
        let key = match how {
            Some(Acknowledge::ByAnother) => &another,
            _ => &self.0.key,
        };
        if matches!(how, Some(Acknowledge::ForAnother)) {
            receipt.observation = attest::id::ObservationId(Digest::of(b"another"));
        }
        let signed = match how {
            Some(Acknowledge::With(bytes)) => bytes,
            _ => receipt.sign(key).unwrap().to_json(),
        };
        self.state().results.push(request);
        self.0.changed.notify_waiters();
        Ok(Response::new(v1::SubmitResponse {
            receipt: Some(v1::Receipt {
                received: receipt.observation.to_string(),
                journal_position: receipt.position.0,
                envelope: signed,
                promised_log_index: 0,
            }),
            filed_as: "counted".into(),
        }))
    }
}
