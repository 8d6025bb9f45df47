//! Taking in jobs: coalescing, quotas, the place in the queue.
//!
//! Priority, ageing and fairness are one number that never changes while a job waits: a job is
//! served in the order of `tag + handicap`, where the handicap is its class's (a backfill job is
//! worth a gate's that came 24 h later) and the tag is now, or a second after the tag of the same
//! tenant's job before it (so a tenant's thousand jobs spread out, and others' jobs stand between).
//!
//! Invariant: the same subject and recipes are one job, however often and by whomever it is asked
//! for; asking again can make it more urgent, never less. A judged job is opened again only by a
//! recheck.

use super::{
    Change, Class, JobSpec, Phase, Queue, Refusal, ReopenReason, Reply, Tenant, Turn, model::Millis,
};
use attest::id::JobId;

/// When a full queue may have room again: a minute.
const FULL_RETRY_MS: u64 = 60_000;

impl Queue {
    pub(super) fn announce(
        &mut self,
        turn: &mut Turn,
        spec: JobSpec,
        tenant: Tenant,
        class: Class,
    ) -> Result<Reply, Refusal> {
        self.announcers.take(&tenant, turn.now).map_err(|retry_after_ms| Refusal::Exhausted {
            what: "announcements of one tenant in a moment",
            limit: self.limits.announce.burst,
            retry_after_ms,
        })?;
        let id = spec.id;
        let opened = match self.jobs.get(&id) {
            Some(_) => self.announce_again(turn, id, &tenant, class)?,
            None => {
                self.has_room_for(&tenant)?;
                let rank = self.rank(&tenant, class, turn.now);
                self.record(turn, id, Change::Announced { spec, tenant, class, rank })?;
                true
            }
        };
        self.dispatch_job(turn, id)?;
        let job = self.jobs.get(&id).ok_or(Refusal::UnknownJob(id))?;
        Ok(Reply::Announced { job: id, opened, phase: job.phase.clone(), attempt: job.attempt })
    }

    /// The job is known: true if it was opened again.
    fn announce_again(
        &mut self,
        turn: &mut Turn,
        id: JobId,
        tenant: &Tenant,
        class: Class,
    ) -> Result<bool, Refusal> {
        let Some(job) = self.jobs.get(&id) else { return Ok(false) };
        match job.phase {
            Phase::Open | Phase::Deferred { .. } if class < job.class => {
                // What waited long may stand earlier already than the new class would put it.
                let before = job.rank;
                let rank = self.rank(tenant, class, turn.now).min(before);
                self.record(turn, id, Change::Promoted { class, rank })?;
                Ok(false)
            }
            Phase::Judged { .. } if class.rechecks() => {
                // Who asks pays: with its own room, and with its own place in the queue.
                self.has_room_for(tenant)?;
                self.reopen(turn, id, tenant, class, ReopenReason::Recheck)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn reopen(
        &mut self,
        turn: &mut Turn,
        id: JobId,
        asker: &Tenant,
        class: Class,
        why: ReopenReason,
    ) -> Result<(), Refusal> {
        let job = self.jobs.get(&id).ok_or(Refusal::UnknownJob(id))?;
        let (attempt, wanted) = (job.attempt.next(), job.spec.wanted);
        let by = (*asker != job.tenant).then(|| asker.clone());
        let rank = self.rank(asker, class, turn.now);
        let without = Vec::new();
        self.record(turn, id, Change::Reopened { attempt, wanted, without, class, rank, why, by })
    }

    /// [`super::Event::Unpark`].
    pub(super) fn unpark(&mut self, turn: &mut Turn, id: JobId) -> Result<Reply, Refusal> {
        let job = self.jobs.get(&id).ok_or(Refusal::UnknownJob(id))?;
        let (class, owner) = (job.class, job.tenant.clone());
        match job.phase {
            Phase::Parked { .. } => self.reopen(turn, id, &owner, class, ReopenReason::Unparked)?,
            Phase::Judged { .. } => return Err(Refusal::NotParked("judged")),
            Phase::Open | Phase::Deferred { .. } => return Err(Refusal::NotParked("open")),
        }
        self.dispatch_job(turn, id)?;
        self.settled(id)
    }

    pub(super) fn settled(&self, id: JobId) -> Result<Reply, Refusal> {
        let job = self.jobs.get(&id).ok_or(Refusal::UnknownJob(id))?;
        Ok(Reply::Settled { phase: job.phase.clone(), attempt: job.attempt })
    }

    fn has_room_for(&self, tenant: &Tenant) -> Result<(), Refusal> {
        let own = self.totals.by_tenant.get(tenant).copied().unwrap_or_default();
        let full = |what, limit, found| {
            let retry_after_ms = FULL_RETRY_MS;
            if found < limit {
                return Ok(());
            }
            Err(Refusal::Exhausted { what, limit, retry_after_ms })
        };
        full("unfinished jobs", self.limits.unfinished_max, self.totals.unfinished)?;
        full("unfinished jobs of one tenant", self.limits.unfinished_per_tenant_max, own)
    }

    /// The place in the queue.
    pub(super) fn rank(&mut self, tenant: &Tenant, class: Class, now: Millis) -> u64 {
        let key = (tenant.clone(), class);
        let spacing = self.limits.tenant_spacing_ms;
        let tag = match self.tags.get(&key) {
            Some(last) => now.0.max(last.saturating_add(spacing)),
            None => now.0,
        };
        self.tags.insert(key, tag);
        tag.saturating_add(class.handicap_ms())
    }
}
