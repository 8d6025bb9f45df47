//! A store in a data directory: `journal/` and `index/`, and what happens when they do not fit.
//!
//! Invariant: the journal decides. An index that cannot be opened, that is of another journal or
//! another layout, that is ahead of the journal or has another history is moved aside and made
//! again; it is never repaired. The journal is never changed to fit the index.

use super::clock::Surroundings;
use super::embedded::{Embedded, Parts, catch_up};
use super::engine::Notary;
use super::index::Index;
use super::tables::{MemoryTables, SledTables, TableError};
use super::{IndexError, StoreError};
use crate::journal::{JournalError, Log, MemoryDisk, OnFatal, Options, RealDisk, Recovery};
use crate::queue::Limits;
use attest::{Digest, id::JournalPosition};
use std::{fs, io, path::Path, sync::Arc};

/// The folder of the journal in a data directory.
pub const JOURNAL_FOLDER: &str = "journal";
/// The folder of the index in a data directory.
pub const INDEX_FOLDER: &str = "index";

/// A store on files.
pub type FileStore = Embedded<RealDisk, SledTables>;
/// A store in memory.
pub type MemoryStore = Embedded<MemoryDisk, MemoryTables>;

/// An opened store, and what opening found.
pub struct Opened<S> {
    /// The store.
    pub store: S,
    /// What recovery of the journal found and did.
    pub recovery: Recovery,
    /// Why the index was made again, if it was.
    pub reindexed: Option<String>,
}

/// Opens the store in a data directory, or creates it. `progress` hears how far an index that has
/// to catch up is, and where the journal ends.
pub fn open(
    directory: &Path,
    options: Options,
    parts: Parts,
    mut progress: impl FnMut(JournalPosition, JournalPosition),
) -> Result<Opened<FileStore>, StoreError> {
    let io = |action, error: &io::Error| {
        StoreError::Journal(JournalError::io(action, &directory.display().to_string(), error))
    };
    let disk = RealDisk::new(directory)
        .and_then(|_| RealDisk::new(&directory.join(JOURNAL_FOLDER)))
        .map_err(|error| io("open", &error))?;
    let (log, recovery) = Log::open(disk, options)?;
    let reader = log.reader();
    let end = reader.end();
    let start = reader.chain_at(JournalPosition(0))?.unwrap_or(Digest::from_raw([0; 32]));
    let folder = directory.join(INDEX_FOLDER);
    let mut attempt = || -> Result<Index<SledTables>, StoreError> {
        let index = Index::open(SledTables::open(&folder)?, &reader.journal(), start)?;
        catch_up(&index, &reader, |at| progress(at, end))?;
        Ok(index)
    };
    let (index, reindexed) = match attempt() {
        Ok(index) => (index, None),
        Err(StoreError::Index(why)) => {
            tracing::warn!(why = %why, "the index is moved aside and made again");
            move_aside(&folder).map_err(|error| io("move aside the index of", &error))?;
            (attempt()?, Some(why.to_string()))
        }
        Err(other) => return Err(other),
    };
    let store = Embedded::start(log, index, parts)?;
    Ok(Opened { store, recovery, reindexed })
}

/// One old index is kept for whoever wants to know what was wrong with it.
fn move_aside(folder: &Path) -> io::Result<()> {
    let old = folder.with_extension("doubted");
    match fs::remove_dir_all(&old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::rename(folder, &old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A store in memory: the same journal code, forgotten with the process.
pub fn in_memory(
    disk: MemoryDisk,
    options: Options,
    limits: Limits,
    notary: Arc<dyn Notary>,
    around: Arc<dyn Surroundings>,
    on_fatal: OnFatal,
) -> Result<Opened<MemoryStore>, StoreError> {
    let (log, recovery) = Log::open(disk, options)?;
    let reader = log.reader();
    let start = reader.chain_at(JournalPosition(0))?.unwrap_or(Digest::from_raw([0; 32]));
    let index = Index::open(MemoryTables::default(), &reader.journal(), start)?;
    catch_up(&index, &reader, |_| {})?;
    let store = Embedded::start(log, index, Parts { limits, notary, around, on_fatal })?;
    Ok(Opened { store, recovery, reindexed: None })
}

impl From<TableError> for StoreError {
    fn from(error: TableError) -> Self {
        Self::Index(IndexError::Table(error))
    }
}
