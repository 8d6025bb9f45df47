//! Leases that are given back: nothing was observed under them.
//!
//! Invariant: a lease that was answered is never given back. One that could not be given back
//! expires on the other side; what an earlier process was at is tried again.

use super::super::offer::CheckedOffer;
use super::{RunError, Worker};
use attest::id::{Fence, LeaseId};
use proto::v1;

impl Worker {
    pub(super) async fn decline(&mut self, offer: &CheckedOffer, reason: String) {
        self.decline_lease(offer.lease.lease, offer.lease.fence, reason).await;
    }

    /// True if nothing more is to be said about the lease.
    pub(super) async fn decline_lease(
        &mut self,
        lease: LeaseId,
        fence: Fence,
        reason: String,
    ) -> bool {
        tracing::warn!(lease.id = %lease, %reason, "lease given back");
        self.refused.insert(lease);
        self.say_no(lease, fence, &reason).await
    }

    /// True if nothing more is to be said about the lease.
    pub(super) async fn say_no(&mut self, lease: LeaseId, fence: Fence, reason: &str) -> bool {
        let request = v1::DeclineRequest {
            lease: lease.to_string(),
            fence: fence.0,
            reason: reason.chars().take(500).collect(),
        };
        match self.client.decline(request).await {
            Ok(_) => true,
            Err(status) => {
                // It will expire on the other side.
                tracing::warn!(reason = %status.message(), "could not give the lease back");
                status.code() != tonic::Code::Unavailable
            }
        }
    }

    /// Gives back what an earlier process was at, unless it was answered.
    pub(super) async fn give_back_left(&mut self) -> Result<(), RunError> {
        for (lease, fence) in std::mem::take(&mut self.left) {
            let reason = "the worker was killed while it was at it".to_owned();
            if !self.outbox.answered(&lease)? && !self.decline_lease(lease, fence, reason).await {
                self.left.push((lease, fence));
            }
        }
        Ok(())
    }

    pub(super) async fn give_back(&mut self) {
        let running = std::mem::take(&mut self.running);
        for (lease, job) in running {
            self.end(job.task, lease).await;
            self.decline(&job.offer, "the worker is stopping".to_owned()).await;
        }
    }
}
