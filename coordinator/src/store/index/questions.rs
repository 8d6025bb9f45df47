//! What the index answers: where records lie, the state of a job, history.
//!
//! Invariant: one question reads a bounded number of rows; a row that is not what it must be is a
//! doubt and never "there is none".

use super::super::rows::{
    HistoryEvent, HistoryRow, after, key, kind_key, repository_key, tail_digest, tail_number,
};
use super::super::tables::Tables;
use super::{
    Index,
    error::{IndexError, doubt},
};
use crate::journal::Kind;
use crate::queue::{Job, Role};
use attest::{
    Digest, Repository,
    id::{JobId, JournalPosition, LeaseId, ObservationId},
};
use std::sync::Arc;

/// Rows that one question may ask for.
pub const PAGE_MAX: usize = 10_000;

impl<T: Tables> Index<T> {
    /// A job's state.
    pub fn job(&self, id: &JobId) -> Result<Option<Job>, IndexError> {
        Ok(self.kept(id)?.map(|kept| Arc::unwrap_or_clone(kept).job))
    }

    /// The jobs of an image.
    pub fn jobs_of(
        &self,
        repository: &Repository,
        manifest: &Digest,
    ) -> Result<Vec<JobId>, IndexError> {
        let prefix = key(b'i', &[&repository_key(repository), manifest.raw()]);
        let rows = self.tables.range(&prefix, &after(&prefix), PAGE_MAX)?;
        Ok(rows.iter().filter_map(|(key, _)| tail_digest(key)).map(JobId).collect())
    }

    /// Where the envelope of an observation lies.
    pub fn observation(&self, id: &ObservationId) -> Result<Option<JournalPosition>, IndexError> {
        self.position_at(&key(b'o', &[id.0.raw()]))
    }

    /// How an observation was filed, if it was.
    pub fn filed_as(&self, id: &ObservationId) -> Result<Option<Role>, IndexError> {
        let Some(position) = self.observation(id)? else { return Ok(None) };
        match self.row(position.0)?.event {
            HistoryEvent::Observation { role, .. } => Ok(Some(role)),
            other => Err(doubt(format!("expected an observation at {position}, found {other:?}"))),
        }
    }

    /// Where the signed lease lies.
    pub fn lease(&self, id: &LeaseId) -> Result<Option<JournalPosition>, IndexError> {
        self.position_at(&key(b'l', &[&id.0]))
    }

    fn position_at(&self, key: &[u8]) -> Result<Option<JournalPosition>, IndexError> {
        match self.tables.get(key)? {
            None => Ok(None),
            Some(value) => match tail_number(&value) {
                Some(position) if value.len() == 8 => Ok(Some(JournalPosition(position))),
                _ => Err(doubt("expected a position of eight bytes")),
            },
        }
    }

    /// Records of a kind about something, from a position on, oldest first.
    pub fn records_about(
        &self,
        kind: Kind,
        about: &Digest,
        from: JournalPosition,
        limit: usize,
    ) -> Result<Vec<JournalPosition>, IndexError> {
        let end = after(&key(b'k', &[&kind.0.to_be_bytes(), about.raw()]));
        let rows = self.tables.range(&kind_key(kind, about, from.0), &end, limit.min(PAGE_MAX))?;
        Ok(rows.iter().filter_map(|(key, _)| tail_number(key)).map(JournalPosition).collect())
    }

    /// The newest record of a kind about something.
    pub fn newest_about(
        &self,
        kind: Kind,
        about: &Digest,
    ) -> Result<Option<JournalPosition>, IndexError> {
        let prefix = key(b'k', &[&kind.0.to_be_bytes(), about.raw()]);
        let last = self.tables.last(&prefix, &after(&prefix))?;
        Ok(last.and_then(|(key, _)| tail_number(&key)).map(JournalPosition))
    }

    /// Records of a kind, in the order of what they are about, after a given one.
    pub fn records_of_kind(
        &self,
        kind: Kind,
        cursor: Option<(Digest, JournalPosition)>,
        limit: usize,
    ) -> Result<Vec<(Digest, JournalPosition)>, IndexError> {
        let prefix = key(b'k', &[&kind.0.to_be_bytes()]);
        let start = cursor
            .map_or(prefix.clone(), |(about, position)| kind_key(kind, &about, position.0 + 1));
        let rows = self.tables.range(&start, &after(&prefix), limit.min(PAGE_MAX))?;
        let read = |key: &[u8]| {
            let about = key.get(3..35)?.first_chunk().map(|raw| Digest::from_raw(*raw))?;
            Some((about, JournalPosition(tail_number(key)?)))
        };
        Ok(rows.iter().filter_map(|(key, _)| read(key)).collect())
    }

    /// Where the publications lie that did not arrive yet, ordered by what they are about.
    pub fn unpublished(
        &self,
        behind: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<JournalPosition>, IndexError> {
        let start = behind.map_or(key(b'u', &[]), |about| after(&key(b'u', &[about.raw()])));
        let rows = self.tables.range(&start, &after(b"u"), limit.min(PAGE_MAX))?;
        Ok(rows.iter().filter_map(|(_, at)| tail_number(at)).map(JournalPosition).collect())
    }

    /// History of an image, or of a whole repository, from a position on, oldest first.
    pub fn history(
        &self,
        repository: &Repository,
        manifest: Option<&Digest>,
        from: JournalPosition,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, IndexError> {
        let repository = repository_key(repository);
        let limit = limit.min(PAGE_MAX);
        let mut positions: Vec<u64> = match manifest {
            Some(manifest) => {
                let prefix = key(b'h', &[&repository, manifest.raw()]);
                let start = key(b'h', &[&repository, manifest.raw(), &from.0.to_be_bytes()]);
                let rows = self.tables.range(&start, &after(&prefix), limit)?;
                rows.iter().filter_map(|(key, _)| tail_number(key)).collect()
            }
            None => {
                let prefix = key(b'g', &[&repository]);
                let start = key(b'g', &[&repository, &from.0.to_be_bytes()]);
                let rows = self.tables.range(&start, &after(&prefix), limit)?;
                rows.iter().filter_map(|(key, _)| tail_number(key)).collect()
            }
        };
        positions.sort_unstable();
        positions.into_iter().map(|position| self.row(position)).collect()
    }

    /// All history from a position on, oldest first: the export.
    pub fn rows(&self, from: JournalPosition, limit: usize) -> Result<Vec<HistoryRow>, IndexError> {
        let start = key(b'r', &[&from.0.to_be_bytes()]);
        let rows = self.tables.range(&start, &after(b"r"), limit.min(PAGE_MAX))?;
        let read = |(_, value): &(Vec<u8>, Vec<u8>)| {
            HistoryRow::decode(value).ok_or_else(|| doubt("expected a row of history"))
        };
        rows.iter().map(read).collect()
    }

    fn row(&self, position: u64) -> Result<HistoryRow, IndexError> {
        let value = self.tables.get(&key(b'r', &[&position.to_be_bytes()]))?;
        value
            .and_then(|value| HistoryRow::decode(&value))
            .ok_or_else(|| doubt(format!("expected a row of history at {position}")))
    }
}
