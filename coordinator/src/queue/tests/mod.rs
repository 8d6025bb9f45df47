//! The protocol's queue semantics, sentence by sentence, as an executable specification.
//!
//! Invariant: tests speak to the queue through events only, and after each one the rig checks that
//! the journaled transitions fold to exactly the jobs that the queue has.

mod dispatch;
mod errors;
mod fences;
mod folding;
mod leases;
mod lifecycle;
mod quotas;

use super::*;
use attest::{
    Digest, Platform, Subject,
    id::{Fence, ObservationId, OperatorId},
};

pub(super) const SECOND: u64 = 1000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;

pub(super) fn worker(n: u32) -> WorkerId {
    WorkerId(Digest::of(format!("worker {n}").as_bytes()))
}

/// Worker `n` is of operator `n`; worker `n + 100` is another one of operator `n`.
pub(super) fn operator(n: u32) -> OperatorId {
    format!("operator-{}", n % 100).parse().unwrap()
}

pub(super) fn spec(name: &str, wanted: u32) -> JobSpec {
    spec_at("registry.example/demo/hello", name, "apko", "amd64", 0, wanted)
}

pub(super) fn spec_at(
    repository: &str,
    name: &str,
    rebuilder: &str,
    architecture: &str,
    memory_mib: u32,
    wanted: u32,
) -> JobSpec {
    let subject = Subject {
        repository: repository.parse().unwrap(),
        digest: Digest::of(name.as_bytes()),
        platform: Platform::linux(architecture),
    };
    let recipes = vec![Digest::of(b"recipe")];
    JobSpec::new(subject, recipes, rebuilder, memory_mib, wanted, HOUR).unwrap()
}

pub(super) fn report(n: u32, leases: &[&Offer]) -> Report {
    Report {
        worker: worker(n),
        operator: operator(n),
        architectures: vec!["amd64".into()],
        rebuilders: vec!["apko".into()],
        memory_mib: 0,
        slots_free: 4,
        draining: false,
        leases: leases.iter().map(|offer| (offer.grant.lease, offer.grant.fence)).collect(),
        waits: false,
    }
}

pub(super) fn output(what: &str) -> Said {
    Said::Output { manifest: Digest::of(what.as_bytes()) }
}

/// An observation under this offer's lease.
pub(super) fn submission(n: u32, offer: &Offer, said: Said) -> Submission {
    let text = format!("{n} {} {} {said:?}", offer.grant.lease, offer.attempt);
    Submission {
        job: offer.job,
        attempt: offer.attempt,
        lease: offer.grant.lease,
        fence: offer.grant.fence,
        worker: worker(n),
        operator: operator(n),
        observation: ObservationId(Digest::of(text.as_bytes())),
        said,
        duration_ms: MINUTE,
        bytes: 4000,
    }
}

/// A queue with a clock.
pub(super) struct Rig {
    pub(super) queue: Queue,
    pub(super) now: u64,
    draws: u64,
    /// The effects of the last event, or of all ticks while time passed.
    pub(super) effects: Vec<Effect>,
    folded: BTreeMap<JobId, Job>,
    /// How often each change was seen since the start.
    seen: BTreeMap<&'static str, u64>,
    pub(super) steps: Vec<Transition>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(Limits::default())
    }

    /// The pause after a start is over.
    pub(super) fn with(limits: Limits) -> Self {
        let queue = Queue::new(limits, Totals::default(), Millis(0));
        let (folded, seen, steps) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { queue, now: HOUR, draws: 0, effects: Vec::new(), folded, seen, steps }
    }

    pub(super) fn apply(&mut self, event: Event) -> Reply {
        self.draws += 1;
        let entropy = Entropy(*Digest::of(&self.draws.to_le_bytes()).raw());
        let Step { reply, effects } = self.queue.apply(event, Millis(self.now), entropy);
        for effect in &effects {
            if let Effect::Journal(step) = effect {
                let json = Transition::from_json(&step.to_json()).unwrap();
                let job = Job::fold(self.folded.remove(&step.job), &json).unwrap();
                self.folded.insert(step.job, job);
                *self.seen.entry(json.change.name()).or_default() += 1;
                self.steps.push(json);
            }
        }
        self.check_what_follows();
        for job in self.queue.jobs() {
            assert_eq!(self.folded.get(&job.id()), Some(job), "the journal tells another state");
        }
        let mut totals = Totals::default();
        self.folded.values().for_each(|job| totals.count(None, Some(job)));
        assert_eq!(self.queue.totals(), &totals);
        self.effects = effects;
        reply
    }

    /// What the queue keeps beside the jobs is what their states say.
    fn check_what_follows(&self) {
        let queue = &self.queue;
        queue.workers.check();
        assert_eq!(queue.tallies(), &self.seen);
        assert_eq!(queue.active, queue.jobs().filter(|j| j.place() == Place::Active).count());
        let out = queue.jobs().flat_map(|job| &job.slots).filter_map(Slot::grant);
        assert_eq!(queue.held_leases(), out.map(|grant| grant.lease).collect());
        for job in queue.jobs() {
            let most = queue.limits.tries_per_slot_max * job.slots.len() as u32;
            let open = job.unfinished() && job.open_slots() > 0 && job.tries < most;
            let free = open && job.due().is_none();
            let waits = matches!(job.phase, Phase::Deferred { until } if until.0 > self.now);
            // What was put off comes back when its timer is looked at.
            if !matches!(job.phase, Phase::Deferred { .. }) || waits {
                assert_eq!(queue.ready.holds(&job.id()), free && !waits, "{job:?}");
                let idle = queue.idle_since.contains_key(&job.id());
                assert_eq!(idle, free && !waits && !job.held(), "{job:?}");
            }
        }
    }

    /// The process stops, and starts again with what the journal tells.
    pub(super) fn restart(&mut self) {
        self.seen.clear();
        let mut totals = Totals::default();
        self.folded.values().for_each(|job| totals.count(None, Some(job)));
        self.queue = Queue::new(self.queue.limits().clone(), totals, Millis(self.now));
        for job in self.folded.values() {
            self.queue.load(job.clone(), Millis(self.now));
        }
    }

    /// Time passes: every timer that is due on the way is looked at, at its time.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        let mut effects = Vec::new();
        while let Some(at) = self.queue.next_timer().filter(|at| at.0 <= end) {
            self.now = self.now.max(at.0);
            self.apply(Event::Tick);
            effects.append(&mut self.effects);
            let next = self.queue.next_timer();
            assert!(next.is_none_or(|next| next.0 > self.now), "a timer that does not move on");
        }
        self.now = self.now.max(end);
        self.apply(Event::Tick);
        effects.append(&mut self.effects);
        self.effects = effects;
    }

    pub(super) fn announce_as(&mut self, spec: JobSpec, tenant: &str, class: Class) -> Reply {
        self.apply(Event::Announce { spec, tenant: Tenant(tenant.into()), class })
    }

    pub(super) fn announce(&mut self, name: &str, wanted: u32) -> JobId {
        match self.announce_as(spec(name, wanted), "ci", Class::Push) {
            Reply::Announced { job, .. } => job,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn sync_with(&mut self, report: Report) -> Desired {
        match self.apply(Event::Sync(report)) {
            Reply::Desired(desired) => desired,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn offers(&mut self, n: u32) -> Vec<Offer> {
        self.sync_with(report(n, &[])).offers
    }

    /// The worker says that it is still at these.
    pub(super) fn heartbeat(&mut self, n: u32, leases: &[&Offer]) -> Desired {
        let report = Report { slots_free: 0, ..report(n, leases) };
        self.sync_with(report)
    }

    pub(super) fn accept(&mut self, n: u32, offer: &Offer) -> Reply {
        let (worker, lease, fence) = (worker(n), offer.grant.lease, offer.grant.fence);
        self.apply(Event::Accept { worker, lease, fence })
    }

    pub(super) fn decline(&mut self, n: u32, offer: &Offer) -> Reply {
        let (worker, lease, fence) = (worker(n), offer.grant.lease, offer.grant.fence);
        self.apply(Event::Decline { worker, lease, fence })
    }

    /// The worker takes its first offer.
    pub(super) fn lease(&mut self, n: u32) -> Offer {
        let offer = self.offers(n).into_iter().next().expect("an offer");
        assert!(matches!(self.accept(n, &offer), Reply::Granted { .. }));
        offer
    }

    pub(super) fn submit(&mut self, n: u32, offer: &Offer, said: Said) -> Reply {
        self.apply(Event::Submit(submission(n, offer, said)))
    }

    /// Takes the first offer and answers it.
    pub(super) fn work(&mut self, n: u32, said: Said) -> Offer {
        let offer = self.lease(n);
        let counted = if said.answers() { Role::Counted } else { Role::Noted };
        assert_eq!(self.submit(n, &offer, said), Reply::Filed(Filed::New(counted)));
        offer
    }

    pub(super) fn judged(&mut self, job: JobId, outcome: &str, need: Need) -> Reply {
        let state = self.job(job);
        let (attempt, answers) = (state.attempt, state.answers.len());
        let outcome = outcome.to_owned();
        self.apply(Event::Judged { job, attempt, answers, outcome, need })
    }

    pub(super) fn job(&self, job: JobId) -> Job {
        self.queue.job(&job).expect("in memory").clone()
    }

    /// The judgement that the last event asked for.
    pub(super) fn asked_judge(&self) -> Option<Due> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Judge { due, .. } => Some(*due),
            _ => None,
        })
    }

    pub(super) fn woken(&self) -> Vec<WorkerId> {
        let wakes = self.effects.iter().filter_map(|effect| match effect {
            Effect::Wake(worker) => Some(*worker),
            _ => None,
        });
        wakes.collect()
    }
}
