//! One file for each command: arguments, one call into a library, and how the answer is said.

pub mod assemble;
pub mod coordinator;
pub mod demo;
pub mod diff;
pub mod explain;
pub mod fleet;
pub mod gate;
pub mod history;
pub mod keep;
pub mod named;
pub mod operator;
pub mod policy;
pub mod policy_file;
pub mod publish;
pub mod shell;
pub mod status;
pub mod submit;
pub mod unpark;
pub mod upkeep;
pub mod verify;
pub mod watch;
pub mod worker;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// SIGTERM or Ctrl-C once: drain; again: stop at once. From the moment of this call on: what is said
/// after it is said by a process that ends in order.
pub fn signals(drain: CancellationToken, now: CancellationToken) -> JoinHandle<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let heard = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = heard else { return };
        for token in [drain, now] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            token.cancel();
        }
    })
}
