//! What is offered: checked, then accepted or refused.
//!
//! Invariant: nothing is accepted that the configured coordinator did not sign, that was answered
//! already, or for which there is no slot; an acceptance whose answer was lost is asked for again.
//! Offers that another key signed make none be asked for for a while.

use super::super::offer::{self, OfferError};
use super::{RunError, Worker, backoff};
use proto::v1;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// An acceptance is asked for again this often while the coordinator is away: for about 8 s.
const ACCEPT_TRIES_MAX: u32 = 6;

impl Worker {
    /// Checks an offer, accepts it and starts the job; or says why not. True if the offer was the
    /// coordinator's.
    pub(super) async fn take(&mut self, offer: &v1::Offer) -> Result<bool, RunError> {
        let key = &self.loaded.coordinator_key;
        let checked = match offer::read(offer, key, self.identity.worker()) {
            Ok(checked) => checked,
            Err(why) => {
                self.refuse(offer, &why).await;
                return Ok(false);
            }
        };
        self.refusing = None;
        self.strangers.ran();
        let lease = checked.lease.lease;
        if self.running.contains_key(&lease) || self.refused.contains(&lease) {
            return Ok(true);
        }
        if self.outbox.answered(&lease)? {
            return Ok(true);
        }
        if self.room() == 0 {
            let reason = "no slot of this worker is free".to_owned();
            self.decline_lease(lease, checked.lease.fence, reason).await;
            return Ok(true);
        }
        let request = v1::AcceptRequest { lease: lease.to_string(), fence: checked.lease.fence.0 };
        match self.accept(request).await {
            Ok(accepted) => {
                let allowed = Duration::from_secs(accepted.into_inner().execution_seconds_max);
                self.begin(checked, allowed)?;
            }
            Err(status) => {
                tracing::info!(lease.id = %lease, reason = %status.message(), "lease not granted");
            }
        }
        Ok(true)
    }

    /// Refuses an offer; said once, until there is another reason. Where another key signed it, the
    /// next will be no better: it is given back so that the job goes elsewhere, and none is asked
    /// for for a while, which doubles up to a minute.
    pub(super) async fn refuse(&mut self, offer: &v1::Offer, why: &OfferError) {
        let reason = why.to_string();
        let said = self.refusing.as_ref() == Some(&reason);
        if !why.is_another_key() {
            if !said {
                tracing::warn!(offer.job = %offer.job, %reason, "offer refused");
            }
            self.refusing = Some(reason);
            return;
        }
        let jitter = rand::random_range(0.5..1.0);
        let (rest, _) = self.strangers.failed(Instant::now(), jitter);
        if !said {
            tracing::error!(
                offer.job = %offer.job,
                %reason,
                key.id = %self.loaded.coordinator_key.id(),
                worker.rest_ms = rest.as_millis() as u64,
                "offer refused: another key signed it than the configured `coordinator_key`; the \
                 waits before the next double until one is right"
            );
        }
        // Nobody vouches for this lease: it may name one that is really held here.
        if let Some(lease) = offer::unverified_lease(offer, self.identity.worker())
            && !self.running.contains_key(&lease.lease)
        {
            self.say_no(lease.lease, lease.fence, &reason).await;
        }
        self.refusing = Some(reason);
    }

    /// Asks until there is an answer: if only the answer was lost, the lease is held here, and would
    /// be silent until it expires.
    pub(super) async fn accept(
        &mut self,
        request: v1::AcceptRequest,
    ) -> Result<tonic::Response<v1::AcceptResponse>, Status> {
        use tonic::Code;
        let mut tries = 1;
        loop {
            let answer = self.client.accept(request.clone()).await;
            let away = |status: &Status| matches!(status.code(), Code::Unavailable | Code::Unknown);
            match answer {
                Err(status) if away(&status) && tries < ACCEPT_TRIES_MAX => {
                    tokio::time::sleep(backoff(tries)).await;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }
}
