//! Rows of verdicts, as intervals, and of the steps that jobs take.
//!
//! Invariant: a verdict stands until the next one of its job, and one that opened the job again is a
//! verdict too. A step is shown with the state that it leads to; the state before follows from the
//! kind of step, because that is all that a journal read from the middle can say.

use super::{Reading, Row, Table};
use crate::{
    journal::{Kind, Stored},
    queue::{Change, ReopenReason, Transition},
    store::StoreError,
};
use attest::id::JobId;

pub(super) fn verdict(reading: &mut Reading<'_>, stored: &Stored) -> Result<Vec<Row>, StoreError> {
    let core = reading.core;
    let open = |stored: &Stored| core.signers.verdict(&stored.body).ok();
    let Some(record) = open(stored) else { return Ok(Vec::new()) };
    let finding = &record.finding;
    let subject = &finding.subject;
    if !reading.wants(&subject.repository, &subject.digest) {
        return Ok(Vec::new());
    }
    let mut row = Row::new(Table::Verdicts);
    row.set("position", stored.position.0);
    row.text("job", JobId(stored.about));
    // What nobody was asked about was opened all the same.
    row.set("attempt", finding.attempts.max(1));
    row.text("image_repository", &subject.repository);
    row.text("manifest_digest", subject.digest);
    row.text("platform", &subject.platform);
    row.set("outcome", finding.outcome.as_str());
    row.set("level", serde_json::to_value(finding.outcome.level()).unwrap_or_default());
    row.set("reason", finding.reason.as_str());
    row.set("k", finding.k);
    row.set("n", finding.n);
    row.set("required", finding.required);
    row.text("policy_digest", finding.policy);
    row.text("from", record.judged_at);
    let after = stored.position.next();
    let next = core.store.records_about(Kind::VERDICT, &stored.about, after, 1)?;
    let until = next.first().map(|next| open(next).map_or(next.time, |record| record.judged_at));
    row.maybe("until", until);
    Ok(vec![row])
}

pub(super) fn row(reading: &mut Reading<'_>, stored: &Stored) -> Result<Vec<Row>, StoreError> {
    let Ok(step) = Transition::from_json(&stored.body) else { return Ok(Vec::new()) };
    let subject = reading.job(&step.job)?.map(|job| job.spec.subject);
    let all = reading.asked.repository.is_none();
    let wanted = subject.as_ref().map_or(all, |s| reading.wants(&s.repository, &s.digest));
    if !wanted {
        return Ok(Vec::new());
    }
    let mut row = Row::new(Table::Transitions);
    row.set("position", stored.position.0);
    row.text("recorded_at", stored.time);
    row.set("at_ms", step.at.0);
    row.text("job", step.job);
    reading.subject(&mut row, &step.job)?;
    let (from, to) = states(&step.change);
    row.maybe("from", from);
    row.set("to", to);
    row.set("trigger", trigger(&step.change));
    match &step.change {
        Change::Offered { slot, grant, .. } => {
            row.set("slot", *slot);
            row.text("operator", &grant.operator);
            row.text("worker", grant.worker);
        }
        Change::Observed { slot, answer } => {
            row.set("slot", *slot);
            row.text("operator", &answer.operator);
            row.text("worker", answer.worker);
        }
        Change::Filed { answer } => {
            row.text("operator", &answer.operator);
            row.text("worker", answer.worker);
        }
        Change::Skipped { slot, .. }
        | Change::Leased { slot, .. }
        | Change::Suspected { slot, .. }
        | Change::Resumed { slot, .. }
        | Change::Expired { slot, .. } => row.set("slot", *slot),
        _ => {}
    }
    Ok(vec![row])
}

const fn states(change: &Change) -> (Option<&'static str>, &'static str) {
    match change {
        Change::Announced { .. } => (None, "announced"),
        Change::Promoted { .. } => (Some("announced"), "announced"),
        Change::Offered { .. } => (Some("announced"), "offered"),
        Change::Skipped { .. } => (Some("offered"), "skipped"),
        Change::Leased { .. } => (Some("offered"), "leased"),
        Change::Suspected { .. } => (Some("leased"), "suspect"),
        Change::Resumed { .. } => (Some("suspect"), "leased"),
        Change::Expired { .. } => (Some("leased"), "expired"),
        Change::Observed { .. } => (Some("leased"), "observed"),
        Change::Filed { .. } => (None, "observed"),
        Change::Deferred { .. } => (Some("observed"), "deferred"),
        Change::Continued { .. } => (Some("observed"), "announced"),
        Change::Reopened { why: ReopenReason::Dissent, .. } => (Some("observed"), "announced"),
        Change::Reopened { why: ReopenReason::Recheck, .. } => (Some("judged"), "announced"),
        Change::Reopened { why: ReopenReason::Unparked, .. } => (Some("parked"), "announced"),
        Change::Judged { .. } => (Some("observed"), "judged"),
        Change::Parked { .. } => (Some("announced"), "parked"),
    }
}

/// One word for what led to a step: the reason of a park or of a new opening, else its name.
fn trigger(change: &Change) -> String {
    let word = |reason: serde_json::Result<serde_json::Value>| {
        reason.ok().and_then(|value| value.as_str().map(str::to_owned))
    };
    let reason = match change {
        Change::Reopened { why, .. } => word(serde_json::to_value(why)),
        Change::Parked { why, .. } => word(serde_json::to_value(why)),
        _ => None,
    };
    reason.unwrap_or_else(|| change.name().to_owned())
}
