//! Tables in a sled database, kept within what sled can do.
//!
//! One tree (a batch is atomic in one tree only), a bounded cache, never `len()`, rows far below
//! 100 KB, an observation at most 512 bytes.
//! Invariant: a panic inside of sled at opening is a doubt like any other error; what the machine's
//! end found open is not trusted (`mark`). Nothing here is ever repaired.

use super::mark;
use super::tables::{ROW_BYTES_MAX, Row, Rows, TableError, Tables, Writes};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Bytes that sled may keep in memory for reading: 64 MiB.
const SLED_CACHE_BYTES: u64 = 64 << 20;

/// Threads of sled hold the lock of a database a moment longer than whoever closed it. Nobody else can:
/// the folder is the journal's owner's.
const LOCKED_MAX: Duration = Duration::from_secs(5);
const LOCKED_LOOK: Duration = Duration::from_millis(20);

/// Rows whose leavings one collection surely takes: eight objects a row.
const ROWS_OF_A_COLLECTION: usize = 64;

/// Tables in a sled database.
#[derive(Debug)]
pub struct SledTables {
    /// There until the end.
    db: Option<sled::Db>,
    path: PathBuf,
}

impl SledTables {
    /// Opens or creates the database in this folder.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        mark::set(path)?;
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(SLED_CACHE_BYTES)
            // The journal is the truth: this only bounds how much is followed again after a crash.
            .flush_every_ms(Some(1000));
        let started = Instant::now();
        loop {
            let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
            match opened.map_err(|_| TableError::new("open", "sled gave up on its files"))? {
                Ok(db) => return Ok(Self { db: Some(db), path: path.to_owned() }),
                Err(error) if is_locked(&error) && started.elapsed() < LOCKED_MAX => {
                    std::thread::sleep(LOCKED_LOOK);
                }
                Err(error) => return Err(TableError::new("open", error)),
            }
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hands everything to the operating system.
    pub fn flush(&self) -> Result<(), TableError> {
        self.db()?.flush().map(|_| ()).map_err(|error| TableError::new("flush", error))
    }

    fn db(&self) -> Result<&sled::Db, TableError> {
        self.db.as_ref().ok_or_else(|| TableError::new("be used", "it was closed"))
    }
}

impl Drop for SledTables {
    fn drop(&mut self) {
        let flushed = self.flush();
        drop(self.db.take());
        if flushed.is_ok()
            && !std::thread::panicking()
            && let Err(error) = mark::clear(&self.path)
        {
            // The mark stays: after the machine's end the index is made again.
            tracing::debug!(%error, "the index could not be synced at its end");
        }
    }
}

impl Tables for SledTables {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let value = self.db()?.get(key).map_err(|error| TableError::new("read", error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let rows = self.db()?.range(from..to).take(limit);
        rows.map(|row| {
            row.map(|(key, value)| (key.to_vec(), value.to_vec()))
                .map_err(|error| TableError::new("read", error))
        })
        .collect()
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, TableError> {
        if from >= to {
            return Ok(None);
        }
        let last = self.db()?.range(from..to).next_back().transpose();
        let last = last.map_err(|error| TableError::new("read", error))?;
        Ok(last.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn commit(&self, writes: &Writes) -> Result<(), TableError> {
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) if value.len() > ROW_BYTES_MAX => {
                    let why =
                        format!("expected at most {ROW_BYTES_MAX} bytes, found {}", value.len());
                    return Err(TableError::new("write a row", why));
                }
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        self.db()?.apply_batch(batch).map_err(|error| TableError::new("write", error))?;
        collect(writes.len());
        Ok(())
    }
}

/// Frees what sled replaced. Its collector (crossbeam-epoch) takes 512 objects each 128th time that
/// somebody reads or writes, and a batch, of any length, is once: where nobody reads, memory grew by
/// six times what was written.
fn collect(rows: usize) {
    for _ in 0..=rows / ROWS_OF_A_COLLECTION {
        sled::pin().flush();
    }
}

/// sled has no kind of error for it.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_closed_a_moment_later_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("index");
        let first = SledTables::open(&folder).unwrap();
        let closing = std::thread::spawn(move || {
            std::thread::sleep(LOCKED_LOOK * 10);
            drop(first);
        });
        assert!(SledTables::open(&folder).is_ok());
        closing.join().unwrap();
    }
}
