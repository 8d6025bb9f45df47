//! Records that are followed together: the rows that they make.
//!
//! Invariant: what is read of the tables while a batch is made is what they held before it, with
//! the batch's own writes over it. Nothing is written here: the index commits a batch at once.

use super::super::publication::Pushed;
use super::super::rows::{
    HistoryEvent, HistoryRow, Reached, job, key, kind_key, repository_key, tail_number,
};
use super::super::tables::{Tables, Writes};
use super::{
    Index,
    error::{IndexError, doubt},
    pieces::{Kept, write_pieces},
    places,
};
use crate::journal::{Kind, Stored};
use crate::queue::{Change, Job, Millis, Place, Tenant, Totals, Transition};
use attest::{Subject, id::JobId};
use std::collections::{BTreeMap, BTreeSet};

/// Longest job that is remembered as it was folded last, in bytes of its row.
const RECENT_BYTES_MAX: usize = 2048;

/// Writes of a batch that is being followed, over the tables.
pub(super) struct Batch<'a, T: Tables> {
    index: &'a Index<T>,
    tables: &'a T,
    pub(super) writes: Writes,
    jobs: BTreeMap<JobId, Job>,
    pub(super) totals: Totals,
    tenants: BTreeSet<Tenant>,
    /// The place that a job had before the batch.
    places: BTreeMap<JobId, Place>,
    /// In how many rows a job lay before the batch.
    pieces: BTreeMap<JobId, u8>,
}

impl<'a, T: Tables> Batch<'a, T> {
    pub(super) fn new(index: &'a Index<T>, totals: Totals) -> Self {
        Self {
            index,
            tables: &index.tables,
            writes: Writes::new(),
            jobs: BTreeMap::new(),
            totals,
            tenants: BTreeSet::new(),
            places: BTreeMap::new(),
            pieces: BTreeMap::new(),
        }
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.insert(key, Some(value));
    }

    /// One record; gives the clock of a transition.
    pub(super) fn record(
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
            self.tenants.insert(known.payer().clone());
        }
        self.totals.count(known.as_ref(), None);
        let job = Job::fold(known, &step).map_err(doubt)?;
        self.totals.count(None, Some(&job));
        self.tenants.insert(job.payer().clone());
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
        let about = |job: &Job| (job.spec.subject.clone(), job.attempt);
        let known = match self.jobs.get(&id) {
            Some(job) => Some(about(job)),
            None => self.index.kept(&id)?.map(|kept| about(&kept.job)),
        };
        // Nothing says what a verdict on an unknown job is about.
        let Some((subject, attempt)) = known else { return Ok(()) };
        let event = HistoryEvent::Verdict { outcome: None };
        let (position, time) = (record.position, record.time);
        self.history(&subject, &HistoryRow { position, time, job: id, attempt, event });
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
                self.history(subject, &HistoryRow::observed(at, envelope.time, step.job, answer));
            }
            Change::Judged { outcome } => {
                let at = of_kind(Kind::VERDICT).unwrap_or(record);
                let event = HistoryEvent::Verdict { outcome: Some(outcome.clone()) };
                let (time, attempt) = (at.time, job.attempt);
                let position = at.position;
                let row = HistoryRow { position, time, job: step.job, attempt, event };
                self.history(subject, &row);
            }
            _ => {}
        }
        Ok(())
    }

    fn history(&mut self, subject: &Subject, row: &HistoryRow) {
        let at = row.position.0.to_be_bytes();
        let repository = repository_key(&subject.repository);
        self.put(key(b'r', &[&at]), row.encode());
        self.put(key(b'h', &[&repository, subject.digest.raw(), &at]), Vec::new());
        self.put(key(b'g', &[&repository, &at]), Vec::new());
    }

    /// The last rows, and the jobs as they are now; none of those that are too long to remember.
    pub(super) fn finish(
        &mut self,
        reached: &Reached,
    ) -> Result<Vec<(JobId, Option<Kept>)>, IndexError> {
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
            let bytes = job::encode(&job);
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
