//! Which indexes are attested: those all of whose platforms are reproduced, as long as they are.
//!
//! A platform may be part of several indexes of its repository; whatever is published about it,
//! each of them is looked at again ([`consider_all_with`]). What could not be decided (a full disk,
//! a crash between two records) is looked at again by [`run`], which also looks once, when the
//! coordinator starts, at everything since the last time that it came to an end with that.
//! Invariant: no index keeps its attestation while the newest word on one of its platforms denies
//! it; decisions are made one at a time. It must never attest what it cannot read in full.

use super::{
    attestation::{attestation, bundle, no_attestation, statement, submitted, verifier},
    error::PublishError,
    speaks,
};
use crate::{
    daemon::{
        Core, DaemonError,
        evidence::{self, SubmittedImage, about_image},
        followed, wall,
    },
    journal::{Kind, NewRecord},
    store::StoreError,
};
use attest::{
    Digest, Repository,
    id::{JobId, JournalPosition},
    verdict::{self, Judgement, Reproduced},
    vsa::{IndexError, IndexImage, Vsa, VsaError},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Records that are read at a time at a start: each has 4 MiB at most.
const PAGE: usize = 8;
/// Longest record of a submitted image that is read: 1,024 platforms of 100 bytes, and their names.
const SUBMITTED_BYTES_MAX: usize = 256 << 10;
/// Indexes that are remembered for another look; beyond that all are looked at again.
const LEFT_MAX: usize = 1000;
/// Waiting before another look: 5 s, doubled up to five minutes.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_MAX: Duration = Duration::from_secs(300);

type Named = (Repository, Digest);

/// Decisions about indexes: whose turn it is, and which are to be made again.
#[derive(Debug, Default)]
pub struct Indexes {
    /// One at a time decides, so that none is attested twice for one reason.
    turn: tokio::sync::Mutex<()>,
    left: Mutex<Left>,
    again: Notify,
}

#[derive(Debug, Default)]
struct Left {
    some: BTreeSet<Named>,
    /// There were too many to remember.
    all: bool,
}

impl Indexes {
    fn leave(&self, repository: &Repository, index: &Digest) {
        let mut left = self.left();
        if left.some.len() < LEFT_MAX {
            left.some.insert((repository.clone(), *index));
        } else {
            left.all = true;
        }
        drop(left);
        self.again.notify_one();
    }

    fn leave_all(&self) {
        self.left().all = true;
        self.again.notify_one();
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_left(&self) -> Left {
        std::mem::take(&mut *self.left())
    }
}

/// Looks whether an index can be attested, or can't any more. To be called when it was submitted.
pub async fn consider(core: &Arc<Core>, repository: &Repository, index: &Digest) {
    match decide(core, repository, index).await {
        Ok(true) => core.publishing.wake.notify_one(),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(image.digest = %index, %error, "an index's attestation was not decided");
            core.publishing.indexes.leave(repository, index);
        }
    }
}

/// The same for every index that a manifest is part of, and for `known`: to be called when
/// something was published about the manifest.
pub async fn consider_all_with(
    core: &Arc<Core>,
    repository: &Repository,
    manifest: &Digest,
    known: Option<Digest>,
) {
    let shared = Arc::clone(core);
    let (of, named) = (repository.clone(), *manifest);
    let found = tokio::task::spawn_blocking(move || sharing(&shared, &of, &named)).await;
    let found = found.map_err(|error| error.to_string());
    let mut indexes = match found.and_then(|found| found.map_err(|error| error.to_string())) {
        Ok(indexes) => indexes,
        Err(problem) => {
            tracing::error!(image.digest = %manifest, %problem, "its indexes could not be found");
            core.publishing.indexes.leave_all();
            BTreeSet::new()
        }
    };
    indexes.extend(known.map(|index| (repository.clone(), index)));
    for (repository, index) in indexes {
        consider(core, &repository, &index).await;
    }
}

/// The indexes that a manifest is part of.
fn sharing(
    core: &Core,
    repository: &Repository,
    manifest: &Digest,
) -> Result<BTreeSet<Named>, StoreError> {
    let mut found = BTreeSet::new();
    for job in core.store.jobs_of(repository, manifest)? {
        evidence::each_submission(core.store.as_ref(), &job, |submission| {
            if submission.is_index {
                found.insert((submission.repository, submission.digest));
            }
        })?;
    }
    Ok(found)
}

/// True if something new is to be published.
pub(super) async fn decide(
    core: &Arc<Core>,
    repository: &Repository,
    index: &Digest,
) -> Result<bool, PublishError> {
    let _turn = core.publishing.indexes.turn.lock().await;
    let about = about_image(repository, index);
    let shared = Arc::clone(core);
    // On a thread of its own: the evidence of every platform may be read and judged.
    let deciding = tokio::task::spawn_blocking(move || publication(&shared, &about));
    let Some(body) = deciding.await.map_err(|e| PublishError::Ended(e.to_string()))?? else {
        return Ok(false);
    };
    core.store.append(vec![NewRecord::new(Kind::PUBLICATION, about, body)]).await?;
    Ok(true)
}

/// What is to be published about an index now; none if nothing new.
fn publication(core: &Core, about: &Digest) -> Result<Option<Vec<u8>>, PublishError> {
    let Some((since, image)) = submitted(core, about)? else { return Ok(None) };
    let own = core.store.newest_about(Kind::PUBLICATION, about)?;
    let stands = own.filter(|stored| attestation(&stored.body).is_some());
    let (mut newest, mut denied, mut complete) = (since, false, true);
    for platform in &image.jobs {
        let of_job = core.store.newest_about(Kind::PUBLICATION, &platform.job.0)?;
        complete &= of_job.is_some();
        // Another job about the same digest may have the last word on it by now.
        let spoken = match core.store.job(&platform.job)? {
            Some(job) => {
                speaks::about(core, &job.spec.subject.repository, &job.spec.subject.digest)?
            }
            None => None,
        };
        for word in of_job.iter().chain(&spoken) {
            denied |= attestation(&word.body).is_none();
            newest = newest.max(word.position);
        }
    }
    if denied {
        return Ok(stands.map(|_| no_attestation("not every platform is reproduced")));
    }
    let is_newer = stands.as_ref().is_some_and(|stored| stored.position > newest);
    if !complete || is_newer {
        return Ok(None);
    }
    let made = attested(core, &image)?;
    Ok(made.filter(|new| !stands.is_some_and(|old| says_the_same(&old.body, new))))
}

/// The index's attestation, judged again from the evidence; none unless it covers every entry.
fn attested(core: &Core, image: &SubmittedImage) -> Result<Option<Vec<u8>>, PublishError> {
    let Some(bytes) = bytes_of(core, image)? else { return Ok(None) };
    let mut judgements = Vec::new();
    for platform in &image.jobs {
        let Some(set) = evidence::set_of(core, &platform.job)? else { return Ok(None) };
        judgements.push(verdict::judge(&core.loaded.policy, &set));
    }
    let reproduced: Option<Vec<Reproduced<'_>>> =
        judgements.iter().map(Judgement::reproduced).collect();
    let Some(reproduced) = reproduced else { return Ok(None) };
    let attestation_manifests = evidence::left_out_of(core.store.as_ref(), &bytes)?;
    let index = IndexImage {
        bytes: &bytes,
        reproduced: &reproduced,
        attestation_manifests: &attestation_manifests,
    };
    match Vsa::of_index(&index, &verifier(core), wall::now()) {
        Ok(vsa) => Ok(Some(bundle(core, &vsa)?)),
        Err(VsaError::Index(why @ IndexError::Uncovered { .. })) => {
            tracing::info!(image.digest = %image.digest, %why, "the index is not attested");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The index as published: kept at intake; before that was done, only with a platform's evidence.
pub(super) fn bytes_of(
    core: &Core,
    image: &SubmittedImage,
) -> Result<Option<Vec<u8>>, PublishError> {
    if let Some(bytes) = evidence::document(core.store.as_ref(), &image.digest)? {
        return Ok(Some(bytes));
    }
    for platform in &image.jobs {
        let index = evidence::set_of(core, &platform.job)?.and_then(|set| set.index);
        if let Some(bytes) = index.filter(|bytes| Digest::of(bytes) == image.digest) {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// True if two attestations differ in their time alone.
pub(super) fn says_the_same(old: &[u8], new: &[u8]) -> bool {
    let timeless = |bundle: &[u8]| {
        let mut statement = statement(bundle)?;
        statement.predicate.as_object_mut()?.remove("timeVerified");
        Some(statement)
    };
    match (timeless(old), timeless(new)) {
        (Some(old), Some(new)) => old == new,
        _ => false,
    }
}

/// Looks at every index once, then again at those that could not be decided, until told to stop.
pub async fn run(core: Arc<Core>, stop: CancellationToken) -> Result<(), DaemonError> {
    let (mut left, mut wait) = (Left { all: true, ..Left::default() }, AGAIN);
    // What is on record by now is nobody's work any more: once it was looked at, it is done.
    let mut begun = Some(core.store.end());
    loop {
        let round = async {
            if left.all {
                look_since(&core, followed::reviewed(core.store.as_ref(), &about_looks())?).await?;
            }
            for (repository, index) in &left.some {
                consider(&core, repository, index).await;
            }
            Ok::<_, PublishError>(())
        };
        let done = tokio::select! {
            done = round => done,
            () = stop.cancelled() => return Ok(()),
        };
        if let Err(error) = &done {
            tracing::error!(%error, "the indexes could not be looked at; it is tried again");
        }
        let before = std::mem::replace(&mut left, core.publishing.indexes.take_left());
        if done.is_err() {
            left.all = true;
            left.some.extend(before.some);
        }
        if left.all || !left.some.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (2 * wait).min(AGAIN_MAX),
                () = stop.cancelled() => return Ok(()),
            }
            continue;
        }
        wait = AGAIN;
        if let Some(begun) = begun.take()
            && let Err(error) = core.store.append(vec![everything_was_looked_at(begun)]).await
        {
            tracing::warn!(%error, "the next start looks at indexes that were looked at already");
        }
        tokio::select! {
            () = core.publishing.indexes.again.notified() => {
                left = core.publishing.indexes.take_left();
            }
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// What the records of looks at everything are about.
fn about_looks() -> Digest {
    Digest::of(b"looks at indexes")
}

/// That nothing before a position is left to look at: also for a past that is written straight into
/// a journal.
pub fn everything_was_looked_at(before: JournalPosition) -> NewRecord {
    followed::was_reviewed(about_looks(), before)
}

/// Every index about whose platforms, or about which itself, something is on record since then.
pub(super) async fn look_since(
    core: &Arc<Core>,
    mut from: JournalPosition,
) -> Result<(), PublishError> {
    let end = core.store.end();
    while from < end {
        let shared = Arc::clone(core);
        let reading = tokio::task::spawn_blocking(move || shared.store.records(from, PAGE));
        let page = reading.await.map_err(|e| PublishError::Ended(e.to_string()))??;
        let Some(last) = page.last() else { break };
        from = last.position.next();
        for stored in &page {
            if stored.kind == Kind::EVIDENCE && stored.body.len() <= SUBMITTED_BYTES_MAX {
                // Evidence of another kind is no submitted image.
                if let Ok(image) = serde_json::from_slice::<SubmittedImage>(&stored.body) {
                    consider(core, &image.repository, &image.digest).await;
                }
            } else if stored.kind == Kind::PUBLICATION {
                // A publication about an index follows from what else is on record.
                if let Some(job) = core.store.job(&JobId(stored.about))? {
                    let subject = &job.spec.subject;
                    consider_all_with(core, &subject.repository, &subject.digest, None).await;
                }
            }
        }
    }
    Ok(())
}
