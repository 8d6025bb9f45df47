//! Tables whose newest rows are in memory, and are written to the tables below by a thread.
//!
//! ```text
//! commit -> open rows -(sealed)-> one commit below -> gone from memory
//! read   <- open rows, then sealed rows, then below
//! ```
//! A row that changes five times in a moment (the state of a job) is written once, and nobody who
//! commits waits for the database. What a crash takes is the newest commits, whole and in order, as
//! it may with the database alone; the index then follows the journal from where it is.
//! Invariant: a reader sees every commit that was answered, and below there is always a state that
//! some commit left, because all that is sealed is one commit there. After a failure below nothing
//! more is taken, and what could not be written stays in memory. It must never be the only place of
//! anything that the journal has not.

use super::tables::{Row, Rows, TableError, Tables, Writes};
use std::{
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

/// How long rows wait for others, so that what changes again is written once.
const WAIT: Duration = Duration::from_millis(150);
/// Rows that are not waited with: sled lets readers wait during a commit, 50 ms for so many.
const SEAL_ROWS: usize = 6000;
/// Their bytes: a job of years takes 45 KB.
const SEAL_BYTES: usize = 4 << 20;
/// How far memory may be ahead, in what is sealed at a time: a commit waits then.
const SEALS_MAX: usize = 3;

/// Rows in memory over tables `T`.
#[derive(Debug)]
pub struct WriteBehind<T: Tables> {
    inner: Arc<Inner<T>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inner<T> {
    below: T,
    memory: Mutex<Memory>,
    /// Rows came, or it ends.
    came: Condvar,
    /// What was sealed was written, or will never be.
    went: Condvar,
    wait: Duration,
}

#[derive(Debug, Default)]
struct Memory {
    open: Writes,
    /// Bytes of the keys and values that came into `open`, those that were replaced too.
    bytes: usize,
    sealed: Arc<Writes>,
    failed: Option<TableError>,
    ending: bool,
}

impl Memory {
    fn is_full(&self, times: usize) -> bool {
        self.open.len() >= SEAL_ROWS * times || self.bytes >= SEAL_BYTES * times
    }

    /// What memory says of a key: nothing, or its value, or that it is gone.
    fn get(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        self.open.get(key).or_else(|| self.sealed.get(key)).cloned()
    }

    /// Rows and gone keys of a range in order, up to `limit` rows.
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let range = (Bound::Included(from), Bound::Excluded(to));
        let mut open = self.open.range::<[u8], _>(range).peekable();
        let mut sealed = self.sealed.range::<[u8], _>(range).peekable();
        let (mut found, mut rows) = (Vec::new(), 0);
        while rows < limit {
            let next = match (open.peek(), sealed.peek()) {
                (Some((newer, _)), Some((older, _))) if older < newer => sealed.next(),
                (Some((newer, _)), Some((older, _))) if older == newer => {
                    sealed.next();
                    open.next()
                }
                (Some(_), _) => open.next(),
                (None, _) => sealed.next(),
            };
            let Some((key, value)) = next else { break };
            rows += usize::from(value.is_some());
            found.push((key.clone(), value.clone()));
        }
        found
    }
}

impl<T> Inner<T> {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Tables> Inner<T> {
    /// Writes what came, until it ends; then what is left.
    fn run(&self) {
        let mut memory = self.lock();
        loop {
            while memory.open.is_empty() && !memory.ending {
                memory = self.came.wait(memory).unwrap_or_else(PoisonError::into_inner);
            }
            if memory.open.is_empty() {
                return;
            }
            let waits = |memory: &mut Memory| !memory.is_full(1) && !memory.ending;
            let waited = self.came.wait_timeout_while(memory, self.wait, waits);
            memory = waited.unwrap_or_else(PoisonError::into_inner).0;
            let sealed = Arc::new(std::mem::take(&mut memory.open));
            (memory.sealed, memory.bytes) = (Arc::clone(&sealed), 0);
            drop(memory);
            // Those who wait for room have it now.
            self.went.notify_all();
            let written = self.write(&sealed);
            memory = self.lock();
            match written {
                Ok(()) => memory.sealed = Arc::default(),
                Err(error) => {
                    memory.failed = Some(error);
                    self.went.notify_all();
                    return;
                }
            }
        }
    }

    fn write(&self, rows: &Writes) -> Result<(), TableError> {
        catch_unwind(AssertUnwindSafe(|| self.below.commit(rows)))
            .unwrap_or_else(|_| Err(TableError::new("write", "the database gave up")))
    }
}

impl<T: Tables> WriteBehind<T> {
    /// Over these tables. An error if there can be no thread.
    pub fn over(below: T) -> Result<Self, TableError> {
        Self::waiting(below, WAIT)
    }

    fn waiting(below: T, wait: Duration) -> Result<Self, TableError> {
        let (memory, came, went) = Default::default();
        let inner = Arc::new(Inner { below, memory, came, went, wait });
        let shared = Arc::clone(&inner);
        let thread = std::thread::Builder::new()
            .name("index-writer".into())
            .spawn(move || shared.run())
            .map_err(|error| TableError::new("start its writer", error))?;
        Ok(Self { inner, thread: Some(thread) })
    }
}

impl<T: Tables> Drop for WriteBehind<T> {
    /// Everything is below when this ends.
    fn drop(&mut self) {
        self.inner.lock().ending = true;
        self.inner.came.notify_all();
        if let Some(thread) = self.thread.take() {
            // A writer that panicked left below what some commit left.
            let _ = thread.join();
        }
    }
}

impl<T: Tables> Tables for WriteBehind<T> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let known = self.inner.lock().get(key);
        known.map_or_else(|| self.inner.below.get(key), Ok)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let memory = self.inner.lock().range(from, to, limit);
        let gone = memory.iter().filter(|(_, value)| value.is_none()).count();
        // So many below at most are replaced or gone: enough are left.
        let below = self.inner.below.range(from, to, limit.saturating_add(gone))?;
        Ok(merged(memory, below, limit))
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, TableError> {
        if from >= to {
            return Ok(None);
        }
        // What is gone is at the end of few ranges, so few rows are looked at.
        let memory = self.inner.lock().range(from, to, usize::MAX);
        let newest = memory.iter().rev().find_map(|(key, value)| Some((key, value.as_ref()?)));
        let mut end = to.to_vec();
        let below = loop {
            let last = self.inner.below.last(from, &end)?;
            match last {
                Some((key, _)) if is_gone(&memory, &key) => end = key,
                other => break other,
            }
        };
        Ok(match (newest, below) {
            (Some((key, value)), Some((below, _))) if *key >= below => {
                Some((key.clone(), value.clone()))
            }
            (Some((key, value)), None) => Some((key.clone(), value.clone())),
            (_, below) => below,
        })
    }

    fn check(&self) -> Result<(), TableError> {
        self.inner.lock().failed.clone().map_or(Ok(()), Err)
    }

    fn commit(&self, writes: &Writes) -> Result<(), TableError> {
        self.commit_all(writes.clone())
    }

    fn commit_all(&self, writes: Writes) -> Result<(), TableError> {
        let mut memory = self.inner.lock();
        while memory.is_full(SEALS_MAX) && memory.failed.is_none() {
            memory = self.inner.went.wait(memory).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(error) = &memory.failed {
            return Err(error.clone());
        }
        let value_bytes = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        memory.bytes +=
            writes.iter().map(|(key, value)| key.len() + value_bytes(value)).sum::<usize>();
        memory.open.extend(writes);
        drop(memory);
        self.inner.came.notify_all();
        Ok(())
    }
}

fn is_gone(memory: &[(Vec<u8>, Option<Vec<u8>>)], key: &[u8]) -> bool {
    let found = memory.binary_search_by(|(known, _)| known.as_slice().cmp(key));
    found.is_ok_and(|at| memory[at].1.is_none())
}

/// The first rows of both, in order; of two with one key, memory's.
fn merged(memory: Vec<(Vec<u8>, Option<Vec<u8>>)>, below: Rows, limit: usize) -> Rows {
    let mut below = below.into_iter().peekable();
    let mut rows = Rows::new();
    for (key, value) in memory {
        while let Some(row) = below.next_if(|(older, _)| *older < key) {
            rows.push(row);
        }
        below.next_if(|(older, _)| *older == key);
        rows.extend(value.map(|value| (key, value)));
    }
    rows.extend(below);
    rows.truncate(limit);
    rows
}

#[cfg(test)]
mod tests;
