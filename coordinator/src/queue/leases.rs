//! Workers report, take offers, give back leases.
//!
//! Invariant: level-triggered: a report says everything, and repeating any call changes nothing and
//! gets the same answer. Only the worker that a lease names, with its fence, can move it.

use super::{
    Change, Desired, ExpireReason, Held, Job, Offer, Queue, Refusal, Reply, Report, SkipReason,
    Slot, Turn,
};
use attest::id::{Fence, LeaseId, WorkerId};

/// Leases in one report that are looked at; workers hold at most 256.
const REPORTED_LEASES_MAX: usize = 1024;
/// When a full table of workers may have room again.
const WORKERS_RETRY_MS: u64 = 60_000;

impl Queue {
    /// [`super::Event::Sync`].
    pub(super) fn sync(&mut self, turn: &mut Turn, report: &Report) -> Result<Reply, Refusal> {
        let new = self.workers.get(&report.worker).is_none();
        if new && self.workers.len() >= self.limits.workers_max {
            return Err(Refusal::Exhausted {
                what: "workers",
                limit: self.limits.workers_max as u64,
                retry_after_ms: WORKERS_RETRY_MS,
            });
        }
        self.workers.report(report, turn.now, self.limits.leases_per_worker_max);
        let mut stop = Vec::new();
        for (lease, fence) in report.leases.iter().take(REPORTED_LEASES_MAX) {
            if !self.heartbeat(turn, &report.worker, *lease, *fence)? {
                stop.push(*lease);
            }
        }
        self.dispatch_worker(turn, report.worker)?;
        let held: Vec<LeaseId> = self.workers.held(&report.worker).copied().collect();
        let offers: Vec<Offer> = held.iter().filter_map(|lease| self.offer_of(lease)).collect();
        if offers.is_empty() && stop.is_empty() && report.waits {
            self.workers.wait(&report.worker);
        }
        Ok(Reply::Desired(Desired { offers, stop }))
    }

    /// A sign of life for a lease; false if the worker does not hold it any more.
    fn heartbeat(
        &mut self,
        turn: &mut Turn,
        worker: &WorkerId,
        lease: LeaseId,
        fence: Fence,
    ) -> Result<bool, Refusal> {
        let paused_until = self.paused_until;
        let Some(held) = self.leases.get_mut(&lease).filter(|held| held.worker == *worker) else {
            return Ok(false);
        };
        let (job, slot) = (held.job, held.slot);
        let state = self.jobs.get(&job).and_then(|job| job.slots.get(slot as usize));
        match state {
            Some(Slot::Leased { grant, suspect, .. }) if grant.fence == fence => {
                held.heard = turn.now.max(paused_until);
                if suspect.is_some() {
                    self.record(turn, job, Change::Resumed { slot, fence })?;
                    // It can become a suspect again long before its grace would end.
                    let next = turn.now.plus(self.limits.suspect_ms);
                    self.timers.arm(super::timers::Timer::Lease(lease), next);
                }
                Ok(true)
            }
            // It may name an offer whose acceptance it is not sure of.
            Some(Slot::Offered { grant, .. }) => Ok(grant.fence == fence),
            _ => Ok(false),
        }
    }

    fn offer_of(&self, lease: &LeaseId) -> Option<Offer> {
        let held = self.leases.get(lease)?;
        let job = self.jobs.get(&held.job)?;
        let Slot::Offered { grant, until } = job.slots.get(held.slot as usize)? else {
            return None;
        };
        Some(Offer {
            job: held.job,
            attempt: job.attempt,
            slot: held.slot,
            grant: grant.clone(),
            until: *until,
            execution_ms_max: job.spec.execution_ms_max,
        })
    }

    /// The lease, if this worker holds it under this fence.
    fn own(&self, worker: WorkerId, lease: LeaseId, fence: Fence) -> Result<(Held, Slot), Refusal> {
        let found = self.leases.get(&lease).and_then(|held| {
            let slot = self.jobs.get(&held.job)?.slots.get(held.slot as usize)?;
            let grant = slot.grant()?;
            let own = held.worker == worker && grant.fence == fence && grant.lease == lease;
            own.then(|| (held.clone(), slot.clone()))
        });
        found.ok_or(Refusal::NoLease(lease))
    }

    /// [`super::Event::Accept`].
    pub(super) fn accept(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        lease: LeaseId,
        fence: Fence,
    ) -> Result<Reply, Refusal> {
        let (held, slot) = self.own(worker, lease, fence)?;
        let job = held.job;
        let (execution_ms, deadline) = match slot {
            Slot::Leased { deadline, .. } => (deadline.since(turn.now), deadline),
            _ => {
                let known = self.jobs.get(&job).ok_or(Refusal::UnknownJob(job))?;
                let execution_ms = known.spec.execution_ms_max;
                let grace_ms = self.grace_ms(known);
                let (slot, deadline) = (held.slot, turn.now.plus(execution_ms));
                self.record(turn, job, Change::Leased { slot, fence, deadline, grace_ms })?;
                (execution_ms, deadline)
            }
        };
        if let Some(held) = self.leases.get_mut(&lease) {
            held.heard = turn.now.max(self.paused_until);
        }
        // Accepting again and again does not put off the hard cap.
        let next = turn.now.plus(self.limits.suspect_ms).min(deadline);
        self.timers.arm(super::timers::Timer::Lease(lease), next);
        Ok(Reply::Granted { job, execution_ms })
    }

    /// Silence after which a lease is over: 10 min, or a quarter of the slow builds of this recipe.
    fn grace_ms(&self, job: &Job) -> u64 {
        // What nobody asked for says nothing about builds, and anybody can send it.
        let counted = job.answers.iter().filter(|a| a.role == super::Role::Counted);
        let mut durations: Vec<u64> = counted.map(|a| a.duration_ms).collect();
        durations.sort_unstable();
        let p95 = durations.get((durations.len() * 95).div_ceil(100).saturating_sub(1));
        let cap = job.spec.execution_ms_max;
        self.limits.expire_ms_min.max(p95.copied().unwrap_or_default().min(cap) / 4)
    }

    /// [`super::Event::Decline`].
    pub(super) fn decline(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        lease: LeaseId,
        fence: Fence,
    ) -> Result<Reply, Refusal> {
        let (held, slot) = self.own(worker, lease, fence)?;
        let change = match slot {
            Slot::Leased { .. } => {
                let why = ExpireReason::GivenBack;
                Change::Expired { slot: held.slot, fence, why }
            }
            _ => Change::Skipped { slot: held.slot, fence, why: SkipReason::Declined },
        };
        self.record(turn, held.job, change)?;
        self.slot_is_free(turn, held.job)?;
        Ok(Reply::Done)
    }
}
