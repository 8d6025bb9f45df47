//! Watched repositories: tags that are new, or name another image than before, are submitted.
//!
//! A watch lies in the journal ([`Kind::WATCH`]), and so does every change of a tag
//! ([`Kind::TAG_SEEN`]): both survive restarts and a new index. How a look went is on record, too
//! ([`Kind::LOOK`]), where it went otherwise than the last one on record, and once an hour.
//! Invariant: only [`Watches::remove`] ends a watch; a repository that is gone, a network that
//! fails or a registry that lies changes nothing but `last_error`. No registry is asked faster than
//! its budget allows ([`pace`]).

pub mod look;
pub mod pace;

use super::{Core, DaemonError};
use crate::{
    journal::{Kind, NewRecord, Stored},
    store::{Store, StoreError},
};
use attest::{Digest, Repository, policy::TagPattern, time::Timestamp};
use look::Looked;
use pace::Pace;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// Looks at the same time.
const LOOKS_MAX: usize = 8;
/// Of these, looks at one client's watches: slow registries of one do not stop everybody's.
const LOOKS_PER_TENANT_MAX: usize = 2;
/// Watches in all, and of one client: each is some KiB of memory, and a load for registries.
const WATCHES_MAX: usize = 1000;
const WATCHES_PER_TENANT_MAX: usize = 100;
/// Seconds between two looks that may be asked for: half a minute to a week.
pub const INTERVAL_SECONDS: std::ops::RangeInclusive<u32> = 30..=7 * 24 * 3600;
/// The longest wait after errors, or that a registry can ask for.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// After a start the first looks are spread over this time.
const START_SPREAD: Duration = Duration::from_secs(60);
/// A look that went like the last one on record is recorded again after so long: a thousand watches
/// make 24,000 small records a day, and not one for each look.
const RECORDED_EVERY_SECONDS: i64 = 3600;
/// Longest problem of a look that is recorded.
const PROBLEM_CHARS_MAX: usize = 500;
/// Records read at a time.
const PAGE: usize = 500;

/// A repository that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Where it is.
    pub repository: Repository,
    /// Which tags.
    pub tags: TagPattern,
    /// How long between two looks.
    pub interval_seconds: u32,
    /// Who asked: its images are submitted in this name.
    pub tenant: String,
}

/// A watch, or its end, in the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchRecord {
    schema: String,
    removed: bool,
    watch: Watch,
}

const SCHEMA: &str = "assay/watch-record/v1";

/// How a look went. Unknown fields are for later versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LookRecord {
    schema: String,
    at: Timestamp,
    /// What went wrong; empty if nothing did.
    problem: String,
}

const LOOK_SCHEMA: &str = "assay/watch-look/v1";

impl LookRecord {
    fn of(looked: &Looked) -> Self {
        let problem = looked.problem.iter().flat_map(|problem| problem.chars());
        let problem = problem.take(PROBLEM_CHARS_MAX).collect();
        Self { schema: LOOK_SCHEMA.to_owned(), at: super::wall::now(), problem }
    }

    /// The newest about a watch that this version can read.
    fn newest(store: &dyn Store, watch: &Watch) -> Result<Option<Self>, StoreError> {
        let stored = store.newest_about(Kind::LOOK, &watch.about())?;
        let read = stored.and_then(|stored| serde_json::from_slice::<Self>(&stored.body).ok());
        Ok(read.filter(|record| record.schema == LOOK_SCHEMA))
    }

    /// Whether it says more than what is on record.
    fn is_news(&self, recorded: Option<&Self>) -> bool {
        recorded.is_none_or(|recorded| {
            let since = self.at.unix().saturating_sub(recorded.at.unix());
            recorded.problem != self.problem || since >= RECORDED_EVERY_SECONDS
        })
    }
}

impl Watch {
    /// What the watch's records are about: who follows which tags of what.
    fn about(&self) -> Digest {
        let Self { repository, tags, tenant, .. } = self;
        Digest::of(format!("watch\n{repository}\n{tags}\n{tenant}").as_bytes())
    }

    /// Its name in commands: the first 16 digits of what its records are about.
    pub fn id(&self) -> String {
        self.about().hex().chars().take(16).collect()
    }

    fn record(&self, removed: bool) -> NewRecord {
        let record = WatchRecord { schema: SCHEMA.to_owned(), removed, watch: self.clone() };
        // Text and numbers only: writing them as JSON cannot fail.
        let body = serde_json::to_vec(&record).unwrap_or_default();
        NewRecord::new(Kind::WATCH, self.about(), body)
    }
}

/// Why a watch was not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record in the journal.
    #[error("record {position} of the journal is no watch: {problem}")]
    Record {
        /// Where.
        position: u64,
        /// Why.
        problem: String,
    },
    /// The interval.
    #[error("expected 30 to 604800 seconds between two looks, found {0}")]
    Interval(u32),
    /// Too many.
    #[error("expected at most {limit} watches {of}, and there are as many")]
    TooMany {
        /// How many there may be.
        limit: usize,
        /// Of whom.
        of: &'static str,
    },
    /// No such watch.
    #[error("expected a watch as `assay watch list` names it, found {0:?}")]
    Unknown(String),
}

/// How a watch stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The watch.
    pub watch: Watch,
    /// The last look; from before this process began the last one on record, an hour older at most.
    pub last_checked: Option<Timestamp>,
    /// What went wrong in it; empty if nothing did.
    pub last_error: String,
    /// Looks that came to an end since this process began.
    pub looks: u64,
    recorded: Option<LookRecord>,
    failures: u32,
    next: Instant,
    looking: bool,
    goes_on_at: Option<String>,
}

/// A watch whose time has come.
#[derive(Debug)]
struct Due {
    id: String,
    watch: Watch,
    /// The tag at which the last look's time was up.
    from: Option<String>,
}

/// Every watch, and when each is looked at.
pub struct Watches {
    standing: Mutex<BTreeMap<String, Standing>>,
    changed: Notify,
    pub(super) pace: Pace,
}

impl Watches {
    /// The watches that the journal has. Their first looks are spread over a minute.
    pub fn read(store: &dyn Store) -> Result<Self, WatchError> {
        let mut newest: BTreeMap<Digest, Stored> = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = store.records_of_kind(Kind::WATCH, cursor, PAGE)?;
            let Some(last) = page.last() else { break };
            cursor = Some((last.about, last.position));
            newest.extend(page.into_iter().map(|stored| (stored.about, stored)));
        }
        let mut standing = BTreeMap::new();
        for stored in newest.into_values() {
            let record: WatchRecord = serde_json::from_slice(&stored.body).map_err(|error| {
                WatchError::Record { position: stored.position.0, problem: error.to_string() }
            })?;
            if !record.removed {
                let interval = Duration::from_secs(record.watch.interval_seconds.into());
                let first = START_SPREAD.min(interval).mul_f64(rand::random_range(0.0..1.0));
                let recorded = LookRecord::newest(store, &record.watch)?;
                let id = record.watch.id();
                let mut found = fresh(record.watch, Instant::now() + first);
                found.last_checked = recorded.as_ref().map(|recorded| recorded.at);
                found.last_error =
                    recorded.as_ref().map_or_else(String::new, |recorded| recorded.problem.clone());
                found.recorded = recorded;
                standing.insert(id, found);
            }
        }
        Ok(Self { standing: Mutex::new(standing), changed: Notify::new(), pace: Pace::default() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a watch, or changes the interval of one that is there; either way it is looked at now,
    /// and the wait after errors goes on from where it was.
    pub async fn add(&self, store: &dyn Store, watch: Watch) -> Result<String, WatchError> {
        if !INTERVAL_SECONDS.contains(&watch.interval_seconds) {
            return Err(WatchError::Interval(watch.interval_seconds));
        }
        let id = watch.id();
        let known = {
            let all = self.lock();
            let known = all.get(&id).map(|standing| standing.watch.clone());
            let own = all.values().filter(|s| s.watch.tenant == watch.tenant).count();
            match known {
                None if all.len() >= WATCHES_MAX => {
                    return Err(WatchError::TooMany { limit: WATCHES_MAX, of: "in all" });
                }
                None if own >= WATCHES_PER_TENANT_MAX => {
                    let limit = WATCHES_PER_TENANT_MAX;
                    return Err(WatchError::TooMany { limit, of: "of one client" });
                }
                known => known,
            }
        };
        if known.as_ref() != Some(&watch) {
            store.append(vec![watch.record(false)]).await?;
        }
        self.lock()
            .entry(id.clone())
            .and_modify(|standing| {
                standing.watch = watch.clone();
                standing.next = Instant::now();
            })
            .or_insert_with(|| fresh(watch, Instant::now()));
        self.changed.notify_one();
        Ok(id)
    }

    /// Ends a watch. What it found stays.
    pub async fn remove(
        &self,
        store: &dyn Store,
        id: &str,
        may: impl Fn(&Watch) -> bool,
    ) -> Result<(), WatchError> {
        let found = self.lock().get(id).map(|standing| standing.watch.clone());
        let found = found.filter(may).ok_or_else(|| WatchError::Unknown(id.to_owned()))?;
        store.append(vec![found.record(true)]).await?;
        self.lock().remove(id);
        Ok(())
    }

    /// Every watch, by its name.
    pub fn list(&self) -> Vec<(String, Standing)> {
        self.lock().iter().map(|(id, standing)| (id.clone(), standing.clone())).collect()
    }

    /// A watch whose time has come, or when the next one comes.
    fn due(&self, now: Instant) -> Result<Due, Option<Instant>> {
        let mut all = self.lock();
        let mut looks: BTreeMap<String, usize> = BTreeMap::new();
        for standing in all.values().filter(|standing| standing.looking) {
            *looks.entry(standing.watch.tenant.clone()).or_default() += 1;
        }
        let may = |watch: &Watch| {
            looks.get(&watch.tenant).is_none_or(|looks| *looks < LOOKS_PER_TENANT_MAX)
        };
        let idle = all.iter_mut().filter(|(_, s)| !s.looking && may(&s.watch));
        let Some((id, standing)) = idle.min_by_key(|(_, standing)| standing.next) else {
            return Err(None);
        };
        if standing.next > now {
            return Err(Some(standing.next));
        }
        standing.looking = true;
        let from = standing.goes_on_at.take();
        Ok(Due { id: id.clone(), watch: standing.watch.clone(), from })
    }

    /// A look is over; gives the record of it, if it says something new.
    fn note(&self, id: &str, looked: &Looked) -> Option<NewRecord> {
        let mut all = self.lock();
        let standing = all.get_mut(id)?;
        let record = LookRecord::of(looked);
        standing.looking = false;
        standing.goes_on_at.clone_from(&looked.goes_on_at);
        standing.looks += 1;
        standing.last_checked = Some(record.at);
        standing.last_error = looked.problem.clone().unwrap_or_default();
        standing.failures = match looked.problem {
            Some(_) => standing.failures.saturating_add(1),
            None => 0,
        };
        let interval = Duration::from_secs(standing.watch.interval_seconds.into());
        let wait = wait_after(interval, standing.failures, looked.retry_after);
        let jittered = wait.mul_f64(rand::random_range(0.9..1.1));
        // Added again meanwhile: then its time is now, and stays.
        standing.next = match standing.next > looked.began {
            true => standing.next,
            false => Instant::now() + jittered,
        };
        if !record.is_news(standing.recorded.as_ref()) {
            return None;
        }
        // Text and a time: writing them as JSON cannot fail.
        let body = serde_json::to_vec(&record).unwrap_or_default();
        standing.recorded = Some(record);
        Some(NewRecord::new(Kind::LOOK, standing.watch.about(), body))
    }
}

/// Doubles with every failure; never less than the registry asked for, never more than a day.
fn wait_after(interval: Duration, failures: u32, asked: Option<Duration>) -> Duration {
    let backoff = interval.saturating_mul(1 << failures.min(10));
    backoff.max(asked.unwrap_or_default()).min(WAIT_MAX)
}

fn fresh(watch: Watch, next: Instant) -> Standing {
    Standing {
        watch,
        last_checked: None,
        last_error: String::new(),
        looks: 0,
        recorded: None,
        failures: 0,
        next,
        looking: false,
        goes_on_at: None,
    }
}

/// Looks at what is due, until it is told to stop.
pub async fn run(core: Arc<Core>, stop: CancellationToken) -> Result<(), DaemonError> {
    let mut looks: JoinSet<Looked> = JoinSet::new();
    let mut running: HashMap<tokio::task::Id, String> = HashMap::new();
    loop {
        let mut next = None;
        while looks.len() < LOOKS_MAX {
            match core.watches.due(Instant::now()) {
                Ok(Due { id, watch, from }) => {
                    let shared = Arc::clone(&core);
                    let task = looks.spawn(async move { look::look(&shared, &watch, from).await });
                    running.insert(task.id(), id);
                }
                Err(at) => {
                    next = at;
                    break;
                }
            }
        }
        let at = next.unwrap_or_else(|| Instant::now() + WAIT_MAX);
        tokio::select! {
            Some(ended) = looks.join_next_with_id(), if !looks.is_empty() => {
                let (task, looked) = match ended {
                    Ok((task, looked)) => (task, looked),
                    Err(error) => (error.id(), Looked::failed(error.to_string())),
                };
                if let Some(id) = running.remove(&task) {
                    finish(&core, &id, &looked).await;
                }
            }
            () = core.watches.changed.notified() => {}
            () = tokio::time::sleep_until(at), if looks.len() < LOOKS_MAX => {}
            () = stop.cancelled() => {
                looks.shutdown().await;
                return Ok(());
            }
        }
    }
}

async fn finish(core: &Core, id: &str, looked: &Looked) {
    if let Some(record) = core.watches.note(id, looked)
        && let Err(error) = core.store.append(vec![record]).await
    {
        tracing::warn!(watch.id = id, %error, "how a look went could not be recorded");
    }
    match &looked.problem {
        None => {
            core.metrics.looked("ok");
            tracing::debug!(
                watch.id = id,
                watch.new_tags = looked.new,
                "a repository was looked at"
            );
        }
        Some(problem) => {
            core.metrics.looked("error");
            tracing::warn!(watch.id = id, %problem, "a look at a watched repository failed");
        }
    }
    core.announce_change();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_respect_what_the_registry_asked() {
        let seconds = Duration::from_secs;
        assert_eq!(wait_after(seconds(900), 0, None), seconds(900));
        assert_eq!(wait_after(seconds(900), 2, None), seconds(3600));
        assert_eq!(wait_after(seconds(30), 1, Some(seconds(7200))), seconds(7200));
        assert_eq!(wait_after(seconds(900), u32::MAX, None), WAIT_MAX);
        assert_eq!(wait_after(seconds(30), 0, Some(seconds(1 << 40))), WAIT_MAX);
    }

    #[tokio::test]
    async fn one_clients_watches_take_two_places_and_wait_for_nobody_else() {
        let (now, changed) = (Instant::now(), Notify::new());
        let watches = Watches { standing: Mutex::default(), changed, pace: Pace::default() };
        for (tag, tenant) in [("a*", "many"), ("b*", "many"), ("c*", "many"), ("d*", "few")] {
            let watch = Watch {
                repository: "registry.example/team/app".parse().unwrap(),
                tags: tag.parse().unwrap(),
                interval_seconds: 60,
                tenant: tenant.to_owned(),
            };
            watches.lock().insert(watch.id(), fresh(watch, now));
        }
        let mut looked_at: Vec<Due> = Vec::new();
        while let Ok(due) = watches.due(now) {
            looked_at.push(due);
        }
        let of = |tenant: &str| looked_at.iter().filter(|d| d.watch.tenant == tenant).count();
        assert_eq!((of("many"), of("few")), (2, 1));
        // Where the time was up, the next look goes on.
        let first = looked_at.iter().find(|due| due.watch.tenant == "many").unwrap();
        let goes_on_at = Some("v7".to_owned());
        watches.note(&first.id, &Looked { goes_on_at, ..Looked::failed("slow".into()) });
        let again = watches.due(now).expect("a place is free");
        assert_eq!((again.watch.tenant.as_str(), again.from), ("many", None));
        let list = watches.list();
        let (_, standing) = list.iter().find(|(id, _)| *id == first.id).unwrap();
        assert_eq!(standing.goes_on_at.as_deref(), Some("v7"));
        assert_eq!(standing.failures, 1);
    }

    #[test]
    fn a_watch_is_named_by_who_follows_what() {
        let watch = |tags: &str, tenant: &str, interval_seconds| Watch {
            repository: "registry.example/team/app".parse().unwrap(),
            tags: tags.parse().unwrap(),
            interval_seconds,
            tenant: tenant.to_owned(),
        };
        let id = watch("v*", "ci", 60).id();
        assert_eq!(id, watch("v*", "ci", 900).id());
        assert_ne!(id, watch("v*", "other", 60).id());
        assert_ne!(id, watch("*", "ci", 60).id());
        assert!("v 1".parse::<TagPattern>().is_err());
    }
}
