//! Workers that are there: what they can do, what they hold, whose held call waits.
//!
//! Invariant: soft state: nothing here is journaled, everything comes back with the next `Sync`. A
//! worker is offered at most what it has room for; an offer takes no room of its own beyond that.

use super::event::Report;
use super::model::{Millis, Route, memory_class_offered};
use attest::id::{LeaseId, OperatorId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

/// Names in a report that are looked at: 16 architectures, 16 rebuilders.
const NAMES_MAX: usize = 16;

/// A worker that was heard.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) operator: OperatorId,
    architectures: Vec<String>,
    rebuilders: Vec<String>,
    memory_class: u32,
    /// Executions at a time, as far as it said.
    slots: u32,
    /// It said itself that it wants no new work.
    draining: bool,
    pub(super) heard: Millis,
    /// When it had room last.
    room_at: Option<Millis>,
    pub(super) waits: bool,
}

impl Worker {
    pub(super) fn fits(&self, route: &Route) -> bool {
        self.architectures.contains(&route.architecture)
            && self.rebuilders.contains(&route.rebuilder)
            && route.memory_class <= self.memory_class
    }
}

type Ability = (String, String);

/// The workers.
#[derive(Debug, Default)]
pub(super) struct Workers {
    workers: BTreeMap<WorkerId, Worker>,
    /// Offers and leases that are out, also of workers that were not heard since a restart.
    held: BTreeMap<WorkerId, BTreeSet<LeaseId>>,
    /// Told by an administrator to take nothing new.
    drained: BTreeSet<WorkerId>,
    /// Those with a held call and room, by what they can do; in no order, so that any can be drawn.
    idle: BTreeMap<Ability, Vec<WorkerId>>,
    idle_at: BTreeMap<WorkerId, Vec<(Ability, usize)>>,
}

impl Workers {
    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    pub(super) fn get(&self, worker: &WorkerId) -> Option<&Worker> {
        self.workers.get(worker)
    }

    /// How many more offers the worker has room for.
    pub(super) fn room(&self, worker: &WorkerId) -> u32 {
        let held = self.held.get(worker).map_or(0, |held| held.len() as u32);
        match self.workers.get(worker) {
            Some(known) if !self.drains(worker, known) => known.slots.saturating_sub(held),
            _ => 0,
        }
    }

    fn drains(&self, id: &WorkerId, worker: &Worker) -> bool {
        worker.draining || self.drained.contains(id)
    }

    /// Offers and leases of the worker.
    pub(super) fn held(&self, worker: &WorkerId) -> impl Iterator<Item = &LeaseId> {
        self.held.get(worker).into_iter().flatten()
    }

    /// Takes in a report.
    pub(super) fn report(&mut self, report: &Report, now: Millis, leases_max: u32) {
        let reported = report.leases.len() as u32;
        self.unidle(&report.worker);
        let names = |names: &[String]| names.iter().take(NAMES_MAX).cloned().collect();
        let room_at = self.workers.get(&report.worker).and_then(|known| known.room_at);
        let worker = Worker {
            operator: report.operator.clone(),
            architectures: names(&report.architectures),
            rebuilders: names(&report.rebuilders),
            memory_class: memory_class_offered(report.memory_mib),
            slots: report.slots_free.saturating_add(reported).min(leases_max),
            draining: report.draining,
            heard: now,
            room_at,
            waits: false,
        };
        self.workers.insert(report.worker, worker);
        if self.room(&report.worker) > 0
            && let Some(known) = self.workers.get_mut(&report.worker)
        {
            known.room_at = Some(now);
        }
    }

    pub(super) fn drain(&mut self, worker: WorkerId, draining: bool) {
        if draining {
            self.drained.insert(worker);
            self.unidle(&worker);
        } else {
            self.drained.remove(&worker);
        }
    }

    pub(super) fn hold(&mut self, worker: &WorkerId, lease: LeaseId) {
        self.held.entry(*worker).or_default().insert(lease);
    }

    pub(super) fn release(&mut self, worker: &WorkerId, lease: &LeaseId) {
        if let Some(held) = self.held.get_mut(worker) {
            held.remove(lease);
            if held.is_empty() {
                self.held.remove(worker);
            }
        }
    }

    /// Nothing is out any more, as far as is known.
    pub(super) fn forget_held(&mut self) {
        self.held.clear();
    }

    /// The worker's call is held: it can be woken.
    pub(super) fn wait(&mut self, worker: &WorkerId) {
        self.unidle(worker);
        let room = self.room(worker);
        let Some(known) = self.workers.get_mut(worker) else { return };
        known.waits = true;
        if room == 0 {
            return;
        }
        let mut places = Vec::new();
        for architecture in &known.architectures {
            for rebuilder in &known.rebuilders {
                let ability = (architecture.clone(), rebuilder.clone());
                let list = self.idle.entry(ability.clone()).or_default();
                places.push((ability, list.len()));
                list.push(*worker);
            }
        }
        self.idle_at.insert(*worker, places);
    }

    /// The worker's call is answered, or gone. True if it was waiting.
    pub(super) fn unwait(&mut self, worker: &WorkerId) -> bool {
        self.unidle(worker);
        self.workers.get_mut(worker).is_some_and(|known| std::mem::take(&mut known.waits))
    }

    fn unidle(&mut self, worker: &WorkerId) {
        for (ability, at) in self.idle_at.remove(worker).unwrap_or_default() {
            let Some(list) = self.idle.get_mut(&ability) else { continue };
            // Another place of the same worker may have moved: look where it is now.
            let at = match list.get(at) {
                Some(there) if there == worker => at,
                _ => match list.iter().position(|there| there == worker) {
                    Some(found) => found,
                    None => continue,
                },
            };
            list.swap_remove(at);
            if let Some(moved) = list.get(at).copied()
                && let Some(places) = self.idle_at.get_mut(&moved)
            {
                for place in places.iter_mut().filter(|place| place.0 == ability) {
                    place.1 = at;
                }
            }
            if list.is_empty() {
                self.idle.remove(&ability);
            }
        }
    }

    /// Whoever is listed as idle waits, stands where it is remembered, and nobody else is listed.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let listed: usize = self.idle.values().map(Vec::len).sum();
        assert_eq!(listed, self.idle_at.values().map(Vec::len).sum::<usize>());
        assert!(self.idle.values().all(|list| !list.is_empty()));
        for (worker, places) in &self.idle_at {
            assert!(self.workers.get(worker).is_some_and(|known| known.waits));
            let stands = |(ability, at): &(Ability, usize)| self.idle[ability][*at] == *worker;
            assert!(places.iter().all(stands), "{worker} is not at {places:?}");
        }
    }

    /// Waiting workers with room for this route, from a drawn place on, at most `limit`.
    pub(super) fn idle(&self, route: &Route, draw: u64, limit: usize) -> Vec<WorkerId> {
        let ability = (route.architecture.clone(), route.rebuilder.clone());
        let Some(list) = self.idle.get(&ability).filter(|list| !list.is_empty()) else {
            return Vec::new();
        };
        let start = (draw % list.len() as u64) as usize;
        let (after, before) = (&list[start..], &list[..start]);
        after.iter().chain(before).take(limit).copied().collect()
    }

    /// Operators with a worker that is present and could take this route: it has or had room within
    /// this time, or is at work for us and will have room. One that only reports does not count: it
    /// would hold up what others could do.
    pub(super) fn operators_for(
        &self,
        route: &Route,
        now: Millis,
        present_ms: u64,
    ) -> BTreeSet<&OperatorId> {
        self.workers
            .iter()
            .filter(|(id, w)| {
                let had_room = w.room_at.is_some_and(|at| now.since(at) <= present_ms);
                !self.drains(id, w)
                    && now.since(w.heard) <= present_ms
                    && w.fits(route)
                    && (had_room || self.held.contains_key(id))
            })
            .map(|(_, worker)| &worker.operator)
            .collect()
    }

    /// Forgets workers that hold nothing and were not heard for long.
    pub(super) fn sweep(&mut self, now: Millis, present_ms: u64) {
        let gone: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(id, w)| !self.held.contains_key(id) && now.since(w.heard) > present_ms)
            .map(|(id, _)| *id)
            .collect();
        for worker in gone {
            self.unidle(&worker);
            self.workers.remove(&worker);
        }
    }
}
