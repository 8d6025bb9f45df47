//! Jobs in memory that have an open slot, in the order in which they are to be offered.
//!
//! Invariant: a job is in exactly one route's set while it is ready. For each route and operator a
//! cursor remembers how far the operator has a part in everything, so that jobs that wait for
//! *other* operators do not have to be looked at again and again; a job that becomes ready anew
//! moves the cursors back.

use super::model::Route;
use attest::id::{JobId, OperatorId};
use std::collections::{BTreeMap, BTreeSet};

/// A job's place: smaller is earlier.
pub(super) type Rank = (u64, JobId);

#[derive(Debug, Default)]
struct Lane {
    jobs: BTreeSet<Rank>,
    /// Everything before this is nothing for the operator.
    cursors: BTreeMap<OperatorId, Rank>,
}

/// The ready jobs.
#[derive(Debug, Default)]
pub(super) struct Ready {
    lanes: BTreeMap<Route, Lane>,
    by_job: BTreeMap<JobId, (Route, u64)>,
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.by_job.len()
    }

    /// Ready jobs of a route.
    pub(super) fn len_of(&self, route: &Route) -> usize {
        self.lanes.get(route).map_or(0, |lane| lane.jobs.len())
    }

    /// How many routes have ready jobs.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    #[cfg(test)]
    pub(super) fn holds(&self, job: &JobId) -> bool {
        self.by_job.contains_key(job)
    }

    /// Puts a job in, or moves it.
    pub(super) fn put(&mut self, job: JobId, route: Route, rank: u64) {
        if let Some((old, before)) = self.by_job.get(&job) {
            if (old, *before) == (&route, rank) {
                if let Some(lane) = self.lanes.get_mut(&route) {
                    lane.back(&(rank, job));
                }
                return;
            }
            self.remove(&job);
        }
        let lane = self.lanes.entry(route.clone()).or_default();
        lane.jobs.insert((rank, job));
        lane.back(&(rank, job));
        self.by_job.insert(job, (route, rank));
    }

    pub(super) fn remove(&mut self, job: &JobId) {
        let Some((route, rank)) = self.by_job.remove(job) else { return };
        if let Some(lane) = self.lanes.get_mut(&route) {
            lane.jobs.remove(&(rank, *job));
            if lane.jobs.is_empty() {
                self.lanes.remove(&route);
            }
        }
    }

    /// Routes that have jobs and that `fits` accepts, the one with the earliest job first.
    pub(super) fn routes(&self, fits: impl Fn(&Route) -> bool) -> Vec<(Rank, Route)> {
        let mut found: Vec<(&Rank, &Route)> = self
            .lanes
            .iter()
            .filter(|(route, _)| fits(route))
            .filter_map(|(route, lane)| Some((lane.jobs.first()?, route)))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(first, route)| (*first, route.clone())).collect()
    }

    /// The next jobs of a route for an operator, at most `limit`.
    pub(super) fn ahead(&self, route: &Route, operator: &OperatorId, limit: usize) -> Vec<Rank> {
        let Some(lane) = self.lanes.get(route) else { return Vec::new() };
        match lane.cursors.get(operator) {
            Some(from) => lane.jobs.range(*from..).take(limit).copied().collect(),
            None => lane.jobs.iter().take(limit).copied().collect(),
        }
    }

    /// Nothing before `to` is for this operator.
    pub(super) fn advance(&mut self, route: &Route, operator: &OperatorId, to: Rank) {
        if let Some(lane) = self.lanes.get_mut(route) {
            lane.cursors.insert(operator.clone(), to);
        }
    }

    /// The job to do without first: the last that `may` accepts of the route with the most jobs, so
    /// that no route is without any because another one has many. So many are looked at in each.
    pub(super) fn last(&self, may: impl Fn(&JobId) -> bool, limit: usize) -> Option<JobId> {
        let tail =
            |lane: &Lane| lane.jobs.iter().rev().take(limit).find(|(_, job)| may(job)).copied();
        let mut best: Option<(usize, Rank)> = None;
        for lane in self.lanes.values() {
            // Shorter lanes are not looked at; of two that are as long, the later job goes.
            if best.is_none_or(|(longest, _)| lane.jobs.len() >= longest) {
                best = best.max(tail(lane).map(|rank| (lane.jobs.len(), rank)));
            }
        }
        best.map(|(_, (_, job))| job)
    }
}

impl Lane {
    fn back(&mut self, rank: &Rank) {
        // Cursors behind it stay; the others come back to it. Operators are few.
        for cursor in self.cursors.values_mut() {
            if *cursor > *rank {
                *cursor = *rank;
            }
        }
    }
}
