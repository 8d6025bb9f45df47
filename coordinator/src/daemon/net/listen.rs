//! Accepts TLS connections, a bounded number of them.
//!
//! Invariant: a peer that finds no seat is closed at once, so that it learns it; a peer that does
//! not finish its handshake in time is dropped; one bad handshake never ends the listener.

use super::{
    connection::{Connection, OPENING_MAX, Paced, Peer, STALL_MAX},
    seats::{Seat, Seats},
};
use crate::{daemon::Core, tls};
use rustls::ServerConfig;
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// A handshake takes two round trips; this is for the slowest link that should work.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A held call is answered after 60 s, and its request must have come by then: a peer that sends
/// its request a byte a second is refused here.
pub const CALL_MAX: Duration = Duration::from_secs(75);
/// How often the log speaks of peers that were turned away.
const REFUSALS_LOGGED_EVERY: Duration = Duration::from_secs(10);

/// A peer that is let in.
pub type Incoming = Connection<TlsStream<Paced<TcpStream>>>;

/// How peers are let in.
#[derive(Clone)]
pub struct Gate {
    /// Certificate, key, protocols.
    pub tls: Arc<ServerConfig>,
    /// How many there may be.
    pub seats: Arc<Seats>,
    /// Bytes that the protocol begins with, at least: 24 for HTTP/2 (RFC 9113, 3.4).
    pub opening_bytes: usize,
    /// How slow a peer may be.
    pub patience: Patience,
    /// Where they are counted.
    pub note: Note,
}

/// How long a peer may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From the handshake to the first bytes of the protocol, or to the end of a request's head.
    pub opening: Duration,
    /// Without taking a byte of what is sent.
    pub stall: Duration,
    /// For one call, its request included.
    pub call: Duration,
    /// For all calls that are under way when the coordinator stops.
    pub grace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: HANDSHAKE_MAX,
            opening: OPENING_MAX,
            stall: STALL_MAX,
            call: CALL_MAX,
            grace: Duration::from_secs(10),
        }
    }
}

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
    gate: Gate,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Incoming>> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::clone(&gate.tls));
        let mut logged: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(seat) = seat(&gate.seats, peer, &mut logged) else {
                        gate.note.count("full");
                        continue;
                    };
                    let (acceptor, gate) = (acceptor.clone(), gate.clone());
                    tokio::spawn(handshake(acceptor, stream, seat, gate, sender.clone()));
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

fn seat(seats: &Arc<Seats>, peer: SocketAddr, logged: &mut Option<Instant>) -> Option<Seat> {
    match seats.take(peer.ip()) {
        Ok(seat) => Some(seat),
        Err(full) => {
            if logged.is_none_or(|at| at.elapsed() >= REFUSALS_LOGGED_EVERY) {
                *logged = Some(Instant::now());
                tracing::warn!(
                    peer.address = %peer.ip(),
                    connections.open = seats.taken(),
                    connections.refused = seats.refused(),
                    reason = %full,
                    "a connection was turned away"
                );
            }
            None
        }
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    seat: Seat,
    gate: Gate,
    sender: mpsc::Sender<io::Result<Incoming>>,
) {
    let _ = stream.set_nodelay(true);
    let stream = Paced::new(stream, gate.patience.stall);
    match tokio::time::timeout(gate.patience.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            gate.note.count("accepted");
            let peer = Peer(tls::peer_key(stream.get_ref().1.peer_certificates()));
            let opening = (gate.opening_bytes, gate.patience.opening);
            let connection = Connection::new(stream, seat, peer, opening);
            let _ = sender.send(Ok(connection)).await;
        }
        Ok(Err(error)) => {
            gate.note.count("refused");
            tracing::debug!(%error, "a TLS handshake failed");
        }
        Err(_) => {
            gate.note.count("late");
            tracing::debug!("a TLS handshake took too long");
        }
    }
}
