//! A thread that tells a store's index which jobs it has, once, after the start.
//!
//! Invariant: nobody who asks waits for it, and it is over when its [`Learning`] is (a page of rows later
//! at most): the index is not held any more. It must never change an answer.

use super::index::Index;
use super::tables::Tables;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
};

/// The thread.
#[derive(Debug)]
pub(super) struct Learning {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Learning {
    pub(super) fn start<T: Tables>(index: Arc<Index<T>>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = Builder::new().name("index-jobs".into()).spawn(move || {
            let mut behind = None;
            while !stopped.load(Ordering::Relaxed) {
                match index.learn_jobs(behind.as_deref()) {
                    Ok(Some(last)) => behind = Some(last),
                    Ok(None) => return,
                    Err(error) => {
                        tracing::warn!(
                            %error,
                            "the jobs of the index could not be learned: every new one is looked for"
                        );
                        return;
                    }
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Learning {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}
