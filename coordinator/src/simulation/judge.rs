//! A judge for a million schedules: the verdict's rule on the queue's answers, without signatures.
//!
//! Invariant: a pure function of the job's answers, of who could be asked and of k; no order of the
//! answers matters. It says what the job needs as `attest::verdict::needs` does; the schedules in
//! which everything is really signed are judged by that function itself (see `signed`).

use crate::queue::{Answer, Job, Need, Role, Said};
use attest::{Digest, id::OperatorId};
use std::collections::{BTreeMap, BTreeSet};

/// Added to m when a dissent opens a job again.
const REOPENED_EXTRA: u32 = 2;

struct Tally<'a> {
    /// Operators that built what was published, and the last attempt in which they did.
    matches: BTreeMap<&'a OperatorId, u64>,
    /// Operators that built something else: the first attempt that answers it, and what.
    dissent: BTreeMap<&'a OperatorId, (u64, BTreeSet<Digest>)>,
    saw_published: BTreeSet<&'a OperatorId>,
    failures: BTreeMap<(&'static str, &'a str), BTreeSet<&'a OperatorId>>,
}

fn tally(job: &Job) -> Tally<'_> {
    let mut tally = Tally {
        matches: BTreeMap::new(),
        dissent: BTreeMap::new(),
        saw_published: BTreeSet::new(),
        failures: BTreeMap::new(),
    };
    let twice = |answer: &Answer| answer.role == Role::Equivocation;
    let liars: BTreeSet<_> =
        job.answers.iter().filter(|a| twice(a)).map(|answer| &answer.operator).collect();
    for answer in &job.answers {
        let counts = answer.role == Role::Counted && !liars.contains(&answer.operator);
        match &answer.said {
            Said::Output { manifest } if *manifest == job.spec.subject.digest => {
                tally.saw_published.insert(&answer.operator);
                if counts {
                    let last = tally.matches.entry(&answer.operator).or_default();
                    *last = answer.attempt.0.max(*last);
                }
            }
            Said::Output { manifest } => {
                let after = answer.attempt.0 + 1;
                let known =
                    tally.dissent.entry(&answer.operator).or_insert((after, BTreeSet::new()));
                known.0 = after.min(known.0);
                known.1.insert(*manifest);
            }
            Said::LimitExceeded { class } if counts => {
                tally.failures.entry(("limit", class)).or_default().insert(&answer.operator);
            }
            Said::InputUnavailable if answer.role == Role::Noted => {
                tally.failures.entry(("input", "")).or_default().insert(&answer.operator);
            }
            said => {
                if let Some(failure) = said.failure().filter(|_| counts) {
                    tally.failures.entry(failure).or_default().insert(&answer.operator);
                }
            }
        }
    }
    let dissent = &tally.dissent;
    tally.matches.retain(|operator, _| !dissent.contains_key(operator));
    tally
}

fn settled(job: &Job, tally: &Tally<'_>, required: u32) -> Option<&'static str> {
    let enough = |n: usize| n as u32 >= required;
    let mut dissents = tally.dissent.values();
    match (dissents.next(), dissents.next()) {
        (None, _) if enough(tally.matches.len()) => return Some("reproduced"),
        (Some((after, _)), None) => {
            let later = tally.matches.values().filter(|last| *last >= after).count();
            if later as u32 >= job.spec.wanted + REOPENED_EXTRA && enough(later) {
                return Some("reproduced");
            }
        }
        _ => {}
    }
    let mut outputs: BTreeMap<&Digest, u32> = BTreeMap::new();
    for output in tally.dissent.values().flat_map(|(_, outputs)| outputs) {
        *outputs.entry(output).or_default() += 1;
    }
    if tally.saw_published.len() <= 1 && outputs.values().any(|n| *n >= required) {
        return Some("diverged");
    }
    let agreeing = required.min(2) as usize;
    let failed = tally.failures.values().any(|who| who.len() >= agreeing);
    (failed && tally.dissent.is_empty()).then_some("not-rebuildable")
}

/// What is said of the image, and what the job still needs.
pub(super) fn judge(job: &Job, required: u32, operators: &[OperatorId]) -> (String, Need) {
    let tally = tally(job);
    if let Some(outcome) = settled(job, &tally, required) {
        return (outcome.to_owned(), Need::Enough);
    }
    let now = |answer: &&Answer| answer.attempt == job.attempt;
    let leased = |answer: &&Answer| matches!(answer.role, Role::Counted | Role::Noted);
    let spent: BTreeSet<_> =
        job.answers.iter().filter(now).filter(leased).map(|answer| &answer.operator).collect();
    let asked = |operator: &&OperatorId| {
        !spent.contains(operator)
            && !job.excluded.contains(operator)
            && (job.reopenings == 0 || !tally.dissent.contains_key(operator))
    };
    let left = operators.iter().filter(asked).count() as u32;
    let answered = job.counted().count() as u32;
    let open = (job.slots.len() as u32).saturating_sub(answered).min(left);
    let inconclusive = || "inconclusive".to_owned();
    if open > 0 {
        return (inconclusive(), Need::More(open));
    }
    if tally.dissent.is_empty() {
        let lacking = required.saturating_sub(tally.matches.len() as u32).max(1);
        let need = if left < lacking { Need::Enough } else { Need::More(lacking) };
        return (inconclusive(), need);
    }
    let without: Vec<OperatorId> = tally.dissent.keys().map(|who| (*who).clone()).collect();
    let others = (operators.len() - without.len().min(operators.len())) as u32;
    if others == 0 {
        return ("disputed".to_owned(), Need::Enough);
    }
    let wanted = (job.spec.wanted + REOPENED_EXTRA).min(others);
    ("disputed".to_owned(), Need::Reopen { wanted, without })
}
