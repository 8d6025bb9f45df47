//! Wakes the held call of one worker, and of no other.
//!
//! The store says "wake this worker" to few listeners; this is the one that knows whose call is
//! held. Ten thousand held calls that each heard every notice would do a hundred million wakes for
//! ten thousand jobs.
//!
//! Invariant: a wake is never lost: it is kept for a call that is registered and does not wait
//! yet. A call that ends, for whatever reason, is forgotten, and the queue hears that nobody waits.

use super::{Core, DaemonError};
use crate::{
    queue::Event,
    store::{Notice, Store, nothing},
};
use attest::id::WorkerId;
use futures::FutureExt;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::{Notify, broadcast::error::RecvError},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// The held calls.
#[derive(Debug, Default)]
pub struct Wakes {
    calls: Mutex<HashMap<WorkerId, Arc<Notify>>>,
}

/// A worker's call while it is held.
pub struct HeldCall<'a> {
    wakes: &'a Wakes,
    store: &'a dyn Store,
    worker: WorkerId,
    bell: Arc<Notify>,
}

impl Wakes {
    /// Registers a call, before the queue is asked. An older call of the same worker is answered.
    pub fn hold<'a>(&'a self, store: &'a dyn Store, worker: WorkerId) -> HeldCall<'a> {
        let bell = Arc::new(Notify::new());
        if let Some(older) = self.lock().insert(worker, Arc::clone(&bell)) {
            older.notify_one();
        }
        HeldCall { wakes: self, store, worker, bell }
    }

    /// How many calls are held.
    pub fn held(&self) -> usize {
        self.lock().len()
    }

    fn wake(&self, worker: &WorkerId) {
        if let Some(bell) = self.lock().get(worker) {
            bell.notify_one();
        }
    }

    fn wake_all(&self) {
        for bell in self.lock().values() {
            bell.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkerId, Arc<Notify>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldCall<'_> {
    /// Waits until this worker is woken; false when the time is over, when a newer call of the same
    /// worker took over, or when the coordinator stops.
    pub async fn woken(&self, until: Instant, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = self.bell.notified() => self.is_current(&self.wakes.lock()),
            () = tokio::time::sleep_until(until) => false,
            () = stop.cancelled() => false,
        }
    }
}

impl HeldCall<'_> {
    fn is_current(&self, calls: &HashMap<WorkerId, Arc<Notify>>) -> bool {
        calls.get(&self.worker).is_some_and(|bell| Arc::ptr_eq(bell, &self.bell))
    }
}

impl Drop for HeldCall<'_> {
    fn drop(&mut self) {
        let mut calls = self.wakes.lock();
        if !self.is_current(&calls) {
            return;
        }
        calls.remove(&self.worker);
        drop(calls);
        // Decided at the first poll; soft state, so there is nothing on disk to wait for.
        let hangup = Event::Hangup { worker: self.worker };
        let _ = self.store.act(hangup, nothing()).now_or_never();
    }
}

/// Passes wakes on until it is told to stop.
pub async fn run(core: Arc<Core>, stop: CancellationToken) -> Result<(), DaemonError> {
    let mut notices = core.store.notices();
    loop {
        let notice = tokio::select! {
            notice = notices.recv() => notice,
            () = stop.cancelled() => return Ok(()),
        };
        match notice {
            Ok(Notice::Wake(worker)) => core.wakes.wake(&worker),
            Ok(Notice::Judge { .. }) => {}
            Err(RecvError::Lagged(_)) => core.wakes.wake_all(),
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}
