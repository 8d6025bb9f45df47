//! Rows of verdicts, as intervals, and of the steps that jobs take.
//!
//! Invariant: a verdict stands until the next one of its job. A step is shown with the state that
//! it leads to; the state before follows from the kind of step, because that is all that a journal
//! read from the middle can say.

use super::{Reading, Row, Table, time_of};
use crate::{
    journal::{Kind, Stored},
    queue::{Change, ReopenReason, Transition},
    store::{HistoryEvent, HistoryRow, StoreError},
};
use attest::{dsse::Envelope, vsa::VerdictRecord};

pub(super) fn verdict(reading: &mut Reading<'_>, of: &HistoryRow) -> Result<Vec<Row>, StoreError> {
    let HistoryEvent::Verdict { outcome } = &of.event else { return Ok(Vec::new()) };
    let mut row = Row::new(Table::Verdicts);
    row.set("position", of.position.0);
    row.text("job", of.job);
    row.set("attempt", of.attempt.0);
    reading.subject(&mut row, &of.job)?;
    row.set("outcome", outcome.as_str());
    row.text("from", of.time);
    let store = &reading.core.store;
    let key = reading.core.loaded.public_key();
    let open = |stored: &Stored| {
        let envelope = Envelope::parse(&stored.body).ok()?;
        VerdictRecord::open(&envelope, key).ok()
    };
    if let Some(record) = store.record(of.position)?.and_then(|stored| open(&stored)) {
        row.text("from", record.judged_at);
        let finding = &record.finding;
        let level = serde_json::to_value(finding.outcome.level()).unwrap_or_default();
        row.set("level", level);
        row.set("reason", finding.reason.as_str());
        row.set("k", finding.k);
        row.set("n", finding.n);
        row.set("required", finding.required);
        row.text("policy_digest", finding.policy);
    }
    let next = store.records_about(Kind::VERDICT, &of.job.0, of.position.next(), 1)?;
    if let Some(next) = next.first() {
        let judged = open(next).map(|record| record.judged_at);
        let until = match judged {
            Some(at) => Some(at),
            None => time_of(reading.core, next.position)?,
        };
        row.maybe("until", until);
    }
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
