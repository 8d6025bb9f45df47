//! Work that hashes and unpacks, away from the threads that wait for the network.
//!
//! Invariant: it is never cancelled, and a panic in it goes on in whoever asked.

/// Runs what hashes and unpacks away from the threads that wait for the network.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // The work is never cancelled; a panic in it goes on here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
