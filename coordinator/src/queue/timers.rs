//! What is to be looked at when: one timer for each lease and each job.
//!
//! Invariant: a timer only says "look again"; whoever looks decides from the state and sets the next
//! one. A timer that comes too early changes nothing.

use super::job::{Phase, Slot};
use super::model::Millis;
use super::{Due, ExpireReason, ParkReason, SkipReason};
use super::{Effect, Job, Queue, Refusal, Reply, Turn};
use attest::id::{JobId, LeaseId};
use std::collections::{BTreeMap, BTreeSet};

/// Timers that one `Tick` looks at: 100,000, so that a long pause does not become one long turn.
const TIMERS_PER_TICK_MAX: usize = 100_000;
/// A judgement that is due is asked for again after this long.
const JUDGE_AGAIN_MS: u64 = 60_000;
/// Soft state is swept this often.
const SWEEP_MS: u64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Lease(LeaseId),
    Job(JobId),
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Millis, Timer)>,
    at: BTreeMap<Timer, Millis>,
}

impl Timers {
    pub(super) fn arm(&mut self, timer: Timer, at: Millis) {
        if let Some(before) = self.at.insert(timer, at) {
            self.due.remove(&(before, timer));
        }
        self.due.insert((at, timer));
    }

    pub(super) fn disarm(&mut self, timer: &Timer) {
        if let Some(at) = self.at.remove(timer) {
            self.due.remove(&(at, *timer));
        }
    }

    pub(super) fn next(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    fn pop(&mut self, now: Millis) -> Option<Timer> {
        let (at, timer) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.disarm(&timer);
        Some(timer)
    }
}

impl Queue {
    /// [`super::Event::Tick`].
    pub(super) fn tick(&mut self, turn: &mut Turn) -> Result<Reply, Refusal> {
        for _ in 0..TIMERS_PER_TICK_MAX {
            if turn.effects.len() >= self.limits.effects_per_tick_max {
                break;
            }
            match self.timers.pop(turn.now) {
                None => break,
                Some(Timer::Lease(lease)) => self.look_at_lease(turn, lease)?,
                Some(Timer::Job(job)) => self.look_at_job(turn, job)?,
            }
        }
        if turn.now.since(self.swept_at) >= SWEEP_MS {
            self.swept_at = turn.now;
            self.workers.sweep(turn.now, self.limits.present_ms);
            self.registries.sweep(turn.now);
            self.announcers.sweep(turn.now);
            self.submitters.sweep(turn.now);
            let now = turn.now.0;
            self.tags.retain(|_, tag| *tag > now);
        }
        Ok(Reply::Done)
    }

    fn look_at_lease(&mut self, turn: &mut Turn, lease: LeaseId) -> Result<(), Refusal> {
        let Some(held) = self.leases.get(&lease).cloned() else { return Ok(()) };
        let slot = self.jobs.get(&held.job).and_then(|job| job.slots.get(held.slot as usize));
        let (job, slot, now) = (held.job, slot.cloned(), turn.now);
        match slot {
            Some(Slot::Offered { grant, until }) => {
                let until = until.max(self.paused_until);
                if now < until {
                    self.timers.arm(Timer::Lease(lease), until);
                    return Ok(());
                }
                let (slot, fence, why) = (held.slot, grant.fence, SkipReason::Silent);
                self.record(turn, job, super::Change::Skipped { slot, fence, why })?;
                self.slot_is_free(turn, job)
            }
            Some(Slot::Leased { grant, deadline, grace_ms, suspect }) => {
                let (slot, fence) = (held.slot, grant.fence);
                let deadline = deadline.max(self.paused_until);
                let silent = now.since(held.heard);
                if silent >= self.limits.suspect_ms && suspect.is_none() {
                    self.record(turn, job, super::Change::Suspected { slot, fence })?;
                }
                let why = if now >= deadline {
                    ExpireReason::Deadline
                } else if silent >= grace_ms {
                    ExpireReason::Silent
                } else {
                    let wait = if silent >= self.limits.suspect_ms {
                        grace_ms
                    } else {
                        self.limits.suspect_ms
                    };
                    let next = held.heard.plus(wait).min(deadline);
                    self.timers.arm(Timer::Lease(lease), next);
                    return Ok(());
                };
                self.record(turn, job, super::Change::Expired { slot, fence, why })?;
                self.wake(turn, &held.worker);
                self.slot_is_free(turn, job)
            }
            _ => Ok(()),
        }
    }

    fn look_at_job(&mut self, turn: &mut Turn, id: JobId) -> Result<(), Refusal> {
        let Some(job) = self.jobs.get(&id) else { return Ok(()) };
        let attempt = job.attempt;
        if let Some(due) = job.due() {
            turn.effects.push(Effect::Judge { job: id, attempt, due });
        } else if job.unfinished() && job.open_slots() > 0 {
            if self.spent(job) {
                if !job.held() {
                    let due = Due::Exhausted;
                    turn.effects.push(Effect::Judge { job: id, attempt, due });
                }
            } else if self.unroutable(job, turn.now) {
                let why = ParkReason::Unroutable;
                return self.record(turn, id, super::Change::Parked { why, outcome: None });
            } else if self.exhausted(job, turn.now) {
                let due = Due::Exhausted;
                turn.effects.push(Effect::Judge { job: id, attempt, due });
                self.timers.arm(Timer::Job(id), turn.now.plus(JUDGE_AGAIN_MS));
                return Ok(());
            } else {
                self.follow(id, turn.now);
                self.dispatch_job(turn, id)?;
            }
        }
        if let Some(at) = self.job_timer(&id, turn.now) {
            self.timers.arm(Timer::Job(id), at);
        }
        Ok(())
    }

    /// When a job is to be looked at again; always later than now.
    pub(super) fn job_timer(&self, id: &JobId, now: Millis) -> Option<Millis> {
        let job = self.jobs.get(id)?;
        if job.due().is_some() {
            return Some(now.plus(JUDGE_AGAIN_MS));
        }
        if !job.unfinished() || job.open_slots() == 0 {
            return None;
        }
        if self.spent(job) {
            return (!job.held()).then(|| now.plus(JUDGE_AGAIN_MS));
        }
        let deferred = match job.phase {
            Phase::Deferred { until } if until > now => return Some(until),
            _ => None::<Millis>,
        };
        let cooled = job.skips.iter().map(|(_, at)| at.plus(self.limits.skip_ms));
        let idle = self.idle_since.get(id).map(|since| {
            if waits_for_route(job) {
                job.opened_at.plus(self.limits.unroutable_ms)
            } else {
                since.plus(self.limits.exhausted_ms)
            }
        });
        // Where a check found somebody to ask, the next one comes a period later.
        let later = |at: Millis| if at > now { at } else { now.plus(self.limits.exhausted_ms) };
        let next = cooled.filter(|at| *at > now).chain(idle.map(later)).min();
        next.or(deferred)
    }

    fn unroutable(&self, job: &Job, now: Millis) -> bool {
        waits_for_route(job) && now.since(job.opened_at) >= self.limits.unroutable_ms
    }

    /// How long nobody has been at a job with open slots.
    pub(super) fn idle_ms(&self, job: &Job, now: Millis) -> u64 {
        self.idle_since.get(&job.id()).map_or(0, |since| now.since(*since))
    }

    /// Open slots, nobody at it for long, and nobody there who could be asked.
    pub(super) fn exhausted(&self, job: &Job, now: Millis) -> bool {
        if self.spent(job) {
            return !job.held();
        }
        let waited = self.idle_ms(job, now);
        if waited < self.limits.exhausted_ms || waits_for_route(job) {
            return false;
        }
        if waited >= self.limits.unroutable_ms {
            // Somebody is there who could be asked, and never takes it.
            return true;
        }
        let route = job.spec.route();
        let present = self.workers.operators_for(&route, now, self.limits.present_ms);
        !present.iter().any(|operator| !job.has_part(operator) && !job.left_out(operator))
    }
}

/// Nobody ever had a part in it since it was asked for.
fn waits_for_route(job: &Job) -> bool {
    job.reopenings == 0 && job.untouched()
}
