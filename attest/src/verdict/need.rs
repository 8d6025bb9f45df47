//! What a job still needs, for the coordinator: judging and queueing must agree.
//!
//! Invariant: derived from the same tally as the verdict. `Enough` never hides an open question
//! that more operators of the quorum could answer within [`ATTEMPTS_MAX`] openings.

use super::{
    answers::{Answer, Said},
    tally::{Decision, REOPENED_EXTRA, Tally},
};
use crate::id::{Attempt, OperatorId};
use std::collections::BTreeSet;

/// Most openings of one job because of one question (protocol: "at most 3"), then it is parked:
/// the first one, or that of a recheck, and those that dissent caused after it.
pub const ATTEMPTS_MAX: u64 = 3;

/// What a job still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: the judgement stands, or no further observation could change it.
    Enough,
    /// So many more observations, of operators that have not answered in this attempt.
    MoreObservations(u32),
    /// A new attempt with so many observations, of operators without dissent.
    ReopenWith(u32),
}

/// The job as the coordinator sees it.
pub(super) struct Progress<'a> {
    pub(super) tally: &'a Tally<'a>,
    pub(super) answers: &'a [Answer],
    pub(super) operators: BTreeSet<&'a OperatorId>,
    /// The newest opening on record, and how many observations it wanted.
    pub(super) announced: Option<(Attempt, Option<u32>)>,
    /// Openings since the first or the newest recheck, those included; none if nothing says so.
    pub(super) openings: Option<u64>,
}

fn count<T>(items: &BTreeSet<T>) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

impl Progress<'_> {
    pub(super) fn need(&self) -> Need {
        let decision = self.tally.decide();
        if matches!(decision, Decision::Failed { .. }) {
            return Need::Enough;
        }
        let here = self.answers.iter().filter(|answer| !answer.elsewhere);
        let newest = here.map(|answer| answer.attempt).max();
        let announced = self.announced.map(|(attempt, _)| attempt);
        let attempt = announced.or(newest).unwrap_or(Attempt(1));
        let openings = self.openings.unwrap_or(attempt.0);
        let reopened = self.tally.wanted.saturating_add(REOPENED_EXTRA);
        let wanted = match self.announced {
            Some((_, Some(wanted))) => wanted,
            _ if attempt.0 <= 1 => self.tally.wanted,
            _ => reopened,
        };
        let leased = |answer: &&Answer| answer.attempt == attempt && answer.standing.is_none();
        let spent: BTreeSet<_> =
            self.answers.iter().filter(leased).map(|answer| &answer.operator).collect();
        let answered: BTreeSet<_> = self
            .answers
            .iter()
            .filter(leased)
            .filter(|answer| !matches!(answer.said, Said::Nothing(_)))
            .map(|answer| &answer.operator)
            .collect();
        // Whoever dissented is not asked again.
        let asked = |operator: &&&OperatorId| {
            !spent.contains(**operator)
                && (attempt.0 <= 1 || !self.tally.dissent.contains_key(**operator))
        };
        let left = count(&self.operators.iter().filter(asked).collect());
        let open = wanted.saturating_sub(count(&answered)).min(left);
        if open > 0 {
            return Need::MoreObservations(open);
        }
        match decision {
            Decision::TooFew | Decision::NotDiverse => {
                let matches = u32::try_from(self.tally.matches.len()).unwrap_or(u32::MAX);
                let lacking = self.tally.required.saturating_sub(matches).max(1);
                if left < lacking { Need::Enough } else { Need::MoreObservations(lacking) }
            }
            Decision::Disputed if openings < ATTEMPTS_MAX && self.hopeful() => {
                Need::ReopenWith(reopened.min(self.others()))
            }
            _ => Need::Enough,
        }
    }

    /// Operators of the quorum without dissent.
    fn others(&self) -> u32 {
        let dissents = |operator: &&&OperatorId| !self.tally.dissent.contains_key(**operator);
        count(&self.operators.iter().filter(dissents).collect())
    }

    /// Another attempt could resolve the dissent, or make it consistent.
    fn hopeful(&self) -> bool {
        let tally = self.tally;
        let reopened = tally.wanted.saturating_add(REOPENED_EXTRA);
        let resolvable = tally.dissent.len() == 1 && self.others() >= reopened;
        let silent = |operator: &&&OperatorId| {
            !tally.dissent.contains_key(**operator) && !tally.saw_published.contains(**operator)
        };
        let silent = self.operators.iter().filter(silent).count();
        let could_agree = tally.dissent.len() + silent >= tally.required as usize;
        resolvable || (silent > 0 && tally.saw_published.len() <= 1 && could_agree)
    }
}
