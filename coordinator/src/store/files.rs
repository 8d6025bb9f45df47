//! A store in a data directory: `journal/` and `index/`, and what happens when they do not fit.
//!
//! Invariant: the journal decides. An index that cannot be opened, that is of another journal or
//! another layout, that is ahead of the journal or has another history is moved aside and made
//! again; it is never repaired. The journal is never changed to fit the index.

use super::clock::Surroundings;
use super::embedded::{Embedded, Parts, catch_up};
use super::engine::Notary;
use super::index::Index;
use super::mark;
use super::sled::SledTables;
use super::tables::{MemoryTables, TableError};
use super::write_behind::WriteBehind;
use super::{IndexError, StoreError};
use crate::journal::{JournalError, Log, MemoryDisk, OnFatal, Options, Reader, RealDisk, Recovery};
use crate::queue::Limits;
use attest::{Digest, id::JournalPosition};
use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

/// The folder of the journal in a data directory.
pub const JOURNAL_FOLDER: &str = "journal";
/// The folder of the index in a data directory.
pub const INDEX_FOLDER: &str = "index";
/// The folder of an index that is being made.
const FRESH_FOLDER: &str = "index.new";

/// An index that took in so many records at once is opened again before it is used: sled notes where
/// its pages lie only when it is opened, and reads all that was written since at the next start. Of
/// a million observations that was 6.9 GB.
const OPENED_AGAIN_RECORDS: u64 = if cfg!(test) { 20 } else { 50_000 };

/// A store on files.
pub type FileStore = Embedded<RealDisk, WriteBehind<SledTables>>;
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

/// An index that was made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reindexed {
    /// What recovery of the journal found and did.
    pub recovery: Recovery,
    /// The position that the index has reached: the journal's end.
    pub end: JournalPosition,
}

/// Opens the store in a data directory, or creates it. `progress` hears how far an index that has
/// to catch up is, and where the journal ends.
pub fn open(
    directory: &Path,
    options: Options,
    parts: Parts,
    mut progress: impl FnMut(JournalPosition, JournalPosition),
) -> Result<Opened<FileStore>, StoreError> {
    let (log, recovery) = open_journal(directory, options)?;
    let reader = log.reader();
    let folder = directory.join(INDEX_FOLDER);
    let (index, reindexed) = match follow(&folder, &reader, &mut progress) {
        Ok(index) => (index, None),
        Err(StoreError::Index(why)) => {
            tracing::warn!(why = %why, "the index is moved aside and made again");
            move_aside(&folder)
                .map_err(|error| io(directory, "move the index aside in", &error))?;
            (follow(&folder, &reader, &mut progress)?, Some(why.to_string()))
        }
        Err(other) => return Err(other),
    };
    let store = Embedded::start(log, index, parts)?;
    Ok(Opened { store, recovery, reindexed })
}

/// Makes the index again from the journal of a coordinator that is not running. The old one stays
/// in use until the new one is complete, and is kept aside then.
pub fn reindex(
    directory: &Path,
    options: Options,
    mut progress: impl FnMut(JournalPosition, JournalPosition),
) -> Result<Reindexed, StoreError> {
    let (log, recovery) = open_journal(directory, options)?;
    let (folder, fresh) = (directory.join(INDEX_FOLDER), directory.join(FRESH_FOLDER));
    let fail = |action| move |error: io::Error| io(directory, action, &error);
    remove(&fresh).map_err(fail("remove an unfinished index in"))?;
    let index = follow(&fresh, &log.reader(), &mut progress)?;
    let end = JournalPosition(index.reached().next);
    drop(index);
    move_aside(&folder).map_err(fail("move the index aside in"))?;
    fs::rename(&fresh, &folder).map_err(fail("put the new index in its place in"))?;
    fs::File::open(directory).and_then(|d| d.sync_all()).map_err(fail("sync"))?;
    Ok(Reindexed { recovery, end })
}

fn io(directory: &Path, action: &'static str, error: &io::Error) -> StoreError {
    StoreError::Journal(JournalError::io(action, &directory.display().to_string(), error))
}

fn open_journal(
    directory: &Path,
    options: Options,
) -> Result<(Log<RealDisk>, Recovery), StoreError> {
    let disk = RealDisk::new(directory)
        .and_then(|_| RealDisk::new(&directory.join(JOURNAL_FOLDER)))
        .map_err(|error| io(directory, "open", &error))?;
    Ok(Log::open(disk, options)?)
}

/// Opens an index and lets it follow the journal to its end. A panic of the database is a doubt.
fn follow(
    folder: &Path,
    reader: &Reader<RealDisk>,
    progress: &mut impl FnMut(JournalPosition, JournalPosition),
) -> Result<Index<WriteBehind<SledTables>>, StoreError> {
    let end = reader.end();
    let start = reader.chain_at(JournalPosition(0))?.unwrap_or(Digest::from_raw([0; 32]));
    let open = || -> Result<_, StoreError> {
        let tables = WriteBehind::over(SledTables::open(folder)?)?;
        Ok(Index::open(tables, &reader.journal(), start)?)
    };
    let followed = catch_unwind(AssertUnwindSafe(|| {
        let index = open()?;
        let from = index.reached().next;
        catch_up(&index, reader, |at| progress(at, end))?;
        if index.reached().next - from < OPENED_AGAIN_RECORDS {
            return Ok(index);
        }
        tracing::info!(
            journal.end = end.0,
            "the index took in the journal; it is synced and opened again, which may take a minute"
        );
        drop(index);
        let index = open()?;
        // What could not be written at its end is followed now, or found out before anything rests on it.
        catch_up(&index, reader, |at| progress(at, end))?;
        Ok(index)
    }));
    followed.unwrap_or_else(|_| {
        Err(IndexError::Doubt("the database gave up on its files".into()).into())
    })
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => mark::forget(folder),
    }
}

/// One old index is kept for whoever wants to know what was wrong with it.
fn move_aside(folder: &Path) -> io::Result<()> {
    let old = folder.with_extension("doubted");
    remove(&old)?;
    match fs::rename(folder, &old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    mark::forget(folder)
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
