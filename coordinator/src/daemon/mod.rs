//! The daemon: what it holds, how it starts and stops.
//!
//! Images come in through [`intake`], workers and clients through the services, judgements are made
//! in [`judge`] when the store says that one is due, and published by [`publish`].
//! Invariant: every answer rests on the store, which answers only from disk. The coordinator signs
//! leases, jobs, receipts and verdicts with its own key and holds no other; who is an operator or a
//! worker is decided by records that operators signed.

pub mod evidence;
pub mod http;
pub mod intake;
pub mod judge;
pub mod listen;
pub mod metrics;
pub mod notary;
pub mod publish;
pub mod readiness;
pub mod research;
pub mod roster;
pub mod service;
pub mod watch;

use crate::{
    journal::Options,
    queue::Limits,
    setup::Loaded,
    store::{self, Parts, Store, StoreError, SystemSurroundings},
    tls::{self, TlsError},
};
use metrics::Metrics;
use roster::{Roster, RosterError};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use watch::{WatchError, Watches};

/// How often the queue hears that time passed.
const TICK: Duration = Duration::from_millis(250);

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
    /// Cancelled when the daemon begins to stop.
    pub stopping: CancellationToken,
    roster: RwLock<Arc<Roster>>,
    changed: tokio::sync::watch::Sender<u64>,
}

impl Core {
    /// Operators and workers as they are now.
    pub fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads operators and workers from the store again.
    pub fn refresh_roster(&self) -> Result<(), RosterError> {
        let fresh = Arc::new(Roster::read(self.store.as_ref())?);
        *self.roster.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
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
}

impl Daemon {
    /// Opens the store and the sockets. Refuses a second daemon on the same folder.
    pub async fn open(loaded: Loaded, limits: Limits) -> Result<Self, DaemonError> {
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
        let roster = RwLock::new(Arc::new(Roster::read(store.as_ref())?));
        let listeners = (bind(loaded.config.listen).await?, bind(loaded.config.listen_http).await?);
        let address = |l: &TcpListener, given| l.local_addr().unwrap_or(given);
        let grpc = address(&listeners.0, loaded.config.listen);
        let http = address(&listeners.1, loaded.config.listen_http);
        let (changed, _) = tokio::sync::watch::channel(0);
        let (metrics, watches) = (Metrics::new(&store), Watches::read(store.as_ref())?);
        let stopping = CancellationToken::new();
        let core = Arc::new(Core { store, loaded, metrics, watches, stopping, roster, changed });
        Ok(Self { grpc, http, core, listeners })
    }

    /// What the parts share.
    pub fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
    }

    /// Serves until it is told to stop, then ends what is under way.
    pub async fn run(self, stop: CancellationToken) -> Result<(), DaemonError> {
        let Self { core, listeners, grpc, http } = self;
        tracing::info!(listen.grpc = %grpc, listen.http = %http, "coordinator started");
        let (certificate, key) = (&core.loaded.certificate_pem, &core.loaded.tls_key_pem);
        let grpc_tls = tls::server_config(certificate, key, &[b"h2"])?;
        let http_tls = tls::server_config(certificate, key, &[b"http/1.1"])?;
        let mut tasks = JoinSet::new();
        tasks.spawn(service::serve(Arc::clone(&core), listeners.0, grpc_tls, stop.clone()));
        tasks.spawn(http::serve(Arc::clone(&core), listeners.1, http_tls, stop.clone()));
        tasks.spawn(judge::run(Arc::clone(&core), stop.clone()));
        tasks.spawn(watch::run(Arc::clone(&core), stop.clone()));
        tasks.spawn(tick(Arc::clone(&core), stop.clone()));
        tasks.spawn(say_stopping(Arc::clone(&core), stop.clone()));
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.unwrap_or_else(|e| Err(DaemonError::Serve(e.to_string())));
            if ended.is_err() && result.is_ok() {
                result = ended;
                stop.cancel();
            }
        }
        core.store.settle().await?;
        tracing::info!(journal.end = core.store.end().0, "coordinator stopped; all is on disk");
        result
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(address).await.map_err(|error| DaemonError::Listen { address, error })
}

/// Readiness ends with the first word of the end, so that nobody new is sent here.
async fn say_stopping(core: Arc<Core>, stop: CancellationToken) -> Result<(), DaemonError> {
    stop.cancelled().await;
    core.stopping.cancel();
    Ok(())
}

async fn tick(core: Arc<Core>, stop: CancellationToken) -> Result<(), DaemonError> {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => core.store.tick().await?,
            () = stop.cancelled() => return Ok(()),
        }
    }
}
