//! Where unfinished jobs lie while nobody asks for them by name: waiting in the order of their rank,
//! deferred until a moment, or in the hands of somebody.
//!
//! What waits is kept by route, because a worker can do some routes and not others: jobs that nobody
//! can do at present must not hide those behind them.
//! Invariant: one row for each unfinished job, made from its [`Place`] and what it is to do, so that
//! the row of before can be named when the job moves.

use super::{
    Index,
    error::{IndexError, doubt},
};
use crate::queue::{JobSpec, Millis, Place, Route};
use crate::store::rows::{after, key, route_key, tail_digest};
use crate::store::tables::{Rows, Tables};
use attest::id::JobId;

/// The row of a job in its place; none for one that is done.
pub(super) fn row(place: Place, spec: &JobSpec) -> Option<Vec<u8>> {
    let id = spec.id.0.raw();
    match place {
        Place::Waiting(rank) => {
            Some(key(b'w', &[&route_key(&spec.route()), &rank.to_be_bytes(), id]))
        }
        Place::Deferred(until) => Some(key(b'd', &[&until.0.to_be_bytes(), id])),
        Place::Active => Some(key(b'a', &[id])),
        Place::Done => None,
    }
}

fn jobs(rows: &Rows) -> Vec<JobId> {
    rows.iter().filter_map(|(key, _)| tail_digest(key)).map(JobId).collect()
}

impl<T: Tables> Index<T> {
    /// Jobs that must be in memory.
    pub fn active(&self, from: Option<JobId>, limit: usize) -> Result<Vec<JobId>, IndexError> {
        let start = from.map_or(key(b'a', &[]), |id| after(&key(b'a', &[id.0.raw()])));
        Ok(jobs(&self.tables.range(&start, &after(b"a"), limit)?))
    }

    /// Waiting jobs of a route, the earliest rank first.
    pub fn waiting(&self, route: &Route, limit: usize) -> Result<Vec<JobId>, IndexError> {
        let lane = key(b'w', &[&route_key(route)]);
        Ok(jobs(&self.tables.range(&lane, &after(&lane), limit)?))
    }

    /// Routes that jobs wait for, so many at most, in no order that means anything.
    pub fn waiting_routes(&self, limit: usize) -> Result<Vec<Route>, IndexError> {
        let (mut routes, mut from) = (Vec::new(), key(b'w', &[]));
        while routes.len() < limit {
            let first = self.tables.range(&from, &after(b"w"), 1)?;
            let Some((row, _)) = first.first() else { break };
            let id = tail_digest(row).map(JobId).ok_or_else(|| doubt("expected a waiting job"))?;
            let job = self.job(&id)?.ok_or_else(|| doubt(format!("{id} waits, and has no row")))?;
            let route = job.spec.route();
            from = after(&key(b'w', &[&route_key(&route)]));
            if *row >= from {
                return Err(doubt(format!("{id} waits in the rows of another route")));
            }
            routes.push(route);
        }
        Ok(routes)
    }

    /// When the first of those that wait on disk were opened: the earliest of each route, and of the
    /// deferred, so many of each at most. A deferred one that comes back later may be older, by the
    /// 31 hours that a job is deferred altogether.
    pub fn oldest_at_rest(&self, limit: usize) -> Result<Option<Millis>, IndexError> {
        let mut first = jobs(&self.tables.range(b"d", &after(b"d"), limit)?);
        for route in self.waiting_routes(limit)? {
            first.extend(self.waiting(&route, 1)?);
        }
        let opened = first.iter().map(|id| Ok(self.job(id)?.map(|job| job.opened_at)));
        let opened: Vec<Option<Millis>> = opened.collect::<Result<_, IndexError>>()?;
        Ok(opened.into_iter().flatten().min())
    }

    /// Deferred jobs whose time has come.
    pub fn deferred_until(&self, now: Millis, limit: usize) -> Result<Vec<JobId>, IndexError> {
        let end = key(b'd', &[&now.plus(1).0.to_be_bytes()]);
        Ok(jobs(&self.tables.range(b"d", &end, limit)?))
    }
}
