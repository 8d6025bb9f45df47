//! The task that publishes: everything that did not arrive yet, again and again.
//!
//! Invariant: what waits is read from the store each time, never remembered here, so that a
//! coordinator that was stopped goes on where it was. Being told to stop interrupts a push; that is
//! harmless ([`super::deliver`]). Nothing here holds up a judgement.

use super::{
    deliver::{self, DeliveryError, Plan},
    error::PublishError,
    target::Target,
};
use crate::{
    daemon::{Core, DaemonError},
    journal::Stored,
    setup::config::PublishTarget,
    store::StoreError,
};
use attest::{Digest, Platform};
use futures::StreamExt;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Publications that are read at a time.
const PAGE: usize = 100;
/// Publications that are under way at a time. A folder takes one: it is written by one hand.
const AT_ONCE: usize = 4;
/// The store is asked this often even if nobody says that something is new.
const IDLE: Duration = Duration::from_secs(300);
/// Between two rounds, at least.
const ROUND_MIN: Duration = Duration::from_millis(250);

/// One publication that waits, for people: without its bytes and its evidence.
#[derive(Debug, Clone)]
pub struct Pending {
    /// What goes where; or why that cannot be said.
    pub what: Result<Summary, String>,
    /// How often it failed, and the last problem.
    pub failed: Option<(u32, String)>,
}

/// What a plan comes to.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The image or the index.
    pub image: String,
    /// Its platform; none for an index.
    pub platform: Option<Platform>,
    /// Where it goes.
    pub target: Target,
    /// An attestation, or that none stands.
    pub attested: bool,
    /// Whether evidence is attached with it.
    pub evidence: bool,
}

impl Summary {
    fn of(plan: &Plan) -> Self {
        Self {
            image: format!("{}@{}", plan.repository, plan.subject.digest),
            platform: plan.platform.clone(),
            target: plan.target.clone(),
            attested: plan.attestation.is_some(),
            evidence: plan.attaches_evidence(),
        }
    }
}

/// Publishes until it is told to stop.
pub async fn run(core: Arc<Core>, stop: CancellationToken) -> Result<(), DaemonError> {
    let Some(target) = core.loaded.config.publish.clone() else { return Ok(()) };
    loop {
        let woken = core.publishing.wake.notified();
        let next = tokio::select! {
            next = round(&core, &target) => next,
            () = stop.cancelled() => return Ok(()),
        };
        let next = next.unwrap_or_else(|error| {
            tracing::error!(%error, "what is to be published could not be read");
            Instant::now() + IDLE
        });
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep_until(next.into()) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Tries everything that may be tried now; gives when to look again.
pub(super) async fn round(core: &Arc<Core>, target: &PublishTarget) -> Result<Instant, StoreError> {
    let (mut after, mut waiting) = (None, BTreeSet::new());
    let at_once = if matches!(target, PublishTarget::Folder { .. }) { 1 } else { AT_ONCE };
    loop {
        let page = core.store.unpublished(after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.about);
        waiting.extend(page.iter().map(|stored| stored.about));
        let tried: Vec<_> = page.iter().map(|stored| one(core, target, stored)).collect();
        futures::stream::iter(tried).buffer_unordered(at_once).collect::<Vec<()>>().await;
    }
    let mut patience = core.publishing.patience();
    patience.keep_only(&waiting);
    let idle = Instant::now() + IDLE;
    // Never at once: what is early for its host would be read again and again.
    let soonest = Instant::now() + ROUND_MIN;
    Ok(patience.next().map_or(idle, |next| next.max(soonest).min(idle)))
}

async fn one(core: &Arc<Core>, target: &PublishTarget, stored: &Stored) {
    let is_early = |host: &str| {
        let patience = core.publishing.patience();
        patience.waits(host, &stored.about).is_some_and(|w| w.until > Instant::now())
    };
    // Before its evidence is read: a host that is away is the same for all that goes there.
    if is_early(&common_host(target)) {
        return;
    }
    // On a thread of its own: megabytes of evidence are read.
    let (shared, to, of) = (Arc::clone(core), target.clone(), stored.clone());
    let planning = tokio::task::spawn_blocking(move || deliver::plan(&shared, &to, &of)).await;
    let planned = planning.unwrap_or_else(|e| Err(PublishError::Ended(e.to_string()).into()));
    let (host, result) = match planned {
        Ok(plan) => {
            let host = plan.target.host().to_owned();
            if is_early(&host) {
                return;
            }
            (host, deliver::deliver(core, target, &plan).await.map(|_| ()))
        }
        Err(error) => (String::new(), Err(error)),
    };
    match result {
        Ok(()) => core.publishing.patience().arrived(&host, &stored.about),
        Err(error) => note(core, &host, &stored.about, &error),
    }
}

fn note(core: &Core, host: &str, about: &Digest, error: &DeliveryError) {
    core.metrics.published("failed");
    let (now, problem) = (Instant::now(), error.to_string());
    let mut patience = core.publishing.patience();
    if error.host_is_away() {
        patience.host_failed(host, now, &problem);
    } else {
        patience.failed(*about, now, &problem);
    }
    let waits = patience.waits(host, about).map_or(Duration::ZERO, |w| w.until - now);
    drop(patience);
    tracing::warn!(
        publication.about = %about, publication.host = host, %problem,
        retry.wait_ms = waits.as_millis() as u64, "not published; it is tried again"
    );
}

/// The host that everything goes to; empty where that depends on the image.
fn common_host(target: &PublishTarget) -> String {
    let probe = "registry.invalid/probe".parse();
    let target = match (target, probe) {
        (PublishTarget::Sidecar { .. }, Ok(probe)) => Target::of(target, &probe).ok(),
        _ => None,
    };
    target.map(|target| target.host().to_owned()).unwrap_or_default()
}

/// What waits, at most `limit` of it, and whether there is more. One plan with its evidence (64 MiB
/// at most) is in memory at a time; not to be called where others wait for the thread.
pub fn pending(core: &Core, limit: usize) -> Result<(Vec<Pending>, bool), StoreError> {
    let (mut rows, mut after) = (Vec::new(), None);
    let Some(target) = &core.loaded.config.publish else { return Ok((rows, false)) };
    loop {
        let page = core.store.unpublished(after, PAGE)?;
        let Some(last) = page.last() else { return Ok((rows, false)) };
        after = Some(last.about);
        for stored in &page {
            if rows.len() >= limit {
                return Ok((rows, true));
            }
            let plan = deliver::plan(core, target, stored);
            let what = plan.map(|plan| Summary::of(&plan)).map_err(|error| error.to_string());
            let host = what.as_ref().map_or("", |what| what.target.host());
            let patience = core.publishing.patience();
            let waits = patience.waits(host, &stored.about);
            let failed = waits.map(|waiting| (waiting.failures, waiting.problem.clone()));
            drop(patience);
            rows.push(Pending { what, failed });
        }
    }
}
