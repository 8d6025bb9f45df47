//! The same durable writes without the journal: sled with `flush()`, SQLite with transactions.
//!
//! A write is what a transition is: the new state of a job under its key, and the step. sled's
//! `flush()` is `sync_file_range` on Linux, which is not durable after a power cut; SQLite in WAL
//! mode with `synchronous=FULL` is.

use anyhow::Result;
use attest::Digest;
use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Bytes of a job's state and of a step, as JSON.
const STATE_BYTES: usize = 900;
const STEP_BYTES: usize = 450;

/// Another store's figure.
pub struct Rival {
    /// What it is.
    pub name: String,
    /// Writes a second.
    pub rate: f64,
    /// What to know.
    pub remark: &'static str,
}

/// All of them, with many callers and with one.
pub fn all(folder: &Path, callers: usize, time: Duration) -> Result<Vec<Rival>> {
    let mut found = Vec::new();
    for callers in [callers, 1] {
        found.push(sled_alone(folder, callers, time)?);
        #[cfg(feature = "sqlite")]
        found.push(sqlite(folder, callers, time)?);
    }
    Ok(found)
}

/// Callers on threads of their own until the time is over: writes a second.
fn measure(
    callers: usize,
    time: Duration,
    write: impl Fn(u64) -> Result<()> + Sync,
) -> Result<f64> {
    let (next, started) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers)
            .map(|_| {
                scope.spawn(|| {
                    while started.elapsed() < time {
                        write(next.fetch_add(1, Ordering::Relaxed))?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(next.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64())
}

/// Five steps to a job.
fn key(number: u64) -> [u8; 32] {
    *Digest::of(&(number / 5).to_be_bytes()).raw()
}

fn sled_alone(folder: &Path, callers: usize, time: Duration) -> Result<Rival> {
    let data = tempfile::tempdir_in(folder)?;
    let db = sled::Config::new().path(data.path()).cache_capacity(64 << 20).open()?;
    let (state, step) = (vec![b'j'; STATE_BYTES], vec![b's'; STEP_BYTES]);
    let rate = measure(callers, time, |number| {
        let mut batch = sled::Batch::default();
        batch.insert(key(number).as_slice(), state.as_slice());
        batch.insert(number.to_be_bytes().as_slice(), step.as_slice());
        db.apply_batch(batch)?;
        db.flush()?;
        Ok(())
    })?;
    let name = format!("sled alone, flush() each, {callers} callers");
    Ok(Rival { name, rate, remark: "not durable at power loss" })
}

#[cfg(feature = "sqlite")]
fn sqlite(folder: &Path, callers: usize, time: Duration) -> Result<Rival> {
    use std::sync::{Mutex, PoisonError};
    let data = tempfile::tempdir_in(folder)?;
    let db = rusqlite::Connection::open(data.path().join("queue.db"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch(
        "CREATE TABLE job (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
         CREATE TABLE step (number INTEGER PRIMARY KEY, job BLOB NOT NULL, body BLOB NOT NULL);",
    )?;
    // One writer at a time is SQLite's own rule: a mutex costs less than its retries.
    let db = Mutex::new(db);
    let (state, step) = (vec![b'j'; STATE_BYTES], vec![b's'; STEP_BYTES]);
    let rate = measure(callers, time, |number| {
        let mut db = db.lock().unwrap_or_else(PoisonError::into_inner);
        let write = db.transaction()?;
        let key = key(number);
        write
            .prepare_cached("INSERT INTO step (number, job, body) VALUES (?1, ?2, ?3)")?
            .execute((number as i64, key, &step))?;
        write
            .prepare_cached("INSERT OR REPLACE INTO job (id, state) VALUES (?1, ?2)")?
            .execute((key, &state))?;
        write.commit()?;
        Ok(())
    })?;
    let name = format!("SQLite, WAL, synchronous=FULL, {callers} callers");
    Ok(Rival { name, rate, remark: "" })
}
