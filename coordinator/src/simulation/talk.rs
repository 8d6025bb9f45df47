//! Messages between workers and the coordinator, and what each side does with one.
//!
//! Invariant: every message may be lost, doubled, late or overtaken; a worker asks again until it
//! has its answer. What the coordinator promises is checked when the promise leaves it.

use super::checks::{Signed, Violation};
use super::fleet::{Choice, Run, contradiction};
use super::plan::{Manner, Truth};
use super::signed::About;
use super::site::{Party, Sabotage, Told};
use super::world::{Ask, What, World};
use crate::journal::{Kind, NewRecord};
use crate::queue::{Desired, Event, Offer, Refusal, Reply, Report, Said, Slot, Submission};
use crate::store::{Attach, Notice, nothing};
use attest::{
    Digest,
    id::{Attempt, Fence, JobId, LeaseId, ObservationId},
};

/// A submission is sent again after so long.
const RESEND_MS: u64 = 15_000;
/// Whoever is told to come back after this long has sent more that nobody asked for than is kept:
/// a schedule does not wait for it.
const OVER_QUOTA_MS: u64 = 3_600_000;

impl World<'_> {
    /// How long a message takes; none if it is lost.
    fn travel(&mut self, worker: usize) -> Option<u64> {
        let usual = self.chance.within(1, 60);
        if self.calm {
            return Some(usual);
        }
        if self.workers[worker].cut_off_until > self.step {
            return None;
        }
        if self.loss.1 > self.step && self.chance.percent(self.loss.0) {
            return None;
        }
        let late = self.delay.1 > self.step && self.chance.percent(50);
        Some(usual + if late { self.chance.below(self.delay.0) } else { 0 })
    }

    fn doubled(&mut self) -> bool {
        !self.calm && self.duplication.1 > self.step && self.chance.percent(self.duplication.0)
    }

    fn ask(&mut self, worker: usize, ask: &Ask) {
        let stubborn = self.workers[worker].manner == Manner::Stubborn && !self.calm;
        let times = 1 + usize::from(self.doubled()) + usize::from(stubborn);
        for _ in 0..times {
            if let Some(ms) = self.travel(worker) {
                self.at(self.now + ms, What::Arrives(worker, ask.clone()));
            }
        }
    }

    /// An answer leaves the coordinator.
    pub(super) fn tell(&mut self, told: &Told) -> Result<(), Violation> {
        if let (Party::Submit(_, id), Some(Reply::Filed(_))) = (told.to, &told.reply) {
            let end = self.site.reader().map_or(0, |reader| reader.end().0);
            self.checks.receipt(id, told.position.unwrap_or(u64::MAX), end)?;
        }
        if let (Party::Judge(job), Some(Reply::Settled { .. })) = (told.to, &told.reply) {
            self.admit(job)?;
        }
        let Some(worker) = told.to.worker() else { return Ok(()) };
        for _ in 0..1 + usize::from(self.doubled()) {
            if let Some(ms) = self.travel(worker) {
                self.at(self.now + ms, What::Answer(told.clone()));
            }
        }
        Ok(())
    }

    /// The coordinator decides; what it says waits for the disk.
    pub(super) fn decide(
        &mut self,
        to: Party,
        event: Event,
        attach: Attach,
    ) -> Result<(), Violation> {
        let Some(notices) = self.site.decide(to, event, attach)? else { return Ok(()) };
        self.notices(notices);
        match self.sabotage {
            Sabotage::AnswerEarly => {
                for told in self.site.early() {
                    self.tell(&told)?;
                }
            }
            Sabotage::ForgetEquivocation => self.site.forget_equivocation(),
            _ => {}
        }
        if !self.committing {
            self.committing = true;
            let ms = self.chance.within(1, 30);
            self.at(self.now + ms, What::Commit);
        }
        Ok(())
    }

    pub(super) fn notices(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::Wake(worker) => {
                    if let Some(worker) = self.by_worker.get(&worker).copied()
                        && let Some(ms) = self.travel(worker)
                    {
                        self.at(self.now + ms, What::Wake(worker, false));
                    }
                }
                Notice::Judge { job, .. } if self.sabotage != Sabotage::NeverJudge => {
                    let ms = self.chance.within(5, 2_000);
                    self.at(self.now + ms, What::Judge(job));
                }
                Notice::Judge { .. } => {}
            }
        }
    }

    /// A message arrives at the coordinator.
    pub(super) fn arrives(&mut self, worker: usize, ask: Ask) -> Result<(), Violation> {
        let id = self.workers[worker].id;
        let (to, event) = match ask {
            Ask::Sync(leases) => (Party::Sync(worker), Event::Sync(self.report(worker, leases))),
            Ask::Accept(lease, fence) => {
                (Party::Accept(worker, lease), Event::Accept { worker: id, lease, fence })
            }
            Ask::Decline(lease, fence) => {
                (Party::Nobody, Event::Decline { worker: id, lease, fence })
            }
            Ask::Submit(observation) => return self.submitted(worker, observation),
        };
        self.decide(to, event, nothing())
    }

    fn report(&self, worker: usize, leases: Vec<(LeaseId, Fence)>) -> Report {
        let known = &self.workers[worker];
        let mut operator = known.operator.clone();
        if self.sabotage == Sabotage::CountKeys && known.key.1 > 0 {
            operator = super::signed::names()[super::plan::OPERATORS_MAX - 1].clone();
        }
        Report {
            worker: known.id,
            operator,
            architectures: vec!["amd64".into()],
            rebuilders: vec!["apko".into()],
            memory_mib: 0,
            slots_free: 2,
            draining: false,
            waits: leases.is_empty(),
            leases,
        }
    }

    fn submitted(&mut self, worker: usize, observation: ObservationId) -> Result<(), Violation> {
        let Some(signed) = self.checks.signed(&observation) else { return Ok(()) };
        let mut submission = Submission {
            job: signed.job,
            attempt: signed.attempt,
            lease: signed.lease,
            fence: signed.fence,
            worker: signed.worker,
            operator: signed.operator.clone(),
            observation,
            said: signed.said.clone(),
            duration_ms: 60_000,
            bytes: signed.envelope.len() as u64,
        };
        let record = NewRecord::new(Kind::OBSERVATION, signed.job.0, signed.envelope.clone());
        self.bend(worker, &mut submission, &record);
        let attach: Attach = Box::new(move |_| vec![record]);
        self.decide(Party::Submit(worker, observation), Event::Submit(submission), attach)
    }

    /// What sabotage makes of a submission.
    fn bend(&mut self, worker: usize, submission: &mut Submission, record: &NewRecord) {
        let id = self.workers[worker].id;
        let Some(brain) = self.site.brain() else { return };
        match self.sabotage {
            Sabotage::ReviveFence => {
                let job = brain.queue().job(&submission.job);
                let mine = |slot: &&Slot| slot.grant().is_some_and(|grant| grant.worker == id);
                let slot = job.and_then(|job| job.slots.iter().find(mine));
                if let Some(Slot::Leased { grant, .. }) = slot {
                    (submission.lease, submission.fence) = (grant.lease, grant.fence);
                }
            }
            Sabotage::CountKeys if self.workers[worker].key.1 > 0 => {
                submission.operator =
                    super::signed::names()[super::plan::OPERATORS_MAX - 1].clone();
            }
            Sabotage::AppendTwice if brain.position(&submission.observation).is_some() => {
                self.site.append(record.clone());
            }
            _ => {}
        }
    }

    /// An answer arrives at a worker.
    pub(super) fn answered(&mut self, told: Told) -> Result<(), Violation> {
        let Some(i) = told.to.worker() else { return Ok(()) };
        if self.workers[i].down_until > self.step && !self.calm {
            return Ok(());
        }
        match (told.to, told.reply) {
            (_, Some(Reply::Desired(Desired { offers, stop }))) => {
                let stubborn = self.workers[i].manner == Manner::Stubborn;
                for lease in stop.iter().filter(|_| !stubborn) {
                    self.workers[i].runs.remove(lease);
                }
                for offer in offers {
                    self.offered(i, offer);
                }
            }
            (Party::Accept(_, lease), Some(Reply::Granted { execution_ms, .. })) => {
                self.granted(i, lease, execution_ms);
            }
            (Party::Accept(_, lease), _) => {
                self.workers[i].asked.remove(&lease);
            }
            (Party::Submit(_, id), Some(Reply::Filed(_))) => {
                self.workers[i].outbox.retain(|(own, _, _)| *own != id);
            }
            (
                Party::Submit(_, id),
                Some(Reply::Refused(Refusal::Exhausted { retry_after_ms, .. })),
            ) => {
                let again = self.now + retry_after_ms;
                let outbox = &mut self.workers[i].outbox;
                if retry_after_ms >= OVER_QUOTA_MS {
                    outbox.retain(|(own, _, _)| *own != id);
                } else if let Some(own) = outbox.iter_mut().find(|(own, _, _)| *own == id) {
                    own.2 = again;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn offered(&mut self, i: usize, offer: Offer) {
        let (lease, fence) = (offer.grant.lease, offer.grant.fence);
        let known = self.workers[i].runs.contains_key(&lease)
            || self.workers[i].outbox.iter().any(|(_, own, _)| *own == lease);
        if known {
            return;
        }
        match self.workers[i].choose() {
            Choice::Ignore => {}
            Choice::Decline => self.ask(i, &Ask::Decline(lease, fence)),
            Choice::Accept => {
                self.workers[i].asked.insert(lease, offer);
                self.ask(i, &Ask::Accept(lease, fence));
            }
        }
    }

    fn granted(&mut self, i: usize, lease: LeaseId, execution_ms: u64) {
        let now = self.now;
        let worker = &mut self.workers[i];
        let Some(offer) = worker.asked.remove(&lease) else { return };
        let fence = offer.grant.fence;
        if worker.manner == Manner::Broken {
            return self.ask(i, &Ask::Decline(lease, fence));
        }
        let build = worker.build_ms();
        // The worker enforces the cap, too.
        let done_at = now + build.min(execution_ms);
        worker.runs.insert(lease, Run { offer, done_at, late: build >= execution_ms });
        self.at(done_at, What::Wake(i, false));
    }

    /// A worker looks what there is to do.
    pub(super) fn wake(&mut self, i: usize, again: bool) -> Result<(), Violation> {
        let now = self.now;
        if again {
            let busy = !self.workers[i].runs.is_empty() || !self.workers[i].outbox.is_empty();
            let usual = if busy { 15_000 } else { 30_000 };
            let ms = self.chance.within(usual / 2, usual);
            self.at(now + ms, What::Wake(i, true));
        }
        if !self.calm {
            if self.workers[i].down_until > self.step || self.workers[i].silent_until > now {
                return Ok(());
            }
            let slow = self.workers[i].manner == Manner::Slow;
            if slow && self.workers[i].chance.percent(8) {
                self.workers[i].silent_until =
                    now + self.workers[i].chance.within(5_000, 1_500_000);
                return Ok(());
            }
            if self.workers[i].manner == Manner::Volunteering && self.workers[i].chance.percent(20)
            {
                self.volunteer(i);
            }
        }
        let done: Vec<LeaseId> = self.workers[i]
            .runs
            .iter()
            .filter(|(_, run)| run.done_at <= now)
            .map(|(lease, _)| *lease)
            .collect();
        for lease in done {
            if let Some(run) = self.workers[i].runs.remove(&lease) {
                self.finish(i, &run);
            }
        }
        let mut due = Vec::new();
        for (id, _, next) in &mut self.workers[i].outbox {
            if *next <= now {
                *next = now + RESEND_MS;
                due.push(*id);
            }
        }
        for id in due {
            self.ask(i, &Ask::Submit(id));
        }
        // Whether these were granted is not known: ask again.
        let asked: Vec<(LeaseId, Fence)> =
            self.workers[i].asked.values().map(|o| (o.grant.lease, o.grant.fence)).collect();
        for (lease, fence) in asked {
            self.ask(i, &Ask::Accept(lease, fence));
        }
        let worker = &self.workers[i];
        let runs = worker.runs.values().map(|run| (run.offer.grant.lease, run.offer.grant.fence));
        let kept = worker.outbox.iter().filter_map(|(id, lease, _)| {
            self.checks.signed(id).map(|signed| (*lease, signed.fence))
        });
        let leases = runs.chain(kept).collect();
        self.ask(i, &Ask::Sync(leases));
        Ok(())
    }

    fn finish(&mut self, i: usize, run: &Run) {
        let (image, truth) = self.image_of(&run.offer.job);
        let said = self.workers[i].says(image, truth, run.late);
        let grant = &run.offer.grant;
        let named = (run.offer.job, run.offer.attempt, grant.lease, grant.fence);
        self.sign(i, named, &said);
        if self.workers[i].manner == Manner::Equivocating && !self.calm {
            let other = contradiction(image, &said);
            self.sign(i, named, &other);
        }
    }

    fn image_of(&self, job: &JobId) -> (u8, Truth) {
        let at = self.specs.iter().position(|spec| spec.id == *job).unwrap_or(0);
        (self.plan.jobs[at].image, self.plan.jobs[at].truth)
    }

    /// Signs an observation and puts it into the outbox.
    fn sign(&mut self, i: usize, named: (JobId, Attempt, LeaseId, Fence), said: &Said) {
        let (job, attempt, lease, fence) = named;
        let (image, _) = self.image_of(&job);
        let worker = &self.workers[i];
        let at = self.specs.iter().position(|spec| spec.id == job).unwrap_or(0);
        let (id, envelope, said) = match &self.ink {
            Some(ink) => {
                let (operator, nth) = worker.key;
                let spec = &self.specs[at];
                let about = About { image, spec, attempt, lease, fence, operator, nth };
                let (envelope, said) = ink.observe(&about, said, false);
                (envelope.observation_id(), envelope.to_json(), said)
            }
            None => {
                let envelope = format!("{} {job} {lease} {fence} {said:?}", worker.id).into_bytes();
                (ObservationId(Digest::of(&envelope)), envelope, said.clone())
            }
        };
        let (worker, operator) = (worker.id, worker.operator.clone());
        let signed = Signed { job, attempt, lease, fence, worker, operator, said, envelope };
        self.checks.sign(id, signed);
        let own = &mut self.workers[i].outbox;
        if own.iter().all(|(known, _, _)| *known != id) {
            own.push((id, lease, 0));
        }
    }

    /// An observation that nobody asked for: under a lease that is made up, or somebody else's.
    pub(super) fn volunteer(&mut self, i: usize) {
        let at = self.workers[i].chance.below(self.specs.len() as u64) as usize;
        let id = self.specs[at].id;
        let job = self.site.brain().and_then(|brain| brain.job(&id));
        let Some(job) = job else { return };
        let theirs = job.slots.iter().find_map(Slot::grant).map(|grant| (grant.lease, grant.fence));
        let made_up = LeaseId(*self.workers[i].chance.bytes().first_chunk().unwrap_or(&[0; 16]));
        let (lease, fence) = match theirs {
            Some(theirs) if self.workers[i].chance.percent(50) => theirs,
            _ => (made_up, Fence(self.workers[i].chance.below(9))),
        };
        let (image, truth) = self.image_of(&id);
        let said = self.workers[i].says(image, truth, false);
        self.sign(i, (id, job.attempt, lease, fence), &said);
    }
}
