//! How old a verdict is: the verdict itself knows no clock.
//!
//! The time of a verdict is the later of two signed times:
//! - when the newest quorum was complete: each counted operator's newest matching observation, and
//!   of these `observed_at` the k-th newest (k of the policy), by the workers' clocks. An operator
//!   is counted once, by whichever of its observations; whoever looks again makes the image fresh;
//! - `judged_at` of a verdict that the policy's coordinator signed, if that verdict says
//!   `reproduced` of this image by at least the observations that this gate counts. It lends its
//!   time and nothing else; without `[coordinator]` in the policy it is not read.
//!
//! Invariant: a time more than [`CLOCK_SKEW_SECONDS_MAX`] ahead of `now` is not believed, so that
//! nobody stays fresh for ever with a clock of the next century. What is not reproduced has the
//! time of the newest answer in it, for people: no outcome but `reproduced` depends on age.

use attest::{
    evidence_set::EvidenceSet,
    id::ObservationId,
    observation::Observation,
    policy::Policy,
    time::Timestamp,
    verdict::{Counted, Judgement, VerdictOutcome},
    vsa::VerdictRecord,
};
use std::collections::BTreeSet;

/// How far a worker's or coordinator's clock may be ahead: ten minutes, which machines without
/// time synchronisation exceed and others never reach.
pub const CLOCK_SKEW_SECONDS_MAX: i64 = 10 * 60;

/// True for a time that cannot have come yet.
pub fn is_ahead(time: Timestamp, now: Timestamp) -> bool {
    time.seconds_since(now) > CLOCK_SKEW_SECONDS_MAX
}

/// When this judgement's evidence was last known to hold; none if nobody says credibly when.
pub fn verdict_time(
    policy: &Policy,
    set: &EvidenceSet,
    judgement: &Judgement,
    now: Timestamp,
) -> Option<Timestamp> {
    let counted: BTreeSet<ObservationId> =
        judgement.counted.iter().map(|counted| counted.observation).collect();
    if !matches!(judgement.outcome, VerdictOutcome::Reproduced { .. }) {
        let dissent = judgement.dissent.iter().flat_map(|d| d.observations.iter().copied());
        let failures = judgement.failures.iter().map(|failure| failure.observation);
        let named = counted.into_iter().chain(dissent).chain(failures).collect();
        return observed(set, &named, now).into_iter().next();
    }
    let complete = usize::try_from(judgement.required.max(1) - 1).unwrap_or(usize::MAX);
    let mut newest = newest_of_each(set, judgement, now);
    newest.sort_unstable_by(|a, b| b.cmp(a));
    let observed = newest.get(complete).copied();
    observed.max(judged(policy, set, judgement, &counted, now))
}

/// When each counted operator last saw a match, where one of its times is credible.
fn newest_of_each(set: &EvidenceSet, judgement: &Judgement, now: Timestamp) -> Vec<Timestamp> {
    let newest = |counted: &Counted| {
        let operator = counted.operator.as_str();
        let again = judgement
            .not_counted
            .iter()
            .filter(|not| not.operator == operator && not.is_counted_already())
            .map(|not| not.observation);
        let named = again.chain([counted.observation]).collect();
        observed(set, &named, now).into_iter().next()
    };
    judgement.counted.iter().filter_map(newest).collect()
}

/// The credible times of these observations, the newest first.
fn observed(set: &EvidenceSet, named: &BTreeSet<ObservationId>, now: Timestamp) -> Vec<Timestamp> {
    let mut times: Vec<Timestamp> = set
        .observations
        .iter()
        .filter(|filed| named.contains(&filed.envelope.observation_id()))
        .filter_map(|filed| Observation::read(&filed.envelope).ok())
        .map(|observation| observation.observed_at)
        .filter(|time| !is_ahead(*time, now))
        .collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    times
}

/// The newest credible `judged_at` of the policy's coordinator.
fn judged(
    policy: &Policy,
    set: &EvidenceSet,
    judgement: &Judgement,
    counted: &BTreeSet<ObservationId>,
    now: Timestamp,
) -> Option<Timestamp> {
    let key = policy.coordinator.as_ref()?;
    let records = set.verdicts.iter().filter_map(|e| VerdictRecord::open(e, key).ok());
    records
        .filter(|record| {
            let said = &record.finding;
            let by: BTreeSet<ObservationId> = said.counted.iter().map(|c| c.observation).collect();
            said.source == judgement.source
                && said.subject == judgement.subject
                && matches!(said.outcome, VerdictOutcome::Reproduced { .. })
                && counted.is_subset(&by)
        })
        .map(|record| record.judged_at)
        .filter(|time| !is_ahead(*time, now))
        .max()
}
