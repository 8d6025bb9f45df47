//! The sync: what this worker is at, and what the coordinator answers.
//!
//! Invariant: receipts are compared before anything else of an answer is followed; no more jobs are
//! asked for than there are slots, none while jobs cannot be run here. A call is held only where
//! nothing waits here.

use super::{RunError, Worker, now};
use attest::id::{JournalPosition, LeaseId};
use proto::v1;
use std::time::Duration;
use tokio::time::Instant;

/// While jobs run, the coordinator hears of them this often (it suspects silence after 60 s).
const HEARTBEAT: Duration = Duration::from_secs(15);
/// An idle call is held this long on the other side.
const HOLD_SECONDS: u32 = 30;
/// A clock that is further off than this is said aloud.
const CLOCK_SKEW_MAX_SECONDS: i64 = 300;
/// Every architecture that apko knows, in Go's words.
const ARCHITECTURES: [&str; 8] =
    ["386", "amd64", "arm", "arm64", "loong64", "ppc64le", "riscv64", "s390x"];

impl Worker {
    pub(super) async fn sync(&mut self, draining: bool) -> Result<Duration, RunError> {
        let free = self.room();
        // A held call would keep back what waits for the comparison, or for the end of a rest. What
        // waits says so itself: the connection may change under this very call.
        let nothing_waits = self.compared() && self.outbox.waiting()?.is_empty();
        let idle = self.running.is_empty() && !draining && nothing_waits;
        let rest = self.rest();
        let hold = if rest.is_zero() { HOLD_SECONDS } else { rest.as_secs().min(30) as u32 };
        let newest = self.outbox.newest_receipt();
        let request = v1::SyncRequest {
            worker_version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: Some(capabilities(self.loaded.config.memory_mib_max)),
            slots_free: if draining { 0 } else { free },
            draining,
            leases: self.held(),
            wait_seconds: if idle { hold } else { 0 },
            worker_time: now().unix(),
            newest_receipt_position: newest.map_or(0, |held| held.position.0),
            holds_receipts: newest.is_some(),
            newest_receipt_observation: newest
                .map_or_else(String::new, |held| held.observation.to_string()),
        };
        match self.client.sync(request).await {
            Ok(response) => {
                (self.failures, self.syncs) = (0, self.syncs + 1);
                let response = response.into_inner();
                self.obey(response).await
            }
            Err(status) => self.failed("sync", status),
        }
    }

    /// How long no job is asked for.
    pub(super) fn rest(&self) -> Duration {
        let now = Instant::now();
        self.fitness.rest(now).max(self.strangers.rest(now))
    }

    /// How many jobs can be begun now.
    pub(super) fn room(&self) -> u32 {
        if self.rest().is_zero() {
            self.loaded.config.slots.saturating_sub(self.running.len() as u32)
        } else {
            0
        }
    }

    pub(super) fn held(&self) -> Vec<v1::HeldLease> {
        let held = self.running.values().map(|running| v1::HeldLease {
            lease: running.offer.lease.lease.to_string(),
            fence: running.offer.lease.fence.0,
            phase: "building".to_owned(),
            progress_percent: 0,
        });
        held.collect()
    }

    pub(super) async fn obey(&mut self, response: v1::SyncResponse) -> Result<Duration, RunError> {
        let skew = response.coordinator_time - now().unix();
        if skew.abs() > CLOCK_SKEW_MAX_SECONDS {
            tracing::warn!(
                clock.skew_seconds = skew,
                "this machine's clock differs from the coordinator's"
            );
        }
        for lease in response.stop.iter().filter_map(|text| text.parse::<LeaseId>().ok()) {
            if let Some(running) = self.running.remove(&lease) {
                self.end(running.task, lease).await;
                tracing::info!(lease.id = %lease, "the coordinator ended the lease");
            }
        }
        if response.resubmit {
            let from = JournalPosition(response.resubmit_from_position);
            let results = self.outbox.reopen_from(from)?;
            tracing::warn!(
                journal.position = from.0,
                outbox.results = results,
                "the coordinator lost results that it had receipted: they are sent again"
            );
        }
        let newly = !self.compared();
        self.compared_on = Some(self.connections.newest());
        if newly || response.resubmit {
            self.send_pending().await?;
        }
        let mut offered = false;
        for offer in response.offers {
            offered |= self.take(&offer).await?;
        }
        let next = Duration::from_secs(u64::from(response.next_sync_seconds.min(60)));
        let free = self.room() > 0;
        Ok(match (self.running.is_empty(), offered) {
            (_, true) if free => Duration::ZERO,
            (false, _) => next.min(HEARTBEAT),
            (true, _) => next,
        })
    }
}

fn capabilities(memory_mib_max: u64) -> v1::Capabilities {
    v1::Capabilities {
        memory_mib: u32::try_from(memory_mib_max).unwrap_or(u32::MAX),
        // The apko assembler runs no foreign code: every architecture is built anywhere.
        architectures: ARCHITECTURES.map(str::to_owned).to_vec(),
        rebuilders: vec!["apko".to_owned()],
        isolation: "process".to_owned(),
    }
}
