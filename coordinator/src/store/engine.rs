//! Queue and index together, without IO of its own: an event becomes a reply and the records that
//! must be durable before the reply is given.
//!
//! Invariant: records of one decision are one group: all are kept or none. What a transition rests
//! on (an envelope, a verdict, a signed lease) stands directly before it in the group. A job whose
//! newest state is not in the index yet never leaves memory.

use super::clock::Surroundings;
use super::index::{Index, IndexError};
use super::tables::Tables;
use crate::journal::{Kind, NewRecord, Stored};
use crate::queue::{
    Change, Due, Effect, Event, Filed, Job, Limits, Millis, Offer, Place, Queue, Reply, Role,
    Route, Submission, Transition,
};
use attest::{
    id::{Attempt, JobId, WorkerId},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// Jobs that one look at the disk brings into memory.
const LOAD_MAX: usize = 4096;

/// Something for the services, once it is durable. Level-triggered: missing one does no harm, it
/// is said again ([`super::Store::due`], the next `Sync`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Answer this worker's held call: it syncs again.
    Wake(WorkerId),
    /// Judge this job.
    Judge {
        /// The job.
        job: JobId,
        /// Its attempt.
        attempt: Attempt,
        /// Why now.
        due: Due,
    },
}

/// Makes the signed records that stand before transitions.
pub trait Notary: Send + Sync + 'static {
    /// The body of the `LEASE` record of an offer; none if leases are not signed.
    fn lease(&self, job: &Job, offer: &Offer, wall: Timestamp) -> Option<Vec<u8>>;
}

/// Signs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNotary;

impl Notary for NoNotary {
    fn lease(&self, _: &Job, _: &Offer, _: Timestamp) -> Option<Vec<u8>> {
        None
    }
}

/// Records to stand before the transition that carries them, made from the job as it is after it
/// (so that an announcement can name its attempt). Dropped when there is no such transition: the
/// job was known, the observation was a duplicate, the judgement was stale.
pub type Attach = Box<dyn FnOnce(&Job) -> Vec<NewRecord> + Send>;

/// Nothing to attach.
pub fn nothing() -> Attach {
    Box::new(|_| Vec::new())
}

/// One decision.
pub struct Decision {
    /// For the caller, once the records are durable.
    pub reply: Reply,
    /// One group, in order. May be empty.
    pub records: Vec<NewRecord>,
    /// Where among them the first attached record is.
    pub attached: Option<usize>,
    /// For the services, once the records are durable.
    pub notices: Vec<Notice>,
}

/// The queue with its index.
pub struct Engine<T: Tables> {
    queue: Queue,
    index: Arc<Index<T>>,
    notary: Arc<dyn Notary>,
    /// Transitions that the index has not followed yet, by job.
    unsettled: BTreeMap<JobId, u32>,
    /// Records of decisions that are on their way, and what to say when they have arrived.
    pending: VecDeque<(usize, Vec<Notice>)>,
    arrived: usize,
    /// Routes of which waiting jobs may lie on disk only: they were taken out of memory, or have not
    /// been in it since the start.
    spilled: BTreeSet<Route>,
    /// Jobs that one look at the disk brings into memory.
    page: usize,
}

impl<T: Tables> Engine<T> {
    /// Begins from what the index has. Everything in it is durable.
    pub fn new(
        index: Arc<Index<T>>,
        limits: Limits,
        notary: Arc<dyn Notary>,
        around: &dyn Surroundings,
    ) -> Result<(Self, Vec<Notice>), IndexError> {
        Self::with_pages(index, limits, notary, around, LOAD_MAX)
    }

    /// The same, reading so many at a time.
    fn with_pages(
        index: Arc<Index<T>>,
        limits: Limits,
        notary: Arc<dyn Notary>,
        around: &dyn Surroundings,
        page: usize,
    ) -> Result<(Self, Vec<Notice>), IndexError> {
        around.go_on_from(index.reached().clock);
        let now = around.now();
        let queue = Queue::new(limits, index.totals(), now);
        let (unsettled, pending, spilled) = (BTreeMap::new(), VecDeque::new(), BTreeSet::new());
        let arrived = 0;
        let mut engine = Self { queue, index, notary, unsettled, pending, arrived, spilled, page };
        let notices = engine.load_all(now)?;
        Ok((engine, notices))
    }

    /// Forgets every decision that is not in the index: an append was refused.
    pub fn reload(&mut self, now: Millis) -> Result<Vec<Notice>, IndexError> {
        self.queue.reset(self.index.totals(), now);
        self.unsettled.clear();
        self.pending.clear();
        self.arrived = 0;
        self.load_all(now)
    }

    /// The queue, to look at.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Decides.
    pub fn decide(
        &mut self,
        event: Event,
        attach: Attach,
        around: &dyn Surroundings,
    ) -> Result<Decision, IndexError> {
        let (now, wall) = (around.now(), around.wall());
        let named = named_job(&event);
        let tick = matches!(event, Event::Tick);
        let mut notices = Vec::new();
        if let Some(job) = &named {
            notices.extend(self.ensure(job, now)?);
        }
        if let Event::Submit(new) = &event
            && let Some(role) = self.filed_long_ago(new)?
        {
            let (reply, records) = (Reply::Filed(Filed::Known(role)), Vec::new());
            return Ok(Decision { reply, records, attached: None, notices });
        }
        if tick {
            // Before the decision: what can fail must not come between it and its records.
            notices.extend(self.refill(now)?);
        }
        let step = self.queue.apply(event, now, around.entropy());
        let mut attach = Some(attach);
        let (mut records, mut attached) = (Vec::new(), None);
        for effect in step.effects {
            match effect {
                Effect::Wake(worker) => notices.push(Notice::Wake(worker)),
                Effect::Judge { job, attempt, due } => {
                    notices.push(Notice::Judge { job, attempt, due });
                }
                Effect::Journal(transition) => {
                    let carries = named == Some(transition.job) && carries(&transition.change);
                    if carries && let Some(make) = attach.take() {
                        let made = self.queue.job(&transition.job).map(make).unwrap_or_default();
                        attached = Some(records.len());
                        records.extend(made);
                    }
                    records.extend(self.signed_lease(&transition, wall));
                    *self.unsettled.entry(transition.job).or_default() += 1;
                    let body = transition.to_json();
                    records.push(NewRecord::new(Kind::TRANSITION, transition.job.0, body));
                }
            }
        }
        if let Some(job) = named {
            self.let_go(&job);
        }
        Ok(Decision { reply: step.reply, records, attached, notices })
    }

    /// The decision's records are on their way to the journal. Its notices wait for them; if there
    /// are none, they are given back.
    pub fn sent(&mut self, records: usize, notices: Vec<Notice>) -> Vec<Notice> {
        if records == 0 {
            return notices;
        }
        self.pending.push_back((records, notices));
        Vec::new()
    }

    /// Durable records, in order, that the index has followed: what to say now.
    pub fn settled(&mut self, records: &[Stored]) -> Vec<Notice> {
        for record in records.iter().filter(|record| record.kind == Kind::TRANSITION) {
            let job = JobId(record.about);
            if let Some(count) = self.unsettled.get_mut(&job) {
                *count -= 1;
                if *count == 0 {
                    self.unsettled.remove(&job);
                    self.let_go(&job);
                }
            }
        }
        self.trim();
        self.arrived += records.len();
        let mut notices = Vec::new();
        while let Some((count, _)) = self.pending.front()
            && *count <= self.arrived
        {
            self.arrived -= count;
            notices.extend(self.pending.pop_front().into_iter().flat_map(|(_, due)| due));
        }
        notices
    }

    /// Judgements that are due now.
    pub fn due(&self) -> Vec<Notice> {
        let due = |job: &Job| {
            let (attempt, due) = (job.attempt, job.due()?);
            Some(Notice::Judge { job: job.id(), attempt, due })
        };
        self.queue.jobs().filter_map(due).collect()
    }

    /// Brings a job into memory that an event is about.
    pub fn ensure(&mut self, id: &JobId, now: Millis) -> Result<Option<Notice>, IndexError> {
        if self.queue.job(id).is_some() {
            return Ok(None);
        }
        let found = self.index.job(id)?;
        Ok(found.and_then(|job| self.queue.load(job, now)).and_then(as_notice))
    }

    /// A job that was rechecked often has only its newest answers in memory; the index knows all. In
    /// its first attempt it has all of them itself.
    fn filed_long_ago(&self, new: &Submission) -> Result<Option<Role>, IndexError> {
        let known = |job: &Job| job.answers.iter().any(|a| a.observation == new.observation);
        match self.queue.job(&new.job) {
            Some(job) if job.attempt > Attempt(1) && !known(job) => {
                self.index.filed_as(&new.observation)
            }
            _ => Ok(None),
        }
    }

    /// A job that is done, or waits for its time, needs no memory once the index has it.
    fn let_go(&mut self, id: &JobId) {
        let place = self.queue.job(id).map(Job::place);
        if matches!(place, Some(Place::Done | Place::Deferred(_)))
            && !self.unsettled.contains_key(id)
        {
            self.queue.evict(id);
        }
    }

    fn load_all(&mut self, now: Millis) -> Result<Vec<Notice>, IndexError> {
        let (mut notices, mut from) = (Vec::new(), None);
        loop {
            let ids = self.index.active(from, self.page)?;
            for id in &ids {
                notices.extend(self.ensure(id, now)?);
            }
            match ids.last() {
                Some(last) if ids.len() == self.page => from = Some(*last),
                _ => break,
            }
        }
        self.spilled =
            self.index.waiting_routes(self.queue.limits().window_max)?.into_iter().collect();
        notices.extend(self.refill(now)?);
        Ok(notices)
    }

    /// Fills the window from disk: what is due again, and what waits first of each route of which less
    /// than half of its share is in memory.
    fn refill(&mut self, now: Millis) -> Result<Vec<Notice>, IndexError> {
        let mut notices = Vec::new();
        for id in self.index.deferred_until(now, self.page)? {
            notices.extend(self.ensure(&id, now)?);
        }
        let share = self.queue.window_share(&self.spilled);
        let low = |route: &&Route| self.queue.ready_of(route) * 2 <= share;
        for route in self.spilled.iter().filter(low).cloned().collect::<Vec<_>>() {
            notices.extend(self.load_lane(&route, share, now)?);
        }
        // Routes that had more than their share give it back.
        self.trim();
        Ok(notices)
    }

    /// Loads waiting jobs of a route up to its share, the earliest first.
    fn load_lane(
        &mut self,
        route: &Route,
        share: usize,
        now: Millis,
    ) -> Result<Vec<Notice>, IndexError> {
        let mut notices = Vec::new();
        let waiting = self.index.waiting(route, share)?;
        let mut all = waiting.len() < share;
        for id in waiting.iter() {
            if self.queue.ready_of(route) >= share {
                all = false;
                break;
            }
            notices.extend(self.ensure(id, now)?);
        }
        if all {
            self.spilled.remove(route);
        }
        Ok(notices)
    }

    /// Takes waiting jobs out of memory until the window is no longer over full.
    fn trim(&mut self) {
        let unsettled = &self.unsettled;
        while let Some(id) = self.queue.overflow(|job| !unsettled.contains_key(job)) {
            let route = self.queue.job(&id).map(|job| job.spec.route());
            if !self.queue.evict(&id) {
                break;
            }
            self.spilled.extend(route);
        }
    }

    fn signed_lease(&self, step: &Transition, wall: Timestamp) -> Option<NewRecord> {
        let Change::Offered { slot, grant, until } = &step.change else { return None };
        let job = self.queue.job(&step.job)?;
        let offer = Offer {
            job: step.job,
            attempt: job.attempt,
            slot: *slot,
            grant: grant.clone(),
            until: *until,
            execution_ms_max: job.spec.execution_ms_max,
        };
        let body = self.notary.lease(job, &offer, wall)?;
        Some(NewRecord::new(Kind::LEASE, step.job.0, body))
    }
}

fn as_notice(effect: Effect) -> Option<Notice> {
    match effect {
        Effect::Judge { job, attempt, due } => Some(Notice::Judge { job, attempt, due }),
        Effect::Wake(worker) => Some(Notice::Wake(worker)),
        Effect::Journal(_) => None,
    }
}

/// The job that must be in memory for an event.
fn named_job(event: &Event) -> Option<JobId> {
    match event {
        Event::Announce { spec, .. } => Some(spec.id),
        Event::Submit(submission) => Some(submission.job),
        Event::Judged { job, .. } | Event::Unpark { job } => Some(*job),
        _ => None,
    }
}

/// The transitions that rest on something that was brought in.
fn carries(change: &Change) -> bool {
    matches!(
        change,
        Change::Announced { .. }
            | Change::Observed { .. }
            | Change::Filed { .. }
            | Change::Continued { .. }
            | Change::Reopened { .. }
            | Change::Judged { .. }
            | Change::Parked { .. }
    )
}

#[cfg(test)]
mod tests;
