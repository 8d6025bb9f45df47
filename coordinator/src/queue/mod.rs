//! The queue: who is asked to rebuild what, and what became of it.
//!
//! A pure state machine: [`Queue::apply`] takes an [`Event`], the time and randomness, changes the
//! state and gives a [`Reply`] and [`Effect`]s. Nothing here reads a clock, a file or the network.
//! The state of a job is the fold of its journaled [`Transition`]s ([`Job::fold`]); everything else
//! (who is connected, when a worker was heard, buckets) is soft and comes back by itself.
//!
//! ```text
//! announced -> offered -accept-> leased -observation-> observed -> judged
//! offered -30 s or declined-> skipped -> next      leased -60 s silent-> suspect -heartbeat-> leased
//! suspect -grace-> expired -> next, new fence      leased -hard cap-> expired
//! observed "input unavailable" -> deferred 1 h, 6 h, 24 h -> judged
//! judged -dissent-> attempt + 1 with m + 2 (3 at most) -> parked -unpark-> attempt + 1
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`model`], [`limits`] | words, and every number with its reason |
//! | [`transition`], [`job`] | what is journaled, and the state that follows |
//! | [`event`] | what goes in and comes out |
//! | `announce`, `dispatch`, `leases`, `results` | the decisions |
//! | `ready`, `workers`, `buckets`, `timers` | what they are made from |
//!
//! Bounded memory: jobs that nobody has a part in may be taken out of memory ([`Queue::evict`]) and
//! brought back ([`Queue::load`]); before an event names a job that is not in memory, the caller
//! loads it.
//!
//! Invariant: I2 (one counted observation per job, attempt and operator), I6 (answers only grow),
//! I8 (fences strictly increase, a stale one changes nothing), I10 (every wait has an end). It must
//! never decide anything from a late or unleased answer, other than to ask the judge again.

mod announce;
mod buckets;
mod dispatch;
pub mod event;
pub mod job;
mod leases;
pub mod limits;
pub mod model;
mod ready;
mod results;
mod timers;
pub mod transition;
mod workers;

#[cfg(test)]
mod tests;

pub use event::{Desired, Effect, Event, Filed, Need, Offer, Refusal, Reply, Report, Submission};
pub use job::{Due, FoldError, Job, Phase, Place, Slot};
pub use limits::{Limits, Rate};
pub use model::{Class, Entropy, JobSpec, Millis, Route, SpecError, Tenant, registry_of};
pub use transition::{
    Answer, Change, ExpireReason, Grant, ParkReason, ReopenReason, Role, Said, SkipReason,
    Transition,
};

use attest::id::{JobId, LeaseId, WorkerId};
pub(crate) use buckets::Buckets;
use ready::Ready;
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use timers::{Timer, Timers};
use workers::Workers;

/// Jobs that are not done, counted: all of them, in memory or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// All.
    pub unfinished: u64,
    /// By class, in the order of [`Class::ALL`].
    pub by_class: [u64; 5],
    /// By who asked for what is done now; none is 0.
    pub by_tenant: BTreeMap<Tenant, u64>,
}

impl Totals {
    /// Counts a change of one job.
    pub fn count(&mut self, before: Option<&Job>, after: Option<&Job>) {
        for (job, up) in [(before, false), (after, true)] {
            let Some(job) = job.filter(|job| job.unfinished()) else { continue };
            let step = |n: &mut u64| *n = if up { *n + 1 } else { n.saturating_sub(1) };
            step(&mut self.unfinished);
            step(&mut self.by_class[job.class as usize]);
            let tenant = self.by_tenant.entry(job.payer().clone()).or_default();
            step(tenant);
            if *tenant == 0 {
                self.by_tenant.remove(job.payer());
            }
        }
    }
}

/// What an event led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// For whoever brought the event, once the effects are durable.
    pub reply: Reply,
    /// What is to be done, in this order.
    pub effects: Vec<Effect>,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    jobs: BTreeMap<JobId, Job>,
    leases: BTreeMap<LeaseId, Held>,
    ready: Ready,
    timers: Timers,
    workers: Workers,
    totals: Totals,
    /// Jobs in memory whose place is `Active`.
    active: usize,
    /// Since when a job has open slots that nobody took.
    idle_since: BTreeMap<JobId, Millis>,
    /// The last place that each tenant's jobs of a class got.
    tags: BTreeMap<(Tenant, Class), u64>,
    registries: Buckets<String>,
    announcers: Buckets<Tenant>,
    submitters: Buckets<WorkerId>,
    /// How often each change was made since the start, for metrics.
    tallies: BTreeMap<&'static str, u64>,
    /// No offer or lease ends before this: the pause after a restart.
    paused_until: Millis,
    swept_at: Millis,
}

/// An offer or a lease that is out.
#[derive(Debug, Clone)]
struct Held {
    job: JobId,
    slot: u32,
    worker: WorkerId,
    heard: Millis,
}

/// An event on its way through the queue.
struct Turn {
    now: Millis,
    entropy: Entropy,
    draws: u64,
    effects: Vec<Effect>,
}

impl Turn {
    fn draw(&mut self) -> [u8; 32] {
        self.draws += 1;
        self.entropy.draw(self.draws)
    }

    fn draw_u64(&mut self) -> u64 {
        let bytes = self.draw();
        bytes.first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
    }
}

impl Queue {
    /// An empty queue that begins, or begins again, at this moment: for two heartbeats no offer
    /// and no lease ends, so that workers can be heard first.
    pub fn new(limits: Limits, totals: Totals, now: Millis) -> Self {
        Self {
            registries: Buckets::new(limits.registry),
            announcers: Buckets::new(limits.announce),
            submitters: Buckets::new(limits.submit),
            paused_until: now.plus(2 * limits.heartbeat_ms),
            swept_at: now,
            limits,
            jobs: BTreeMap::new(),
            leases: BTreeMap::new(),
            ready: Ready::default(),
            timers: Timers::default(),
            workers: Workers::default(),
            totals,
            active: 0,
            idle_since: BTreeMap::new(),
            tags: BTreeMap::new(),
            tallies: BTreeMap::new(),
        }
    }

    /// Forgets the jobs and begins again from what is on disk, because a decision could not be
    /// journaled. Workers and buckets stay.
    pub fn reset(&mut self, totals: Totals, now: Millis) {
        let fresh = Self::new(self.limits.clone(), totals, now);
        let before = std::mem::replace(self, fresh);
        (self.registries, self.announcers) = (before.registries, before.announcers);
        (self.submitters, self.tags) = (before.submitters, before.tags);
        self.tallies = before.tallies;
        self.workers = before.workers;
        self.workers.forget_held();
    }

    /// One event: what follows from it.
    pub fn apply(&mut self, event: Event, now: Millis, entropy: Entropy) -> Step {
        let mut turn = Turn { now, entropy, draws: 0, effects: Vec::new() };
        let result = match event {
            Event::Announce { spec, tenant, class } => {
                self.announce(&mut turn, spec, tenant, class)
            }
            Event::Sync(report) => self.sync(&mut turn, &report),
            Event::Hangup { worker } => {
                self.workers.unwait(&worker);
                Ok(Reply::Done)
            }
            Event::Accept { worker, lease, fence } => self.accept(&mut turn, worker, lease, fence),
            Event::Decline { worker, lease, fence } => {
                self.decline(&mut turn, worker, lease, fence)
            }
            Event::Submit(submission) => self.submit(&mut turn, submission),
            Event::Judged { job, attempt, answers, outcome, need } => {
                self.judged(&mut turn, job, (attempt, answers), outcome, need)
            }
            Event::Unpark { job } => self.unpark(&mut turn, job),
            Event::Throttled { registry, retry_after_ms } => {
                self.registries.pause(&registry, now, retry_after_ms);
                Ok(Reply::Done)
            }
            Event::Drain { worker, draining } => {
                self.workers.drain(worker, draining);
                Ok(Reply::Done)
            }
            Event::Tick => self.tick(&mut turn),
        };
        let reply = result.unwrap_or_else(Reply::Refused);
        Step { reply, effects: turn.effects }
    }

    /// Brings a job into memory. Gives the judgement that is due, if one is.
    pub fn load(&mut self, job: Job, now: Millis) -> Option<Effect> {
        let id = job.id();
        if self.jobs.contains_key(&id) {
            return None;
        }
        self.active += usize::from(job.place() == Place::Active);
        let due = job.due();
        let attempt = job.attempt;
        self.jobs.insert(id, job);
        self.follow(id, now);
        due.map(|due| Effect::Judge { job: id, attempt, due })
    }

    /// Takes a job out of memory, if it may wait on disk. The caller has made sure that the disk
    /// has its newest state.
    pub fn evict(&mut self, id: &JobId) -> bool {
        let may = self.jobs.get(id).is_some_and(|job| job.place() != Place::Active);
        if may {
            self.jobs.remove(id);
            self.ready.remove(id);
            self.idle_since.remove(id);
            self.timers.disarm(&Timer::Job(*id));
        }
        may
    }

    /// The job, if it is in memory.
    pub fn job(&self, id: &JobId) -> Option<&Job> {
        self.jobs.get(id)
    }

    /// Jobs in memory.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// Everything that is not done, in memory or not.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Jobs of a route in memory that have an open slot.
    pub fn ready_of(&self, route: &Route) -> usize {
        self.ready.len_of(route)
    }

    /// How many of them each route may have in memory at least, if `others` are routes of which jobs
    /// wait on disk: the window is shared by all routes alike. 0 if there are more routes than room.
    pub fn window_share(&self, others: &BTreeSet<Route>) -> usize {
        let away = others.iter().filter(|route| self.ready.len_of(route) == 0).count();
        let lanes = self.ready.lanes() + away;
        self.limits.window_max / lanes.max(1)
    }

    /// The waiting job to take out of memory first, when the window is over full: of the route that
    /// has the most in it.
    pub fn overflow(&self, may: impl Fn(&JobId) -> bool) -> Option<JobId> {
        if self.ready.len() <= self.limits.window_max {
            return None;
        }
        let waiting = |id: &JobId| {
            may(id) && self.jobs.get(id).is_some_and(|job| matches!(job.place(), Place::Waiting(_)))
        };
        self.ready.last(waiting, self.limits.scan_max)
    }

    /// Offers and leases that are out to a worker.
    pub fn leases_out_to(&self, worker: &WorkerId) -> usize {
        self.workers.held(worker).count()
    }

    /// Workers that are known, leases and offers that are out, jobs that somebody is at.
    pub fn figures(&self) -> Figures {
        let count = |want: fn(&Slot) -> bool| {
            self.jobs.values().flat_map(|job| &job.slots).filter(|slot| want(slot)).count()
        };
        Figures {
            workers: self.workers.len(),
            offers: count(|slot| matches!(slot, Slot::Offered { .. })),
            leases: count(|slot| matches!(slot, Slot::Leased { .. })),
            suspects: count(|slot| matches!(slot, Slot::Leased { suspect: Some(_), .. })),
            jobs_in_memory: self.jobs.len(),
            oldest_waiting: self
                .jobs
                .values()
                .filter(|j| j.unfinished())
                .map(|j| j.opened_at)
                .min(),
        }
    }

    /// How often each change was decided since the start, by its name.
    pub fn tallies(&self) -> &BTreeMap<&'static str, u64> {
        &self.tallies
    }

    /// When [`Event::Tick`] has something to do next.
    pub fn next_timer(&self) -> Option<Millis> {
        self.timers.next()
    }

    /// The numbers it works with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Makes a transition: state, everything that follows from it, and the effect.
    fn record(&mut self, turn: &mut Turn, job: JobId, change: Change) -> Result<(), Refusal> {
        *self.tallies.entry(change.name()).or_default() += 1;
        let step = Transition { at: turn.now, job, change };
        let before = self.jobs.get(&job).cloned();
        let after = Job::fold(before.clone(), &step).map_err(Refusal::Inconsistent)?;
        self.totals.count(before.as_ref(), Some(&after));
        let place = |job: &Job| usize::from(job.place() == Place::Active);
        self.active = self.active + place(&after) - before.as_ref().map_or(0, place);
        let asked = before.as_ref().and_then(Job::due).is_some()
            && before.as_ref().is_some_and(|old| old.answers.len() == after.answers.len());
        let due = after.due().filter(|_| !asked);
        let attempt = after.attempt;
        for grant in before.iter().flat_map(|old| &old.slots).filter_map(Slot::grant) {
            if !after.slots.iter().any(|slot| slot.grant() == Some(grant)) {
                self.drop_lease(&grant.lease);
            }
        }
        self.jobs.insert(job, after);
        turn.effects.push(Effect::Journal(step));
        if let Some(due) = due {
            turn.effects.push(Effect::Judge { job, attempt, due });
        }
        self.follow(job, turn.now);
        Ok(())
    }

    fn drop_lease(&mut self, lease: &LeaseId) {
        if let Some(held) = self.leases.remove(lease) {
            self.workers.release(&held.worker, lease);
            self.timers.disarm(&Timer::Lease(*lease));
        }
    }

    /// Brings leases, the ready set and the timers in line with a job's state.
    fn follow(&mut self, id: JobId, now: Millis) {
        let Some(job) = self.jobs.get(&id) else { return };
        let heard = now.max(self.paused_until);
        for (i, slot) in job.slots.iter().enumerate() {
            let Some(grant) = slot.grant() else { continue };
            if let Entry::Vacant(vacant) = self.leases.entry(grant.lease) {
                let (slot, worker) = (i as u32, grant.worker);
                vacant.insert(Held { job: id, slot, worker, heard });
                self.workers.hold(&worker, grant.lease);
                self.timers.arm(Timer::Lease(grant.lease), now);
            }
        }
        let free =
            job.unfinished() && job.open_slots() > 0 && job.due().is_none() && !self.spent(job);
        let deferred = matches!(job.phase, Phase::Deferred { until } if until > now);
        if free && !deferred {
            self.ready.put(id, job.spec.route(), job.rank);
        } else {
            self.ready.remove(&id);
        }
        if free && !deferred && !job.held() {
            self.idle_since.entry(id).or_insert(now);
        } else {
            self.idle_since.remove(&id);
        }
        match self.job_timer(&id, now) {
            Some(at) => self.timers.arm(Timer::Job(id), at),
            None => self.timers.disarm(&Timer::Job(id)),
        }
    }

    /// Every lease and offer that is out, for checks.
    pub fn held_leases(&self) -> BTreeSet<LeaseId> {
        self.leases.keys().copied().collect()
    }
}

/// How much there is, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Workers that are known.
    pub workers: usize,
    /// Offers that are out.
    pub offers: usize,
    /// Leases that are out.
    pub leases: usize,
    /// Leases whose worker was not heard for 60 s.
    pub suspects: usize,
    /// Jobs in memory.
    pub jobs_in_memory: usize,
    /// When the oldest unfinished job was opened: of those in memory, and of the first that wait on
    /// disk where a store answers.
    pub oldest_waiting: Option<Millis>,
}
