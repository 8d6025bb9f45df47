//! Ordered bytes under ordered keys: what the index is kept in, in memory or in sled.
//!
//! Invariant: a commit is there whole or not at all, after a crash too. Nothing here is the truth:
//! whatever is lost or doubted is made again from the journal. sled: one tree (a batch is atomic in
//! one tree only), a bounded cache, never `len()`, rows far below its limit of 100 KB.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

/// Bytes that sled may keep in memory for reading: 64 MiB.
const SLED_CACHE_BYTES: u64 = 64 << 20;
/// Longest row: 100 KB. Above 128 KiB sled keeps loose files, and leaks them.
pub const ROW_BYTES_MAX: usize = 100_000;

/// What a commit writes: none removes the key.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
/// Keys and values, in order.
pub type Rows = Vec<Row>;
/// Key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// The tables failed, or hold what they should not.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the index could not {action}: {why}")]
pub struct TableError {
    /// What was tried.
    pub action: &'static str,
    /// Why it failed.
    pub why: String,
}

impl TableError {
    pub(super) fn new(action: &'static str, why: impl ToString) -> Self {
        Self { action, why: why.to_string() }
    }
}

/// Ordered bytes.
pub trait Tables: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError>;
    /// Rows from a key (inclusive) to another (exclusive), in order, at most `limit`.
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError>;
    /// The last row in that range.
    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, TableError>;
    /// Writes all of it or nothing.
    fn commit(&self, writes: &Writes) -> Result<(), TableError>;
}

/// Tables in memory.
#[derive(Debug, Default)]
pub struct MemoryTables(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Tables for MemoryTables {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let range = rows.range(from.to_vec()..to.to_vec());
        Ok(range.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, TableError> {
        if from >= to {
            return Ok(None);
        }
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let last = rows.range(from.to_vec()..to.to_vec()).next_back();
        Ok(last.map(|(key, value)| (key.clone(), value.clone())))
    }

    fn commit(&self, writes: &Writes) -> Result<(), TableError> {
        let mut rows = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in writes {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(())
    }
}

/// Tables in a sled database.
#[derive(Debug)]
pub struct SledTables {
    db: sled::Db,
    path: PathBuf,
}

impl SledTables {
    /// Opens or creates the database in this folder.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(SLED_CACHE_BYTES)
            // The journal is the truth: this only bounds how much is followed again after a crash.
            .flush_every_ms(Some(1000));
        let db = config.open().map_err(|error| TableError::new("open", error))?;
        Ok(Self { db, path: path.to_owned() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hands everything to the operating system.
    pub fn flush(&self) -> Result<(), TableError> {
        self.db.flush().map(|_| ()).map_err(|error| TableError::new("flush", error))
    }
}

impl Tables for SledTables {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let value = self.db.get(key).map_err(|error| TableError::new("read", error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let rows = self.db.range(from..to).take(limit);
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
        let last = self.db.range(from..to).next_back().transpose();
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
        self.db.apply_batch(batch).map_err(|error| TableError::new("write", error))
    }
}
