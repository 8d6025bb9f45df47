//! One look at one watched repository.
//!
//! Invariant: what a tag names is on record before it is submitted, and that it was submitted is on
//! record afterwards, so that a crash in between submits again and loses nothing. A tag that is
//! gone, a page that fails, an image that cannot be read: each leaves everything as it was, and a
//! few images that cannot be read do not hide the tags behind them.

use super::{Watch, pace::Paused};
use crate::{
    daemon::{Core, intake},
    journal::{JournalError, Kind, NewRecord},
    queue::{Class, Event, Tenant},
    store::{Store, StoreError, nothing},
};
use attest::{Digest, Repository, id::JournalPosition};
use oci::{ErrorKind, ImageReference, Registry, SourceOptions, Tag, reference::host_and_path};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Tags of one watch that are followed.
pub const TAGS_MAX: usize = 1000;
/// Requests that taking an image in is reckoned as: index, manifests, configurations, referrers.
const INTAKE_REQUESTS: u32 = 8;
/// The longest look: a thousand tags take two minutes where the registry answers.
const LOOK_MAX: Duration = Duration::from_secs(30 * 60);
/// What a registry that says 429 without a time is left alone for.
const THROTTLED: Duration = Duration::from_secs(60);
/// Images in a row that the registry may fail to give before the look ends: one or two may be
/// broken, three are more probably a registry that is down.
const FAILURES_IN_A_ROW_MAX: u32 = 3;
/// Records read at a time.
const PAGE: usize = 500;

/// What a look came to.
#[derive(Debug, Clone)]
pub struct Looked {
    /// When it began.
    pub began: Instant,
    /// Tags that were new or named another image.
    pub new: usize,
    /// What went wrong, in one sentence.
    pub problem: Option<String>,
    /// How long the registry asked to be left alone.
    pub retry_after: Option<Duration>,
    /// The tag at which it stopped before the end: there the next one goes on, so that what is behind
    /// a registry's limit is reached in the end.
    pub goes_on_at: Option<String>,
}

impl Looked {
    /// A look that came to nothing.
    pub fn failed(problem: String) -> Self {
        Self { problem: Some(problem), ..Self::begun() }
    }

    fn begun() -> Self {
        let (began, problem) = (Instant::now(), None);
        Self { began, new: 0, problem, retry_after: None, goes_on_at: None }
    }
}

/// What became of a tag, in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TagEvent {
    /// It was found to name this image.
    Seen,
    /// The image was taken in.
    Submitted,
}

/// A tag and what it named. The record is about SHA-256 of the repository's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagRecord {
    /// `assay/tag-record/v1`.
    pub schema: String,
    /// What happened.
    pub event: TagEvent,
    /// Where.
    pub repository: Repository,
    /// The tag.
    pub tag: String,
    /// What it names.
    pub digest: Digest,
    /// What it named before, as far as it was seen.
    pub before: Option<Digest>,
}

/// What the records of a repository's tags are about.
pub fn about_tags(repository: &Repository) -> Digest {
    Digest::of(repository.as_str().as_bytes())
}

impl TagRecord {
    fn new(event: TagEvent, watch: &Watch, tag: &Tag, digest: Digest) -> Self {
        let (repository, tag) = (watch.repository.clone(), tag.to_string());
        let schema = "assay/tag-record/v1".to_owned();
        Self { schema, event, repository, tag, digest, before: None }
    }

    fn record(&self) -> NewRecord {
        // Text only: writing it as JSON cannot fail.
        let body = serde_json::to_vec(self).unwrap_or_default();
        NewRecord::new(Kind::TAG_SEEN, about_tags(&self.repository), body)
    }
}

/// Whether the rest of the repository is worth trying.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// It has nothing to do with this problem.
    GoOn,
    /// Perhaps: the registry did not give this image, and may give others.
    Perhaps,
    /// No: the registry asked for a pause, or our own disk or queue is full.
    Stop,
}

/// A problem, and what it says about the rest.
struct Stopped {
    problem: String,
    retry_after: Option<Duration>,
    rest: Rest,
    /// The registry asked for the wait, not our own queue or disk.
    throttled: bool,
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        let retry_after = error.retry_after_ms().map(Duration::from_millis);
        // One image with more evidence than a record holds says nothing about the next one.
        let own = matches!(error, StoreError::Journal(JournalError::TooLong { .. }));
        let rest = if own { Rest::GoOn } else { Rest::Stop };
        Self { problem: error.to_string(), retry_after, rest, throttled: false }
    }
}

impl From<Paused> for Stopped {
    fn from(paused: Paused) -> Self {
        Self {
            problem: paused.to_string(),
            retry_after: Some(paused.0),
            rest: Rest::Stop,
            throttled: true,
        }
    }
}

impl From<oci::Error> for Stopped {
    fn from(error: oci::Error) -> Self {
        let throttled = matches!(&error, oci::Error::Unavailable { status: Some(429), .. });
        let retry_after = error.retry_after().or_else(|| throttled.then_some(THROTTLED));
        let whole = matches!(
            error.kind(),
            ErrorKind::Unavailable
                | ErrorKind::Truncated
                | ErrorKind::Denied
                | ErrorKind::NetworkRefused
        );
        let throttled = retry_after.is_some();
        let rest = match (throttled, whole) {
            (true, _) => Rest::Stop,
            (false, true) => Rest::Perhaps,
            (false, false) => Rest::GoOn,
        };
        Self { problem: error.to_string(), retry_after, rest, throttled }
    }
}

impl From<intake::IntakeError> for Stopped {
    fn from(error: intake::IntakeError) -> Self {
        match error {
            intake::IntakeError::Image(error) => error.into(),
            intake::IntakeError::Store(error) => error.into(),
            other => Self {
                problem: other.to_string(),
                retry_after: None,
                rest: Rest::GoOn,
                throttled: false,
            },
        }
    }
}

/// Lists the tags, asks what each names, and submits what is new, from that tag on. Its time is
/// bounded: a registry that answers slowly does not keep a place from others for ever.
pub async fn look(core: &Arc<Core>, watch: &Watch, from: Option<String>) -> Looked {
    let mut looked = Looked::begun();
    looked.goes_on_at = from;
    let followed = tokio::time::timeout(LOOK_MAX, follow(core, watch, &mut looked)).await;
    let Ok(followed) = followed else {
        let minutes = LOOK_MAX.as_secs() / 60;
        looked.problem = Some(format!(
            "expected a look to take at most {minutes} minutes: the next one goes on from there"
        ));
        return looked;
    };
    if let Err(stopped) = followed {
        looked.problem.get_or_insert(stopped.problem);
        looked.retry_after = stopped.retry_after;
        let asked = stopped.retry_after.filter(|_| stopped.throttled);
        if let Some((host, wait)) = host_and_path(&watch.repository).zip(asked) {
            core.watches.pace.pause(host.0, wait);
            let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let event = Event::Throttled { registry: host.0.to_owned(), retry_after_ms };
            // Workers are not sent there either; the queue may refuse nothing here.
            let _ = core.store.act(event, nothing()).await;
        }
    }
    looked
}

async fn follow(core: &Arc<Core>, watch: &Watch, looked: &mut Looked) -> Result<(), Stopped> {
    let mut options = SourceOptions { network: intake::network(core), ..SourceOptions::default() };
    // Trying again is the schedule's business.
    options.timing.attempts = 1;
    let registry = Registry::new(&options);
    let host = host_and_path(&watch.repository).map_or_else(String::new, |(host, _)| host.into());
    let pace = &core.watches.pace;
    pace.spend(&host, 1).await?;
    let wanted = |tag: &Tag| watch.tags.matches(tag.as_str()) && !is_attachment(tag.as_str());
    let tags = registry.tags(&watch.repository, TAGS_MAX, wanted).await?;
    if !tags.complete {
        let problem = format!(
            "expected at most {TAGS_MAX} tags that match, found more: the rest is not followed"
        );
        looked.problem = Some(problem);
    }
    let known = known(core.store.as_ref(), &watch.repository)?;
    let (mut failures, mut looked_at) = (0, 0);
    let mut order = from_on(&tags.tags, looked.goes_on_at.as_deref()).peekable();
    while let Some(tag) = order.next() {
        looked.goes_on_at = Some(tag.to_string());
        pace.spend(&host, 1).await?;
        looked_at += 1;
        let before = known.get(tag.as_str());
        let step = async {
            let named = before.map(|before| before.digest);
            let now = registry.tag_unless(&watch.repository, tag, named).await?;
            match now {
                // Taken away between the list and now: its history stays.
                None => Ok(()),
                Some(digest) => take(core, watch, tag, digest, before, looked).await,
            }
        };
        let Err(stopped) = step.await else {
            failures = 0;
            continue;
        };
        if stopped.rest == Rest::Stop {
            if looked_at == 1 {
                // It stops where it began: one tag must not be the end of every look.
                looked.goes_on_at = order.peek().map(ToString::to_string);
            }
            return Err(stopped);
        }
        failures = if stopped.rest == Rest::GoOn { 0 } else { failures + 1 };
        core.metrics.tag_failed();
        tracing::warn!(
            image.repository = %watch.repository, image.tag = %tag, problem = %stopped.problem,
            "the image of a watched tag could not be taken in; it is tried at the next look"
        );
        looked.problem.get_or_insert_with(|| format!("{tag}: {}", stopped.problem));
        if failures >= FAILURES_IN_A_ROW_MAX {
            // Behind them: what fails again and again must not hide the rest.
            looked.goes_on_at = order.peek().map(ToString::to_string);
            return Err(stopped);
        }
    }
    looked.goes_on_at = None;
    Ok(())
}

/// The tags from this one on, and then those before it.
fn from_on<'a>(tags: &'a [Tag], from: Option<&str>) -> impl Iterator<Item = &'a Tag> + use<'a> {
    let at = tags.iter().position(|tag| Some(tag.as_str()) == from).unwrap_or(0);
    let (before, after) = tags.split_at(at);
    after.iter().chain(before)
}

async fn take(
    core: &Arc<Core>,
    watch: &Watch,
    tag: &Tag,
    digest: Digest,
    before: Option<&TagRecord>,
    looked: &mut Looked,
) -> Result<(), Stopped> {
    let same = before.is_some_and(|before| before.digest == digest);
    if same && before.is_some_and(|before| before.event == TagEvent::Submitted) {
        return Ok(());
    }
    if !same {
        let mut seen = TagRecord::new(TagEvent::Seen, watch, tag, digest);
        seen.before = before.map(|before| before.digest);
        core.store.append(vec![seen.record()]).await?;
        looked.new += 1;
        core.metrics.tag_seen();
        tracing::info!(
            image.repository = %watch.repository, image.tag = %tag, image.digest = %digest,
            "a watched tag names an image that was not seen under it"
        );
    }
    let host = host_and_path(&watch.repository).map_or("", |(host, _)| host);
    core.watches.pace.spend(host, INTAKE_REQUESTS).await?;
    let reference = ImageReference::in_registry(watch.repository.clone(), digest);
    let tenant = Tenant(watch.tenant.clone());
    let tag_name = Some(tag.to_string());
    intake::submit_as(core, &reference, tag_name, tenant, Class::Push).await?;
    let submitted = TagRecord::new(TagEvent::Submitted, watch, tag, digest);
    core.store.append(vec![submitted.record()]).await?;
    Ok(())
}

/// The newest record of each tag of a repository.
pub fn known(
    store: &dyn Store,
    repository: &Repository,
) -> Result<BTreeMap<String, TagRecord>, StoreError> {
    let (about, mut from) = (about_tags(repository), JournalPosition(0));
    let mut known = BTreeMap::new();
    loop {
        let page = store.records_about(Kind::TAG_SEEN, &about, from, PAGE)?;
        let Some(last) = page.last() else { return Ok(known) };
        from = last.position.next();
        for stored in page {
            // A record of a later version is not known, and then the tag is new: it is looked at.
            if let Ok(record) = serde_json::from_slice::<TagRecord>(&stored.body) {
                known.insert(record.tag.clone(), record);
            }
        }
    }
}

/// Tags under which signatures and referrers are kept: `sha256-<hex>` and what follows it.
fn is_attachment(tag: &str) -> bool {
    let rest = tag.strip_prefix("sha256-").unwrap_or_default();
    rest.len() >= 64 && rest.bytes().take(64).all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_goes_on_where_its_time_was_up() {
        let tags: Vec<Tag> = ["a", "b", "c"].iter().map(|tag| tag.parse().unwrap()).collect();
        let order = |from| from_on(&tags, from).map(Tag::as_str).collect::<String>();
        assert_eq!(order(None), "abc");
        assert_eq!(order(Some("b")), "bca");
        assert_eq!(order(Some("gone")), "abc");
    }

    #[test]
    fn an_image_with_too_much_evidence_does_not_hide_the_tags_behind_it() {
        let long = |error| Stopped::from(StoreError::Journal(error)).rest;
        assert!(long(JournalError::TooLong { limit: 1, found: 2 }) == Rest::GoOn);
        assert!(long(JournalError::NoSpace) == Rest::Stop);
    }
}
