//! What decides inside the coordinator: the real queue alone, or the real engine with its index.
//!
//! [`Bare`] is the queue with the fold of its durable transitions beside it: fast enough for a
//! million schedules. [`Whole`] is [`Engine`] and [`Index`] as the daemon has them, with jobs that
//! leave memory and come back. Invariant: both are made again from the journal alone.

use super::disk::SimDisk;
use super::tables::SimTables;
use crate::journal::{Kind, NewRecord, Reader, Stored};
use crate::queue::{
    Change, Effect, Entropy, Event, Job, Limits, Millis, Phase, Queue, Reply, Totals, Transition,
};
use crate::store::{Attach, Engine, Index, IndexError, Notary, Notice, Surroundings, catch_up};
use attest::{
    Digest,
    id::{JobId, JournalPosition},
    time::Timestamp,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Rows of the index that are looked at: more than there are jobs in a schedule.
const LOOKED_AT_MAX: usize = 16;

/// The simulated clock and the randomness of one coordinator.
#[derive(Debug, Default)]
pub(super) struct SimClock {
    now: AtomicU64,
    draws: AtomicU64,
    seed: u64,
}

impl SimClock {
    pub(super) fn new(seed: u64) -> Self {
        Self { now: AtomicU64::new(1), draws: AtomicU64::new(0), seed }
    }

    /// Time passed.
    pub(super) fn advance_to(&self, now: u64) {
        self.now.fetch_max(now, Ordering::Relaxed);
    }
}

impl Surroundings for SimClock {
    fn now(&self) -> Millis {
        Millis(self.now.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        let seconds = 1_800_000_000 + self.now().0 / 1000;
        Timestamp::from_unix(seconds as i64).unwrap_or_default()
    }

    fn entropy(&self) -> Entropy {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        Entropy(super::random::Chance::of(self.seed, draw.wrapping_add(1 << 40)).bytes())
    }

    fn go_on_from(&self, at: Millis) {
        self.advance_to(at.0);
    }
}

/// One decision.
pub(super) struct Decided {
    pub(super) reply: Reply,
    pub(super) records: Vec<NewRecord>,
    /// The transition of each record that is one, where it is at hand.
    pub(super) steps: Vec<Option<Transition>>,
    pub(super) attached: Option<usize>,
    pub(super) notices: Vec<Notice>,
}

/// What decides.
pub(super) trait Brain {
    fn decide(&mut self, event: Event, attach: Attach) -> Result<Decided, IndexError>;
    /// The decision goes to the journal; gives the notices that need not wait.
    fn sent(&mut self, records: usize, notices: Vec<Notice>) -> Vec<Notice>;
    /// Durable records, in order.
    fn follow(
        &mut self,
        stored: &[Stored],
        steps: &[Option<Transition>],
    ) -> Result<Vec<Notice>, IndexError>;
    /// An append was refused: begin again from what is durable.
    fn reload(&mut self) -> Result<Vec<Notice>, IndexError>;
    /// The job as it is on disk.
    fn job(&self, id: &JobId) -> Option<Job>;
    /// Where the envelope of an observation lies.
    fn position(&self, observation: &attest::id::ObservationId) -> Option<JournalPosition>;
    fn queue(&self) -> &Queue;
    /// When the next tick has something to do for a reason that time alone brings.
    fn next_timer(&self) -> Option<u64>;
    /// Jobs wait on disk that could be in memory when there is room.
    fn spilled(&self) -> bool;
}

/// The queue and the fold of what is durable.
pub(super) struct Bare {
    queue: Queue,
    jobs: BTreeMap<JobId, Job>,
    positions: BTreeMap<attest::id::ObservationId, JournalPosition>,
    clock: Arc<SimClock>,
    /// As in the engine: records on their way, and what to say when they have arrived.
    pending: std::collections::VecDeque<(usize, Vec<Notice>)>,
    arrived: usize,
    limits: Limits,
}

fn total(jobs: &BTreeMap<JobId, Job>) -> Totals {
    let mut totals = Totals::default();
    for job in jobs.values() {
        totals.count(None, Some(job));
    }
    totals
}

impl Bare {
    pub(super) fn start(
        reader: &Reader<SimDisk>,
        limits: Limits,
        clock: Arc<SimClock>,
    ) -> Result<(Self, Vec<Notice>), String> {
        let mut bare = Self {
            queue: Queue::new(limits.clone(), Totals::default(), clock.now()),
            jobs: BTreeMap::new(),
            positions: BTreeMap::new(),
            clock,
            pending: Default::default(),
            arrived: 0,
            limits,
        };
        let mut last = Millis(0);
        let mut envelope = None;
        for stored in reader.from(JournalPosition(0)) {
            let stored = stored.map_err(|error| error.to_string())?;
            if let Some(at) = bare.fold(&stored, None, &mut envelope)? {
                last = last.max(at);
            }
        }
        bare.clock.go_on_from(last);
        bare.queue = Queue::new(bare.limits.clone(), total(&bare.jobs), bare.clock.now());
        let notices = bare.load_all();
        Ok((bare, notices))
    }

    fn fold(
        &mut self,
        stored: &Stored,
        step: Option<&Transition>,
        envelope: &mut Option<JournalPosition>,
    ) -> Result<Option<Millis>, String> {
        if stored.kind == Kind::OBSERVATION {
            *envelope = Some(stored.position);
        }
        if stored.kind != Kind::TRANSITION {
            return Ok(None);
        }
        let read;
        let step = match step {
            Some(step) => step,
            None => {
                read = Transition::from_json(&stored.body).map_err(|error| error.to_string())?;
                &read
            }
        };
        if let Change::Observed { answer, .. } | Change::Filed { answer } = &step.change
            && let Some(at) = envelope.take()
        {
            self.positions.insert(answer.observation, at);
        }
        let before = self.jobs.remove(&step.job);
        let job = Job::fold(before, step).map_err(|error| error.to_string())?;
        self.jobs.insert(step.job, job);
        Ok(Some(step.at))
    }

    fn load_all(&mut self) -> Vec<Notice> {
        let now = self.clock.now();
        let jobs = self.jobs.values().filter(|job| job.unfinished() || job.due().is_some());
        let effects: Vec<_> = jobs.filter_map(|job| self.queue.load(job.clone(), now)).collect();
        effects.into_iter().filter_map(notice).collect()
    }
}

fn notice(effect: Effect) -> Option<Notice> {
    match effect {
        Effect::Judge { job, attempt, due } => Some(Notice::Judge { job, attempt, due }),
        Effect::Wake(worker) => Some(Notice::Wake(worker)),
        Effect::Journal(_) => None,
    }
}

fn carries(change: &Change) -> bool {
    !matches!(
        change,
        Change::Promoted { .. }
            | Change::Offered { .. }
            | Change::Skipped { .. }
            | Change::Leased { .. }
            | Change::Suspected { .. }
            | Change::Resumed { .. }
            | Change::Expired { .. }
            | Change::Deferred { .. }
    )
}

fn named(event: &Event) -> Option<JobId> {
    match event {
        Event::Announce { spec, .. } => Some(spec.id),
        Event::Submit(submission) => Some(submission.job),
        Event::Judged { job, .. } | Event::Unpark { job } => Some(*job),
        _ => None,
    }
}

impl Brain for Bare {
    fn decide(&mut self, event: Event, attach: Attach) -> Result<Decided, IndexError> {
        let now = self.clock.now();
        let named = named(&event);
        let mut notices = Vec::new();
        if let Some(id) = &named
            && self.queue.job(id).is_none()
            && let Some(job) = self.jobs.get(id)
        {
            notices.extend(self.queue.load(job.clone(), now).and_then(notice));
        }
        let step = self.queue.apply(event, now, self.clock.entropy());
        let (mut records, mut steps, mut attached) = (Vec::new(), Vec::new(), None);
        let mut attach = Some(attach);
        for effect in step.effects {
            let Effect::Journal(transition) = effect else {
                notices.extend(notice(effect));
                continue;
            };
            if named == Some(transition.job)
                && carries(&transition.change)
                && let Some(attach) = attach.take()
            {
                let made = self.queue.job(&transition.job).map(attach).unwrap_or_default();
                attached = Some(records.len());
                steps.extend(made.iter().map(|_| None));
                records.extend(made);
            }
            let body = transition.to_json();
            records.push(NewRecord::new(Kind::TRANSITION, transition.job.0, body));
            steps.push(Some(transition));
        }
        Ok(Decided { reply: step.reply, records, steps, attached, notices })
    }

    fn sent(&mut self, records: usize, notices: Vec<Notice>) -> Vec<Notice> {
        if records == 0 {
            return notices;
        }
        self.pending.push_back((records, notices));
        Vec::new()
    }

    fn follow(
        &mut self,
        stored: &[Stored],
        steps: &[Option<Transition>],
    ) -> Result<Vec<Notice>, IndexError> {
        let mut envelope = None;
        for (stored, step) in stored.iter().zip(steps) {
            self.fold(stored, step.as_ref(), &mut envelope).map_err(IndexError::Doubt)?;
        }
        self.arrived += stored.len();
        let mut notices = Vec::new();
        while let Some((count, _)) = self.pending.front()
            && *count <= self.arrived
        {
            self.arrived -= count;
            notices.extend(self.pending.pop_front().into_iter().flat_map(|(_, due)| due));
        }
        Ok(notices)
    }

    fn reload(&mut self) -> Result<Vec<Notice>, IndexError> {
        self.queue.reset(total(&self.jobs), self.clock.now());
        self.pending.clear();
        self.arrived = 0;
        Ok(self.load_all())
    }

    fn job(&self, id: &JobId) -> Option<Job> {
        self.jobs.get(id).cloned()
    }

    fn position(&self, observation: &attest::id::ObservationId) -> Option<JournalPosition> {
        self.positions.get(observation).copied()
    }

    fn queue(&self) -> &Queue {
        &self.queue
    }

    fn next_timer(&self) -> Option<u64> {
        self.queue.next_timer().map(|at| at.0)
    }

    fn spilled(&self) -> bool {
        false
    }
}

/// The engine and its index.
pub(super) struct Whole {
    engine: Engine<SimTables>,
    index: Arc<Index<SimTables>>,
    clock: Arc<SimClock>,
}

impl Whole {
    /// As `store::open` does it: an index in doubt is made again.
    pub(super) fn start(
        reader: &Reader<SimDisk>,
        tables: &SimTables,
        limits: Limits,
        notary: Arc<dyn Notary>,
        clock: Arc<SimClock>,
    ) -> Result<(Self, Vec<Notice>), String> {
        let start = reader.chain_at(JournalPosition(0)).ok().flatten();
        let start = start.unwrap_or(Digest::from_raw([0; 32]));
        let attempt = || {
            let index = Index::open(tables.clone(), &reader.journal(), start)
                .map_err(|error| error.to_string())?;
            catch_up(&index, reader, |_| {}).map_err(|error| error.to_string())?;
            Ok::<_, String>(index)
        };
        let index = match attempt() {
            Ok(index) => index,
            Err(_) => {
                tables.clear();
                attempt()?
            }
        };
        let index = Arc::new(index);
        let (engine, notices) = Engine::new(index.clone(), limits, notary, &*clock)
            .map_err(|error| error.to_string())?;
        Ok((Self { engine, index, clock }, notices))
    }
}

impl Brain for Whole {
    fn decide(&mut self, event: Event, attach: Attach) -> Result<Decided, IndexError> {
        let decision = self.engine.decide(event, attach, &*self.clock)?;
        let steps = vec![None; decision.records.len()];
        Ok(Decided {
            reply: decision.reply,
            records: decision.records,
            steps,
            attached: decision.attached,
            notices: decision.notices,
        })
    }

    fn sent(&mut self, records: usize, notices: Vec<Notice>) -> Vec<Notice> {
        self.engine.sent(records, notices)
    }

    fn follow(
        &mut self,
        stored: &[Stored],
        _: &[Option<Transition>],
    ) -> Result<Vec<Notice>, IndexError> {
        self.index.follow(stored)?;
        Ok(self.engine.settled(stored))
    }

    fn reload(&mut self) -> Result<Vec<Notice>, IndexError> {
        self.engine.reload(self.clock.now())
    }

    fn job(&self, id: &JobId) -> Option<Job> {
        self.index.job(id).ok().flatten()
    }

    fn position(&self, observation: &attest::id::ObservationId) -> Option<JournalPosition> {
        self.index.observation(observation).ok().flatten()
    }

    fn queue(&self) -> &Queue {
        self.engine.queue()
    }

    /// A timer of the queue, or a deferred job that waits on disk.
    fn next_timer(&self) -> Option<u64> {
        let queue = self.engine.queue();
        let far = Millis(u64::MAX - 1);
        let deferred = self.index.deferred_until(far, LOOKED_AT_MAX).unwrap_or_default();
        let away = deferred.into_iter().find(|id| queue.job(id).is_none());
        let until = away.and_then(|id| self.job(&id)).and_then(|job| match job.phase {
            Phase::Deferred { until } => Some(until.0),
            _ => None,
        });
        queue.next_timer().map(|at| at.0).into_iter().chain(until).min()
    }

    fn spilled(&self) -> bool {
        let routes = self.index.waiting_routes(LOOKED_AT_MAX).unwrap_or_default();
        let waiting = |route| self.index.waiting(route, LOOKED_AT_MAX).unwrap_or_default();
        routes.iter().flat_map(waiting).any(|id| self.engine.queue().job(&id).is_none())
    }
}
