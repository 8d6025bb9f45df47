//! Makes a failing schedule small: drops what is not needed for the same invariant to fail.
//!
//! Invariant: what is left still fails in the same invariant; every round drops at least one entry,
//! so it ends.

use super::plan::{Manner, Plan};
use super::site::Sabotage;
use super::world::{Depth, World};

fn fails(plan: &Plan, depth: Depth, sabotage: Sabotage, invariant: &str) -> bool {
    let found = World::new(plan, depth, sabotage, false).run();
    found.is_err_and(|violation| violation.invariant == invariant)
}

/// The smallest plan that was found.
pub(super) fn shrink(plan: &Plan, depth: Depth, sabotage: Sabotage, invariant: &str) -> Plan {
    let mut best = plan.clone();
    loop {
        let mut candidates = Vec::new();
        for i in (0..best.faults.len()).rev() {
            let mut less = best.clone();
            less.faults.remove(i);
            candidates.push(less);
        }
        for i in (1..best.jobs.len()).rev() {
            let mut less = best.clone();
            less.jobs.remove(i);
            candidates.push(less);
        }
        for i in (1..best.workers.len()).rev() {
            let mut less = best.clone();
            less.workers.remove(i);
            candidates.push(less);
            if best.workers[i].manner != Manner::Honest {
                let mut less = best.clone();
                less.workers[i].manner = Manner::Honest;
                candidates.push(less);
            }
        }
        for steps in [best.steps / 2, best.steps * 3 / 4, best.steps * 9 / 10] {
            if steps < best.steps && steps > 0 {
                candidates.push(Plan { steps, ..best.clone() });
            }
        }
        match candidates.into_iter().find(|plan| fails(plan, depth, sabotage, invariant)) {
            Some(smaller) => best = smaller,
            None => return best,
        }
    }
}
