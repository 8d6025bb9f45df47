//! Accepts TLS connections, a bounded number of them.
//!
//! Invariant: a peer that does not finish its handshake in time is dropped; one bad handshake never
//! ends the listener.

use super::Core;
use rustls::ServerConfig;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// A handshake takes two round trips; this is for the slowest link that should work.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Where connections are counted, and as whose.
#[derive(Clone)]
pub struct Note {
    core: Arc<Core>,
    listener: &'static str,
}

impl Note {
    /// For the listener of this name.
    pub fn of(core: &Arc<Core>, listener: &'static str) -> Self {
        Self { core: Arc::clone(core), listener }
    }

    fn count(&self, result: &'static str) {
        self.core.metrics.connected(self.listener, result);
    }
}

/// Connections whose handshake is done.
pub fn incoming(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    connections_max: usize,
    note: Note,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (sender, receiver) = mpsc::channel(64);
    let handshakes = Arc::new(Semaphore::new(connections_max.clamp(1, 1 << 20)));
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(tls);
        loop {
            let permit = Arc::clone(&handshakes).acquire_owned().await;
            let Ok(permit) = permit else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (acceptor, sender) = (acceptor.clone(), sender.clone());
                    tokio::spawn(handshake(acceptor, stream, sender, permit, note.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to come back.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    sender: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
    permit: OwnedSemaphorePermit,
    note: Note,
) {
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            note.count("accepted");
            let _ = sender.send(Ok(stream)).await;
        }
        Ok(Err(error)) => {
            note.count("refused");
            tracing::debug!(%error, "a TLS handshake failed");
        }
        Err(_) => {
            note.count("late");
            tracing::debug!("a TLS handshake took too long");
        }
    }
    drop(permit);
}
