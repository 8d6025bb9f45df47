//! The index: what is asked of the journal often, kept in tables, one atomic commit for a batch.
//!
//! Invariant: a pure fold of journal records: [`Index::follow`] in any batches gives the same rows.
//! It remembers how far it came and with which chain; whatever does not fit is a doubt
//! ([`IndexError::Doubt`]), and a doubted index is made again, never repaired.

mod places;

use super::publication::Pushed;
use super::rows::{
    HistoryEvent, HistoryRow, Reached, SCHEMA, after, key, kind_key, repository_key, tail_digest,
    tail_number,
};
use super::tables::{TableError, Tables, Writes};
use crate::journal::{Kind, Stored};
use crate::queue::{Change, Class, Job, Millis, Place, Role, Tenant, Totals, Transition};
use attest::{
    Digest, Repository,
    id::{JobId, JournalPosition, LeaseId, ObservationId},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Rows that one question may ask for.
pub const PAGE_MAX: usize = 10_000;

/// Jobs that are remembered as they were folded last, and the bytes of the longest: 16 MiB of rows.
const RECENT_MAX: usize = 4096;
const RECENT_BYTES_MAX: usize = 4096;

/// Bytes of a job in one row: sled keeps rows of up to 100 KB well.
const PIECE_BYTES: usize = 64_000;

/// The index cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IndexError {
    /// The tables failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// It does not fit the journal, or itself.
    #[error("the index is in doubt: {0}")]
    Doubt(String),
}

fn doubt(why: impl ToString) -> IndexError {
    IndexError::Doubt(why.to_string())
}

/// The index over a journal.
#[derive(Debug)]
pub struct Index<T: Tables> {
    tables: T,
    state: Mutex<State>,
    /// Jobs of the newest batches as their rows say: a job's next transition comes soon.
    recent: Mutex<HashMap<JobId, Arc<Kept>>>,
}

/// A job, and in how many rows it lies.
#[derive(Debug, Clone)]
struct Kept {
    job: Job,
    pieces: u8,
}

#[derive(Debug, Clone)]
struct State {
    reached: Reached,
    totals: Totals,
}

/// Writes of a batch that is being followed, over the tables.
struct Batch<'a, T: Tables> {
    index: &'a Index<T>,
    tables: &'a T,
    writes: Writes,
    jobs: BTreeMap<JobId, Job>,
    totals: Totals,
    tenants: BTreeSet<Tenant>,
    /// The place that a job had before the batch.
    places: BTreeMap<JobId, Place>,
    /// In how many rows a job lay before the batch.
    pieces: BTreeMap<JobId, u8>,
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
        let recent = Mutex::default();
        Ok(Self { tables, state: Mutex::new(State { reached, totals }), recent })
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
        let mut batch = Batch {
            index: self,
            tables: &self.tables,
            writes: Writes::new(),
            jobs: BTreeMap::new(),
            totals: state.totals.clone(),
            tenants: BTreeSet::new(),
            places: BTreeMap::new(),
            pieces: BTreeMap::new(),
        };
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
        self.tables.commit(&batch.writes)?;
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
            None => Ok(read_job(&self.tables, id)?.map(Arc::new)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

/// The job as its rows say.
fn read_job<T: Tables>(tables: &T, id: &JobId) -> Result<Option<Kept>, IndexError> {
    let Some((bytes, pieces)) = read_pieces(tables, id)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(|job| Some(Kept { job, pieces })).map_err(doubt)
}

/// A job that was checked again for years has hundreds of answers: more than one row may hold.
/// It takes the place of the `before` rows in which the job lay: one that is opened again and lets old
/// answers go may need two rows less.
fn write_pieces(
    writes: &mut Writes,
    id: &JobId,
    bytes: &[u8],
    before: u8,
) -> Result<u8, IndexError> {
    let mut next = 0u8;
    for piece in bytes.chunks(PIECE_BYTES) {
        writes.insert(key(b'j', &[id.0.raw(), &[next]]), Some(piece.to_vec()));
        next = next.checked_add(1).ok_or_else(|| doubt("a job of more than 16 MB"))?;
    }
    for left_over in next..before {
        writes.insert(key(b'j', &[id.0.raw(), &[left_over]]), None);
    }
    Ok(next)
}

/// All but very few jobs lie in one row, which is shorter than a full piece.
fn read_pieces<T: Tables>(tables: &T, id: &JobId) -> Result<Option<(Vec<u8>, u8)>, IndexError> {
    let mut all = Vec::new();
    for piece in 0..=u8::MAX {
        let Some(bytes) = tables.get(&key(b'j', &[id.0.raw(), &[piece]]))? else {
            return Ok((piece > 0).then_some((all, piece)));
        };
        let last = bytes.len() < PIECE_BYTES;
        all.extend_from_slice(&bytes);
        if last {
            return Ok(Some((all, piece + 1)));
        }
    }
    Err(doubt("a job of more than 16 MB"))
}

fn read_totals<T: Tables>(tables: &T) -> Result<Totals, IndexError> {
    let mut totals = Totals::default();
    for (class, count) in (0u8..).zip(totals.by_class.iter_mut()).take(Class::ALL.len()) {
        let value = tables.get(&key(b'c', &[&[class]]))?;
        *count = value.and_then(|value| tail_number(&value)).unwrap_or_default();
    }
    totals.unfinished = totals.by_class.iter().sum();
    let mut from = b"t".to_vec();
    loop {
        let rows = tables.range(&from, &after(b"t"), PAGE_MAX)?;
        for (key, value) in &rows {
            let tenant = String::from_utf8(key.get(1..).unwrap_or_default().to_vec());
            let tenant = Tenant(tenant.map_err(doubt)?);
            totals.by_tenant.insert(tenant, tail_number(value).unwrap_or_default());
        }
        match rows.last() {
            Some((key, _)) if rows.len() == PAGE_MAX => from = [key.as_slice(), &[0]].concat(),
            _ => return Ok(totals),
        }
    }
}

impl<T: Tables> Batch<'_, T> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.insert(key, Some(value));
    }

    /// One record; gives the clock of a transition.
    fn record(
        &mut self,
        record: &Stored,
        before: Option<&Stored>,
    ) -> Result<Option<Millis>, IndexError> {
        if record.kind != Kind::TRANSITION {
            self.put(kind_key(record.kind, &record.about, record.position.0), Vec::new());
            self.publication(record)?;
            self.verdict(record)?;
            return Ok(None);
        }
        let step = Transition::from_json(&record.body).map_err(doubt)?;
        let known = match self.jobs.remove(&step.job) {
            Some(job) => Some(job),
            None => self.index.kept(&step.job)?.map(|kept| {
                self.pieces.insert(step.job, kept.pieces);
                kept.job.clone()
            }),
        };
        if let Some(known) = &known {
            self.places.entry(step.job).or_insert_with(|| known.place());
        }
        let job = Job::fold(known.clone(), &step).map_err(doubt)?;
        self.totals.count(known.as_ref(), Some(&job));
        let payers = known.iter().chain(std::iter::once(&job)).map(Job::payer);
        self.tenants.extend(payers.cloned());
        let about = before.filter(|before| before.about == step.job.0);
        self.details(record, about, &step, &job)?;
        self.jobs.insert(step.job, job);
        Ok(Some(step.at))
    }

    /// A publication waits until a record says that this one, and no newer one, arrived.
    fn publication(&mut self, record: &Stored) -> Result<(), IndexError> {
        let row = key(b'u', &[record.about.raw()]);
        if record.kind == Kind::PUBLICATION {
            self.put(row, record.position.0.to_be_bytes().to_vec());
        } else if record.kind == Kind::PUSHED {
            let waiting = match self.writes.get(&row) {
                Some(written) => written.clone(),
                None => self.tables.get(&row)?,
            };
            let arrived = Pushed::from_json(&record.body).map(|pushed| pushed.publication.0);
            if arrived.is_some() && arrived == waiting.and_then(|at| tail_number(&at)) {
                self.writes.insert(row, None);
            }
        }
        Ok(())
    }

    /// A verdict is history, whatever follows from it; the one that settles its job gets its outcome
    /// from the transition behind it.
    fn verdict(&mut self, record: &Stored) -> Result<(), IndexError> {
        if record.kind != Kind::VERDICT {
            return Ok(());
        }
        let id = JobId(record.about);
        let job = match self.jobs.get(&id) {
            Some(job) => Some(job.clone()),
            None => self.index.kept(&id)?.map(|kept| kept.job.clone()),
        };
        // Nothing says what a verdict on an unknown job is about.
        let Some(job) = job else { return Ok(()) };
        let event = HistoryEvent::Verdict { outcome: None };
        let (position, time, attempt) = (record.position, record.time, job.attempt);
        self.history(&job, &HistoryRow { position, time, job: id, attempt, event });
        Ok(())
    }

    fn details(
        &mut self,
        record: &Stored,
        before: Option<&Stored>,
        step: &Transition,
        job: &Job,
    ) -> Result<(), IndexError> {
        let subject = &job.spec.subject;
        let of_kind = |kind| before.filter(|before| before.kind == kind);
        match &step.change {
            Change::Announced { spec, .. } => {
                let repository = repository_key(&subject.repository);
                let parts: [&[u8]; 3] = [&repository, subject.digest.raw(), spec.id.0.raw()];
                self.put(key(b'i', &parts), Vec::new());
            }
            Change::Offered { grant, .. } => {
                if let Some(lease) = of_kind(Kind::LEASE) {
                    let at = lease.position.0.to_be_bytes().to_vec();
                    self.put(key(b'l', &[&grant.lease.0]), at);
                }
            }
            Change::Observed { answer, .. } | Change::Filed { answer } => {
                let envelope = of_kind(Kind::OBSERVATION).ok_or_else(|| {
                    doubt(format!("expected an envelope before the transition {}", record.position))
                })?;
                let at = envelope.position;
                self.put(key(b'o', &[answer.observation.0.raw()]), at.0.to_be_bytes().to_vec());
                self.history(job, &HistoryRow::observed(at, envelope.time, step.job, answer));
            }
            Change::Judged { outcome } => {
                let at = of_kind(Kind::VERDICT).unwrap_or(record);
                let event = HistoryEvent::Verdict { outcome: Some(outcome.clone()) };
                let (time, attempt) = (at.time, job.attempt);
                let position = at.position;
                let row = HistoryRow { position, time, job: step.job, attempt, event };
                self.history(job, &row);
            }
            _ => {}
        }
        Ok(())
    }

    fn history(&mut self, job: &Job, row: &HistoryRow) {
        let at = row.position.0.to_be_bytes();
        let repository = repository_key(&job.spec.subject.repository);
        let digest = job.spec.subject.digest;
        self.put(key(b'r', &[&at]), row.encode());
        self.put(key(b'h', &[&repository, digest.raw(), &at]), Vec::new());
        self.put(key(b'g', &[&repository, &at]), Vec::new());
    }

    /// The last rows, and the jobs as they are now; none of those that are too long to remember.
    fn finish(&mut self, reached: &Reached) -> Result<Vec<(JobId, Option<Kept>)>, IndexError> {
        let mut kept = Vec::with_capacity(self.jobs.len());
        for (id, job) in std::mem::take(&mut self.jobs) {
            // What a job is to do, and so its route, never changes.
            let row = |place| places::row(place, &job.spec);
            if let Some(old) = self.places.get(&id).and_then(|place| row(*place)) {
                self.writes.insert(old, None);
            }
            if let Some(new) = row(job.place()) {
                self.put(new, Vec::new());
            }
            let bytes = serde_json::to_vec(&job).map_err(doubt)?;
            let before = self.pieces.get(&id).copied().unwrap_or_default();
            let pieces = write_pieces(&mut self.writes, &id, &bytes, before)?;
            kept.push((id, (bytes.len() <= RECENT_BYTES_MAX).then_some(Kept { job, pieces })));
        }
        for tenant in std::mem::take(&mut self.tenants) {
            let row = key(b't', &[tenant.0.as_bytes()]);
            let count = self.totals.by_tenant.get(&tenant);
            self.writes.insert(row, count.map(|count| count.to_be_bytes().to_vec()));
        }
        for (class, count) in (0u8..).zip(self.totals.by_class) {
            self.put(key(b'c', &[&[class]]), count.to_be_bytes().to_vec());
        }
        self.put(b"m".to_vec(), serde_json::to_vec(reached).map_err(doubt)?);
        Ok(kept)
    }
}

#[cfg(test)]
mod tests;
