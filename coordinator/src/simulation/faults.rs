//! What goes wrong: each planned fault, and what a death of the coordinator does.
//!
//! Invariant: a fault changes the world around the coordinator, never its state.

use super::checks::Violation;
use super::disk::Trouble;
use super::plan::Fault;
use super::site::Party;
use super::world::{What, World};
use crate::queue::Event;
use crate::store::nothing;

impl World<'_> {
    pub(super) fn fault(&mut self, fault: Fault) -> Result<(), Violation> {
        let step = self.step;
        match fault {
            Fault::Loss { percent, steps } => self.loss = (percent, step + steps),
            Fault::Duplication { percent, steps } => self.duplication = (percent, step + steps),
            Fault::Delay { ms, steps } => self.delay = (ms, step + steps),
            Fault::JudgeAway { steps } => self.judge_away_until = step + steps,
            Fault::Partition { worker, steps } => {
                if let Some(worker) = self.workers.get_mut(worker as usize) {
                    worker.cut_off_until = step + steps;
                }
            }
            Fault::WorkerCrash { worker, steps } => {
                if let Some(worker) = self.workers.get_mut(worker as usize) {
                    worker.crash();
                    worker.down_until = step + steps;
                    let event = Event::Hangup { worker: worker.id };
                    self.decide(Party::Nobody, event, nothing())?;
                }
            }
            Fault::Kill => self.died(false),
            Fault::KillAt { operation } => self.stop_at(operation, false),
            Fault::PowerCut { operation } => self.stop_at(operation, true),
            Fault::DiskError { operation } => {
                self.site.disk.plan(Trouble::Fail { after: operation });
            }
            Fault::DiskFull { operation, writes } => {
                self.site.disk.plan(Trouble::Full { after: operation, writes });
            }
            Fault::BitFlip => {
                self.died(false);
                if self.site.flipped.is_none() {
                    let backup = self.site.disk.copy();
                    if self.site.disk.flip(&mut self.chance) {
                        self.site.flipped = Some(backup);
                    }
                }
            }
            Fault::Leap { ms } => self.to(self.now + ms),
            Fault::Throttle { ms } => {
                let registry = "registry.example".to_owned();
                let event = Event::Throttled { registry, retry_after_ms: ms };
                self.decide(Party::Nobody, event, nothing())?;
            }
            Fault::Drain { worker, steps } => {
                self.drain(worker as usize, true)?;
                self.drained.push((worker as usize, step + steps));
            }
            Fault::Unpark { job } => {
                if let Some(job) = self.specs.get(job as usize).map(|spec| spec.id) {
                    self.decide(Party::Nobody, Event::Unpark { job }, nothing())?;
                }
            }
            Fault::IndexLost => {
                self.died(false);
                self.site.lose_index(&mut self.chance, true);
            }
            Fault::Forgery { job } => self.forge(job as usize)?,
        }
        Ok(())
    }

    fn stop_at(&mut self, operation: u32, power: bool) {
        self.site.disk.plan(Trouble::Stop { after: operation });
        // Whether the page cache survives is known when it happens.
        self.power = power;
    }

    pub(super) fn drain(&mut self, worker: usize, draining: bool) -> Result<(), Violation> {
        let Some(worker) = self.workers.get(worker).map(|worker| worker.id) else { return Ok(()) };
        self.decide(Party::Nobody, Event::Drain { worker, draining }, nothing())
    }

    /// The coordinator is gone; it is started again in a moment.
    pub(super) fn died(&mut self, power: bool) {
        self.note(|| format!("dies, power {power}"));
        self.site.die();
        if power {
            self.site.disk.cut_power(&mut self.chance);
        }
        self.site.lose_index(&mut self.chance, false);
        self.site.disk.calm();
        self.committing = false;
        let ms = self.chance.within(100, 20_000);
        self.at(self.now + ms, What::Start);
    }

    /// The process starts, if it is not there.
    pub(super) fn start(&mut self) -> Result<(), Violation> {
        if self.site.brain().is_some() {
            return Ok(());
        }
        match self.site.start(&mut self.checks)? {
            Some(notices) => {
                self.note(|| "started".to_owned());
                self.committing = false;
                self.notices(notices);
            }
            None => {
                let power = std::mem::take(&mut self.power) && self.site.disk.is_stopped();
                self.died(power);
            }
        }
        Ok(())
    }

    /// A batch goes to the disk.
    pub(super) fn commit(&mut self) -> Result<(), Violation> {
        self.committing = false;
        if self.site.brain().is_none() {
            return Ok(());
        }
        let Some((told, notices)) = self.site.commit(&mut self.checks)? else {
            let power = std::mem::take(&mut self.power) && self.site.disk.is_stopped();
            self.died(power);
            return Ok(());
        };
        self.notices(notices);
        for told in told {
            self.tell(&told)?;
        }
        if self.chance.percent(20) {
            self.site.raise_floor();
            if self.site.brain().is_none() {
                let power = std::mem::take(&mut self.power);
                self.died(power);
            }
        }
        let over = |(_, until): &(usize, u32)| *until <= self.step;
        let (over, still): (Vec<_>, Vec<_>) = self.drained.iter().copied().partition(over);
        self.drained = still;
        for (worker, _) in over {
            self.drain(worker, false)?;
        }
        Ok(())
    }
}
