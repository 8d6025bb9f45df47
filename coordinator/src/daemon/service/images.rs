//! Submit, Watch, Get, History, Evidence: what is asked about images.

use super::{Core, client, quota::Submissions, store_status, taking_in::TakingIn, watches};
use crate::{
    daemon::{
        evidence::{self, SubmittedImage, SubmittedPlatform, about_image},
        intake::{self, IntakeError, Taken},
        publish,
        research::{self, Table},
    },
    journal::Kind,
    queue::{Class, Job, Phase, Slot, Tenant},
};
use attest::{
    Digest, Repository,
    id::{JobId, JournalPosition},
};
use oci::ImageReference;
use proto::{convert, status, v1, v1::image_service_server::ImageService};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// Longest time that a call is held.
const HOLD_SECONDS_MAX: u32 = 60;

/// Between two looks at an image that a held call follows: under load everything changes often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The service.
pub struct Images {
    core: Arc<Core>,
    submissions: Submissions,
    taking_in: TakingIn,
}

impl Images {
    /// With the configuration's quota of submissions.
    pub(super) fn new(core: Arc<Core>) -> Self {
        let submissions = Submissions::new(core.loaded.config.limits.submissions_per_minute);
        Self { core, submissions, taking_in: TakingIn::default() }
    }

    /// One more submission of this client, if it may.
    fn count_submission(&self, client: &str) -> Result<(), Status> {
        self.submissions.take(client, std::time::Instant::now()).map_err(|wait| {
            let most = self.submissions.per_minute();
            let why = format!("expected at most {most} submissions of {client} in a minute");
            // A whole number of seconds, so that who waits that long is let in.
            status::exhausted(why, Duration::from_secs(wait.as_secs() + 1))
        })
    }

    fn image(&self, repository: &Repository, digest: &Digest) -> Result<SubmittedImage, Status> {
        let about = about_image(repository, digest);
        let found = self.core.store.newest_about(Kind::EVIDENCE, &about);
        let Some(found) = found.map_err(|e| store_status(&e))? else {
            return self.platform(repository, digest);
        };
        let image: SubmittedImage = serde_json::from_slice(&found.body)
            .map_err(|e| status::unavailable(format!("record {}: {e}", found.position)))?;
        // Submitted by itself, and perhaps since then in an index, under other evidence.
        let [platform] = image.jobs.as_slice() else { return Ok(image) };
        let job = self.core.store.job(&platform.job).map_err(|e| store_status(&e))?;
        match job.is_some_and(|job| job.spec.subject.digest == *digest) {
            true => Ok(SubmittedImage { tag: image.tag, ..self.platform(repository, digest)? }),
            false => Ok(image),
        }
    }

    /// A platform's own manifest, known by the images that it was submitted with: of each platform
    /// that it is listed as, the job that was submitted last.
    fn platform(&self, repository: &Repository, digest: &Digest) -> Result<SubmittedImage, Status> {
        let store = self.core.store.as_ref();
        let mut newest: BTreeMap<String, (JournalPosition, JobId)> = BTreeMap::new();
        for job in store.jobs_of(repository, digest).map_err(|e| store_status(&e))? {
            let Some(known) = store.job(&job).map_err(|e| store_status(&e))? else { continue };
            let at = evidence::submitted_at(store, &job).map_err(|e| store_status(&e))?;
            let platform = known.spec.subject.platform.to_string();
            if newest.get(&platform).is_none_or(|(before, _)| *before < at) {
                newest.insert(platform, (at, job));
            }
        }
        if newest.is_empty() {
            let text = format!("{repository}@{digest} was not submitted here");
            return Err(status::missing(text));
        }
        let jobs = (0..).zip(newest.into_values());
        let jobs = jobs.map(|(entry, (_, job))| SubmittedPlatform { entry, job }).collect();
        Ok(SubmittedImage { repository: repository.clone(), digest: *digest, jobs, tag: None })
    }

    fn state(&self, image: &SubmittedImage) -> Result<v1::ImageState, Status> {
        let mut platforms = Vec::new();
        let mut outcomes = Vec::new();
        for platform in &image.jobs {
            let job = self.core.store.job(&platform.job).map_err(|e| store_status(&e))?;
            let Some(job) = job else { continue };
            let mut state = platform_state(&job, platform.entry);
            let verdict = self.add_verdict(&mut state, &platform.job)?;
            outcomes.push(standing_outcome(verdict, &job.phase));
            platforms.push(state);
        }
        let mut state = v1::ImageState {
            repository: image.repository.to_string(),
            digest: image.digest.to_string(),
            platforms,
            state_digest: String::new(),
            outcome: worst(&outcomes).to_owned(),
        };
        let bytes = prost::Message::encode_to_vec(&state);
        state.state_digest = Digest::of(&bytes).to_string();
        Ok(state)
    }

    /// Adds the newest verdict; gives its outcome, which stands also while the job is open again.
    fn add_verdict(
        &self,
        state: &mut v1::PlatformState,
        job: &JobId,
    ) -> Result<Option<String>, Status> {
        let store = &self.core.store;
        let verdict = store.newest_about(Kind::VERDICT, &job.0).map_err(|e| store_status(&e))?;
        let Some(verdict) = verdict else { return Ok(None) };
        let record = self.core.signers.verdict(&verdict.body);
        let record = record.map_err(status::unavailable)?;
        let mut json = serde_json::to_value(&record.finding).unwrap_or_default();
        if let Some(map) = json.as_object_mut() {
            // The word beside the structured outcome, for tables.
            map.insert("outcome_detail".into(), map.get("outcome").cloned().unwrap_or_default());
            map.insert("outcome".into(), record.finding.outcome.as_str().into());
        }
        state.judgement = attest::canonical::to_vec(&json).unwrap_or_default();
        state.outcome_envelope = verdict.body;
        let published = store.newest_about(Kind::PUBLICATION, &job.0);
        if let Some(published) = published.map_err(|e| store_status(&e))? {
            let attestation = publish::attestation(&published.body);
            state.attestation = attestation.unwrap_or_default().to_vec();
        }
        Ok(Some(record.finding.outcome.as_str().to_owned()))
    }
}

fn platform_state(job: &Job, entry: u32) -> v1::PlatformState {
    let leased = job.slots.iter().any(|s| matches!(s, Slot::Leased { .. }));
    let answered = job.slots.iter().filter(|s| matches!(s, Slot::Answered { .. })).count();
    let phase = match &job.phase {
        Phase::Open if leased || answered > 0 => "running",
        Phase::Open | Phase::Deferred { .. } => "announced",
        Phase::Judged { .. } => "judged",
        Phase::Parked { .. } => "parked",
    };
    v1::PlatformState {
        subject: Some((&job.spec.subject).into()),
        job: job.spec.id.to_string(),
        phase: phase.to_owned(),
        attempt: u32::try_from(job.attempt.0).unwrap_or(u32::MAX),
        observations: u32::try_from(answered).unwrap_or(u32::MAX),
        wanted: u32::try_from(job.slots.len()).unwrap_or(u32::MAX),
        judgement: Vec::new(),
        attestation: Vec::new(),
        outcome_envelope: Vec::new(),
        entry,
    }
}

/// The outcome of the newest verdict: it stands until another replaces it, also while its job is
/// open again or was parked. Without one, what the end of the job says.
fn standing_outcome(verdict: Option<String>, phase: &Phase) -> Option<String> {
    verdict.or_else(|| match phase {
        Phase::Judged { outcome } => Some(outcome.clone()),
        Phase::Parked { outcome, .. } => {
            Some(outcome.clone().unwrap_or_else(|| "inconclusive".to_owned()))
        }
        Phase::Open | Phase::Deferred { .. } => None,
    })
}

/// The worst outcome; a platform without one is inconclusive. Empty while none has one.
fn worst(outcomes: &[Option<String>]) -> &'static str {
    const WORST_FIRST: [&str; 8] = [
        "untrusted",
        "diverged",
        "flaky",
        "disputed",
        "not-rebuildable",
        "stale",
        "inconclusive",
        "reproduced",
    ];
    if outcomes.iter().all(Option::is_none) {
        return "";
    }
    let of = |outcome: &Option<String>| outcome.clone().unwrap_or_else(|| "inconclusive".into());
    let has = |word: &str| outcomes.iter().any(|outcome| of(outcome) == word);
    WORST_FIRST.into_iter().find(|word| has(word)).unwrap_or("inconclusive")
}

fn intake_status(error: &IntakeError) -> Status {
    use oci::ErrorKind;
    match error {
        IntakeError::Image(image) => match image.kind() {
            ErrorKind::NotFound => status::missing(error),
            ErrorKind::Denied | ErrorKind::NetworkRefused => status::refused(error),
            // Only the words of the call are the caller's mistake: what a registry sends is not.
            ErrorKind::Reference => status::malformed(error),
            _ => status::unavailable(error),
        },
        IntakeError::Store(store) => store_status(store),
        IntakeError::Layout(_)
        | IntakeError::NoPlatform(_)
        | IntakeError::Spec(_)
        | IntakeError::Evidence(_)
        | IntakeError::TooMuchEvidence { .. } => status::malformed(error),
        IntakeError::Policy(_) => status::precondition(error),
    }
}

/// A cursor behind the end of the journal would skip what comes next without a word.
fn known_cursor(cursor: research::Cursor, end: JournalPosition) -> Result<(), Status> {
    if cursor.position <= end.0 {
        return Ok(());
    }
    Err(status::malformed(format!(
        "expected a cursor that this coordinator gave, at most {end}, found {cursor}: it is of another \
         coordinator, or of this one before its journal was restored; export again from the beginning"
    )))
}

fn asked(core: &Core, message: &v1::HistoryRequest) -> Result<research::Asked, Status> {
    let table = match message.table.as_str() {
        "" => Table::History,
        text => text.parse().map_err(|e: research::UnknownTable| status::malformed(e))?,
    };
    let repository = match message.repository.as_str() {
        "" if table == Table::History => {
            let text = "expected a repository; the other tables can be had for all of them";
            return Err(status::malformed(text));
        }
        "" => None,
        text => Some(convert::repository(text)?),
    };
    let digests = match (message.digest.as_str(), &repository) {
        ("", _) => BTreeSet::new(),
        (_, None) => return Err(status::malformed("expected a repository with the digest")),
        (text, Some(repository)) => {
            let found =
                research::with_platforms(core, repository, convert::digest("digest", text)?);
            found.map_err(|e| store_status(&e))?
        }
    };
    let from = match message.cursor.as_str() {
        "" => research::Cursor::default(),
        text => text.parse().map_err(|e: research::CursorError| status::malformed(e))?,
    };
    known_cursor(from, core.store.end())?;
    let rows_max = message.rows_max as usize;
    Ok(research::Asked { table, repository, digests, from, rows_max })
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn submit(
        &self,
        request: Request<v1::SubmitImageRequest>,
    ) -> Result<Response<v1::SubmitImageResponse>, Status> {
        let client = client(&self.core, &request)?;
        let message = request.into_inner();
        let class = match message.priority() {
            v1::Priority::Gate => Class::Gate,
            v1::Priority::Regression => Class::Regression,
            v1::Priority::Recheck => Class::Recheck,
            v1::Priority::Backfill => Class::Backfill,
            v1::Priority::Push | v1::Priority::Unspecified => Class::Push,
        };
        let reference: ImageReference = message
            .image
            .parse()
            .map_err(|e: oci::reference::ReferenceError| status::malformed(e))?;
        let place = self.taking_in.place(&client.name).await?;
        self.count_submission(&client.name)?;
        let (core, tenant) = (Arc::clone(&self.core), Tenant(client.name));
        let work = async move { intake::submit(&core, &reference, tenant, class).await };
        let taken = place.fetch(&message.image, self.core.stopping.clone(), work).await?;
        let Taken { image, due } = taken.map_err(|e| intake_status(&e))?;
        intake::await_judgements(&self.core, &due).await;
        Ok(Response::new(v1::SubmitImageResponse {
            repository: image.repository.to_string(),
            digest: image.digest.to_string(),
            jobs: image.jobs.iter().map(|p| p.job.to_string()).collect(),
        }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchImageRequest>,
    ) -> Result<Response<v1::ImageState>, Status> {
        client(&self.core, &request)?;
        let message = request.into_inner();
        let repository = convert::repository(&message.repository)?;
        let digest = convert::digest("digest", &message.digest)?;
        let hold = Duration::from_secs(u64::from(message.wait_seconds.min(HOLD_SECONDS_MAX)));
        let until = Instant::now() + hold;
        let mut changes = self.core.changes();
        loop {
            changes.borrow_and_update();
            let state = self.state(&self.image(&repository, &digest)?)?;
            if state.state_digest != message.known_state {
                return Ok(Response::new(state));
            }
            let again = tokio::select! {
                changed = changes.changed() => changed.is_ok(),
                () = tokio::time::sleep_until(until) => false,
                () = self.core.stopping.cancelled() => false,
            };
            if !again {
                return Ok(Response::new(state));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn get(
        &self,
        request: Request<v1::GetImageRequest>,
    ) -> Result<Response<v1::ImageState>, Status> {
        client(&self.core, &request)?;
        let message = request.into_inner();
        let repository = convert::repository(&message.repository)?;
        let digest = convert::digest("digest", &message.digest)?;
        Ok(Response::new(self.state(&self.image(&repository, &digest)?)?))
    }

    async fn history(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        client(&self.core, &request)?;
        let message = request.into_inner();
        aside(&self.core, move |core| {
            let asked = asked(core, &message)?;
            let page = research::page(core, &asked).map_err(|e| store_status(&e))?;
            let end_cursor = page.end.to_string();
            let columns = asked.table.columns().iter().map(|c| c.name.to_owned()).collect();
            Ok(v1::HistoryResponse {
                rows: page.rows,
                next_cursor: if page.done { String::new() } else { end_cursor.clone() },
                end_cursor,
                columns,
            })
        })
        .await
    }

    async fn evidence(
        &self,
        request: Request<v1::EvidenceRequest>,
    ) -> Result<Response<v1::EvidenceResponse>, Status> {
        client(&self.core, &request)?;
        let message = request.into_inner();
        let subject = convert::subject(message.subject.as_ref())?;
        aside(&self.core, move |core| {
            let jobs = core.store.jobs_of(&subject.repository, &subject.digest);
            for job in jobs.map_err(|e| store_status(&e))? {
                let set = evidence::set_of(core, &job).map_err(status::unavailable)?;
                if let Some(set) = set.filter(|set| set.subject == subject) {
                    let explanations = match message.explanations {
                        true => evidence::explanations(core, &set).map_err(|e| store_status(&e))?,
                        false => Vec::new(),
                    };
                    let evidence_set = set.to_canonical_json().map_err(status::unavailable)?;
                    return Ok(v1::EvidenceResponse { evidence_set, explanations });
                }
            }
            Err(status::missing(format!("nothing is known of {subject}")))
        })
        .await
    }

    async fn add_watch(
        &self,
        request: Request<v1::AddWatchRequest>,
    ) -> Result<Response<v1::AddWatchResponse>, Status> {
        let client = client(&self.core, &request)?;
        let watch = watches::add(&self.core, client, request.into_inner()).await?;
        Ok(Response::new(v1::AddWatchResponse { watch }))
    }

    async fn list_watches(
        &self,
        request: Request<v1::ListWatchesRequest>,
    ) -> Result<Response<v1::ListWatchesResponse>, Status> {
        let client = client(&self.core, &request)?;
        let watches = watches::list(&self.core, &client);
        Ok(Response::new(v1::ListWatchesResponse { watches }))
    }

    async fn remove_watch(
        &self,
        request: Request<v1::RemoveWatchRequest>,
    ) -> Result<Response<v1::RemoveWatchResponse>, Status> {
        let client = client(&self.core, &request)?;
        watches::remove(&self.core, &client, &request.into_inner().watch).await?;
        Ok(Response::new(v1::RemoveWatchResponse {}))
    }
}

/// Answers from many records, on a thread of its own: other calls do not wait for the disk.
async fn aside<T: Send + 'static>(
    core: &Arc<Core>,
    answer: impl FnOnce(&Core) -> Result<T, Status> + Send + 'static,
) -> Result<Response<T>, Status> {
    let core = Arc::clone(core);
    let answered = tokio::task::spawn_blocking(move || answer(&core)).await;
    answered.map_err(status::unavailable)?.map(Response::new)
}

#[cfg(test)]
mod tests {
    use super::{JournalPosition, Phase, known_cursor, research::Cursor, standing_outcome, worst};
    use crate::queue::ParkReason;

    #[test]
    fn a_cursor_of_another_journal_is_refused() {
        let at = |position| Cursor { position, rows: 0 };
        assert!(known_cursor(at(0), JournalPosition(0)).is_ok());
        assert!(known_cursor(at(7), JournalPosition(7)).is_ok());
        let refused = known_cursor(at(8), JournalPosition(7)).unwrap_err();
        assert!(refused.message().contains("at most 7, found 8"), "{}", refused.message());
    }

    #[test]
    fn a_verdict_stands_until_another_replaces_it() {
        let diverged = || Some("diverged".to_owned());
        let parked = |outcome| Phase::Parked { why: ParkReason::Unroutable, outcome };
        for phase in [Phase::Open, parked(None), parked(Some("inconclusive".into()))] {
            assert_eq!(standing_outcome(diverged(), &phase), diverged(), "{phase:?}");
        }
        assert_eq!(standing_outcome(None, &Phase::Open), None);
        assert_eq!(standing_outcome(None, &parked(None)).as_deref(), Some("inconclusive"));
    }

    #[test]
    fn a_platform_without_a_verdict_is_inconclusive_and_none_at_all_is_nothing() {
        let some = |word: &str| Some(word.to_owned());
        for (outcomes, expected) in [
            (vec![], ""),
            (vec![None, None], ""),
            (vec![some("reproduced"), None], "inconclusive"),
            (vec![some("reproduced"), some("reproduced")], "reproduced"),
            (vec![None, some("diverged")], "diverged"),
            (vec![some("diverged"), some("untrusted")], "untrusted"),
        ] {
            assert_eq!(worst(&outcomes), expected, "{outcomes:?}");
        }
    }
}
