//! Reads the whole journal, and holds the index against it row by row.
//!
//! Invariant: the journal is not changed and no record is taken for good that a start would refuse.
//! The index is held against one that is made from the journal just now, so "good" means: every row
//! that there should be, and no other. An index that is behind the journal is good: it follows at
//! the next start.

use super::{UpkeepError, journal_disk};
use crate::{
    journal::{Examined, JournalError, Stored, examine, frame::chain_start, lock},
    store::{INDEX_FOLDER, Index, IndexError, Reached, SCHEMA, SledTables, Tables},
};
use attest::{Digest, id::JournalPosition};
use serde::Serialize;
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// Where the index is made again for the comparison.
const CHECK_FOLDER: &str = "index.check";
/// Records that are followed in one commit.
const FOLLOW_RECORDS: usize = 4096;
/// Rows that are compared at a time: a few megabytes.
const ROWS: usize = 2000;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `assay/fsck/v1`.
    pub schema: &'static str,
    /// The data directory.
    pub place: String,
    /// The journal.
    pub journal: JournalReport,
    /// The index.
    pub index: IndexReport,
}

/// The journal's state.
#[derive(Debug, Clone, Serialize)]
pub struct JournalReport {
    /// True if a start would not refuse it.
    pub good: bool,
    /// Its identity, in hex.
    pub identity: Option<String>,
    /// Segments of the good part.
    pub segments: usize,
    /// Good records: the position after the last one.
    pub records: u64,
    /// Bytes of the good part.
    pub bytes: u64,
    /// The chain's value after the last good record.
    pub chain: Option<Digest>,
    /// What was promised to others: the journal must reach this position.
    pub floor: Option<u64>,
    /// Bytes of a torn tail, which the next start cuts: nothing in it was acknowledged.
    pub torn_bytes: u64,
    /// The first fault, in words.
    pub fault: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Records behind the fault that can still be read by themselves.
    pub readable_behind: u64,
    /// Segment files behind the fault.
    pub files_behind: Vec<String>,
}

/// The index's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum IndexReport {
    /// Every row is there.
    Good {
        /// How many rows.
        rows: u64,
        /// How far it followed the journal.
        reached: u64,
    },
    /// There is none; the next start makes it.
    Missing,
    /// It is not what the journal says; `reindex`, or the next start, makes it again.
    Doubt {
        /// Why.
        why: String,
    },
    /// The journal is damaged, or this is a backup, which has none.
    NotExamined,
}

impl Report {
    /// 0 good, 20 the index alone is in doubt, 21 the journal is damaged.
    pub fn exit_code(&self) -> u8 {
        match (&self.journal.good, &self.index) {
            (false, _) => 21,
            (true, IndexReport::Doubt { .. }) => 20,
            (true, _) => 0,
        }
    }
}

/// An index that is made while the journal is read, up to where the old one is.
struct Remake {
    index: Index<SledTables>,
    reached: Reached,
    batch: Vec<Stored>,
    chain: Digest,
    failed: Option<IndexError>,
}

impl Remake {
    fn see(&mut self, stored: &Stored) {
        if stored.position.0 >= self.reached.next || self.failed.is_some() {
            return;
        }
        self.chain = stored.chain;
        self.batch.push(stored.clone());
        if !stored.continued && self.batch.len() >= FOLLOW_RECORDS {
            self.follow();
        }
    }

    fn follow(&mut self) {
        self.failed = self.index.follow(&self.batch).err();
        self.batch.clear();
    }
}

/// Examines the data of a coordinator that is not running. `progress` hears the position.
pub fn fsck(data: &Path, mut progress: impl FnMut(JournalPosition)) -> Result<Report, UpkeepError> {
    let disk = journal_disk(data)?;
    let copy = data.join(super::backup::LIST_NAME).exists();
    if copy {
        super::backup::verify_files(data)?;
    }
    let _alone = match copy {
        true => None,
        false => Some(lock(&disk)?),
    };
    let (folder, check) = (data.join(INDEX_FOLDER), data.join(CHECK_FOLDER));
    let live = if folder.is_dir() { Some(open_index(&folder)) } else { None };
    let mut remake = match &live {
        Some(Ok((_, reached))) => Some(remake(&check, reached)?),
        _ => None,
    };
    let found = examine(&disk, |stored| {
        if stored.position.0.is_multiple_of(FOLLOW_RECORDS as u64) {
            progress(stored.position);
        }
        if let Some(remake) = &mut remake {
            remake.see(stored);
        }
    })?;
    let index = match (&found.fault, live) {
        (Some(_), _) => IndexReport::NotExamined,
        (None, None) if copy => IndexReport::NotExamined,
        (None, None) => IndexReport::Missing,
        (None, Some(Err(why))) => IndexReport::Doubt { why },
        (None, Some(Ok((tables, _)))) => match remake.take() {
            Some(remake) => held_against(&tables, remake, &found),
            None => IndexReport::NotExamined,
        },
    };
    drop(remake);
    let _ = fs::remove_dir_all(&check);
    let place = data.display().to_string();
    Ok(Report { schema: "assay/fsck/v1", place, journal: journal_report(&found), index })
}

/// A panic inside of the database is a doubt about its files.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err("the database gave up on its files".into()))
}

fn open_index(folder: &Path) -> Result<(SledTables, Reached), String> {
    guarded(|| {
        let tables = SledTables::open(folder).map_err(|error| error.to_string())?;
        let bytes = tables.get(b"m").map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or("it does not say how far it followed")?;
        let reached: Reached = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        Ok((tables, reached))
    })
}

fn remake(check: &Path, reached: &Reached) -> Result<Remake, UpkeepError> {
    let _ = fs::remove_dir_all(check);
    let mut journal = [0; 16];
    // An identity that cannot be read becomes zeros, and then the rows differ.
    let _ = hex::decode_to_slice(&reached.journal, &mut journal);
    let start = chain_start(&journal);
    let tables = SledTables::open(check).map_err(IndexError::from).map_err(store)?;
    let index = Index::open(tables, &journal, start).map_err(store)?;
    let reached = reached.clone();
    Ok(Remake { index, reached, batch: Vec::new(), chain: start, failed: None })
}

fn store(error: IndexError) -> UpkeepError {
    UpkeepError::Store(error.into())
}

fn held_against(tables: &SledTables, mut remake: Remake, found: &Examined) -> IndexReport {
    let doubt = |why: String| IndexReport::Doubt { why };
    let Reached { schema, next, chain, journal, .. } = remake.reached.clone();
    if schema != SCHEMA {
        return doubt(format!(
            "expected layout {SCHEMA}, found layout {schema} of another version"
        ));
    }
    if found.journal.map(hex::encode) != Some(journal) {
        return doubt("it belongs to another journal".into());
    }
    if next > found.end.0 {
        return doubt(format!("it followed to {next}, the journal ends at {}", found.end));
    }
    remake.follow();
    if let Some(error) = remake.failed {
        return doubt(error.to_string());
    }
    if remake.chain != chain {
        return doubt(format!("it followed another history up to {next}"));
    }
    match guarded(|| compare(tables, remake.index.tables())) {
        Ok(rows) => IndexReport::Good { rows, reached: next },
        Err(why) => doubt(why),
    }
}

/// Row by row; gives how many there are.
fn compare(ours: &SledTables, made: &SledTables) -> Result<u64, String> {
    let (mut from, mut rows) = (vec![0], 0);
    loop {
        let page = |tables: &SledTables| {
            tables.range(&from, &[255], ROWS).map_err(|error| error.to_string())
        };
        let (left, right) = (page(ours)?, page(made)?);
        let common = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
        rows += common as u64;
        if common < left.len().max(right.len()) {
            let key = right.get(common).or(left.get(common)).map(|(key, _)| hex::encode(key));
            return Err(format!(
                "expected the rows that follow from the journal, found another at key {}",
                key.unwrap_or_default()
            ));
        }
        match left.last() {
            Some((last, _)) if left.len() == ROWS => from = [last.as_slice(), &[0]].concat(),
            _ => return Ok(rows),
        }
    }
}

fn journal_report(found: &Examined) -> JournalReport {
    JournalReport {
        good: found.fault.is_none(),
        identity: found.journal.map(hex::encode),
        segments: found.segments.len(),
        records: found.end.0,
        bytes: found.segments.iter().map(|segment| segment.bytes).sum(),
        chain: found.chain,
        floor: found.floor.as_ref().map(|floor| floor.position.0),
        torn_bytes: found.torn.as_ref().map_or(0, |cut| cut.bytes),
        fault: found.fault.as_ref().map(ToString::to_string),
        hint: found.fault.as_ref().and_then(JournalError::hint),
        readable_behind: found.readable_behind,
        files_behind: found.behind.clone(),
    }
}
