//! Clock, network, fleet and coordinator: one schedule from its plan to its end.
//!
//! Invariant: everything follows from the plan. One step is one thing that happens: a message
//! arrives, a worker wakes, a timer is due, a batch goes to the disk, a judge speaks. The invariants
//! are checked at each. After the last planned step faults stop, and then every job must end.

use super::brain::SimClock;
use super::checks::{Checks, Violation};
use super::fleet::Worker;
use super::plan::Plan;
use super::random::Chance;
use super::signed::Ink;
use super::site::{Parts, Party, Sabotage, Site, Told};
use super::tables::SimTables;
use crate::queue::{Event, JobSpec, Phase};
use crate::store::nothing;
use attest::id::{Fence, JobId, LeaseId, ObservationId, OperatorId, WorkerId};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

/// What a message asks of the coordinator.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Sync(Vec<(LeaseId, Fence)>),
    Accept(LeaseId, Fence),
    Decline(LeaseId, Fence),
    Submit(ObservationId),
}

#[derive(Debug)]
pub(super) enum What {
    Arrives(usize, Ask),
    Answer(Told),
    /// A worker looks around; again and again, or because its call was answered.
    Wake(usize, bool),
    Commit,
    Judge(JobId),
    Start,
}

pub(super) struct Timed {
    pub(super) at: u64,
    seq: u64,
    pub(super) what: What,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// Which parts of the coordinator a schedule runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Depth {
    /// Queue and journal, judged by the plain rule.
    Bare,
    /// The store's engine and index too.
    Whole,
    /// The same with real signatures and `attest::verdict`.
    Signed,
}

/// What a schedule came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) steps: u64,
    pub(super) faults: u64,
    pub(super) records: u64,
    pub(super) receipts: u64,
    pub(super) starts: u64,
    pub(super) judged: u64,
    pub(super) parked: u64,
}

/// The world of one schedule.
pub(super) struct World<'a> {
    pub(super) plan: &'a Plan,
    pub(super) sabotage: Sabotage,
    pub(super) clock: Arc<SimClock>,
    pub(super) now: u64,
    pub(super) step: u32,
    pub(super) calm: bool,
    pub(super) seq: u64,
    pub(super) chance: Chance,
    pub(super) events: BinaryHeap<Reverse<Timed>>,
    pub(super) committing: bool,
    pub(super) site: Site,
    pub(super) checks: Checks,
    pub(super) ink: Option<Arc<Ink>>,
    pub(super) workers: Vec<Worker>,
    pub(super) by_worker: BTreeMap<WorkerId, usize>,
    pub(super) operators: Vec<OperatorId>,
    pub(super) specs: Vec<JobSpec>,
    pub(super) announced: Vec<u32>,
    /// Loss and duplication in percent, delay in ms, each until a step.
    pub(super) loss: (u64, u32),
    pub(super) duplication: (u64, u32),
    pub(super) delay: (u64, u32),
    pub(super) judge_away_until: u32,
    pub(super) drained: Vec<(usize, u32)>,
    /// Who dissented in the judgements so far: never fewer (I6).
    pub(super) dissenters: BTreeMap<JobId, Vec<OperatorId>>,
    pub(super) forged: BTreeMap<JobId, Vec<Vec<u8>>>,
    /// The next stop of the disk is a power cut.
    pub(super) power: bool,
    pub(super) ticked_at: u64,
    pub(super) faults: u64,
    pub(super) trace: Option<Vec<String>>,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan, depth: Depth, sabotage: Sabotage, trace: bool) -> Self {
        let clock = Arc::new(SimClock::new(plan.seed));
        let ink = (depth == Depth::Signed).then(|| Arc::new(Ink::new(plan)));
        let parts = match (depth, &ink) {
            (Depth::Bare, _) => Parts::Bare,
            (_, Some(ink)) => Parts::Whole(SimTables::default(), ink.clone()),
            (_, None) => Parts::Whole(SimTables::default(), Arc::new(crate::store::NoNotary)),
        };
        let names = super::signed::names();
        let count = plan.workers.iter().map(|w| w.operator as usize + 1).max().unwrap_or(0);
        let mut workers = Vec::new();
        let mut per_operator = [0usize; super::plan::OPERATORS_MAX];
        for (i, planned) in plan.workers.iter().enumerate() {
            let operator = planned.operator as usize;
            let nth = per_operator[operator];
            per_operator[operator] += 1;
            let chance = Chance::of(plan.seed, 100 + i as u64);
            workers.push(Worker::new(operator, nth, planned.manner, chance));
        }
        let specs =
            plan.jobs.iter().map(|job| super::signed::spec(job.image, job.wanted, !job.unroutable));
        Self {
            plan,
            sabotage,
            now: 1,
            step: 0,
            calm: false,
            seq: 0,
            chance: Chance::of(plan.seed, 2),
            events: BinaryHeap::new(),
            committing: false,
            site: Site::new(parts, plan.limits(), clock.clone()),
            clock,
            checks: Checks::default(),
            ink,
            by_worker: workers
                .iter()
                .enumerate()
                .map(|(i, w): (usize, &Worker)| (w.id, i))
                .collect(),
            workers,
            operators: names[..count].to_vec(),
            specs: specs.collect(),
            announced: vec![0; plan.jobs.len()],
            loss: (0, 0),
            duplication: (0, 0),
            delay: (0, 0),
            judge_away_until: 0,
            drained: Vec::new(),
            dissenters: BTreeMap::new(),
            forged: BTreeMap::new(),
            power: false,
            ticked_at: 0,
            faults: 0,
            trace: trace.then(Vec::new),
        }
    }

    /// Runs the schedule.
    pub(super) fn run(&mut self) -> Result<Outcome, Violation> {
        if self.sabotage == Sabotage::LyingDisk {
            self.site.disk.lie();
        }
        self.start()?;
        for i in 0..self.workers.len() {
            let at = self.now + self.chance.below(5_000);
            self.at(at, What::Wake(i, true));
        }
        let mut faults = self.plan.faults.iter().peekable();
        while self.step < self.plan.steps {
            while let Some((_, fault)) = faults.next_if(|(step, _)| *step <= self.step) {
                self.note(|| format!("fault {fault:?}"));
                self.faults += 1;
                self.fault(*fault)?;
            }
            self.announce_due()?;
            self.one()?;
            self.step += 1;
        }
        let steps = u64::from(self.step);
        self.end()?;
        self.outcome(steps)
    }

    pub(super) fn trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        let (step, now) = (self.step, self.now);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{step:4} {now:9} ms  {}", what()));
        }
    }

    fn outcome(&self, steps: u64) -> Result<Outcome, Violation> {
        let ended = |want: fn(&Phase) -> bool| {
            let job = |spec: &JobSpec| self.site.brain().and_then(|brain| brain.job(&spec.id));
            self.specs.iter().filter_map(job).filter(|job| want(&job.phase)).count() as u64
        };
        Ok(Outcome {
            steps,
            faults: self.faults,
            records: self.checks.end(),
            receipts: self.checks.receipts() as u64,
            starts: u64::from(self.site.starts),
            judged: ended(|phase| matches!(phase, Phase::Judged { .. })),
            parked: ended(|phase| matches!(phase, Phase::Parked { .. })),
        })
    }

    pub(super) fn at(&mut self, at: u64, what: What) {
        self.seq += 1;
        self.events.push(Reverse(Timed { at: at.max(self.now), seq: self.seq, what }));
    }

    pub(super) fn to(&mut self, now: u64) {
        self.now = self.now.max(now);
        self.clock.advance_to(self.now);
    }

    /// One step: the next event, or a timer of the queue that is due before it.
    pub(super) fn one(&mut self) -> Result<(), Violation> {
        let next = self.events.peek().map_or(self.now, |Reverse(next)| next.at);
        // The daemon ticks a few times a second; here only when there is something to do, and each
        // five seconds while jobs wait on disk for room in memory.
        let timer = self.site.brain().and_then(|brain| {
            let soon = brain.spilled().then_some(self.ticked_at + 5_000);
            let timer = brain.next_timer().map(|at| at.max(self.ticked_at + 200));
            timer.into_iter().chain(soon).min()
        });
        if let Some(timer) = timer
            && timer <= next
        {
            self.to(timer);
            self.ticked_at = self.now;
            self.note(|| "tick".to_owned());
            return self.decide(Party::Nobody, Event::Tick, nothing());
        }
        let Some(Reverse(Timed { at, what, .. })) = self.events.pop() else { return Ok(()) };
        self.to(at);
        self.note(|| format!("{what:?}"));
        self.happens(what)
    }

    fn happens(&mut self, what: What) -> Result<(), Violation> {
        match what {
            What::Arrives(worker, ask) => self.arrives(worker, ask),
            What::Answer(told) => self.answered(told),
            What::Wake(worker, again) => self.wake(worker, again),
            What::Commit => self.commit(),
            What::Judge(job) => self.judge(job),
            What::Start => self.start(),
        }
    }
}
