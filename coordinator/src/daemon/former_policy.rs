//! The coordinator was started with another policy: verdicts of a former one are made anew.
//!
//! ```text
//! start -> every job whose newest verdict names another policy -> judged again -> REVIEWED record
//! ```
//! What is published, withdrawn and answered follows from the new verdicts, as after a revocation
//! ([`super::review`]). Invariant: a job is left alone only when its newest verdict names the policy
//! of today. That work with a policy begins is on record before anything is judged by it (unless the
//! disk is full at the start), how far the look is now and then: a coordinator that was stopped goes
//! on there. One job at a time, in the order of their ids, and slowly while the queue is half full;
//! a job that cannot be judged does not hold up the others. It must never decide about an
//! observation itself: judging does. Memory: [`PAGE`] verdicts.

use super::{
    Core, DaemonError, judge,
    review::{AGAIN, AGAIN_MAX, ReviewError},
};
use crate::{
    journal::{Kind, NewRecord},
    setup::config::Limits,
    store::{Store, StoreError},
};
use attest::{
    Digest,
    id::{JobId, JournalPosition},
    verdict::Finding,
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Verdicts that are read at a time: each has 4 MiB at most.
const PAGE: usize = 8;
/// Pages after which it is on record how far the look is.
const KEPT_EVERY: u32 = 64;
/// How long a job waits for room in a queue that is half full; then it is judged all the same: what
/// does not follow any more must not stand for ever because others have much to do.
const ROOM_MAX: Duration = Duration::from_secs(60);

const SCHEMA: &str = "assay/former-policy/v1";

/// How far the look is. Unknown fields are for later versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    schema: String,
    /// The policy that judges.
    policy: Digest,
    /// The last job that was looked at; none before the first.
    after: Option<JobId>,
    /// Every job was.
    done: bool,
}

/// What the records of looks are about.
fn about_looks() -> Digest {
    Digest::of(b"reviews of verdicts by former policies")
}

impl Mark {
    fn at_the_beginning(policy: Digest) -> Self {
        Self { schema: SCHEMA.to_owned(), policy, after: None, done: false }
    }

    /// The newest; one by another policy says that its look has nothing to do with this one.
    fn read(store: &dyn Store, policy: &Digest) -> Result<Option<Self>, StoreError> {
        let newest = store.newest_about(Kind::REVIEWED, &about_looks())?;
        let read = newest.and_then(|stored| serde_json::from_slice::<Self>(&stored.body).ok());
        Ok(read.filter(|mark| mark.schema == SCHEMA && mark.policy == *policy))
    }

    fn record(&self) -> NewRecord {
        // Text, a truth value: writing them as JSON cannot fail.
        let body = serde_json::to_vec(self).unwrap_or_default();
        NewRecord::new(Kind::REVIEWED, about_looks(), body)
    }

    async fn keep(&self, store: &dyn Store) -> Result<(), StoreError> {
        store.append(vec![self.record()]).await?;
        Ok(())
    }

    /// The share of all ids that is still to be looked at: ids are digests, evenly spread.
    fn left(&self) -> f64 {
        let looked_at = self.after.map_or(0, |job| {
            let [high, low, ..] = *job.0.raw();
            u16::from_be_bytes([high, low])
        });
        if self.done { 0.0 } else { 1.0 - f64::from(looked_at) / f64::from(u16::MAX) }
    }
}

/// That every verdict is by this policy: for a past that is written straight into a journal.
pub fn every_verdict_is_by(policy: Digest) -> NewRecord {
    Mark { done: true, ..Mark::at_the_beginning(policy) }.record()
}

/// Puts on record that work with another policy than before begins.
pub(super) async fn begin(core: &Core) -> Result<(), StoreError> {
    let (store, policy) = (core.store.as_ref(), core.loaded.policy.digest());
    if Mark::read(store, &policy)?.is_some() {
        return Ok(());
    }
    Mark::at_the_beginning(policy).keep(store).await
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

/// How a look goes.
#[derive(Debug, Default)]
struct Look {
    judged: u64,
    changed: u64,
    /// The first job that could not be judged; from there on nothing is on record as looked at.
    failed: Option<ReviewError>,
}

/// Some verdicts.
struct Page {
    last: JobId,
    /// Their jobs whose newest verdict names another policy, and its outcome; none where it cannot
    /// be read.
    former: Vec<(JobId, Option<&'static str>)>,
}

/// Judges again what another policy judged last.
async fn follow(core: &Arc<Core>) -> Result<(), ReviewError> {
    begin(core).await?;
    let (store, policy) = (core.store.as_ref(), core.loaded.policy.digest());
    let known = Mark::read(store, &policy)?;
    let mut mark = known.unwrap_or_else(|| Mark::at_the_beginning(policy));
    let (mut look, mut pages) = (Look::default(), 0);
    while !mark.done {
        core.metrics.former_policy_left(mark.left());
        let (shared, after) = (Arc::clone(core), mark.after);
        let reading = tokio::task::spawn_blocking(move || page(&shared, after));
        let page = reading.await.map_err(|e| ReviewError::Ended(e.to_string()))??;
        let Some(page) = page else {
            if let Some(error) = look.failed {
                return Err(error);
            }
            mark.done = true;
            break;
        };
        look.page(core, page.former).await;
        mark.after = Some(page.last);
        pages += 1;
        if pages % KEPT_EVERY == 0 {
            look.say(&mark);
            if look.failed.is_none() {
                mark.keep(store).await?;
            }
        }
    }
    core.metrics.former_policy_left(0.0);
    if pages > 0 || look.judged > 0 {
        look.say(&mark);
    }
    if Mark::read(store, &policy)?.as_ref() != Some(&mark) {
        mark.keep(store).await?;
    }
    Ok(())
}

/// Reads and verifies, on a thread of its own.
fn page(core: &Core, after: Option<JobId>) -> Result<Option<Page>, StoreError> {
    let policy = core.loaded.policy.digest();
    let cursor = after.map(|job| (job.0, JournalPosition(u64::MAX - 1)));
    let verdicts = core.store.records_of_kind(Kind::VERDICT, cursor, PAGE)?;
    let mut jobs: Vec<JobId> = verdicts.iter().map(|stored| JobId(stored.about)).collect();
    jobs.dedup();
    let Some(last) = jobs.last().copied() else { return Ok(None) };
    let mut former = Vec::new();
    for job in jobs {
        match newest(core, &job)? {
            Some(known) if known.policy == policy => {}
            known => former.push((job, known.map(|known| known.outcome.as_str()))),
        }
    }
    Ok(Some(Page { last, former }))
}

/// What the newest verdict on a job says, if that can be read.
fn newest(core: &Core, job: &JobId) -> Result<Option<Finding>, StoreError> {
    let stored = core.store.newest_about(Kind::VERDICT, &job.0)?;
    Ok(stored.and_then(|stored| Some(core.signers.verdict(&stored.body).ok()?.finding)))
}

impl Look {
    async fn page(&mut self, core: &Arc<Core>, former: Vec<(JobId, Option<&'static str>)>) {
        for (job, before) in former {
            room(core).await;
            match anew(core, job, before).await {
                Ok(changed) => {
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

    fn say(&self, mark: &Mark) {
        tracing::info!(
            jobs.judged = self.judged,
            jobs.changed = self.changed,
            jobs.left_ratio = mark.left(),
            policy.digest = %mark.policy,
            "verdicts of former policies are made anew"
        );
    }
}

/// Judges a job again; true if its outcome is another one now.
async fn anew(core: &Arc<Core>, job: JobId, before: Option<&'static str>) -> Result<bool, String> {
    judge::judge_anew(core, job).await?;
    let now = newest(core, &job).map_err(|e| e.to_string())?;
    Ok(now.map(|now| now.outcome.as_str()) != before)
}

/// Waits, but not for ever, until the queue has room for jobs that are opened again and for those
/// that somebody submits meanwhile.
async fn room(core: &Core) {
    let half = half(&core.loaded.config.limits);
    let mut changes = core.changes();
    let waiting = async {
        while core.store.totals().unfinished >= half {
            // It also becomes less without a judgement: looked at again now and then.
            let _ = tokio::time::timeout(AGAIN, changes.changed()).await;
        }
    };
    let _ = tokio::time::timeout(ROOM_MAX, waiting).await;
}

/// Half of what one client may have in the queue, or all together.
fn half(limits: &Limits) -> u64 {
    let least = limits.waiting_jobs_max.min(limits.waiting_jobs_per_client_max);
    (least as u64 / 2).max(1)
}

#[cfg(test)]
mod tests;
