//! The invariants, watched from outside: what workers really signed, what became durable, what was
//! promised.
//!
//! Invariant: it trusts nobody: it folds the durable transitions with its own few lines, never with
//! [`crate::queue::Job`], and it knows of every observation who signed it, under which lease. It
//! must never repair or skip what it does not understand: that is a violation too.

use crate::journal::{Disk, Kind, Reader, Stored};
use crate::queue::{Answer, Change, Grant, ReopenReason, Role, Said, Transition};
use attest::{
    Digest,
    id::{Attempt, Fence, JobId, JournalPosition, LeaseId, ObservationId, OperatorId, WorkerId},
};
use std::collections::{BTreeMap, BTreeSet};

/// An invariant does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// `I7`
    pub(super) invariant: &'static str,
    /// What was seen.
    pub(super) what: String,
}

pub(super) fn violation<T>(
    invariant: &'static str,
    what: impl Into<String>,
) -> Result<T, Violation> {
    Err(Violation { invariant, what: what.into() })
}

/// What a worker signed: the truth that records are held against.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) job: JobId,
    pub(super) attempt: Attempt,
    pub(super) lease: LeaseId,
    pub(super) fence: Fence,
    pub(super) worker: WorkerId,
    pub(super) operator: OperatorId,
    pub(super) said: Said,
    pub(super) envelope: Vec<u8>,
}

/// A job as its durable transitions tell it.
#[derive(Debug, Default)]
struct Seen {
    attempt: u64,
    fence: u64,
    dissents: u32,
    ended: bool,
    held: BTreeMap<u32, Grant>,
    counted: BTreeSet<(u64, OperatorId)>,
    answers: BTreeSet<ObservationId>,
    by_lease: BTreeMap<(LeaseId, WorkerId), ObservationId>,
    excluded: BTreeSet<OperatorId>,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Checks {
    signed: BTreeMap<ObservationId, Signed>,
    by_body: BTreeMap<Digest, ObservationId>,
    jobs: BTreeMap<JobId, Seen>,
    /// Where the envelope of each observation lies.
    envelopes: BTreeMap<ObservationId, u64>,
    receipts: BTreeMap<ObservationId, u64>,
    /// How far the durable records were seen, and the chain there.
    next: u64,
    chain: Option<Digest>,
    before: Option<ObservationId>,
    /// Digests that were announced and judged, by job.
    digests: BTreeMap<JobId, Digest>,
    judged: BTreeSet<Digest>,
}

impl Checks {
    /// A worker signs this.
    pub(super) fn sign(&mut self, id: ObservationId, signed: Signed) {
        self.by_body.insert(Digest::of(&signed.envelope), id);
        self.signed.insert(id, signed);
    }

    pub(super) fn signed(&self, id: &ObservationId) -> Option<&Signed> {
        self.signed.get(id)
    }

    pub(super) fn receipts(&self) -> usize {
        self.receipts.len()
    }

    pub(super) fn end(&self) -> u64 {
        self.next
    }

    /// Jobs that were announced and are neither judged nor parked.
    pub(super) fn open_jobs(&self) -> usize {
        self.jobs.values().filter(|seen| !seen.ended).count()
    }

    /// A durable record, in order.
    pub(super) fn durable(
        &mut self,
        stored: &Stored,
        step: Option<&Transition>,
    ) -> Result<(), Violation> {
        if stored.position.0 != self.next {
            return violation(
                "I7",
                format!("record {} where {} is due", stored.position, self.next),
            );
        }
        (self.next, self.chain) = (self.next + 1, Some(stored.chain));
        let before = self.before.take();
        match stored.kind {
            Kind::OBSERVATION => {
                let body = Digest::of(&stored.body);
                let Some(id) = self.by_body.get(&body).copied() else {
                    return violation(
                        "I1",
                        format!("record {}: nobody signed it", stored.position),
                    );
                };
                if self.envelopes.insert(id, stored.position.0).is_some() {
                    return violation("I7", format!("observation {} is there twice", id.0.short()));
                }
                self.before = Some(id);
                Ok(())
            }
            Kind::TRANSITION => match step {
                Some(step) => self.transition(step, before),
                None => match Transition::from_json(&stored.body) {
                    Ok(step) => self.transition(&step, before),
                    Err(error) => violation("I7", format!("an unreadable transition: {error}")),
                },
            },
            _ => Ok(()),
        }
    }

    fn transition(
        &mut self,
        step: &Transition,
        before: Option<ObservationId>,
    ) -> Result<(), Violation> {
        let known = self.jobs.contains_key(&step.job);
        if known == matches!(step.change, Change::Announced { .. }) {
            return violation("I7", "a job is announced twice, or not at all");
        }
        let seen = self.jobs.entry(step.job).or_default();
        match &step.change {
            Change::Announced { spec, .. } => {
                seen.attempt = 1;
                self.digests.insert(step.job, spec.subject.digest);
                Ok(())
            }
            Change::Offered { slot, grant, .. } => seen.offered(*slot, grant),
            Change::Leased { slot, fence, .. }
            | Change::Suspected { slot, fence }
            | Change::Resumed { slot, fence } => seen.current(*slot, *fence).map(|_| ()),
            Change::Skipped { slot, fence, .. } | Change::Expired { slot, fence, .. } => {
                seen.current(*slot, *fence)?;
                seen.held.remove(slot);
                Ok(())
            }
            Change::Observed { slot, answer } => {
                let grant = seen.current(*slot, answer.fence)?;
                if (grant.lease, grant.worker) != (answer.lease, answer.worker) {
                    return violation("I8", "an answer moves the slot of another lease");
                }
                seen.held.remove(slot);
                self.answer(step.job, answer, before)
            }
            Change::Filed { answer } => self.answer(step.job, answer, before),
            Change::Reopened { attempt, why, .. } => {
                let dissents = if *why == ReopenReason::Dissent { seen.dissents + 1 } else { 0 };
                if attempt.0 != seen.attempt + 1 || !seen.held.is_empty() || dissents > 2 {
                    let what =
                        format!("attempt {attempt} after {}, {dissents} dissents", seen.attempt);
                    return violation("I10", what);
                }
                (seen.attempt, seen.dissents, seen.ended) = (attempt.0, dissents, false);
                Ok(())
            }
            Change::Judged { .. } | Change::Parked { .. } => {
                if !seen.held.is_empty() {
                    return violation("I8", "a job ends while leases of it are out");
                }
                seen.ended = true;
                if matches!(step.change, Change::Judged { .. }) {
                    self.judged.extend(self.digests.get(&step.job));
                }
                Ok(())
            }
            Change::Promoted { .. } | Change::Deferred { .. } | Change::Continued { .. } => Ok(()),
        }
    }

    fn answer(
        &mut self,
        job: JobId,
        answer: &Answer,
        before: Option<ObservationId>,
    ) -> Result<(), Violation> {
        let name = answer.observation.0.short();
        let Some(signed) = self.signed.get(&answer.observation) else {
            return violation("I1", format!("observation {name}: nobody signed it"));
        };
        if before != Some(answer.observation) {
            return violation("I7", format!("observation {name} without its envelope"));
        }
        if (signed.job, signed.attempt, &signed.said) != (job, answer.attempt, &answer.said) {
            return violation("I1", format!("observation {name} is filed as what it does not say"));
        }
        if (signed.worker, &signed.operator) != (answer.worker, &answer.operator) {
            return violation("I9", format!("observation {name} is filed under another operator"));
        }
        if (signed.lease, signed.fence) != (answer.lease, answer.fence) {
            return violation("I8", format!("observation {name} is filed under another fence"));
        }
        let Some(seen) = self.jobs.get_mut(&job) else { return Ok(()) };
        if !seen.answers.insert(answer.observation) {
            return violation("I7", format!("observation {name} is answered twice"));
        }
        let under = (answer.lease, answer.worker);
        let first = *seen.by_lease.entry(under).or_insert(answer.observation);
        let twice = first != answer.observation;
        if twice != (answer.role == Role::Equivocation) {
            return violation(
                "I2",
                format!("observation {name}, second {twice}: {:?}", answer.role),
            );
        }
        if twice {
            seen.excluded.insert(answer.operator.clone());
        }
        let part = (seen.attempt, answer.operator.clone());
        if answer.role == Role::Counted
            && (answer.attempt.0 != seen.attempt || !seen.counted.insert(part))
        {
            return violation(
                "I2",
                format!("{} counts twice in {}", answer.operator, seen.attempt),
            );
        }
        Ok(())
    }

    /// A receipt is on its way to a worker, while the journal is durable up to `end`.
    pub(super) fn receipt(
        &mut self,
        observation: ObservationId,
        position: u64,
        end: u64,
    ) -> Result<(), Violation> {
        let name = observation.0.short();
        if position >= end {
            return violation(
                "I7",
                format!("a receipt for {name} at {position}, durable to {end}"),
            );
        }
        if self.envelopes.get(&observation) != Some(&position) {
            return violation("I7", format!("a receipt for {name} names {position}: not there"));
        }
        if *self.receipts.entry(observation).or_insert(position) != position {
            return violation("I7", format!("two receipts for {name} name two places"));
        }
        Ok(())
    }

    /// The journal as it is after a crash: everything that was seen durable must be there.
    pub(super) fn recovered<D: Disk>(&mut self, reader: &Reader<D>) -> Result<(), Violation> {
        let (end, seen) = (reader.end(), JournalPosition(self.next));
        if end < seen {
            return violation("I7", format!("{seen} records were durable, {end} are left"));
        }
        let found = reader.chain_at(seen).or_else(|error| violation("I7", error.to_string()))?;
        if self.chain.is_some() && found != self.chain {
            return violation("I7", format!("the history before record {seen} is another one"));
        }
        for stored in reader.from(seen) {
            let stored = stored.or_else(|error| violation("I7", error.to_string()))?;
            self.durable(&stored, None)?;
        }
        Ok(())
    }

    /// Reads everything: each receipted observation is there exactly once.
    pub(super) fn whole<D: Disk>(&self, reader: &Reader<D>) -> Result<(), Violation> {
        let mut found: BTreeMap<ObservationId, u64> = BTreeMap::new();
        for stored in reader.from(JournalPosition(0)) {
            let stored = stored.or_else(|error| violation("I7", error.to_string()))?;
            if stored.kind == Kind::OBSERVATION
                && let Some(id) = self.by_body.get(&Digest::of(&stored.body))
                && found.insert(*id, stored.position.0).is_some()
            {
                return violation("I7", format!("observation {} is there twice", id.0.short()));
            }
        }
        match self.receipts.iter().find(|(id, position)| found.get(id) != Some(position)) {
            Some((id, at)) => violation("I7", format!("{} is not at {at} any more", id.0.short())),
            None => Ok(()),
        }
    }

    /// The evidence that a judge is shown is everything that is durable about the job (I6).
    pub(super) fn shown(&self, job: JobId, answers: &[Answer]) -> Result<(), Violation> {
        let shown: BTreeSet<_> = answers.iter().map(|answer| answer.observation).collect();
        let durable = self.jobs.get(&job).map(|seen| &seen.answers);
        match durable.and_then(|known| known.difference(&shown).next()) {
            Some(lost) => violation("I6", format!("the judge is not shown {}", lost.0.short())),
            None => Ok(()),
        }
    }
}

impl Checks {
    /// Is this digest one that was judged?
    pub(super) fn was_judged(&self, digest: &Digest) -> bool {
        self.judged.contains(digest)
    }

    /// So many distinct operators really built what was published (I9).
    pub(super) fn quorum(
        &self,
        job: JobId,
        required: u32,
        published: Digest,
    ) -> Result<(), Violation> {
        let same = Said::Output { manifest: published };
        let answers = self.jobs.get(&job).into_iter().flat_map(|seen| &seen.answers);
        let signed = answers.filter_map(|id| self.signed.get(id));
        let who: BTreeSet<_> =
            signed.filter(|signed| signed.said == same).map(|signed| &signed.operator).collect();
        if (who.len() as u32) < required {
            return violation("I9", format!("{} operators are called {required}", who.len()));
        }
        Ok(())
    }
}

impl Seen {
    fn offered(&mut self, slot: u32, grant: &Grant) -> Result<(), Violation> {
        if grant.fence.0 <= self.fence {
            return violation("I8", format!("fence {} after {}", grant.fence, self.fence));
        }
        self.fence = grant.fence.0;
        let mine = |held: &Grant| held.operator == grant.operator;
        if self.held.contains_key(&slot)
            || self.held.values().any(mine)
            || self.counted.contains(&(self.attempt, grant.operator.clone()))
            || self.excluded.contains(&grant.operator)
            || self.ended
        {
            return violation("I2", format!("{} is offered slot {slot}", grant.operator));
        }
        self.held.insert(slot, grant.clone());
        Ok(())
    }

    fn current(&self, slot: u32, fence: Fence) -> Result<Grant, Violation> {
        match self.held.get(&slot) {
            Some(grant) if grant.fence == fence => Ok(grant.clone()),
            held => {
                let current = held.map(|grant| grant.fence);
                violation("I8", format!("fence {fence} moves slot {slot}, held {current:?}"))
            }
        }
    }
}
