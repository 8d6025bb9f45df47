//! A registry on loopback that misbehaves on demand.
//!
//! It is the in-process registry of `oci::serve` with faults, token authentication and TLS around
//! it, and a log of the requests it saw. Invariant: without a fault it is a correct registry; a
//! fault changes the answers to the requests it names, and nothing else. It listens on 127.0.0.1
//! at a free port, and is gone when it is dropped.
//!
//! The file is also compiled into the tests of `oci`, so it uses no other part of the harness.

#[path = "registry/access.rs"]
pub mod access;
#[path = "registry/faults.rs"]
pub mod faults;
#[path = "registry/tls.rs"]
pub mod tls;

pub use access::{Access, Realm};
pub use faults::{Fault, What};

use self::faults::Faults;
use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use oci::{
    HostException, NetworkPolicy,
    serve::{ServeOptions, Store, router},
};
use std::{net::SocketAddr, path::Path, sync::Arc};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// How the registry is started.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// The registry's own behaviour.
    pub serve: ServeOptions,
    /// Who may read and write; none: everybody.
    pub access: Option<Access>,
    /// TLS with a certificate of its own authority, instead of plain HTTP.
    pub tls: bool,
}

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

/// The requests so far; whoever waits for one is told.
type Requests = Arc<watch::Sender<Vec<Seen>>>;

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it holds.
    pub store: Store,
    /// The authority of its certificate, in PEM, if it speaks TLS.
    pub ca_pem: Option<String>,
    faults: Faults,
    seen: Requests,
    task: JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Registry {
    /// Starts an empty registry.
    pub async fn start(options: RegistryOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let store = Store::default();
        let faults = Faults::new(store.clone());
        let seen: Requests = Arc::default();
        let mut app = router(store.clone(), options.serve);
        if let Some(access) = options.access {
            app = access::protect(app, access, addr, options.tls);
        }
        let app = app
            .layer(middleware::from_fn_with_state(faults.clone(), faults::inject))
            .layer(middleware::from_fn_with_state(Arc::clone(&seen), note));
        let (task, ca_pem) = if options.tls {
            let (listener, ca_pem) = tls::TlsListener::new(listener);
            (tokio::spawn(serve(listener, app)), Some(ca_pem))
        } else {
            (tokio::spawn(serve(listener, app)), None)
        };
        Self { addr, store, ca_pem, faults, seen, task }
    }

    /// Takes in everything of an OCI layout, each entry under its ref name.
    pub fn load_layout(&self, dir: impl AsRef<Path>) {
        self.store.load_layout(dir).expect("a layout that can be read");
    }

    /// Adds a fault. The first of the faults that match a request acts.
    pub fn fault(&self, fault: Fault) {
        self.faults.add(fault);
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.faults.clear();
    }

    /// Stops listening: from now on, connections are refused.
    pub async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Host and port, as references write them.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// The exception that a policy needs for this registry.
    pub fn exception(&self) -> HostException {
        let plain_http = self.ca_pem.is_none();
        HostException { host: self.host(), plain_http, ca_pem: self.ca_pem.clone() }
    }

    /// A network policy that allows this registry alone.
    pub fn policy(&self) -> NetworkPolicy {
        NetworkPolicy { hosts: vec![self.exception()] }
    }

    /// The requests so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// How many requests so far had this method and this text in their path.
    pub fn count(&self, method: &str, path: &str) -> usize {
        count(&self.seen.borrow(), method, path)
    }

    /// Waits until there were more than so many such requests.
    pub async fn asked(&self, method: &str, path: &str, more_than: usize) {
        let mut seen = self.seen.subscribe();
        let came = seen.wait_for(|seen| count(seen, method, path) > more_than).await;
        came.expect("the registry is there, and tells");
    }
}

fn count(seen: &[Seen], method: &str, path: &str) -> usize {
    seen.iter().filter(|s| s.method == method && s.path.contains(path)).count()
}

async fn serve<L>(listener: L, app: Router)
where
    L: axum::serve::Listener,
    L::Addr: std::fmt::Debug,
{
    // Ends only when the task is aborted; an error of one connection is the client's to see.
    let _ = axum::serve(listener, app).await;
}

async fn note(State(seen): State<Requests>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get("authorization");
    let entry = Seen {
        method: request.method().to_string(),
        path: request.uri().path_and_query().map_or(String::new(), ToString::to_string),
        authorization: authorization.and_then(|v| v.to_str().ok()).map(str::to_owned),
    };
    seen.send_modify(|seen| seen.push(entry));
    next.run(request).await
}
