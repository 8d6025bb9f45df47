//! What the coordinator knows and keeps, at the level of the domain.
//!
//! [`Store`] is what services are written against: announce, sync, accept, complete, judge; history,
//! evidence, records. [`Embedded`] is the store of one machine (queue in memory, [`crate::journal`]
//! in a directory, [`Index`] in sled or memory). A database that serves several machines implements
//! the same trait and passes the same `contract`.
//!
//! ```text
//! event -> Queue::apply -> records -> journal (fdatasync) -> index -> answer, notices
//! ```
//!
//! Typical use:
//! ```no_run
//! # use coordinator::{queue::*, store::*};
//! # async fn f(store: &dyn Store, spec: JobSpec, report: Report) -> Result<(), StoreError> {
//! let (tenant, class) = (Tenant("ci".into()), Class::Push);
//! let announced = store.act(Event::Announce { spec, tenant, class }, nothing()).await?;
//! let Reply::Desired(desired) = store.act(Event::Sync(report), nothing()).await? else { return Ok(()) };
//! for offer in &desired.offers {
//!     let signed = store.lease_record(&offer.grant.lease)?;
//! }
//! # let _ = announced; Ok(()) }
//! ```
//! Judging: listen to [`Store::notices`]; at `Judge`, read [`Store::job`] (its `answers` name every
//! observation) and the envelopes ([`Store::records_about`] with `Kind::OBSERVATION`), judge, and
//! say [`Event::Judged`] with the attempt and the number of answers that were seen: if more came
//! meanwhile the answer is [`Refusal::Stale`], and another notice follows.
//!
//! Invariant: an answer rests only on what is on disk; deleting the index and making it again gives
//! the same answers, byte for byte.

mod clock;
#[cfg(test)]
mod contract;
mod embedded;
mod engine;
mod files;
mod index;
mod learning;
mod mark;
mod publication;
mod rows;
mod sled;
mod tables;
mod write_behind;

#[cfg(test)]
mod tests;

pub use clock::{Surroundings, SystemSurroundings};
pub use embedded::{Embedded, Parts, catch_up};
pub use engine::{Attach, Decision, Engine, NoNotary, Notary, Notice, nothing};
pub use files::{
    FileStore, INDEX_FOLDER, JOURNAL_FOLDER, MemoryStore, Opened, Reindexed, in_memory, open,
    reindex,
};
pub use index::{Index, IndexError, PAGE_MAX};
pub use publication::Pushed;
pub use rows::{HistoryEvent, HistoryRow, ROW_BYTES_MAX, Reached, SCHEMA};
pub use sled::SledTables;
pub use tables::{MemoryTables, Row, Rows, TableError, Tables, Writes};
pub use write_behind::WriteBehind;

use crate::journal::{JournalError, Kind, NewRecord, Stored, SyncFigures};
use crate::queue::{Event, Figures, Job, Millis, Refusal, Reply, Role, Submission, Totals};
use attest::{
    Digest, Repository,
    id::{JobId, JournalPosition, LeaseId, ObservationId, WorkerId},
};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use tokio::sync::broadcast;

/// The store did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The journal refused or failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The index failed, or is in doubt.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The queue refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Transitions and observations only come into being through [`Store::act`] and
    /// [`Store::complete`].
    #[error("expected a record of another kind than observation or queue transition")]
    NotForAppend,
    /// The threads of the store could not be started.
    #[error("could not start the threads of the store: {0}")]
    Threads(String),
}

impl StoreError {
    /// When to try again, if waiting helps.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Refused(Refusal::Exhausted { retry_after_ms, .. }) => Some(*retry_after_ms),
            Self::Journal(JournalError::Overloaded { .. } | JournalError::Superseded) => Some(100),
            Self::Journal(JournalError::NoSpace) => Some(30_000),
            _ => None,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Journal(error) => error.hint(),
            Self::Index(_) => Some("run `assay coordinator reindex DIR`".into()),
            _ => None,
        }
    }
}

/// What a worker gets for an observation: only after it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Where the envelope lies.
    pub position: JournalPosition,
    /// How it was filed.
    pub filed: Filing,
}

/// How an observation was filed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filing {
    /// What it counts as.
    pub role: Role,
    /// It was there before: nothing was changed now.
    pub known: bool,
}

/// Where appended records lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appending {
    /// The first one's position.
    pub first: JournalPosition,
    /// How many.
    pub records: usize,
}

/// How journal and index do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFigures {
    /// How the journal's syncs are spread.
    pub syncs: SyncFigures,
    /// The position after the last record that the index has followed.
    pub indexed: JournalPosition,
}

/// What the coordinator knows and keeps.
///
/// Futures may be dropped: what was decided is done nevertheless.
pub trait Store: Send + Sync + 'static {
    /// Announce, sync, accept, decline, judged, unpark, …: decides, keeps the decision, answers.
    /// `attach` makes the records that the decision rests on (announcement, verdict).
    /// [`Event::Submit`] goes through [`Store::complete`].
    fn act(&self, event: Event, attach: Attach) -> BoxFuture<'_, Result<Reply, StoreError>>;

    /// An observation: kept with its envelope, and only then receipted. The same one again gives
    /// the same receipt.
    fn complete(
        &self,
        submission: Submission,
        envelope: Vec<u8>,
    ) -> BoxFuture<'_, Result<Receipt, StoreError>>;

    /// Keeps records that are no business of the queue: operators, workers, tags, revocations.
    fn append(&self, records: Vec<NewRecord>) -> BoxFuture<'_, Result<Appending, StoreError>>;

    /// Waits until everything that was decided before is on disk and in the index.
    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Time passed: to be called a few times a second.
    fn tick(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// A job, as it is on disk.
    fn job(&self, id: &JobId) -> Result<Option<Job>, StoreError>;

    /// The jobs of an image.
    fn jobs_of(&self, repository: &Repository, manifest: &Digest)
    -> Result<Vec<JobId>, StoreError>;

    /// Observations and verdicts of an image or a repository from a position on, oldest first. The
    /// cursor of the next page is the last row's position and one.
    fn history_of(
        &self,
        repository: &Repository,
        manifest: Option<&Digest>,
        from: JournalPosition,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, StoreError>;

    /// The same for everything.
    fn export(&self, from: JournalPosition, limit: usize) -> Result<Vec<HistoryRow>, StoreError>;

    /// Records of a kind about a job, a worker, …, from a position on, oldest first. The evidence
    /// of a job is its `OBSERVATION`, `LEASE`, `ANNOUNCE`, `RECEIPT` and `VERDICT` records.
    fn records_about(
        &self,
        kind: Kind,
        about: &Digest,
        from: JournalPosition,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError>;

    /// The newest record of a kind about something.
    fn newest_about(&self, kind: Kind, about: &Digest) -> Result<Option<Stored>, StoreError>;

    /// All records of a kind, ordered by what they are about, after a cursor.
    fn records_of_kind(
        &self,
        kind: Kind,
        cursor: Option<(Digest, JournalPosition)>,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError>;

    /// The same without reading them: what each is about, and where it lies.
    fn positions_of_kind(
        &self,
        kind: Kind,
        cursor: Option<(Digest, JournalPosition)>,
        limit: usize,
    ) -> Result<Vec<(Digest, JournalPosition)>, StoreError>;

    /// Publications that are not where they go yet, the newest of each, ordered by what they are
    /// about, after one of these.
    fn unpublished(&self, after: Option<Digest>, limit: usize) -> Result<Vec<Stored>, StoreError>;

    /// The signed lease.
    fn lease_record(&self, lease: &LeaseId) -> Result<Option<Stored>, StoreError>;

    /// An observation's envelope.
    fn observation(&self, id: &ObservationId) -> Result<Option<Stored>, StoreError>;

    /// The record at a position.
    fn record(&self, position: JournalPosition) -> Result<Option<Stored>, StoreError>;

    /// Records from a position on.
    fn records(&self, from: JournalPosition, limit: usize) -> Result<Vec<Stored>, StoreError>;

    /// The position after the last durable record. A worker with a receipt at or after it shows
    /// that records are lost.
    fn end(&self) -> JournalPosition;

    /// The journal's chain before a position.
    fn chain_at(&self, position: JournalPosition) -> Result<Option<Digest>, StoreError>;

    /// Puts on record that everything up to now was promised to others (a tree head): the store
    /// will not start again with less. Gives the position.
    fn raise_floor(&self) -> BoxFuture<'_, Result<JournalPosition, StoreError>>;

    /// Judgements that are due.
    fn due(&self) -> Vec<Notice>;

    /// Notices from now on. Whoever lags asks [`Store::due`].
    fn notices(&self) -> broadcast::Receiver<Notice>;

    /// Offers and leases that are out to a worker.
    fn leases_out_to(&self, worker: &WorkerId) -> usize;

    /// How much there is, for metrics.
    fn figures(&self) -> Figures;

    /// Unfinished jobs by class and tenant.
    fn totals(&self) -> Totals;

    /// How often each change of a job was decided since the start, by its name.
    fn tallies(&self) -> BTreeMap<&'static str, u64>;

    /// How the disk does, for metrics.
    fn disk_figures(&self) -> DiskFigures;

    /// The coordinator's clock.
    fn now(&self) -> Millis;
}
