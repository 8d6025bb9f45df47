//! A key is not believed any more: what rested on it is judged again.
//!
//! ```text
//! REVOCATION record -> every job with an observation by that key, or by a worker of that operator
//!                   -> judged again where its verdict does not follow any more -> REVIEWED record
//! ```
//! The verdict, what is published of it, and what HTTP answers are then what a gate with the same
//! records says. Invariant: a review is over when a record says so, and not before: a coordinator
//! that was stopped in the middle begins it again, and a job whose verdict stands is not touched.
//! It must never decide about an observation itself: judging does. Memory: one page of history.

use super::{
    Core, DaemonError,
    followed::{reviewed, was_reviewed},
    judge, roster,
};
use crate::{
    journal::Kind,
    store::{HistoryEvent, HistoryRow, StoreError},
};
use attest::{
    Digest,
    dsse::Envelope,
    id::{JobId, JournalPosition, OperatorId, WorkerId},
    record::{KeyRevocation, Record, RecordError},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Rows of history that are read at a time: 512 bytes each at most.
const PAGE: usize = 1000;
/// Jobs that are remembered as done; a job's rows lie near to each other in the history.
const DONE_MAX: usize = 10_000;
/// Waiting after a review that failed: 5 s, doubled up to five minutes.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
pub(super) const AGAIN_MAX: Duration = Duration::from_secs(300);

/// Why a review did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The revocations in the journal.
    #[error(transparent)]
    Roster(#[from] roster::RosterError),
    /// One of them.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A job.
    #[error("expected job {job} to be judged again: {problem}")]
    Job {
        /// Which.
        job: JobId,
        /// What stood in the way.
        problem: String,
    },
    /// The thread that read did not come to an end.
    #[error("expected the history to be read, found that its thread ended: {0}")]
    Ended(String),
}

/// What the records of reviews are about.
fn about_reviews() -> Digest {
    Digest::of(b"reviews of revocations")
}

/// Keys whose revocation was not followed yet.
#[derive(Debug, Default)]
struct Revoked {
    workers: BTreeSet<WorkerId>,
    operators: BTreeSet<OperatorId>,
    /// The position behind the last of them.
    before: JournalPosition,
}

impl Revoked {
    /// Those that the roster has and no review had.
    fn read(core: &Core) -> Result<Option<Self>, ReviewError> {
        let from = reviewed(core.store.as_ref(), &about_reviews())?;
        let roster = core.roster();
        let mut all = roster::all(core.store.as_ref(), Kind::REVOCATION)?;
        // What is in the journal and not in the roster yet is judged by nobody yet.
        all.truncate(roster.revocations.len());
        let mut found = Self { before: from, ..Self::default() };
        for stored in all.iter().filter(|stored| stored.position >= from) {
            let envelope = Envelope::parse(&stored.body).map_err(RecordError::from)?;
            let record = KeyRevocation::read_unverified(&envelope)?;
            let known = roster.operators.get(&record.operator);
            if known.is_some_and(|operator| operator.root_key.id() == record.key) {
                found.operators.insert(record.operator);
            } else {
                found.workers.insert(WorkerId(record.key));
            }
            found.before = stored.position.next();
        }
        Ok((found.before > from).then_some(found))
    }

    /// The job of a row that rests on one of them.
    fn job_of(&self, row: &HistoryRow) -> Option<JobId> {
        match &row.event {
            HistoryEvent::Observation { worker, operator, .. }
                if self.workers.contains(worker) || self.operators.contains(operator) =>
            {
                Some(row.job)
            }
            _ => None,
        }
    }
}

/// Follows revocations until it is told to stop.
pub async fn run(core: Arc<Core>, stop: CancellationToken) -> Result<(), DaemonError> {
    let mut wait = AGAIN;
    loop {
        let reviewed = tokio::select! {
            reviewed = review(&core) => reviewed,
            () = stop.cancelled() => return Ok(()),
        };
        let pause = match reviewed {
            Ok(()) => {
                wait = AGAIN;
                None
            }
            Err(error) => {
                tracing::error!(%error, "what rested on a revoked key is not judged yet");
                wait = (2 * wait).min(AGAIN_MAX);
                Some(wait)
            }
        };
        let again = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => core.revoked.notified().await,
            }
        };
        tokio::select! {
            () = again => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Follows every revocation that was not followed yet.
pub async fn review(core: &Arc<Core>) -> Result<(), ReviewError> {
    while let Some(revoked) = Revoked::read(core)? {
        // Every judgement that ends from now on knows these keys: those that began before look
        // again when they end.
        let begun = core.store.end();
        let (mut from, mut done, mut changed) = (JournalPosition(0), BTreeSet::new(), 0_u64);
        loop {
            let shared = Arc::clone(core);
            let reading = tokio::task::spawn_blocking(move || shared.store.export(from, PAGE));
            let page = reading.await.map_err(|e| ReviewError::Ended(e.to_string()))??;
            let Some(last) = page.last() else { break };
            from = last.position.next();
            for job in page.iter().filter_map(|row| revoked.job_of(row)) {
                if done.len() >= DONE_MAX {
                    done.clear();
                }
                if done.insert(job) {
                    changed += u64::from(again(core, job, begun).await?);
                }
            }
        }
        core.store.append(vec![was_reviewed(about_reviews(), revoked.before)]).await?;
        tracing::info!(
            revoked.workers = revoked.workers.len(),
            revoked.operators = revoked.operators.len(),
            jobs.changed = changed,
            "what rested on revoked keys was judged again"
        );
    }
    Ok(())
}

/// True if the job's verdict is another one now.
async fn again(core: &Arc<Core>, job: JobId, begun: JournalPosition) -> Result<bool, ReviewError> {
    // Never judged: it will be, by what is believed then.
    let Some(verdict) = core.store.newest_about(Kind::VERDICT, &job.0)? else { return Ok(false) };
    if verdict.position >= begun {
        return Ok(false);
    }
    let judged = judge::judge_anew(core, job).await;
    judged.map_err(|problem| ReviewError::Job { job, problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        daemon::{publish::tests::core, roster::Roster},
        queue::Role,
    };
    use attest::{
        id::{Attempt, Fence, LeaseId, ObservationId},
        key::SigningKey,
        record::{OperatorRecord, Validity},
        time::Timestamp,
    };

    fn row(operator: &str) -> HistoryRow {
        let event = HistoryEvent::Observation {
            observation: ObservationId(Digest::of(b"observation")),
            operator: operator.parse().unwrap(),
            worker: WorkerId(Digest::of(b"a worker of it")),
            lease: LeaseId([1; 16]),
            fence: Fence(1),
            role: Role::Counted,
            outcome: "OUTPUT".into(),
            class: String::new(),
            manifest: None,
            duration_ms: 1,
        };
        HistoryRow {
            position: JournalPosition(7),
            time: Timestamp::default(),
            job: JobId(Digest::of(b"job")),
            attempt: Attempt(1),
            event,
        }
    }

    #[tokio::test]
    async fn a_revoked_root_key_takes_its_workers_along_and_is_followed_once() {
        let folder = tempfile::tempdir().unwrap();
        let (core, root) = (core(folder.path()), SigningKey::generate().unwrap());
        let operator: OperatorId = "acme".parse().unwrap();
        let until = Timestamp::from_unix(4_000_000_000).unwrap();
        let record = OperatorRecord {
            operator: operator.clone(),
            root_key: root.public().clone(),
            organisation: String::new(),
            affiliations: vec![],
            contact: String::new(),
            valid: Validity { from: Timestamp::default(), until },
        };
        let revocation = KeyRevocation {
            operator,
            key: root.public().id(),
            compromised_since: None,
            reason: "stolen".into(),
            revoked_at: Timestamp::default(),
        };
        let mut roster = Roster::clone(&core.roster());
        let added = roster.take_operator(&record.sign(&root).unwrap()).unwrap();
        let revoked = roster.take_revocation(&revocation.sign(&root).unwrap()).unwrap();
        core.store.append(vec![added, revoked]).await.unwrap();
        let early = Revoked::read(&core).unwrap();
        assert!(early.is_none(), "judgements do not know it yet, so nothing is judged by it");
        core.go_on_with(roster);
        let found = Revoked::read(&core).unwrap().unwrap();
        assert_eq!(found.job_of(&row("acme")), Some(row("acme").job));
        assert_eq!(found.job_of(&row("globex")), None);
        review(&core).await.unwrap();
        assert!(Revoked::read(&core).unwrap().is_none(), "it was followed");
    }
}
