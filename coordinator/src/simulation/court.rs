//! Judging, admitting, and the end of a schedule.
//!
//! Invariant: a judgement is of what is on disk; what a gate admits is the digest that was judged.
//! After the faults every job ends within bounded time, and every receipt still holds.

use super::checks::{Violation, violation};
use super::images;
use super::judge;
use super::plan::Manner;
use super::signed::Ink;
use super::site::{Party, Sabotage};
use super::world::{What, World};
use crate::journal::{JournalError, Kind, NewRecord};
use crate::queue::{Answer, Event, Job, Need, Phase, Said, Tenant};
use crate::store::{Attach, Surroundings};
use attest::{
    Digest,
    id::{JobId, JournalPosition, ObservationId, OperatorId},
};
use std::{cmp::Reverse, collections::BTreeSet};

/// Steps after the faults within which every job must end.
const CALM_STEPS_MAX: u32 = 40_000;
/// While jobs wait on disk, time leaps only when nothing was recorded for so long: two minutes, in
/// which each tick could have brought one back.
const STILL_MS: u64 = 120_000;
/// Simulated time after the faults within which every job must end: a job that no worker can do is
/// parked 30 days after it was opened.
const CALM_MS_MAX: u64 = 64 * 24 * 3_600_000;
/// Starts in a row that may fail when nothing is wrong any more: a flipped bit takes two.
const STARTS_MAX: u32 = 8;

/// Operators that built something else, whatever it counts as.
fn dissenters(job: &Job) -> BTreeSet<OperatorId> {
    let other = |answer: &&Answer| match &answer.said {
        Said::Output { manifest } => *manifest != job.spec.subject.digest,
        _ => false,
    };
    job.answers.iter().filter(other).map(|answer| answer.operator.clone()).collect()
}

struct Ruling {
    outcome: String,
    need: Need,
    dissenters: BTreeSet<OperatorId>,
    reopened_by: Vec<ObservationId>,
}

impl World<'_> {
    /// The judge looks at a job.
    pub(super) fn judge(&mut self, id: JobId) -> Result<(), Violation> {
        if self.judge_away_until > self.step && !self.calm {
            self.at(self.now + 5_000, What::Judge(id));
            return Ok(());
        }
        let job = self.site.brain().and_then(|brain| brain.job(&id));
        let Some(mut job) = job else { return Ok(()) };
        let (attempt, answers) = (job.attempt, job.answers.len());
        if self.sabotage == Sabotage::HideDissent {
            let published = job.spec.subject.digest;
            let matches =
                |a: &Answer| matches!(a.said, Said::Output { manifest } if manifest == published);
            job.answers.retain(matches);
        }
        self.checks.shown(id, &job.answers)?;
        let ruling = match self.ink.clone() {
            None => Some(self.rule(&job)?),
            Some(ink) => self.rule_signed(&ink, &job)?,
        };
        let Some(ruling) = ruling else {
            self.at(self.now + 5_000, What::Judge(id));
            return Ok(());
        };
        self.same_dissent(id, &ruling)?;
        let Ruling { outcome, need, reopened_by, .. } = ruling;
        let signed = self.ink.is_some();
        let attach: Attach = Box::new(move |job| {
            let open = matches!(job.phase, Phase::Open);
            let dissent = job.attempt != attempt && job.reopenings > 0;
            let caused: &[_] = if dissent { &reopened_by } else { &[] };
            if signed && open { vec![Ink::announcement(job, caused)] } else { Vec::new() }
        });
        let event = Event::Judged { job: id, attempt, answers, outcome, need };
        self.decide(Party::Judge(id), event, attach)
    }

    /// By the plain rule; in any order of the answers (I5), of operators and not answers (I9).
    fn rule(&self, job: &Job) -> Result<Ruling, Violation> {
        let required = self.plan.required;
        let (mut outcome, need) = judge::judge(job, required, &self.operators);
        match self.sabotage {
            Sabotage::CountAnswers => {
                let published = job.spec.subject.digest;
                let wanted = Said::Output { manifest: published };
                let same = |answer: &&Answer| answer.said == wanted;
                if job.answers.iter().filter(same).count() as u32 >= required {
                    outcome = "reproduced".to_owned();
                }
            }
            Sabotage::FirstWins => outcome = first(job),
            _ => {}
        }
        let mut turned = job.clone();
        turned.answers.reverse();
        let mut again = judge::judge(&turned, required, &self.operators);
        match self.sabotage {
            Sabotage::FirstWins => again.0 = first(&turned),
            Sabotage::CountAnswers => again.0.clone_from(&outcome),
            _ => {}
        }
        if again != (outcome.clone(), need.clone()) {
            return violation("I5", "the same answers in another order are judged otherwise");
        }
        if outcome == "reproduced" {
            self.checks.quorum(job.id(), required, job.spec.subject.digest)?;
        }
        let (dissenters, reopened_by) = (dissenters(job), Vec::new());
        Ok(Ruling { outcome, need, dissenters, reopened_by })
    }

    /// By `attest::verdict`, on what lies in the journal; none if the disk could not be read.
    fn rule_signed(&self, ink: &Ink, job: &Job) -> Result<Option<Ruling>, Violation> {
        let Some(reader) = self.site.reader() else { return Ok(None) };
        let mut records = Vec::new();
        for stored in reader.from(JournalPosition(0)) {
            let stored = match stored {
                Ok(stored) => stored,
                Err(JournalError::Io { .. }) => return Ok(None),
                Err(error) => return violation("I7", error.to_string()),
            };
            if stored.about == job.id().0 {
                records.push(stored);
            }
        }
        let at = self.specs.iter().position(|spec| spec.id == job.id()).unwrap_or(0);
        let forged = self.forged.get(&job.id()).cloned().unwrap_or_default();
        let image = self.plan.jobs[at].image;
        let (judgement, need) = ink.judge(image, &job.spec, &records, &forged, &self.checks)?;
        let dissent = &judgement.dissent;
        Ok(Some(Ruling {
            outcome: judgement.outcome.as_str().to_owned(),
            need,
            dissenters: dissent.iter().map(|d| d.operator.clone()).collect(),
            reopened_by: dissent.iter().flat_map(|d| d.observations.clone()).collect(),
        }))
    }

    /// Whoever dissented once is named for ever (I6).
    fn same_dissent(&mut self, id: JobId, ruling: &Ruling) -> Result<(), Violation> {
        let before = self.dissenters.entry(id).or_default();
        if let Some(lost) = before.iter().find(|who| !ruling.dissenters.contains(who)) {
            return violation("I6", format!("{lost} dissented, and is not named any more"));
        }
        *before = ruling.dissenters.iter().cloned().collect();
        Ok(())
    }

    /// A gate asks about a tag that may move: what it admits is what was judged (I11).
    pub(super) fn admit(&mut self, id: JobId) -> Result<(), Violation> {
        let Some(job) = self.site.brain().and_then(|brain| brain.job(&id)) else { return Ok(()) };
        let reproduced = matches!(&job.phase, Phase::Judged { outcome } if outcome == "reproduced");
        let Some(spec) = self.specs.iter().find(|spec| spec.id == id).filter(|_| reproduced) else {
            return Ok(());
        };
        // The tag is resolved once; it moves right afterwards.
        let resolved = spec.subject.digest;
        let moved = images::digest(images::IMAGES_MAX as u8 - 1, images::PUBLISHED);
        let admitted: Digest = if self.sabotage == Sabotage::AdmitTag { moved } else { resolved };
        if admitted != job.spec.subject.digest || !self.checks.was_judged(&admitted) {
            return violation("I11", "a digest is admitted that was not judged");
        }
        Ok(())
    }

    /// An observation that its worker did not sign.
    pub(super) fn forge(&mut self, at: usize) -> Result<(), Violation> {
        let Some(spec) = self.specs.get(at).cloned() else { return Ok(()) };
        if self.sabotage == Sabotage::MakeUp {
            let record = NewRecord::new(Kind::OBSERVATION, spec.id.0, self.chance.bytes());
            self.site.append(record);
        }
        let job = self.site.brain().and_then(|brain| brain.job(&spec.id));
        if let (Some(ink), Some(job)) = (&self.ink, job) {
            let grant = job.slots.iter().find_map(|slot| slot.grant().cloned());
            let operator = self.chance.below(ink.operators() as u64) as usize;
            let (lease, fence) = match grant {
                Some(grant) => (grant.lease, grant.fence),
                None => (attest::id::LeaseId([9; 16]), job.fence),
            };
            let about = super::signed::About {
                image: self.plan.jobs[at].image,
                spec: &spec,
                attempt: job.attempt,
                lease,
                fence,
                operator,
                nth: 0,
            };
            let said = Said::Output { manifest: spec.subject.digest };
            let (envelope, _) = ink.observe(&about, &said, true);
            self.forged.entry(spec.id).or_default().push(envelope.to_json());
        } else if !self.workers.is_empty() {
            let i = self.chance.below(self.workers.len() as u64) as usize;
            self.volunteer(i);
        }
        Ok(())
    }

    /// Announces what is due.
    pub(super) fn announce_due(&mut self) -> Result<(), Violation> {
        for i in 0..self.plan.jobs.len() {
            let planned = self.plan.jobs[i];
            // A second time, later, as a recheck.
            let due = planned.step + self.announced[i] * 90;
            if self.announced[i] >= planned.times || due > self.step {
                continue;
            }
            let class = match self.announced[i] {
                0 => planned.class,
                _ => crate::queue::Class::Regression,
            };
            self.announced[i] += 1;
            let tenant = Tenant(format!("tenant-{}", planned.tenant));
            let signed = self.ink.is_some();
            let attach: Attach =
                Box::new(
                    move |job| {
                        if signed { vec![Ink::announcement(job, &[])] } else { Vec::new() }
                    },
                );
            let event = Event::Announce { spec: self.specs[i].clone(), tenant, class };
            self.note(|| format!("announce {i}"));
            self.decide(Party::Nobody, event, attach)?;
        }
        Ok(())
    }

    /// Nothing goes wrong any more: every job ends.
    pub(super) fn end(&mut self) -> Result<(), Violation> {
        self.note(|| "calm".to_owned());
        self.calm = true;
        self.power = false;
        let stopped = self.site.disk.is_stopped();
        self.site.disk.calm();
        if stopped {
            self.site.die();
            self.site.disk.calm();
        }
        for i in 0..self.workers.len() {
            self.workers[i].manner = Manner::Honest;
            (self.workers[i].down_until, self.workers[i].silent_until) = (0, 0);
        }
        for (worker, _) in std::mem::take(&mut self.drained) {
            self.drain(worker, false)?;
        }
        let (started, mut starts) = (self.now, 0);
        let mut progress = (self.checks.end(), self.now);
        for _ in 0..CALM_STEPS_MAX {
            if self.site.brain().is_none() {
                starts += 1;
                if starts > STARTS_MAX {
                    return violation("I10", "the coordinator does not start");
                }
                self.start()?;
                continue;
            }
            starts = 0;
            if self.checks.open_jobs() == 0 && self.is_quiet() && !self.site.has_pending() {
                return self.holds();
            }
            if self.now > started + CALM_MS_MAX {
                break;
            }
            if progress.0 != self.checks.end() {
                progress = (self.checks.end(), self.now);
            }
            let spilled = self.site.brain().is_some_and(|brain| brain.spilled());
            if self.is_quiet() && (!spilled || self.now > progress.1 + STILL_MS) {
                self.leap();
            }
            self.step += 1;
            self.one()?;
        }
        let days = (self.now - started) / 86_400_000;
        violation("I10", format!("{} jobs never end, {days} days", self.checks.open_jobs()))
    }

    /// Nobody has anything to do but to look around.
    fn is_quiet(&self) -> bool {
        let idle = |Reverse(timed): &Reverse<super::world::Timed>| {
            matches!(timed.what, What::Wake(_, true))
        };
        self.events.iter().all(idle)
            && self.workers.iter().all(|worker| {
                worker.runs.is_empty() && worker.asked.is_empty() && worker.outbox.is_empty()
            })
    }

    /// Nothing happens before the queue's next timer: time goes there, and everybody looks around.
    fn leap(&mut self) {
        let next = self.site.brain().and_then(|brain| brain.next_timer());
        let Some(next) = next else { return };
        let near = self.now + 60_000;
        if next <= near {
            return;
        }
        self.to(next);
        let mut later = Vec::new();
        for Reverse(timed) in self.events.drain() {
            later.push(timed.what);
        }
        for what in later {
            let ms = self.chance.below(2_000);
            self.at(self.now + 1_000 + ms, what);
        }
        debug_assert!(self.clock.now().0 >= self.now);
    }

    fn holds(&mut self) -> Result<(), Violation> {
        let Some(reader) = self.site.reader() else { return violation("I7", "no journal") };
        self.checks.whole(&reader)?;
        let brain = self.site.brain();
        let open = |id: &JobId| brain.and_then(|b| b.job(id)).is_some_and(|job| job.unfinished());
        match self.specs.iter().find(|spec| open(&spec.id)) {
            Some(spec) => violation("I10", format!("{} is not done", spec.id)),
            None => Ok(()),
        }
    }
}

/// What the first answer says: an outcome that depends on the order.
fn first(job: &Job) -> String {
    job.answers.first().map_or_else(String::new, |answer| answer.observation.0.hex())
}
