//! The store of one machine: queue in memory, journal in a directory, index beside it.
//!
//! The order of every write: decide, append, `fdatasync`, index, answer. Decisions are made under
//! one lock, so the journal's order is the order of decisions; the lock is not held while the disk
//! works, so one sync serves everybody who decided meanwhile.
//!
//! Invariant: no answer before the journal and the index have everything that it rests on, also
//! what others decided just before. When an append is refused, the queue is made again from disk;
//! where the index fails, the process ends.

use super::clock::Surroundings;
use super::engine::{Attach, Decision, Engine, Notary, Notice, nothing};
use super::index::Index;
use super::learning::Learning;
use super::tables::Tables;
use super::{Appending, Filing, Receipt, Store, StoreError};
use crate::journal::{
    Appended, BODY_BYTES_MAX, Disk, FileJournal, Follower, Group, JournalError, Kind, Log,
    NewRecord, OnFatal, Reader, Stored, SyncTotals, Ticket,
};
use crate::queue::{Event, Figures, Filed, Job, Limits, Millis, Queue, Refusal, Reply, Submission};
use attest::id::{JobId, JournalPosition, WorkerId};
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::broadcast;

/// Notices that a slow listener may lag behind; then it asks [`Store::due`].
const NOTICES_MAX: usize = 65_536;
/// Routes, and deferred jobs, of which the first is looked at for the age of the oldest job.
const OLDEST_LOOKS_MAX: usize = 64;
/// Records that the index follows in one commit while it is made again.
const FOLLOW_RECORDS: usize = 4096;

/// How an embedded store is started.
pub struct Parts {
    /// The queue's numbers.
    pub limits: Limits,
    /// Signs leases.
    pub notary: Arc<dyn Notary>,
    /// Time and randomness.
    pub around: Arc<dyn Surroundings>,
    /// Called when the journal cannot go on: the process must end.
    pub on_fatal: OnFatal,
}

/// Journal, queue and index in one process.
pub struct Embedded<D: Disk, T: Tables> {
    /// Ends first: it holds the index.
    _learning: Learning,
    inner: Arc<Inner<T>>,
    journal: FileJournal<D>,
    reader: Reader<D>,
}

struct Inner<T: Tables> {
    engine: Mutex<Locked<T>>,
    index: Arc<Index<T>>,
    around: Arc<dyn Surroundings>,
    notices: broadcast::Sender<Notice>,
    /// Why nothing can be decided any more.
    lost: OnceLock<String>,
}

struct Locked<T: Tables> {
    engine: Engine<T>,
    epoch: u64,
}

impl<T: Tables> Inner<T> {
    fn lock(&self) -> MutexGuard<'_, Locked<T>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, notices: Vec<Notice>) {
        for notice in notices {
            // Nobody listens: it is said again when asked.
            let _ = self.notices.send(notice);
        }
    }
}

/// Shows durable records to the index, then to the queue.
struct IndexFollower<T: Tables>(Arc<Inner<T>>);

impl<T: Tables> Follower for IndexFollower<T> {
    fn durable(&mut self, records: &[Stored]) -> Result<(), String> {
        if let Some(why) = self.0.lost.get() {
            return Err(why.clone());
        }
        self.0.index.follow(records).map_err(|error| error.to_string())?;
        let notices = self.0.lock().engine.settled(records);
        self.0.say(notices);
        Ok(())
    }

    fn refused(&mut self, _: u64) {}
}

/// Lets the index follow everything that the journal has; `progress` hears the next position.
pub fn catch_up<D: Disk, T: Tables>(
    index: &Index<T>,
    reader: &Reader<D>,
    mut progress: impl FnMut(JournalPosition),
) -> Result<(), StoreError> {
    let reached = index.reached();
    let start = JournalPosition(reached.next);
    let doubt = |why: String| StoreError::Index(super::IndexError::Doubt(why));
    match reader.chain_at(start)? {
        Some(chain) if chain == reached.chain => {}
        Some(_) => return Err(doubt(format!("it followed another history up to {start}"))),
        None => return Err(doubt(format!("it is at {start}, the journal at {}", reader.end()))),
    }
    let mut batch = Vec::new();
    for record in reader.from(start) {
        let record = record?;
        let complete = !record.continued;
        batch.push(record);
        if complete && batch.len() >= FOLLOW_RECORDS {
            index.follow(&batch)?;
            batch.clear();
            progress(JournalPosition(index.reached().next));
        }
    }
    index.follow(&batch)?;
    progress(JournalPosition(index.reached().next));
    Ok(())
}

impl<D: Disk, T: Tables> Embedded<D, T> {
    /// Starts on an opened journal, with an index that [`catch_up`] brought to its end.
    pub fn start(log: Log<D>, index: Index<T>, parts: Parts) -> Result<Self, StoreError> {
        let Parts { limits, notary, around, on_fatal } = parts;
        let index = Arc::new(index);
        let (engine, due) = Engine::new(index.clone(), limits, notary, &*around)?;
        let threads = |error: std::io::Error| StoreError::Threads(error.to_string());
        let learning = Learning::start(index.clone()).map_err(threads)?;
        let notices = broadcast::Sender::new(NOTICES_MAX);
        let engine = Mutex::new(Locked { engine, epoch: 0 });
        let inner = Arc::new(Inner { engine, index, around, notices, lost: OnceLock::new() });
        inner.say(due);
        let reader = log.reader();
        let journal =
            FileJournal::start(log, IndexFollower(inner.clone()), on_fatal).map_err(threads)?;
        Ok(Self { _learning: learning, inner, journal, reader })
    }

    /// Reads the journal.
    pub fn reader(&self) -> Reader<D> {
        self.reader.clone()
    }

    /// Asks the index.
    pub fn index(&self) -> &Index<T> {
        &self.inner.index
    }

    /// How much the journal synced.
    pub fn sync_totals(&self) -> SyncTotals {
        self.journal.sync_totals()
    }

    /// Looks at the queue in memory: for metrics and people, never for answers.
    pub fn look<R>(&self, look: impl FnOnce(&Queue) -> R) -> R {
        look(self.inner.lock().engine.queue())
    }

    /// Finishes what was begun and stops: later calls are refused.
    pub fn close(&self) {
        self.journal.close();
    }

    /// The lock, with the queue as it is on disk if a decision was refused.
    fn engine(&self) -> Result<MutexGuard<'_, Locked<T>>, StoreError> {
        self.journal.ready()?;
        let mut locked = self.inner.lock();
        let epoch = self.journal.epoch();
        if locked.epoch != epoch {
            match locked.engine.reload(self.inner.around.now()) {
                Ok(due) => {
                    locked.epoch = epoch;
                    self.inner.say(due);
                }
                Err(error) => return Err(self.end(epoch, error)),
            }
        }
        Ok(locked)
    }

    /// The index cannot be read or written, so the queue knows no more what is on disk. Where all are
    /// refused before they decide, nothing is appended that would find it out: a record of nothing is.
    fn end(&self, epoch: u64, error: super::IndexError) -> StoreError {
        self.inner.lost.get_or_init(|| error.to_string());
        let (records, time) = (Vec::new(), self.inner.around.wall());
        drop(self.journal.append(Group { records, time }, epoch));
        error.into()
    }

    /// Decides, and hands the records to the journal in the order of decisions.
    fn decide(&self, event: Event, attach: Attach) -> Result<Decided, StoreError> {
        let mut locked = self.engine()?;
        let decided = locked.engine.decide(event, attach, &*self.inner.around);
        let Decision { reply, records, attached, notices } =
            decided.map_err(|error| self.end(locked.epoch, error))?;
        let time = self.inner.around.wall();
        let count = records.len();
        let ticket = self.journal.append(Group { records, time }, locked.epoch);
        let now = locked.engine.sent(count, notices);
        drop(locked);
        self.inner.say(now);
        Ok(Decided { reply, attached, ticket })
    }
}

struct Decided {
    reply: Reply,
    attached: Option<usize>,
    ticket: Ticket,
}

impl Decided {
    /// The reply, and where the attached records lie, once everything is durable.
    async fn durable(self) -> Result<(Reply, Option<JournalPosition>), StoreError> {
        let Appended { first, .. } = self.ticket.await?;
        let at = self.attached.map(|at| JournalPosition(first.0 + at as u64));
        match self.reply {
            Reply::Refused(refusal) => Err(StoreError::Refused(refusal)),
            reply => Ok((reply, at)),
        }
    }
}

impl<D: Disk, T: Tables> Store for Embedded<D, T> {
    fn act(&self, event: Event, attach: Attach) -> BoxFuture<'_, Result<Reply, StoreError>> {
        Box::pin(async move { Ok(self.decide(event, attach)?.durable().await?.0) })
    }

    fn complete(
        &self,
        submission: Submission,
        envelope: Vec<u8>,
    ) -> BoxFuture<'_, Result<Receipt, StoreError>> {
        Box::pin(async move {
            // Before anything is decided: what the journal refuses takes back all decisions.
            if envelope.len() > BODY_BYTES_MAX {
                let (limit, found) = (BODY_BYTES_MAX, envelope.len());
                return Err(JournalError::TooLong { limit, found }.into());
            }
            let (job, observation) = (submission.job, submission.observation);
            let record = NewRecord::new(Kind::OBSERVATION, job.0, envelope);
            let attach: Attach = Box::new(move |_| vec![record]);
            let decided = self.decide(Event::Submit(submission), attach)?;
            let (reply, at) = decided.durable().await?;
            let filed = match reply {
                Reply::Filed(Filed::New(role)) => Filing { role, known: false },
                Reply::Filed(Filed::Known(role)) => Filing { role, known: true },
                _ => return Err(StoreError::Refused(Refusal::UnknownJob(job))),
            };
            let position = match at {
                Some(position) => position,
                None => self.inner.index.observation(&observation)?.ok_or_else(|| {
                    let why = format!("no envelope of {observation:?}, which its job knows");
                    StoreError::Index(super::IndexError::Doubt(why))
                })?,
            };
            Ok(Receipt { position, filed })
        })
    }

    fn append(&self, records: Vec<NewRecord>) -> BoxFuture<'_, Result<Appending, StoreError>> {
        Box::pin(async move {
            let queue_only = [Kind::TRANSITION, Kind::OBSERVATION];
            if records.iter().any(|record| queue_only.contains(&record.kind)) {
                return Err(StoreError::NotForAppend);
            }
            let group = Group { records, time: self.inner.around.wall() };
            group.check()?;
            let ticket = {
                let mut locked = self.engine()?;
                let count = group.records.len();
                let ticket = self.journal.append(group, locked.epoch);
                locked.engine.sent(count, Vec::new());
                ticket
            };
            let Appended { first, records } = ticket.await?;
            Ok(Appending { first, records })
        })
    }

    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.append(Vec::new()).await.map(|_| ()) })
    }

    fn job(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        Ok(self.inner.index.job(id)?)
    }

    fn jobs_of(
        &self,
        repository: &attest::Repository,
        manifest: &attest::Digest,
    ) -> Result<Vec<JobId>, StoreError> {
        Ok(self.inner.index.jobs_of(repository, manifest)?)
    }

    fn history_of(
        &self,
        repository: &attest::Repository,
        manifest: Option<&attest::Digest>,
        from: JournalPosition,
        limit: usize,
    ) -> Result<Vec<super::HistoryRow>, StoreError> {
        Ok(self.inner.index.history(repository, manifest, from, limit)?)
    }

    fn export(
        &self,
        from: JournalPosition,
        limit: usize,
    ) -> Result<Vec<super::HistoryRow>, StoreError> {
        Ok(self.inner.index.rows(from, limit)?)
    }

    fn records_about(
        &self,
        kind: Kind,
        about: &attest::Digest,
        from: JournalPosition,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        let positions = self.inner.index.records_about(kind, about, from, limit)?;
        positions.into_iter().map(|position| self.must_read(position)).collect()
    }

    fn newest_about(
        &self,
        kind: Kind,
        about: &attest::Digest,
    ) -> Result<Option<Stored>, StoreError> {
        let newest = self.inner.index.newest_about(kind, about)?;
        newest.map(|position| self.must_read(position)).transpose()
    }

    fn records_of_kind(
        &self,
        kind: Kind,
        cursor: Option<(attest::Digest, JournalPosition)>,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        let found = self.inner.index.records_of_kind(kind, cursor, limit)?;
        found.into_iter().map(|(_, position)| self.must_read(position)).collect()
    }

    fn positions_of_kind(
        &self,
        kind: Kind,
        cursor: Option<(attest::Digest, JournalPosition)>,
        limit: usize,
    ) -> Result<Vec<(attest::Digest, JournalPosition)>, StoreError> {
        Ok(self.inner.index.records_of_kind(kind, cursor, limit)?)
    }

    fn unpublished(
        &self,
        after: Option<attest::Digest>,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        let found = self.inner.index.unpublished(after, limit)?;
        found.into_iter().map(|position| self.must_read(position)).collect()
    }

    fn lease_record(&self, lease: &attest::id::LeaseId) -> Result<Option<Stored>, StoreError> {
        let position = self.inner.index.lease(lease)?;
        position.map(|position| self.must_read(position)).transpose()
    }

    fn observation(
        &self,
        observation: &attest::id::ObservationId,
    ) -> Result<Option<Stored>, StoreError> {
        let position = self.inner.index.observation(observation)?;
        position.map(|position| self.must_read(position)).transpose()
    }

    fn record(&self, position: JournalPosition) -> Result<Option<Stored>, StoreError> {
        Ok(self.reader.read(position)?)
    }

    fn records(&self, from: JournalPosition, limit: usize) -> Result<Vec<Stored>, StoreError> {
        let limit = limit.min(super::PAGE_MAX);
        Ok(self.reader.from(from).take(limit).collect::<Result<_, _>>()?)
    }

    fn end(&self) -> JournalPosition {
        self.reader.end()
    }

    fn chain_at(&self, position: JournalPosition) -> Result<Option<attest::Digest>, StoreError> {
        Ok(self.reader.chain_at(position)?)
    }

    fn raise_floor(&self) -> BoxFuture<'_, Result<JournalPosition, StoreError>> {
        Box::pin(async move { Ok(self.journal.raise_floor().await?.first) })
    }

    fn due(&self) -> Vec<Notice> {
        self.inner.lock().engine.due()
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.inner.notices.subscribe()
    }

    fn leases_out_to(&self, worker: &WorkerId) -> usize {
        self.look(|queue| queue.leases_out_to(worker))
    }

    fn figures(&self) -> Figures {
        let mut figures = self.look(Queue::figures);
        // An index in doubt says so where it is asked for what counts.
        let at_rest = self.index().oldest_at_rest(OLDEST_LOOKS_MAX).ok().flatten();
        figures.oldest_waiting = figures.oldest_waiting.into_iter().chain(at_rest).min();
        figures
    }

    fn totals(&self) -> crate::queue::Totals {
        self.look(|queue| queue.totals().clone())
    }

    fn tallies(&self) -> std::collections::BTreeMap<&'static str, u64> {
        self.look(|queue| queue.tallies().clone())
    }

    fn disk_figures(&self) -> super::DiskFigures {
        let indexed = JournalPosition(self.inner.index.reached().next);
        super::DiskFigures { syncs: self.journal.sync_figures(), indexed }
    }

    fn now(&self) -> Millis {
        self.inner.around.now()
    }

    fn tick(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if let Err(error) = self.inner.index.tables().check() {
                return Err(self.end(self.journal.epoch(), error.into()));
            }
            self.act(Event::Tick, nothing()).await?;
            Ok(())
        })
    }
}

impl<D: Disk, T: Tables> Embedded<D, T> {
    /// A record that the index names must be there.
    fn must_read(&self, position: JournalPosition) -> Result<Stored, StoreError> {
        self.reader.read(position)?.ok_or_else(|| {
            let why = format!("it names record {position}, the journal ends before");
            StoreError::Index(super::IndexError::Doubt(why))
        })
    }
}
