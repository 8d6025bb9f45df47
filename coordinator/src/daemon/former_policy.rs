//! The coordinator was started with another policy: verdicts of a former one are made anew.
//!
//! ```text
//! start -> every job whose newest verdict names another policy -> judged again -> REVIEWED record
//! ```
//! What is published, withdrawn and answered follows from the new verdicts, as after a revocation
//! ([`super::review`]). Invariant: a job is left alone only when its newest verdict names the policy
//! of today; how far that was looked at is on record for each policy, so that a coordinator that was
//! stopped goes on there, and a policy that comes back finds what others said meanwhile. One job at
//! a time; a job that cannot be judged does not hold up the others. It must never decide about an
//! observation itself: judging does. Memory: one page of history.

use super::{
    Core, DaemonError, judge,
    review::{AGAIN, AGAIN_MAX, DONE_MAX, PAGE, ReviewError, keep_reviewed, reviewed},
};
use crate::{
    journal::Kind,
    store::{HistoryEvent, HistoryRow},
};
use attest::{
    Digest,
    dsse::Envelope,
    id::{JobId, JournalPosition},
    verdict::Finding,
    vsa::VerdictRecord,
};
use std::{collections::BTreeSet, sync::Arc};
use tokio_util::sync::CancellationToken;

/// What the records of looks at verdicts of other policies than this one are about.
fn about(policy: &Digest) -> Digest {
    Digest::of(format!("reviews of verdicts by other policies than {policy}").as_bytes())
}

/// Makes verdicts of former policies anew, once, until that is done or it is told to stop.
pub async fn run(core: Arc<Core>, stop: CancellationToken) -> Result<(), DaemonError> {
    let mut wait = AGAIN;
    loop {
        let followed = tokio::select! {
            followed = follow(&core) => followed,
            () = stop.cancelled() => return Ok(()),
        };
        let Err(error) = followed else { return Ok(()) };
        tracing::error!(%error, "not every verdict of a former policy is made anew yet");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return Ok(()),
        }
        wait = (2 * wait).min(AGAIN_MAX);
    }
}

/// How a pass goes.
#[derive(Debug, Default)]
struct Pass {
    done: BTreeSet<JobId>,
    judged: u64,
    changed: u64,
    /// The first job that could not be judged; what comes behind its page is not on record.
    failed: Option<ReviewError>,
}

/// Judges again what another policy judged last.
pub async fn follow(core: &Arc<Core>) -> Result<(), ReviewError> {
    let policy = core.loaded.policy.digest();
    let mut from = reviewed(core.store.as_ref(), &about(&policy))?;
    // Every verdict from now on names this policy.
    let end = core.store.end();
    let mut pass = Pass::default();
    core.metrics.former_policy_left(end.0.saturating_sub(from.0));
    loop {
        let shared = Arc::clone(core);
        let reading = tokio::task::spawn_blocking(move || shared.store.export(from, PAGE));
        let page = reading.await.map_err(|e| ReviewError::Ended(e.to_string()))??;
        let Some(last) = page.last().map(|row| row.position) else { break };
        pass.page(core, &policy, &page, end).await;
        from = last.next();
        if pass.failed.is_none() {
            keep_reviewed(core.store.as_ref(), about(&policy), from).await?;
        }
        core.metrics.former_policy_left(end.0.saturating_sub(from.0));
        if pass.judged > 0 {
            tracing::info!(
                jobs.judged = pass.judged,
                jobs.changed = pass.changed,
                journal.position = from.0,
                journal.end = end.0,
                "verdicts of a former policy are made anew"
            );
        }
        if last >= end {
            break;
        }
    }
    core.metrics.former_policy_left(0);
    if pass.judged > 0 {
        tracing::info!(
            jobs.judged = pass.judged,
            jobs.changed = pass.changed,
            policy.digest = %policy,
            "every verdict that was looked at is by the policy of today"
        );
    }
    pass.failed.map_or(Ok(()), Err)
}

impl Pass {
    async fn page(
        &mut self,
        core: &Arc<Core>,
        policy: &Digest,
        page: &[HistoryRow],
        end: JournalPosition,
    ) {
        let verdict = |row: &&HistoryRow| {
            matches!(row.event, HistoryEvent::Verdict { .. }) && row.position < end
        };
        for job in page.iter().filter(verdict).map(|row| row.job) {
            if self.done.len() >= DONE_MAX {
                self.done.clear();
            }
            if !self.done.insert(job) {
                continue;
            }
            match anew(core, job, policy).await {
                Ok(None) => {}
                Ok(Some(changed)) => {
                    self.judged += 1;
                    self.changed += u64::from(changed);
                    core.metrics.former_policy_judged("judged");
                }
                Err(problem) => {
                    core.metrics.former_policy_judged("failed");
                    tracing::error!(job.id = %job, %problem, "a verdict could not be made anew");
                    self.failed.get_or_insert(ReviewError::Job { job, problem });
                }
            }
        }
    }
}

/// Judges a job whose newest verdict names another policy; true if the outcome is another one now.
async fn anew(core: &Arc<Core>, job: JobId, policy: &Digest) -> Result<Option<bool>, String> {
    let Some(before) = newest(core, &job)?.filter(|known| known.policy != *policy) else {
        return Ok(None);
    };
    judge::judge_anew(core, job).await?;
    let now = newest(core, &job)?;
    Ok(Some(now.is_some_and(|now| now.outcome != before.outcome)))
}

/// The newest verdict on a job.
fn newest(core: &Core, job: &JobId) -> Result<Option<Finding>, String> {
    let stored = core.store.newest_about(Kind::VERDICT, &job.0).map_err(|e| e.to_string())?;
    let Some(stored) = stored else { return Ok(None) };
    let envelope = Envelope::parse(&stored.body).map_err(|e| e.to_string())?;
    let read = VerdictRecord::open(&envelope, core.loaded.public_key());
    Ok(Some(read.map_err(|e| e.to_string())?.finding))
}
