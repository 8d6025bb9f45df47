//! Judges a job when the store says that it is due, signs the verdict, and goes on.
//!
//! Invariant: the judgement is `attest::verdict::judge` of everything in the journal about the job,
//! under the coordinator's policy, and nothing else; a judgement of a state that is over is thrown
//! away by the store and made again. A verdict is on disk before anybody hears of it.

use super::{
    Core, DaemonError, evidence,
    notary::{self, AnnouncedFacts},
    publish::{self, indexes},
    wall,
};
use crate::{
    journal::{BODY_BYTES_MAX, Kind, NewRecord},
    queue::{self, Event, Phase, Refusal, Reply},
    store::{Notice, StoreError},
};
use attest::{
    Digest, Subject,
    evidence_set::Filed,
    id::JobId,
    observation::Observation,
    verdict::{self, Judgement},
    vsa::VerdictRecord,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::broadcast::error::RecvError, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Times that a judgement is made again because something came in meanwhile.
const AGAIN_MAX: usize = 16;

/// Sets of evidence that are in memory for judging at a time: 64 MiB each at most.
pub const SETS_AT_A_TIME: usize = 8;
/// Jobs that are judged at a time. Most of the time they wait for the disk, some 30 ms each: eight at
/// a time would be 250 a second. A signed judgement has 4 MiB at most, so 256 MiB of them.
const AT_A_TIME_MAX: usize = 64;

/// A job that could not be judged is left alone for so long: a full disk makes it due at once again.
const AFTER_A_FAILURE: Duration = Duration::from_secs(1);
/// How long judgements that are under way may hold up the end: a registry may be slow.
const END_MAX: Duration = Duration::from_secs(10);

/// Judges what is due, from now until it is told to stop, a few jobs at a time, each by one task.
/// What is under way is ended.
pub async fn run(core: Arc<Core>, stop: CancellationToken) -> Result<(), DaemonError> {
    let mut notices = core.store.notices();
    let mut desk = Desk::default();
    for notice in core.store.due() {
        desk.take(&core, &notice);
    }
    loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Ok(notice) => desk.take(&core, &notice),
                Err(RecvError::Lagged(_)) => {
                    for notice in core.store.due() {
                        desk.take(&core, &notice);
                    }
                }
                Err(RecvError::Closed) => break,
            },
            Some(done) = desk.tasks.join_next() => desk.done(&core, done.ok()),
            () = stop.cancelled() => break,
        }
    }
    let ended = async { while desk.tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(END_MAX, ended).await.is_err() {
        let left = desk.tasks.len();
        tracing::warn!(
            judgements.left = left,
            "judgements did not end in time; they are made again"
        );
    }
    Ok(())
}

/// The jobs that are judged now, and those that wait for it: each once, in the order they came.
#[derive(Default)]
struct Desk {
    tasks: JoinSet<JobId>,
    /// True: it became due again while it was judged.
    busy: HashMap<JobId, bool>,
    waiting: VecDeque<JobId>,
    queued: HashSet<JobId>,
}

impl Desk {
    fn take(&mut self, core: &Arc<Core>, notice: &Notice) {
        let Notice::Judge { job, .. } = notice else { return };
        if let Some(again) = self.busy.get_mut(job) {
            *again = true;
            return;
        }
        if self.queued.insert(*job) {
            self.waiting.push_back(*job);
        }
        self.begin(core);
    }

    fn begin(&mut self, core: &Arc<Core>) {
        while self.tasks.len() < AT_A_TIME_MAX {
            let Some(job) = self.waiting.pop_front() else { return };
            self.queued.remove(&job);
            self.busy.insert(job, false);
            let core = Arc::clone(core);
            self.tasks.spawn(async move {
                judge(&core, job).await;
                job
            });
        }
    }

    fn done(&mut self, core: &Arc<Core>, job: Option<JobId>) {
        match job {
            Some(job) if self.busy.remove(&job) == Some(true) && self.queued.insert(job) => {
                self.waiting.push_back(job);
            }
            Some(_) => {}
            // A judgement that panicked does not say whose it was: nothing is taken for busy but
            // what still runs, and what is due is asked for again.
            None if self.tasks.is_empty() => self.busy.clear(),
            None => {}
        }
        self.begin(core);
    }
}

/// Judges one job; what goes wrong is said in the log and tried again when something happens.
async fn judge(core: &Arc<Core>, id: JobId) {
    for _ in 0..AGAIN_MAX {
        match once(core, id).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(problem) => {
                tracing::error!(job.id = %id, %problem, "a job could not be judged");
                tokio::time::sleep(AFTER_A_FAILURE).await;
                break;
            }
        }
    }
    core.announce_change();
}

/// One judgement. False: something came in meanwhile, judge again.
async fn once(core: &Arc<Core>, id: JobId) -> Result<bool, String> {
    let job = core.store.job(&id).map_err(|e| e.to_string())?;
    let Some(job) = job else { return Ok(true) };
    let believed = core.roster().revocations.len();
    let considered = considered(core, id).await?;
    record(core, &job, considered, believed).await
}

/// Judges a job again unless its newest verdict follows from what is known. True if that changed.
pub async fn judge_anew(core: &Arc<Core>, id: JobId) -> Result<bool, String> {
    for _ in 0..AGAIN_MAX {
        let job = core.store.job(&id).map_err(|e| e.to_string())?;
        let Some(job) = job else { return Ok(false) };
        let believed = core.roster().revocations.len();
        let considered = considered(core, id).await?;
        if is_recorded(core, &id, &considered.judgement).map_err(|e| e.to_string())? {
            return Ok(false);
        }
        if record(core, &job, considered, believed).await? {
            core.announce_change();
            return Ok(true);
        }
    }
    Err(format!("expected a judgement of {id} that stands, found that something came in each time"))
}

/// The newest verdict says the same. One that can't be read says nothing: the job is judged anew,
/// and then its newest verdict can be read.
fn is_recorded(core: &Core, id: &JobId, judgement: &Judgement) -> Result<bool, StoreError> {
    let Some(newest) = core.store.newest_about(Kind::VERDICT, &id.0)? else { return Ok(false) };
    match core.signers.verdict(&newest.body) {
        Ok(known) => Ok(known.finding == **judgement),
        Err(problem) => {
            core.metrics.verdict_unreadable();
            tracing::warn!(
                job.id = %id, journal.position = newest.position.0, %problem,
                "a verdict could not be read: its job is judged anew"
            );
            Ok(false)
        }
    }
}

/// Signs a judgement and keeps it with what follows from it. False: the job is not any more what
/// was judged, or a key was revoked meanwhile (there were `believed` revocations).
async fn record(
    core: &Arc<Core>,
    job: &queue::Job,
    considered: Considered,
    believed: usize,
) -> Result<bool, String> {
    let Considered { judgement, need, mut facts, oldest } = considered;
    let id = job.id();
    let key = &core.loaded.verdict_key;
    let record = VerdictRecord::sign(&judgement, wall::now(), key).map_err(|e| e.to_string())?;
    let index = facts.index;
    let judged = job.attempt;
    let publication = publish::of_job(core, &id, &judgement).map_err(|e| e.to_string())?;
    let shared = Arc::clone(core);
    let body = record.to_json();
    if body.len() > BODY_BYTES_MAX {
        let found = body.len();
        return Err(format!("expected a verdict of at most {BODY_BYTES_MAX} bytes, found {found}"));
    }
    let attach = Box::new(move |job: &queue::Job| {
        let published = match job.phase {
            Phase::Judged { .. } => Some(publication.settled),
            Phase::Parked { .. } | Phase::Open | Phase::Deferred { .. } => publication.at_once,
        };
        // The verdict comes after it: the index knows a verdict by being next to its transition.
        let mut records: Vec<NewRecord> = published.into_iter().collect();
        records.push(NewRecord::new(Kind::VERDICT, job.spec.id.0, body));
        if matches!(job.phase, Phase::Open) {
            // It goes on: those who come now are told for which opening, and how many. A dissent
            // that came in an opening did not cause it: who was leased before it is no answer. Nor
            // did one cause the opening of a job whose verdict an administrator unsettled.
            if job.attempt == judged || job.reopenings == 0 {
                facts.reopened_by.clear();
            }
            let announce =
                notary::announcement(job, &facts, &shared.loaded.verdict_key, wall::now());
            records
                .extend(announce.map(|body| NewRecord::new(Kind::ANNOUNCE, job.spec.id.0, body)));
        }
        records
    });
    let event = Event::Judged {
        job: id,
        attempt: job.attempt,
        answers: job.answers.len(),
        outcome: judgement.outcome.as_str().to_owned(),
        need,
    };
    match core.store.act(event, attach).await {
        Ok(Reply::Refused(Refusal::Stale { .. }))
        | Err(StoreError::Refused(Refusal::Stale { .. })) => Ok(false),
        Ok(_) => {
            tell(core, &job.spec.subject, index, &judgement, oldest).await;
            // A key was revoked meanwhile: what was recorded may rest on it.
            Ok(core.roster().revocations.len() == believed)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Counts a judgement that was kept, and lets those know who do something about it.
async fn tell(
    core: &Arc<Core>,
    subject: &Subject,
    index: Option<Digest>,
    judgement: &Judgement,
    oldest: Option<i64>,
) {
    core.metrics.judged(judgement.outcome.as_str(), oldest);
    tracing::info!(
        job.subject = %subject,
        verdict.outcome = judgement.outcome.as_str(),
        verdict.k = judgement.k,
        verdict.n = judgement.n,
        "job judged"
    );
    core.publishing.wake.notify_one();
    indexes::consider_all_with(core, &subject.repository, &subject.digest, index).await;
}

/// A judgement, and what is needed of its evidence afterwards.
struct Considered {
    judgement: Judgement,
    need: queue::Need,
    /// What an announcement says if the job goes on.
    facts: AnnouncedFacts,
    /// When the first of its observations was made, in seconds.
    oldest: Option<i64>,
}

/// Reads and judges, when it is its turn. On a thread of its own: an SBOM of megabytes takes a while
/// to be read and verified, and calls must not wait for it.
async fn considered(core: &Arc<Core>, id: JobId) -> Result<Considered, String> {
    let _turn = core.judging.acquire().await.map_err(|e| e.to_string())?;
    let core = Arc::clone(core);
    let considering = tokio::task::spawn_blocking(move || {
        let set = evidence::set_of(&core, &id).map_err(|e| e.to_string())?;
        let set = set.ok_or("expected the evidence of an announced job, found none")?;
        let (judgement, need) = verdict::judge_and_needs(&core.loaded.policy, &set);
        let need = match need {
            verdict::Need::Enough => queue::Need::Enough,
            verdict::Need::MoreObservations(more) => queue::Need::More(more),
            verdict::Need::ReopenWith(wanted) => queue::Need::Reopen {
                wanted,
                without: judgement.dissent.iter().map(|d| d.operator.clone()).collect(),
            },
        };
        let facts = AnnouncedFacts {
            index: set.index_digest(),
            evidence: set.publisher.iter().map(|e| e.digest).collect(),
            reopened_by: judgement.dissent.iter().flat_map(|d| d.observations.clone()).collect(),
        };
        let read =
            |filed: &Filed| Some(Observation::read(&filed.envelope).ok()?.observed_at.unix());
        let oldest = set.observations.iter().filter_map(read).min();
        Ok(Considered { judgement, need, facts, oldest })
    });
    considering.await.map_err(|e| e.to_string())?
}
