//! The index: what is asked of the journal often, kept in tables, one atomic commit for a batch.
//!
//! Invariant: a pure fold of journal records: [`Index::follow`] in any batches gives the same rows.
//! It remembers how far it came and with which chain; whatever does not fit is a doubt
//! ([`IndexError::Doubt`]), and a doubted index is made again, never repaired.

mod batch;
mod error;
mod known;
mod pieces;
mod places;
mod questions;
mod totals;

pub use error::IndexError;
#[cfg(test)]
pub(super) use pieces::PIECE_BYTES;
pub use questions::PAGE_MAX;

use super::rows::{Reached, SCHEMA};
use super::tables::Tables;
use crate::journal::Stored;
use crate::queue::{Millis, Totals};
use attest::{Digest, id::JobId};
use batch::Batch;
use error::doubt;
use known::Known;
use pieces::{Kept, read_job};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use totals::read_totals;

/// Jobs that are remembered as they were folded last, of 2 KiB each at most: 8 MiB of rows.
const RECENT_MAX: usize = 4096;

/// The index over a journal.
#[derive(Debug)]
pub struct Index<T: Tables> {
    tables: T,
    state: Mutex<State>,
    /// Jobs of the newest batches as their rows say: a job's next transition comes soon.
    recent: Mutex<HashMap<JobId, Arc<Kept>>>,
    /// Jobs that are not in the tables need not be looked for.
    known: Known,
}

#[derive(Debug, Clone)]
struct State {
    reached: Reached,
    totals: Totals,
}

impl<T: Tables> Index<T> {
    /// Opens an index of this journal; empty tables become an empty index. `chain_start` is the
    /// chain before the first record.
    pub fn open(tables: T, journal: &[u8; 16], chain_start: Digest) -> Result<Self, IndexError> {
        let fresh = Reached {
            schema: SCHEMA,
            journal: hex::encode(journal),
            next: 0,
            chain: chain_start,
            clock: Millis(0),
        };
        let reached = match tables.get(b"m")? {
            Some(bytes) => serde_json::from_slice::<Reached>(&bytes).map_err(doubt)?,
            None if tables.range(&[0], &[255], 1)?.is_empty() => fresh.clone(),
            None => return Err(doubt("rows, but no word on how far they go")),
        };
        if (reached.schema, &reached.journal) != (SCHEMA, &fresh.journal) {
            return Err(doubt(format!(
                "expected layout {SCHEMA} of journal {}, found layout {} of {}",
                fresh.journal, reached.schema, reached.journal
            )));
        }
        let totals = read_totals(&tables)?;
        let (recent, known) = (Mutex::default(), Known::new(reached.next == 0));
        Ok(Self { tables, state: Mutex::new(State { reached, totals }), recent, known })
    }

    /// How far it followed.
    pub fn reached(&self) -> Reached {
        self.state().reached.clone()
    }

    /// Unfinished jobs, counted.
    pub fn totals(&self) -> Totals {
        self.state().totals.clone()
    }

    /// The tables.
    pub fn tables(&self) -> &T {
        &self.tables
    }

    /// Follows durable records: whole groups, in order, from where it stands.
    pub fn follow(&self, records: &[Stored]) -> Result<(), IndexError> {
        let Some(last) = records.last() else { return Ok(()) };
        let mut state = self.state();
        let mut reached = state.reached.clone();
        let mut batch = Batch::new(self, state.totals.clone());
        let mut before: Option<&Stored> = None;
        for record in records {
            if record.position.0 != reached.next {
                return Err(doubt(format!(
                    "expected record {}, found {}",
                    reached.next, record.position
                )));
            }
            if let Some(clock) = batch.record(record, before.filter(|b| b.continued))? {
                reached.clock = reached.clock.max(clock);
            }
            reached.next += 1;
            before = Some(record);
        }
        reached.chain = last.chain;
        let kept = batch.finish(&reached)?;
        for (id, _) in &kept {
            self.known.add(id);
        }
        self.tables.commit_all(batch.writes)?;
        *state = State { reached, totals: batch.totals };
        self.remember(kept);
        Ok(())
    }

    fn recent(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Kept>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in jobs as they are in the tables now. All that is known is forgotten at once when there
    /// is no room: it is read again.
    fn remember(&self, kept: Vec<(JobId, Option<Kept>)>) {
        let mut recent = self.recent();
        if recent.len() + kept.len() > RECENT_MAX {
            recent.clear();
        }
        for (id, kept) in kept {
            match kept {
                Some(kept) => recent.insert(id, Arc::new(kept)),
                None => recent.remove(&id),
            };
        }
    }

    /// The job as the tables have it.
    fn kept(&self, id: &JobId) -> Result<Option<Arc<Kept>>, IndexError> {
        let recent = self.recent().get(id).cloned();
        match recent {
            Some(kept) => Ok(Some(kept)),
            None if !self.known.may_have(id) => Ok(None),
            None => Ok(read_job(&self.tables, id)?.map(Arc::new)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
