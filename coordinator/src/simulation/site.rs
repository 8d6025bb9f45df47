//! The coordinator's process: decisions, group commit, crash, start.
//!
//! The same order as `store::Embedded` and the journal's writer, without threads: decide, append,
//! sync, follow, answer; a refused append takes back everything that was decided after it. That
//! glue is the only thing here that is not the real code. Invariant: an answer leaves only after
//! its group, and every group before it, is durable and followed.

use super::brain::{Bare, Brain, Decided, SimClock, Whole};
use super::checks::{Checks, Violation, violation};
use super::disk::{Copied, SimDisk};
use super::random::Chance;
use super::tables::SimTables;
use crate::journal::{Group, JournalError, Log, NewRecord, Options, Reader};
use crate::queue::{Change, Event, Filed, Limits, Reply, Role, Transition};
use crate::store::{Attach, Notary, Notice, Surroundings};
use attest::id::{JobId, LeaseId, ObservationId};
use std::sync::Arc;

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    Sync(usize),
    Accept(usize, LeaseId),
    Submit(usize, ObservationId),
    Judge(JobId),
    Nobody,
}

/// The answers and notices of what was put on disk.
pub(super) type Committed = (Vec<Told>, Vec<Notice>);

impl Party {
    /// The worker that waits, if it is one.
    pub(super) fn worker(self) -> Option<usize> {
        match self {
            Self::Sync(worker) | Self::Accept(worker, _) | Self::Submit(worker, _) => Some(worker),
            Self::Judge(_) | Self::Nobody => None,
        }
    }
}

/// An answer on its way.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) to: Party,
    /// None: the disk had no room, try again.
    pub(super) reply: Option<Reply>,
    /// For an observation: where it lies.
    pub(super) position: Option<u64>,
}

struct Pending {
    to: Party,
    reply: Reply,
    attached: Option<usize>,
    steps: Vec<Option<Transition>>,
}

/// A way to break the coordinator on purpose: each must be caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    None,
    /// I7: answers before the sync.
    AnswerEarly,
    /// I7: the disk says that it synced, and did not.
    LyingDisk,
    /// I7: a resubmitted observation is appended again.
    AppendTwice,
    /// I8: an answer under an old lease is taken for one under the current lease.
    ReviveFence,
    /// I2: keys are counted, not operators.
    CountKeys,
    /// I2: a second answer for a lease is filed like a first one.
    ForgetEquivocation,
    /// I1: the coordinator makes an observation up.
    MakeUp,
    /// I5: the verdict depends on the order of the evidence.
    FirstWins,
    /// I6: the judge is not shown what does not match.
    HideDissent,
    /// I9: the quorum counts answers.
    CountAnswers,
    /// I10: nobody judges.
    NeverJudge,
    /// I11: the gate admits what the tag names later.
    AdmitTag,
}

/// Which parts are real.
#[derive(Clone)]
pub(super) enum Parts {
    /// Queue and journal.
    Bare,
    /// Queue, engine, index and journal; leases are signed by the notary.
    Whole(SimTables, Arc<dyn Notary>),
}

/// The coordinator.
pub(super) struct Site {
    pub(super) disk: SimDisk,
    parts: Parts,
    limits: Limits,
    clock: Arc<SimClock>,
    log: Option<Log<SimDisk>>,
    brain: Option<Box<dyn Brain>>,
    groups: Vec<Group>,
    pending: Vec<Pending>,
    /// The disk as it was before a bit of it flipped: until it is known whether that is noticed.
    pub(super) flipped: Option<Copied>,
    pub(super) starts: u32,
}

impl Site {
    pub(super) fn new(parts: Parts, limits: Limits, clock: Arc<SimClock>) -> Self {
        Self {
            disk: SimDisk::default(),
            parts,
            limits,
            clock,
            log: None,
            brain: None,
            groups: Vec::new(),
            pending: Vec::new(),
            flipped: None,
            starts: 0,
        }
    }

    pub(super) fn brain(&self) -> Option<&dyn Brain> {
        self.brain.as_deref()
    }

    pub(super) fn reader(&self) -> Option<Reader<SimDisk>> {
        self.log.as_ref().map(Log::reader)
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The process is gone, with everything in memory.
    pub(super) fn die(&mut self) {
        self.disk.stop();
        (self.log, self.brain) = (None, None);
        self.groups.clear();
        self.pending.clear();
    }

    /// What a power cut does to the index that was in memory.
    pub(super) fn lose_index(&self, chance: &mut Chance, all: bool) {
        if let Parts::Whole(tables, _) = &self.parts {
            if all {
                tables.clear();
            } else {
                tables.crash(chance);
            }
        }
    }

    /// Starts; false if it does not come up now. A refusal to start is right only on a disk with a
    /// flipped bit: then the disk is put back as it was, as from a backup.
    pub(super) fn start(&mut self, checks: &mut Checks) -> Result<Option<Vec<Notice>>, Violation> {
        let small =
            Options { segment_bytes: 12 << 10, ahead_bytes: 2 << 10, ..Options::new([7; 16]) };
        let mut log = match Log::open(self.disk.clone(), small) {
            Ok((log, _)) => log,
            Err(_) if self.disk.is_stopped() => return Ok(None),
            Err(JournalError::Io { .. } | JournalError::NoSpace) => return Ok(None),
            Err(error) => match self.flipped.take() {
                Some(backup) => {
                    self.disk.put_back(backup);
                    return Ok(None);
                }
                None => return violation("I7", format!("it does not start: {error}")),
            },
        };
        let reader = log.reader();
        if let Err(found) = checks.recovered(&reader) {
            return self.unless_disk_failed(found);
        }
        // From here on it is promised.
        let raised = log.raise_floor();
        let started = self.think(&reader);
        if raised.is_err() || started.is_err() {
            self.brain = None;
            let why = match (raised, started) {
                (_, Err(why)) => why,
                (Err(JournalError::Io { why, .. }), _) => format!("input/output: {why}"),
                (Err(JournalError::NoSpace), _) => "input/output: no space".to_owned(),
                (Err(error), _) => error.to_string(),
                (Ok(()), Ok(_)) => String::new(),
            };
            return self.unless_disk_failed(Violation { invariant: "I7", what: why });
        }
        self.flipped = None;
        self.starts += 1;
        self.log = Some(log);
        Ok(started.ok())
    }

    fn unless_disk_failed(&mut self, found: Violation) -> Result<Option<Vec<Notice>>, Violation> {
        if self.disk.is_stopped() || found.what.contains("input/output") {
            return Ok(None);
        }
        match self.flipped.take() {
            // A bit in the last batch cannot be told from a write that was torn. It is noticed by
            // the receipts that workers show: then the backup is put back.
            Some(backup) => {
                self.disk.put_back(backup);
                Ok(None)
            }
            None => Err(found),
        }
    }

    fn think(&mut self, reader: &Reader<SimDisk>) -> Result<Vec<Notice>, String> {
        let (limits, clock) = (self.limits.clone(), self.clock.clone());
        let (brain, notices): (Box<dyn Brain>, _) = match &self.parts {
            Parts::Bare => {
                let (bare, notices) = Bare::start(reader, limits, clock)?;
                (Box::new(bare), notices)
            }
            Parts::Whole(tables, notary) => {
                let (whole, notices) = Whole::start(reader, tables, limits, notary.clone(), clock)?;
                (Box::new(whole), notices)
            }
        };
        self.brain = Some(brain);
        Ok(notices)
    }

    /// An event arrives; gives notices and answers that need not wait. None if nobody is there.
    pub(super) fn decide(
        &mut self,
        to: Party,
        event: Event,
        attach: Attach,
    ) -> Result<Option<Vec<Notice>>, Violation> {
        let Some(brain) = self.brain.as_mut() else { return Ok(None) };
        let decided = brain.decide(event, attach);
        let Decided { reply, records, steps, attached, notices } =
            decided.or_else(|error| violation("I7", error.to_string()))?;
        if let Reply::Refused(crate::queue::Refusal::Inconsistent(error)) = &reply {
            return violation("I10", format!("the queue contradicts itself: {error}"));
        }
        let now = brain.sent(records.len(), notices);
        self.groups.push(Group { records, time: self.clock.wall() });
        self.pending.push(Pending { to, reply, attached, steps });
        Ok(Some(now))
    }

    /// A record that nobody asked for: only sabotage does that.
    pub(super) fn append(&mut self, record: NewRecord) {
        if let Some(brain) = self.brain.as_mut() {
            brain.sent(1, Vec::new());
            self.groups.push(Group { records: vec![record], time: self.clock.wall() });
            let (to, reply, attached) = (Party::Nobody, Reply::Done, None);
            self.pending.push(Pending { to, reply, attached, steps: vec![None] });
        }
    }

    /// The answers that wait, before their time: only sabotage does that.
    pub(super) fn early(&self) -> Vec<Told> {
        let end = self.log.as_ref().map_or(0, |log| log.next().0);
        let told = |pending: &Pending| {
            let filed = matches!(pending.reply, Reply::Filed(_));
            let position = filed.then_some(end + pending.attached.unwrap_or(0) as u64);
            Told { to: pending.to, reply: Some(pending.reply.clone()), position }
        };
        self.pending.iter().map(told).collect()
    }

    /// Files second answers like first ones: only sabotage does that.
    pub(super) fn forget_equivocation(&mut self) {
        let (Some(group), Some(pending)) = (self.groups.last_mut(), self.pending.last_mut()) else {
            return;
        };
        for (record, step) in group.records.iter_mut().zip(&mut pending.steps) {
            if let Some(Transition { change: Change::Filed { answer }, .. }) = step
                && answer.role == Role::Equivocation
            {
                answer.role = Role::Volunteer;
                record.body = step.as_ref().map(Transition::to_json).unwrap_or_default();
            }
        }
    }

    /// Everything that was decided goes to the disk; gives answers and notices. None: it died.
    pub(super) fn commit(&mut self, checks: &mut Checks) -> Result<Option<Committed>, Violation> {
        let (Some(log), Some(brain)) = (self.log.as_mut(), self.brain.as_mut()) else {
            return Ok(None);
        };
        let (groups, pending) =
            (std::mem::take(&mut self.groups), std::mem::take(&mut self.pending));
        let written = log.write(groups);
        let survivable = |error: &JournalError| {
            matches!(error, JournalError::NoSpace | JournalError::TooLong { .. })
        };
        if written.failed.as_ref().is_some_and(|error| !survivable(error)) || log.sync().is_err() {
            self.die();
            return Ok(None);
        }
        let kept = written.groups.len();
        let firsts: Vec<_> =
            written.groups.iter().map(|group| group.first().map(|s| s.position.0)).collect();
        let stored: Vec<_> = written.groups.into_iter().flatten().collect();
        let steps: Vec<_> = pending.iter().take(kept).flat_map(|p| p.steps.clone()).collect();
        for (stored, step) in stored.iter().zip(&steps) {
            checks.durable(stored, step.as_ref())?;
        }
        let followed = brain.follow(&stored, &steps);
        let mut notices = followed.or_else(|error| violation("I7", error.to_string()))?;
        let mut told = Vec::new();
        for (i, pending) in pending.into_iter().enumerate() {
            let Pending { to, reply, attached, .. } = pending;
            let first = firsts.get(i).copied().flatten();
            let position = match (&reply, to) {
                (Reply::Filed(Filed::New(_)), _) => {
                    first.zip(attached).map(|(first, at)| first + at as u64)
                }
                (Reply::Filed(Filed::Known(_)), Party::Submit(_, id)) => {
                    brain.position(&id).map(|position| position.0)
                }
                _ => None,
            };
            let reply = (i < kept).then_some(reply);
            told.push(Told { to, reply, position });
        }
        if written.failed.is_some() {
            let again = brain.reload().or_else(|error| violation("I7", error.to_string()))?;
            notices.extend(again);
        }
        Ok(Some((told, notices)))
    }

    /// Puts on record how far was promised. Best effort, as in the journal's writer.
    pub(super) fn raise_floor(&mut self) {
        if let Some(log) = self.log.as_mut()
            && log.raise_floor().is_err()
            && self.disk.is_stopped()
        {
            self.die();
        }
    }
}
