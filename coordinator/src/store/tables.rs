//! Ordered bytes under ordered keys: what the index is kept in, in memory or in sled.
//!
//! Invariant: a commit is there whole or not at all, after a crash too. Nothing here is the truth:
//! whatever is lost or doubted is made again from the journal.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

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
    /// The same with rows that nobody needs any more.
    fn commit_all(&self, writes: Writes) -> Result<(), TableError> {
        self.commit(&writes)
    }
    /// An error if nothing more will be written.
    fn check(&self) -> Result<(), TableError> {
        Ok(())
    }
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
