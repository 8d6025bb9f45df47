//! The sockets: who may connect, how many, and how slow a peer may be.
//!
//! | module | what it bounds |
//! |---|---|
//! | [`seats`] | connections in all and of one address; cutting all of them at the end |
//! | [`connection`] | a peer that says nothing after the handshake, a peer that reads nothing |
//! | [`listen`] | accepting, and the time of a TLS handshake |
//!
//! Invariant: every connection holds a seat for as long as it lives, from the accept on; nothing
//! that a peer does or leaves undone holds a seat, a buffer or a task without an end.

pub mod connection;
pub mod listen;
pub mod seats;

pub use connection::{Connection, Peer};
pub use listen::{Gate, incoming};
pub use seats::{Full, Seats};

use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Longest time that connections which were cut need to go.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Waits for the stop, gives connections their grace, cuts those that are left and says so.
pub async fn cut_after(seats: &Arc<Seats>, stop: &CancellationToken, grace: Duration, what: &str) {
    stop.cancelled().await;
    if tokio::time::timeout(grace, seats.empty()).await.is_ok() {
        return;
    }
    tracing::warn!(
        listen.protocol = what,
        connections.cut = seats.taken(),
        grace.seconds = grace.as_secs(),
        "connections did not end in time and were cut; their calls were not answered"
    );
    seats.cut_all();
    let _ = tokio::time::timeout(LEAVE_MAX, seats.empty()).await;
}
