//! What goes into the queue and what comes out of it.
//!
//! Invariant: events carry everything that a decision needs; the queue asks nobody. Transitions in
//! the effects must be journaled, in order, before the reply is given to anybody.

use super::job::{Due, Phase};
use super::model::{Class, JobSpec, Millis, Tenant};
use super::transition::{Grant, Said, Transition};
use attest::id::{Attempt, Fence, JobId, LeaseId, ObservationId, OperatorId, WorkerId};

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants an image judged.
    Announce {
        /// What is to be done.
        spec: JobSpec,
        /// Who asks.
        tenant: Tenant,
        /// How urgent it is.
        class: Class,
    },
    /// A worker says what it is and does.
    Sync(Report),
    /// A worker's held call ended without an answer from here.
    Hangup {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker takes an offer.
    Accept {
        /// The worker.
        worker: WorkerId,
        /// The offer.
        lease: LeaseId,
        /// Its fence.
        fence: Fence,
    },
    /// A worker declines an offer, or gives a lease back (infrastructure).
    Decline {
        /// The worker.
        worker: WorkerId,
        /// The offer or lease.
        lease: LeaseId,
        /// Its fence.
        fence: Fence,
    },
    /// An observation came in; its signature and its enrolment were checked.
    Submit(Submission),
    /// The judge has looked at a job.
    Judged {
        /// The job.
        job: JobId,
        /// The attempt that it looked at.
        attempt: Attempt,
        /// How many answers it saw.
        answers: usize,
        /// The outcome so far: `reproduced`, `inconclusive`, …
        outcome: String,
        /// What the job still needs.
        need: Need,
    },
    /// Somebody wants a parked job done after all.
    Unpark {
        /// The job.
        job: JobId,
    },
    /// A registry asked to be left alone.
    Throttled {
        /// Its host.
        registry: String,
        /// For how long.
        retry_after_ms: u64,
    },
    /// No new offers to this worker from now on, whatever it says itself; or again.
    Drain {
        /// The worker.
        worker: WorkerId,
        /// True to stop.
        draining: bool,
    },
    /// Time passed.
    Tick,
}

/// A worker's whole state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Who.
    pub worker: WorkerId,
    /// The operator that vouches for it.
    pub operator: OperatorId,
    /// Architectures, in Go's words.
    pub architectures: Vec<String>,
    /// Rebuilders.
    pub rebuilders: Vec<String>,
    /// Memory for one job, in MiB; 0 if it does not say.
    pub memory_mib: u32,
    /// Executions that it could begin now, beside those it has.
    pub slots_free: u32,
    /// It wants no new work.
    pub draining: bool,
    /// The leases that it is working on or has results of.
    pub leases: Vec<(LeaseId, Fence)>,
    /// The call is held until there is something to do.
    pub waits: bool,
}

/// An observation, as far as the queue has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The job.
    pub job: JobId,
    /// The attempt that the observation names.
    pub attempt: Attempt,
    /// The lease that it names.
    pub lease: LeaseId,
    /// The fence that it names.
    pub fence: Fence,
    /// Who signed it.
    pub worker: WorkerId,
    /// The operator that vouches for the worker.
    pub operator: OperatorId,
    /// Its identity.
    pub observation: ObservationId,
    /// What it says.
    pub said: Said,
    /// How long it took.
    pub duration_ms: u64,
    /// Bytes of its envelope, which the evidence of the job must carry.
    pub bytes: u64,
}

/// What a job still needs (`attest::verdict::Need`, with who is not asked again).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Enough,
    /// So many more observations in this attempt.
    More(u32),
    /// Another attempt.
    Reopen {
        /// With so many observations.
        wanted: u32,
        /// Without these operators.
        without: Vec<OperatorId>,
    },
}

/// What the caller must do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // short-lived: made, journaled and dropped one by one
pub enum Effect {
    /// Append to the journal, in this order.
    Journal(Transition),
    /// A worker has something to do: answer its held call (it syncs again).
    Wake(WorkerId),
    /// Judge this job, then say [`Event::Judged`].
    Judge {
        /// The job.
        job: JobId,
        /// Its attempt.
        attempt: Attempt,
        /// Why now.
        due: Due,
    },
}

/// The answer to whoever brought the event. Not to be given before the effects are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// The job is known, now or already.
    Announced {
        /// The job.
        job: JobId,
        /// Whether this event announced it, or opened it again.
        opened: bool,
        /// Where it is.
        phase: Phase,
        /// Which opening.
        attempt: Attempt,
    },
    /// What a worker should do.
    Desired(Desired),
    /// The offer is a lease now.
    Granted {
        /// The job.
        job: JobId,
        /// What is left of the hard cap.
        execution_ms: u64,
    },
    /// The observation was filed.
    Filed(Filed),
    /// What became of the job.
    Settled {
        /// Where it is.
        phase: Phase,
        /// Which opening.
        attempt: Attempt,
    },
    /// It was not done.
    Refused(Refusal),
}

/// What a worker should do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// What it may take.
    pub offers: Vec<Offer>,
    /// Leases that it named and should drop.
    pub stop: Vec<LeaseId>,
}

/// An offer, until it is accepted or lapses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The job.
    pub job: JobId,
    /// Which opening of it.
    pub attempt: Attempt,
    /// Which of the wanted observations.
    pub slot: u32,
    /// Permission.
    pub grant: Grant,
    /// When it lapses.
    pub until: Millis,
    /// The hard cap on the execution.
    pub execution_ms_max: u64,
}

/// How an observation was filed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filed {
    /// It is new.
    New(super::Role),
    /// It was there already, filed like this.
    Known(super::Role),
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Later, perhaps.
    #[error(
        "expected at most {limit} {what}, found as many already; try again in {retry_after_ms} ms"
    )]
    Exhausted {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// When to try again.
        retry_after_ms: u64,
    },
    /// Never heard of it.
    #[error("expected a job that was announced, found {0}")]
    UnknownJob(JobId),
    /// The offer lapsed, or the lease is over, or it is somebody else's.
    #[error(
        "expected a lease that this worker holds, found {0}: it lapsed, ended, or is not its own"
    )]
    NoLease(LeaseId),
    /// The judgement is of a state that is over.
    #[error("expected a judgement of attempt {attempt} with {answers} answers, found an older one")]
    Stale {
        /// The attempt that the job is in.
        attempt: Attempt,
        /// How many answers it has.
        answers: usize,
    },
    /// A bug: a decision does not fit the state. Nothing was changed by it.
    #[error("the queue contradicts itself: {0}")]
    Inconsistent(#[from] super::FoldError),
    /// Only a parked job can be unparked.
    #[error("expected a parked job, found one that is {0}")]
    NotParked(&'static str),
}
