//! Who is offered what.
//!
//! A job that becomes ready goes to a worker whose held call waits, drawn from a random place; a
//! worker that reports gets one of the earliest jobs it may have, drawn among a few of one class.
//! So nobody can choose its jobs by asking at the right moment.
//!
//! Invariant: an operator has at most one part in an attempt and ends at most two of its offers and
//! leases without an answer; nobody that was excluded is asked; in
//! a re-opened attempt those who answered before are asked only when others do not suffice, or did
//! not take it for ten minutes. Whoever only reports and takes nothing holds up nobody.

use super::{
    Change, Effect, Grant, Job, Queue, Refusal, Slot, Turn,
    model::{Millis, Route},
    ready::Rank,
};
use attest::id::{JobId, LeaseId, OperatorId, WorkerId};

/// Waiting workers that are looked at for one slot.
const IDLE_LOOKS_MAX: usize = 1024;
/// Routes that are looked at for one worker, once there is a job that it may have.
const ROUTES_LOOKED_AT_MAX: usize = 64;
/// The earliest jobs of a class among which one is drawn.
const CHOICE: usize = 4;

/// Whether an operator can be given a job.
#[derive(PartialEq, Eq)]
enum Fit {
    Yes,
    NotNow,
    /// Not in this attempt.
    Never,
}

impl Queue {
    /// Offers the open slots of a job to workers that wait.
    pub(super) fn dispatch_job(&mut self, turn: &mut Turn, id: JobId) -> Result<(), Refusal> {
        for _ in 0..self.jobs.get(&id).map_or(0, |job| job.slots.len()) {
            let Some(job) = self.jobs.get(&id) else { break };
            if !self.offerable(job, turn.now) {
                break;
            }
            let route = job.spec.route();
            let draw = turn.draw_u64();
            let idle = self.workers.idle(&route, draw, IDLE_LOOKS_MAX);
            let found = idle.into_iter().find(|worker| {
                self.workers.room(worker) > 0
                    && self.workers.get(worker).is_some_and(|known| {
                        known.fits(&route) && self.fit(job, &known.operator, turn.now) == Fit::Yes
                    })
            });
            let Some(worker) = found else { break };
            if !self.offer(turn, id, worker)? {
                break;
            }
            self.wake(turn, &worker);
        }
        Ok(())
    }

    /// Offers jobs to a worker that has room.
    pub(super) fn dispatch_worker(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
    ) -> Result<(), Refusal> {
        let most = self.limits.offers_per_worker_max;
        for _ in 0..self.workers.room(&worker).min(most) {
            let Some(job) = self.choose(turn, &worker) else { break };
            if !self.offer(turn, job, worker)? {
                break;
            }
        }
        Ok(())
    }

    /// A worker with something to do, or something to stop: its held call is answered.
    pub(super) fn wake(&mut self, turn: &mut Turn, worker: &WorkerId) {
        if self.workers.unwait(worker) {
            turn.effects.push(Effect::Wake(*worker));
        }
    }

    /// After a slot became free: somebody else is asked, or the attempt ends.
    pub(super) fn slot_is_free(&mut self, turn: &mut Turn, id: JobId) -> Result<(), Refusal> {
        let Some(job) = self.jobs.get(&id) else { return Ok(()) };
        if job.due().is_none() && self.spent(job) && !job.held() {
            // What was answered so far may be enough: the judge says so before it is parked.
            let (attempt, due) = (job.attempt, super::Due::Exhausted);
            turn.effects.push(Effect::Judge { job: id, attempt, due });
            return Ok(());
        }
        self.dispatch_job(turn, id)
    }

    /// Too many leases and offers of this attempt ended without an answer: nobody is asked any
    /// more. Who is at it may finish.
    pub(super) fn spent(&self, job: &Job) -> bool {
        let most = self.limits.tries_per_slot_max.saturating_mul(job.slots.len() as u32);
        job.unfinished() && job.open_slots() > 0 && job.tries >= most
    }

    fn offerable(&self, job: &Job, now: Millis) -> bool {
        let deferred = matches!(job.phase, super::Phase::Deferred { until } if until > now);
        job.unfinished()
            && !deferred
            && job.open_slots() > 0
            && job.due().is_none()
            && !self.spent(job)
            && (self.active < self.limits.active_max || !job.untouched())
    }

    fn fit(&self, job: &Job, operator: &OperatorId, now: Millis) -> Fit {
        if job.has_part(operator) || job.left_out(operator) {
            return Fit::Never;
        }
        let cooling = |(skipped, at): &(OperatorId, Millis)| {
            skipped == operator && now.since(*at) < self.limits.skip_ms
        };
        if job.skips.iter().any(cooling) || !self.offerable(job, now) {
            return Fit::NotNow;
        }
        let stale = self.idle_ms(job, now) >= self.limits.exhausted_ms;
        if job.answered_before(operator) && !stale && self.others_suffice(job, now) {
            return Fit::NotNow;
        }
        Fit::Yes
    }

    /// Enough operators are present that have not answered in any attempt.
    fn others_suffice(&self, job: &Job, now: Millis) -> bool {
        let route = job.spec.route();
        let present = self.workers.operators_for(&route, now, self.limits.present_ms);
        let fresh = |operator: &&&OperatorId| {
            !job.has_part(operator) && !job.left_out(operator) && !job.answered_before(operator)
        };
        present.iter().filter(fresh).count() >= job.open_slots()
    }

    /// One of the earliest jobs that the worker may have.
    fn choose(&mut self, turn: &mut Turn, worker: &WorkerId) -> Option<JobId> {
        let known = self.workers.get(worker)?.clone();
        let routes = self.ready.routes(|route| {
            known.fits(route) && self.registries.wait(&route.registry, turn.now) == 0
        });
        let mut best: Option<(Rank, Vec<Rank>)> = None;
        for (looked, (earliest, route)) in routes.into_iter().enumerate() {
            // Later routes begin later: nothing earlier comes any more.
            let over = |(rank, _): &(Rank, Vec<Rank>)| *rank < earliest;
            if best.as_ref().is_some_and(|best| over(best) || looked >= ROUTES_LOOKED_AT_MAX) {
                break;
            }
            let found = self.eligible(&route, &known.operator, turn.now);
            if let Some(first) = found.first().copied()
                && best.as_ref().is_none_or(|(rank, _)| first < *rank)
            {
                best = Some((first, found));
            }
        }
        let (_, found) = best?;
        let draw = turn.draw_u64() as usize;
        let same_class = |(_, id): &&Rank| {
            let class = |id| self.jobs.get(id).map(|job: &Job| job.class);
            found.first().is_some_and(|(_, first)| class(first) == class(id))
        };
        let few: Vec<&Rank> = found.iter().filter(same_class).collect();
        few.get(draw % few.len().max(1)).map(|(_, id)| *id)
    }

    /// The first few jobs of a route that the operator may have.
    fn eligible(&mut self, route: &Route, operator: &OperatorId, now: Millis) -> Vec<Rank> {
        let ahead = self.ready.ahead(route, operator, self.limits.scan_max);
        let (mut found, mut passed, mut only_never) = (Vec::new(), None, true);
        for rank in &ahead {
            let Some(job) = self.jobs.get(&rank.1) else { continue };
            match self.fit(job, operator, now) {
                Fit::Yes => found.push(*rank),
                Fit::NotNow => {}
                Fit::Never if only_never => {
                    passed = Some(*rank);
                    continue;
                }
                Fit::Never => continue,
            }
            only_never = false;
            if found.len() >= CHOICE {
                break;
            }
        }
        if let Some((rank, job)) = passed {
            // The cursor is inclusive: the next one after what was passed.
            let next = ahead.iter().find(|at| **at > (rank, job)).copied();
            self.ready.advance(route, operator, next.unwrap_or((rank, job)));
        }
        found
    }

    /// Makes the offer; false if the registry has no token.
    fn offer(&mut self, turn: &mut Turn, id: JobId, worker: WorkerId) -> Result<bool, Refusal> {
        let Some((job, known)) = self.jobs.get(&id).zip(self.workers.get(&worker)) else {
            return Ok(false);
        };
        let open = job.slots.iter().position(|slot| matches!(slot, Slot::Open));
        let Some(slot) = open.map(|slot| slot as u32) else { return Ok(false) };
        if self.registries.take(&job.spec.route().registry, turn.now).is_err() {
            return Ok(false);
        }
        let mut lease = LeaseId([0; 16]);
        lease.0.copy_from_slice(&turn.draw()[..16]);
        let (fence, operator) = (job.fence.next(), known.operator.clone());
        let until = turn.now.plus(self.limits.offer_ms).max(self.paused_until);
        let grant = Grant { lease, fence, worker, operator };
        self.record(turn, id, Change::Offered { slot, grant, until })?;
        Ok(true)
    }

    /// Takes back everything that is out for a job: its attempt is over.
    pub(super) fn withdraw(&mut self, turn: &mut Turn, id: JobId) -> Result<(), Refusal> {
        let slots = self.jobs.get(&id).map(|job| job.slots.clone()).unwrap_or_default();
        for (slot, state) in (0u32..).zip(slots) {
            let change = match &state {
                Slot::Offered { grant, .. } => {
                    let why = super::SkipReason::Withdrawn;
                    Change::Skipped { slot, fence: grant.fence, why }
                }
                Slot::Leased { grant, .. } => {
                    let why = super::ExpireReason::Withdrawn;
                    Change::Expired { slot, fence: grant.fence, why }
                }
                Slot::Open | Slot::Answered { .. } => continue,
            };
            self.record(turn, id, change)?;
            if let Some(grant) = state.grant() {
                self.wake(turn, &grant.worker);
            }
        }
        Ok(())
    }
}
