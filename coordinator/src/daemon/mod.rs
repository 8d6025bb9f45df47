//! The daemon: what it holds, how it starts and stops.
//!
//! Images come in through [`intake`], workers and clients through the services, judgements are made
//! in [`judge`] when the store says that one is due, and published by [`publish`].
//! Invariant: every answer rests on the store, which answers only from disk. The coordinator signs
//! leases, jobs, receipts and verdicts with its own key and holds no other; who is an operator or a
//! worker is decided by records that operators signed.

pub mod drains;
pub mod evidence;
mod followed;
pub mod former_policy;
pub mod http;
pub mod intake;
pub mod judge;
pub mod metrics;
pub mod net;
pub mod notary;
pub mod presence;
pub mod publish;
pub mod readiness;
pub mod research;
pub mod resources;
pub mod review;
pub mod roster;
pub mod served;
pub mod service;
pub mod signers;
pub mod wakes;
pub mod wall;
pub mod watch;

use crate::{
    journal::Options,
    queue::Limits,
    setup::Loaded,
    store::{self, Parts, Store, StoreError, SystemSurroundings},
    tls::{self, TlsError},
};
use metrics::Metrics;
use net::{
    Gate, Seats,
    listen::{Note, Patience},
};
use roster::{Roster, RosterError};
use signers::Signers;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use watch::{WatchError, Watches};

/// How often the queue hears that time passed.
const TICK: Duration = Duration::from_millis(250);

/// The client's connection preface (RFC 9113, 3.4).
const H2_OPENING_BYTES: usize = 24;

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A record in the journal is not what its kind says.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// A watch in the journal is not what its kind says.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The verdict key.
    #[error(transparent)]
    Key(#[from] attest::key::KeyError),
    /// A socket.
    #[error("expected to listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// Serving ended by itself.
    #[error("{0}")]
    Serve(String),
}

/// What all parts of the daemon share.
pub struct Core {
    /// What is known and kept.
    pub store: Arc<dyn Store>,
    /// Configuration, policy, key.
    pub loaded: Loaded,
    /// What is counted.
    pub metrics: Metrics,
    /// Repositories that are followed.
    pub watches: Watches,
    /// When workers were heard last.
    pub presence: presence::Presence,
    /// The held calls of workers.
    pub wakes: wakes::Wakes,
    /// Cancelled when the daemon begins to stop: held calls are answered, readiness ends.
    pub stopping: CancellationToken,
    /// What the publishing parts share.
    pub publishing: publish::Publishing,
    /// A key was revoked: what rested on it is judged again.
    pub revoked: Notify,
    /// Turns to have a set of evidence in memory for judging it.
    pub judging: Semaphore,
    /// Whose verdicts are our own.
    pub signers: Signers,
    roster: RwLock<Arc<Roster>>,
    changed: tokio::sync::watch::Sender<u64>,
}

impl Core {
    /// Operators and workers as they are now.
    pub fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes on with other operators and workers: their records are on disk.
    pub fn go_on_with(&self, roster: Roster) {
        *self.roster.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roster);
    }

    /// Lets held calls about images look again.
    pub fn announce_change(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Tells when anything about images changed.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// A daemon that listens.
pub struct Daemon {
    /// Where gRPC listens.
    pub grpc: SocketAddr,
    /// Where HTTP listens.
    pub http: SocketAddr,
    core: Arc<Core>,
    listeners: (TcpListener, TcpListener),
    patience: Patience,
}

impl Daemon {
    /// Opens the store and the sockets. Refuses a second daemon on the same folder. `limits` are
    /// the queue's numbers that the configuration does not set.
    pub async fn open(loaded: Loaded, limits: Limits) -> Result<Self, DaemonError> {
        let limits = loaded.config.limits.queue(limits);
        let options = Options::new(rand::random());
        let parts = Parts {
            limits,
            notary: Arc::new(notary::LeaseNotary::of(&loaded)?),
            around: Arc::new(SystemSurroundings::default()),
            on_fatal: Box::new(|error| {
                // Nothing may be acknowledged after a failed sync: the process must not go on.
                tracing::error!(%error, "the journal cannot go on; the process ends");
                std::process::exit(70);
            }),
        };
        let folder = loaded.data_folder();
        let opened = store::open(&folder, options, parts, |at, end| {
            tracing::info!(journal.position = at.0, journal.end = end.0, "index catches up");
        })?;
        if let Some(cut) = &opened.recovery.cut {
            tracing::warn!(
                journal.segment = %cut.segment,
                journal.cut_bytes = cut.bytes,
                journal.end = opened.recovery.end.0,
                "a torn tail of the journal was cut, nothing in it had been acknowledged"
            );
        }
        if let Some(why) = &opened.reindexed {
            tracing::warn!(%why, "the index was made again from the journal");
        }
        let store: Arc<dyn Store> = Arc::new(opened.store);
        drains::recall(store.as_ref()).await?;
        let roster = RwLock::new(Arc::new(Roster::read(store.as_ref())?));
        let listeners = (bind(loaded.config.listen).await?, bind(loaded.config.listen_http).await?);
        let address = |l: &TcpListener, given| l.local_addr().unwrap_or(given);
        let grpc = address(&listeners.0, loaded.config.listen);
        let http = address(&listeners.1, loaded.config.listen_http);
        let (changed, _) = tokio::sync::watch::channel(0);
        let (metrics, watches) = (Metrics::new(&store), Watches::read(store.as_ref())?);
        let (wakes, stopping) = (wakes::Wakes::default(), CancellationToken::new());
        let (publishing, revoked) = (publish::Publishing::default(), Notify::new());
        let signers = Signers::read(store.as_ref(), loaded.public_key())?;
        let core = Core {
            store,
            loaded,
            metrics,
            watches,
            presence: presence::Presence::default(),
            wakes,
            stopping,
            publishing,
            revoked,
            judging: Semaphore::new(judge::SETS_AT_A_TIME),
            signers,
            roster,
            changed,
        };
        let (core, patience) = (Arc::new(core), Patience::default());
        Ok(Self { grpc, http, core, listeners, patience })
    }

    /// With other limits on how slow a peer may be.
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// What the parts share.
    pub fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
    }

    /// Serves until it is told to stop, then ends what is under way: held calls are answered, calls
    /// have [`Patience::grace`] to end, what was decided is on disk. Says what is left.
    pub async fn run(self, stop: CancellationToken) -> Result<(), DaemonError> {
        let Self { core, listeners, grpc, http, patience } = self;
        tracing::info!(listen.grpc = %grpc, listen.http = %http, "coordinator started");
        let gates = gates(&core, patience)?;
        note_what_it_works_with(&core).await?;
        // Whatever ends first ends everything, and held calls with it.
        let stopping = core.stopping.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(service::serve(Arc::clone(&core), listeners.0, gates.0, stopping.clone()));
        tasks.spawn(http::serve(Arc::clone(&core), listeners.1, gates.1, stopping.clone()));
        tasks.spawn(judge::run(Arc::clone(&core), stopping.clone()));
        tasks.spawn(watch::run(Arc::clone(&core), stopping.clone()));
        tasks.spawn(wakes::run(Arc::clone(&core), stopping.clone()));
        tasks.spawn(publish::run::run(Arc::clone(&core), stopping.clone()));
        tasks.spawn(publish::indexes::run(Arc::clone(&core), stopping.clone()));
        tasks.spawn(signers::run(Arc::clone(&core), stopping.clone()));
        tasks.spawn(review::run(Arc::clone(&core), stopping.clone()));
        tasks.spawn(former_policy::run(Arc::clone(&core), stopping.clone()));
        tasks.spawn(tick(Arc::clone(&core), stopping.clone()));
        let mut result = Ok(());
        loop {
            let ended = tokio::select! {
                ended = tasks.join_next() => ended,
                () = stop.cancelled(), if !stopping.is_cancelled() => {
                    tracing::info!(calls.held = core.wakes.held(), "coordinator is stopping");
                    stopping.cancel();
                    continue;
                }
            };
            let Some(ended) = ended else { break };
            let ended = ended.unwrap_or_else(|e| Err(DaemonError::Serve(e.to_string())));
            if ended.is_err() && result.is_ok() {
                result = ended;
                stopping.cancel();
            }
        }
        match core.store.settle().await {
            // Nothing of it was acknowledged.
            Err(error) if error.retry_after_ms().is_some() => {
                tracing::warn!(%error, "not all that was decided could be written");
            }
            settled => settled?,
        }
        let figures = core.store.figures();
        tracing::info!(
            journal.end = core.store.end().0,
            jobs.unfinished = core.store.totals().unfinished,
            leases.out = figures.leases,
            offers.out = figures.offers,
            "coordinator stopped; all is on disk, and what is left goes on at the next start"
        );
        result
    }
}

/// Puts its key and its policy on record before anything is judged. A full disk keeps it from
/// nothing: it is tried again in the background, as long as nothing else can be written either.
async fn note_what_it_works_with(core: &Core) -> Result<(), StoreError> {
    for noted in [signers::keep(core).await, former_policy::begin(core).await] {
        match noted {
            Err(error) if error.retry_after_ms().is_none() => return Err(error),
            Err(error) => tracing::warn!(%error, "key or policy are not on record yet"),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Who is let in, over gRPC and over HTTP.
fn gates(core: &Arc<Core>, patience: Patience) -> Result<(Gate, Gate), TlsError> {
    let limits = &core.loaded.config.limits;
    let (certificate, key) = (&core.loaded.certificate_pem, &core.loaded.tls_key_pem);
    let own = limits.connections_per_address_max;
    let gate = |name, protocol: &[u8], opening_bytes, connections_max| {
        let tls = tls::server_config(certificate, key, &[protocol])?;
        let (note, seats) = (Note::of(core, name), Seats::new(connections_max, own));
        Ok::<_, TlsError>(Gate { tls, seats, opening_bytes, patience, note })
    };
    // HTTP has seats of its own: whoever fills gRPC's must not hide the coordinator's health.
    let http = gate("http", b"http/1.1", 1, limits.http_connections_max)?;
    Ok((gate("grpc", b"h2", H2_OPENING_BYTES, limits.connections_max)?, http))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(address).await.map_err(|error| DaemonError::Listen { address, error })
}

async fn tick(core: Arc<Core>, stop: CancellationToken) -> Result<(), DaemonError> {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
        // A full disk gets room again: what time brings is decided at a later tick, not lost.
        match core.store.tick().await {
            Err(error) if error.retry_after_ms().is_none() => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
}
