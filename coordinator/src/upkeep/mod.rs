//! Looking after a coordinator's data while it is stopped (and `backup` while it runs).
//!
//! | module | what it does |
//! |---|---|
//! | [`fsck`](mod@fsck) | reads the whole journal and holds the index against it; changes nothing |
//! | [`cut`](mod@cut) | gives up what cannot be read: keeps it aside, says what it was |
//! | [`backup`](mod@backup) | copies the journal, also of a running coordinator; reads a copy back |
//! | [`store::reindex`] | makes the index again |
//!
//! Invariant: only [`cut`](mod@cut) ever takes a record away, and only when it is told the position.
//! Keys and configuration are never read here.

pub mod backup;
pub mod cut;
mod files;
pub mod fsck;

use crate::{
    journal::{JournalError, RealDisk},
    store::{self, JOURNAL_FOLDER, StoreError},
};
use attest::id::JournalPosition;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    /// The journal or the index.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Not a coordinator's folder.
    #[error("expected the data of a coordinator in {0}, found no journal")]
    NoJournal(PathBuf),
    /// The file system.
    #[error("could not {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There is something already.
    #[error("expected {path} to be empty or not to exist, found {found}; nothing was overwritten")]
    Occupied {
        /// The place.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The cut is not where the good part ends.
    #[error("expected the position at which the good part ends, {expected}, found {found}")]
    NotTheEnd {
        /// Where it ends.
        expected: u64,
        /// What was asked for.
        found: u64,
    },
    /// There is nothing to give up.
    #[error("expected a journal that does not start, found a good one with {0} records")]
    NothingToCut(u64),
    /// The copy is not what its list says.
    #[error("expected {expected} in the backup, found {found}")]
    Backup {
        /// What should be there.
        expected: String,
        /// What is.
        found: String,
    },
}

impl UpkeepError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { action, path, error }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Journal(error) => error.hint(),
            Self::NoJournal(_) => {
                Some("give the folder that `assay coordinator run` is given".into())
            }
            Self::NotTheEnd { .. } | Self::NothingToCut(_) => {
                Some("`assay coordinator fsck DIR` says where the good part ends".into())
            }
            Self::Backup { .. } => {
                Some("take another backup; this one cannot be restored from".into())
            }
            _ => None,
        }
    }
}

/// The data directory in a coordinator's folder; a data directory itself is taken as it is.
pub fn data_folder(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    match folder.join(JOURNAL_FOLDER).is_dir() {
        true => folder.to_owned(),
        false => data,
    }
}

/// The journal's folder of a data directory; an error where there is none. Nothing is created.
fn journal_disk(data: &Path) -> Result<RealDisk, UpkeepError> {
    let folder = data.join(JOURNAL_FOLDER);
    let any = std::fs::read_dir(&folder).is_ok_and(|entries| {
        entries.flatten().any(|e| e.path().extension().is_some_and(|x| x == "journal"))
            || folder.join("FLOOR").exists()
    });
    if !any {
        return Err(UpkeepError::NoJournal(data.to_owned()));
    }
    RealDisk::new(&folder).map_err(UpkeepError::io("open", &folder))
}

/// Makes the index of a stopped coordinator again.
pub fn reindex(
    data: &Path,
    progress: impl FnMut(JournalPosition, JournalPosition),
) -> Result<store::Reindexed, UpkeepError> {
    journal_disk(data)?;
    let options = crate::journal::Options::new(rand::random());
    Ok(store::reindex(data, options, progress)?)
}
