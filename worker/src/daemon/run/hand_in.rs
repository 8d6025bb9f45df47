//! Handing in: what is in the outbox, to a coordinator whose journal was compared with the receipts.
//!
//! A coordinator that was restored from a backup learns from a worker's newest receipt what it lost.
//! A result that it takes before that comparison gets a receipt of the new journal, which then is
//! the newest and hides what is missing.
//! Invariant: no receipt is kept that came over a connection over which no sync was answered before,
//! so that the receipt which is compared is always one from before. Results are not sent before that
//! either, except where the connection changes under the very call: such a one is sent again. What
//! the coordinator refuses for good, twice with a sync between, is put aside and said; it holds up
//! neither the rest nor the end. It must never drop a result that has no receipt.

use super::super::outbox::PendingResult;
use super::{RunError, Worker};
use attest::{
    dsse::Envelope,
    record::{Receipt, Record},
};
use proto::v1;
use tonic::Status;

impl Worker {
    /// True when receipts were compared over the newest connection.
    pub(super) fn compared(&self) -> bool {
        self.compared_on == Some(self.connections.newest())
    }

    /// Sends what has no receipt yet. True when nothing is left.
    pub(super) async fn send_pending(&mut self) -> Result<bool, RunError> {
        for name in self.outbox.waiting()? {
            if !self.compared() {
                return Ok(false);
            }
            let result = self.outbox.result(&name)?;
            self.submit(&result).await?;
        }
        Ok(self.outbox.waiting()?.is_empty())
    }

    /// Sends one result; after the next sync where receipts were not compared yet, or the result was
    /// refused since the last one.
    pub(super) async fn submit(&mut self, result: &PendingResult) -> Result<(), RunError> {
        let refused = self.refusals.get(&result.lease) == Some(&self.syncs);
        if refused || !self.compared() {
            return Ok(());
        }
        let request = v1::SubmitRequest {
            lease: result.lease.to_string(),
            fence: result.fence.0,
            envelope: result.envelope.to_json(),
            explanation: result.explanation.clone(),
            reveal: Vec::new(),
        };
        match self.client.submit(request).await {
            Ok(_) if !self.compared() => {
                tracing::info!(
                    lease.id = %result.lease,
                    "the connection changed: the result is sent again after receipts are compared"
                );
                Ok(())
            }
            Ok(response) => self.file_receipt(result, response.into_inner()),
            Err(status) if proto::status::is_transient(&status) => {
                tracing::warn!(
                    lease.id = %result.lease,
                    reason = %status.message(),
                    "result not handed in yet"
                );
                Ok(())
            }
            Err(status) => self.refused_for_good(result, &status),
        }
    }

    /// A refusal that waiting does not mend. It may be about the worker and not the result (just
    /// revoked, just enrolled): then the next sync tells. After one that was answered it is final.
    fn refused_for_good(
        &mut self,
        result: &PendingResult,
        status: &Status,
    ) -> Result<(), RunError> {
        let reason = status.message();
        if self.refusals.remove(&result.lease).is_none() {
            tracing::warn!(lease.id = %result.lease, %reason, "result refused; it is sent once more");
            self.refusals.insert(result.lease, self.syncs);
            return Ok(());
        }
        self.outbox.set_aside(result, reason)?;
        tracing::error!(
            lease.id = %result.lease,
            %reason,
            outbox.folder = %self.outbox.refused_folder().display(),
            "the coordinator refuses a result for good: it is kept, and not sent any more"
        );
        Ok(())
    }

    /// Keeps a receipt only if the coordinator's key signed it for this very result.
    fn file_receipt(
        &self,
        result: &PendingResult,
        response: v1::SubmitResponse,
    ) -> Result<(), RunError> {
        let envelope = response.receipt.map(|r| Envelope::parse(&r.envelope));
        let Some(Ok(envelope)) = envelope else {
            tracing::warn!(lease.id = %result.lease, "the receipt is not an envelope");
            return Ok(());
        };
        match Receipt::open(&envelope, &self.loaded.coordinator_key) {
            Ok(receipt) if receipt.observation == result.envelope.observation_id() => {
                self.outbox.confirm(result, &envelope, receipt.position)?;
                tracing::info!(
                    lease.id = %result.lease,
                    journal.position = receipt.position.0,
                    observation.filed_as = %response.filed_as,
                    "result is on the coordinator's disk"
                );
            }
            Ok(_) => tracing::warn!(lease.id = %result.lease, "the receipt is for another result"),
            Err(error) => tracing::warn!(lease.id = %result.lease, %error, "receipt refused"),
        }
        Ok(())
    }
}
