//! The coordinator was started with another policy: verdicts of a former one are made anew.
//!
//! ```text
//! start -> every job whose newest verdict names another policy -> judged again -> REVIEWED record
//! ```
//! What is published, withdrawn and answered follows from the new verdicts, as after a revocation
//! ([`super::review`]). Invariant: a job is left alone only when its newest verdict names the policy
//! of today. That work with a policy begins is on record before anything is judged by it (unless the
//! disk is full at the start), how far the look is now and then: a coordinator that was stopped goes
//! on there. One job at a time, in the order of their ids, and slowly while the queue is half full.
//! A job that cannot be judged, or whose verdict cannot be read, holds up no other: it is on record
//! with how far the look is, and tried again later, each time after a longer wait. It must never
//! decide about an observation itself: judging does. Memory: one verdict, [`FAILED_MAX`] ids.

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
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Verdicts whose jobs are asked for at a time.
const PAGE: usize = 8;
/// Pages after which it is on record how far the look is.
const KEPT_EVERY: u32 = 64;
/// How long a job waits for room in a queue that is half full; then it is judged all the same: what
/// does not follow any more must not stand for ever because others have much to do.
const ROOM_MAX: Duration = Duration::from_secs(60);

/// Jobs that are remembered as failed: 71 bytes each in the record, so 18 KiB. Behind the last of
/// them everything is looked at once more.
const FAILED_MAX: usize = 256;
/// What failed waits 5 s, doubled up to an hour; when some of it could be judged, 5 s again.
const FAILED_WAIT_MAX: Duration = Duration::from_secs(3600);

/// The second version remembers what failed: a coordinator that knows only the first would take such
/// a record for a look that left nothing out. It does not read it, and looks from the beginning.
const SCHEMA: &str = "assay/former-policy/v2";
const SCHEMA_WITHOUT_FAILED: &str = "assay/former-policy/v1";

/// How far the look is. Unknown fields are for later versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    schema: String,
    /// The policy that judges.
    policy: Digest,
    /// The last job that was looked at; none before the first.
    after: Option<JobId>,
    /// Every job was, and none is left.
    done: bool,
    /// Those before that could not be judged.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    failed: BTreeSet<JobId>,
    /// Behind this one are more of them than are remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    more_behind: Option<JobId>,
}

/// What the records of looks are about.
fn about_looks() -> Digest {
    Digest::of(b"reviews of verdicts by former policies")
}

impl Mark {
    fn at_the_beginning(policy: Digest) -> Self {
        let (schema, failed) = (SCHEMA.to_owned(), BTreeSet::new());
        Self { schema, policy, after: None, done: false, failed, more_behind: None }
    }

    /// The newest; one by another policy says that its look has nothing to do with this one.
    fn read(store: &dyn Store, policy: &Digest) -> Result<Option<Self>, StoreError> {
        let newest = store.newest_about(Kind::REVIEWED, &about_looks())?;
        let read = newest.and_then(|stored| serde_json::from_slice::<Self>(&stored.body).ok());
        let known = |mark: &Self| [SCHEMA, SCHEMA_WITHOUT_FAILED].contains(&mark.schema.as_str());
        Ok(read.filter(|mark| known(mark) && mark.policy == *policy))
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

    /// Takes in a job that could not be judged; true if that is remembered of it for the first time.
    fn has_failed(&mut self, job: JobId) -> bool {
        if self.failed.contains(&job) {
            return false;
        }
        if self.failed.len() < FAILED_MAX {
            return self.failed.insert(job);
        }
        // They come in the order of their ids: what is not remembered lies behind what is.
        if self.more_behind.is_none() {
            self.more_behind = self.failed.last().copied();
        }
        false
    }

    /// How many jobs are known to be left because they failed: at least.
    fn known_failed(&self) -> usize {
        self.failed.len() + usize::from(self.more_behind.is_some())
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
    let (mut wait, mut left) = (AGAIN, 0);
    loop {
        let followed = tokio::select! {
            followed = follow(&core) => followed,
            () = stop.cancelled() => return Ok(()),
        };
        let wait_max = match followed {
            Ok(0) => return Ok(()),
            Ok(now) => {
                if now < left {
                    wait = AGAIN;
                } else if left == 0 {
                    tracing::warn!(
                        jobs.failed = now,
                        "all other verdicts of former policies are made anew; these jobs are tried \
                         again, each time after a longer wait"
                    );
                }
                left = now;
                FAILED_WAIT_MAX
            }
            Err(error) => {
                tracing::error!(%error, "not every verdict of a former policy is made anew yet");
                AGAIN_MAX
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return Ok(()),
        }
        wait = (2 * wait).min(wait_max);
    }
}

/// How a look goes.
struct Look {
    core: Arc<Core>,
    mark: Mark,
    /// What the newest record says of it.
    kept: Option<Mark>,
    judged: u64,
    changed: u64,
}

/// Judges again what another policy judged last; gives how many jobs are left because they failed.
async fn follow(core: &Arc<Core>) -> Result<usize, ReviewError> {
    begin(core).await?;
    let mut look = Look::begin(core)?;
    if !look.mark.done {
        look.all().await?;
        look.say();
    }
    look.keep().await?;
    core.metrics.former_policy_left(look.mark.left());
    Ok(look.mark.known_failed())
}

impl Look {
    /// From where the one before it was.
    fn begin(core: &Arc<Core>) -> Result<Self, StoreError> {
        let policy = core.loaded.policy.digest();
        let kept = Mark::read(core.store.as_ref(), &policy)?;
        let mut mark = kept.clone().unwrap_or_else(|| Mark::at_the_beginning(policy));
        if !mark.done {
            SCHEMA.clone_into(&mut mark.schema);
        }
        Ok(Self { core: Arc::clone(core), mark, kept, judged: 0, changed: 0 })
    }

    /// Everything that was not looked at yet, then what failed at an earlier look.
    async fn all(&mut self) -> Result<(), ReviewError> {
        let failed_before = self.mark.failed.clone();
        self.rest().await?;
        for job in failed_before {
            self.job(job).await;
        }
        let more = self.mark.more_behind.is_some();
        self.mark.done = self.mark.failed.is_empty() && !more;
        Ok(())
    }

    /// From where it is to the end, without a stop at what fails.
    async fn rest(&mut self) -> Result<(), ReviewError> {
        // What was not remembered is found once more.
        if let Some(more) = self.mark.more_behind.take() {
            self.mark.after = Some(more);
        }
        let mut pages = 0;
        loop {
            self.core.metrics.former_policy_left(self.mark.left());
            let (shared, after) = (Arc::clone(&self.core), self.mark.after);
            let asking = tokio::task::spawn_blocking(move || jobs_behind(&shared, after));
            let jobs = asking.await.map_err(|e| ReviewError::Ended(e.to_string()))??;
            let Some(last) = jobs.last().copied() else { return Ok(()) };
            for job in jobs {
                self.job(job).await;
            }
            self.mark.after = Some(last);
            pages += 1;
            if pages % KEPT_EVERY == 0 {
                self.say();
                self.keep().await?;
            }
        }
    }

    /// One job, if another policy judged it last. What fails is remembered, and said once.
    async fn job(&mut self, job: JobId) {
        match look_at(&self.core, job).await {
            Ok(seen) => {
                self.mark.failed.remove(&job);
                if let Some(changed) = seen {
                    self.judged += 1;
                    self.changed += u64::from(changed);
                    self.core.metrics.former_policy_judged("judged");
                }
            }
            Err(problem) => {
                self.core.metrics.former_policy_judged("failed");
                if self.mark.has_failed(job) {
                    tracing::error!(job.id = %job, %problem, "a verdict could not be made anew");
                }
            }
        }
        self.core.metrics.former_policy_failed(self.mark.known_failed());
    }

    /// Puts on record how far it is, if that is not there.
    async fn keep(&mut self) -> Result<(), StoreError> {
        if self.kept.as_ref() != Some(&self.mark) {
            self.mark.keep(self.core.store.as_ref()).await?;
            self.kept = Some(self.mark.clone());
        }
        Ok(())
    }

    fn say(&self) {
        tracing::info!(
            jobs.judged = self.judged,
            jobs.changed = self.changed,
            jobs.failed = self.mark.known_failed(),
            jobs.left_ratio = self.mark.left(),
            policy.digest = %self.mark.policy,
            "verdicts of former policies are made anew"
        );
    }
}

/// Some jobs with a verdict, in order. No verdict is read for that: one that cannot be read is its
/// own job's concern.
fn jobs_behind(core: &Core, after: Option<JobId>) -> Result<Vec<JobId>, StoreError> {
    let cursor = after.map(|job| (job.0, JournalPosition(u64::MAX - 1)));
    let verdicts = core.store.positions_of_kind(Kind::VERDICT, cursor, PAGE)?;
    let mut jobs: Vec<JobId> = verdicts.into_iter().map(|(about, _)| JobId(about)).collect();
    jobs.dedup();
    Ok(jobs)
}

/// What the newest verdict on a job says, if its bytes are there and we signed them. On a thread of
/// its own: it has 4 MiB at most, and is verified.
async fn newest(core: &Arc<Core>, job: JobId) -> Result<Option<Finding>, String> {
    let core = Arc::clone(core);
    let reading = tokio::task::spawn_blocking(move || {
        let stored = core.store.newest_about(Kind::VERDICT, &job.0)?;
        Ok(stored.and_then(|stored| Some(core.signers.verdict(&stored.body).ok()?.finding)))
    });
    let read: Result<_, StoreError> = reading.await.map_err(|e| e.to_string())?;
    read.map_err(|e| e.to_string())
}

/// Judges a job again unless the policy of today judged it last; then whether its outcome is another
/// one now.
async fn look_at(core: &Arc<Core>, job: JobId) -> Result<Option<bool>, String> {
    let before = newest(core, job).await?;
    if before.as_ref().is_some_and(|known| known.policy == core.loaded.policy.digest()) {
        return Ok(None);
    }
    room(core).await;
    judge::judge_anew(core, job).await?;
    let outcome = |finding: Option<Finding>| finding.map(|finding| finding.outcome.as_str());
    Ok(Some(outcome(newest(core, job).await?) != outcome(before)))
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
