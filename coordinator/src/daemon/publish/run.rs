//! The task that publishes: everything that did not arrive yet, again and again.
//!
//! Invariant: what waits is read from the store each time, never remembered here, so that a
//! coordinator that was stopped goes on where it was. Being told to stop interrupts a push; that is
//! harmless ([`super::deliver`]). Nothing here holds up a judgement.

use super::{
    deliver::{self, DeliveryError, Plan},
    target::Target,
};
use crate::{
    daemon::{Core, DaemonError},
    journal::Stored,
    setup::config::PublishTarget,
    store::StoreError,
};
use attest::Digest;
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

/// One publication that waits, for people.
#[derive(Debug, Clone)]
pub struct Pending {
    /// What goes where; or why that cannot be said.
    pub plan: Result<Plan, String>,
    /// How often it failed, and the last problem.
    pub failed: Option<(u32, String)>,
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
async fn round(core: &Arc<Core>, target: &PublishTarget) -> Result<Instant, StoreError> {
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
    let (host, result) = match deliver::plan(core, target, stored) {
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

/// What waits, at most `limit` of it, and whether there is more.
pub fn pending(core: &Core, limit: usize) -> Result<(Vec<Pending>, bool), StoreError> {
    let Some(target) = &core.loaded.config.publish else { return Ok((Vec::new(), false)) };
    let mut found = core.store.unpublished(None, limit.saturating_add(1))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let rows = found.iter().map(|stored| {
        let plan = deliver::plan(core, target, stored).map_err(|error| error.to_string());
        let host = plan.as_ref().map_or("", |plan| plan.target.host());
        let patience = core.publishing.patience();
        let waits = patience.waits(host, &stored.about);
        let failed = waits.map(|waiting| (waiting.failures, waiting.problem.clone()));
        drop(patience);
        Pending { plan, failed }
    });
    Ok((rows.collect(), more))
}
