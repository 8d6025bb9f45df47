//! Sync, Accept, Decline, FetchJob, Submit: what workers ask.
//!
//! Invariant: a receipt is made only after the store has the observation on disk; an observation is
//! filed only if its signature is by the enrolled key of the worker that it names.

use super::{Core, peer, refusal_status, store_status};
use crate::{
    daemon::{evidence, wall},
    journal::{BODY_BYTES_MAX, Kind, NewRecord},
    queue::{Event, Reply, Report, Role, Said, Submission, model::NAME_BYTES_MAX},
    store::nothing,
};
use attest::{
    Digest,
    dsse::Envelope,
    id::{OperatorId, WorkerId},
    observation::{Observation, Outcome},
    record::{Receipt, Record},
};
use proto::{convert, status, v1, v1::worker_service_server::WorkerService};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// Longest time that a call is held.
const HOLD_SECONDS_MAX: u32 = 60;
/// Largest explanation that is kept.
pub(super) const EXPLANATION_BYTES_MAX: usize = 3 << 20;

/// The service.
pub struct Workers {
    pub(super) core: Arc<Core>,
}

/// The worker that calls, and its operator.
pub(super) fn enrolled<T>(
    core: &Core,
    request: &Request<T>,
) -> Result<(WorkerId, OperatorId), Status> {
    let worker = WorkerId(peer(request)?.0);
    let roster = core.roster();
    let found = roster.worker(&worker).ok_or_else(|| {
        status::refused(format!("worker {worker} is not enrolled, or was revoked"))
    })?;
    Ok((worker, found.operator.clone()))
}

impl Workers {
    fn enrolled<T>(&self, request: &Request<T>) -> Result<(WorkerId, OperatorId), Status> {
        enrolled(&self.core, request)
    }

    async fn desired(&self, report: &Report) -> Result<crate::queue::Desired, Status> {
        let reply = self.core.store.act(Event::Sync(report.clone()), nothing()).await;
        match reply.map_err(|e| store_status(&e))? {
            Reply::Desired(desired) => Ok(desired),
            Reply::Refused(refusal) => Err(refusal_status(refusal)),
            _ => Ok(crate::queue::Desired::default()),
        }
    }

    fn offers(&self, desired: &crate::queue::Desired) -> Result<Vec<v1::Offer>, Status> {
        let mut offers = Vec::new();
        for offer in &desired.offers {
            let lease = self.core.store.lease_record(&offer.grant.lease);
            let announce = self.core.store.newest_about(Kind::ANNOUNCE, &offer.job.0);
            let (Some(lease), Some(announce)) =
                (lease.map_err(|e| store_status(&e))?, announce.map_err(|e| store_status(&e))?)
            else {
                continue;
            };
            offers.push(v1::Offer {
                job: offer.job.to_string(),
                lease_envelope: lease.body,
                announce_envelope: announce.body,
                not_after_seconds: offer.execution_ms_max / 1000,
            });
        }
        Ok(offers)
    }
}

fn report(
    worker: WorkerId,
    operator: OperatorId,
    message: &v1::SyncRequest,
) -> Result<Report, Status> {
    let capabilities = message.capabilities.clone().unwrap_or_default();
    let names = capabilities.architectures.iter().chain(&capabilities.rebuilders);
    if let Some(found) = names.map(String::len).find(|bytes| *bytes > NAME_BYTES_MAX) {
        return Err(status::malformed(format!(
            "expected names of at most {NAME_BYTES_MAX} bytes for architectures and rebuilders, \
             found one of {found}"
        )));
    }
    let mut leases = Vec::new();
    for held in message.leases.iter().take(1024) {
        leases.push(convert::lease(&held.lease, held.fence)?);
    }
    Ok(Report {
        worker,
        operator,
        architectures: capabilities.architectures.into_iter().take(64).collect(),
        rebuilders: capabilities.rebuilders.into_iter().take(16).collect(),
        memory_mib: capabilities.memory_mib,
        slots_free: message.slots_free,
        draining: message.draining,
        leases,
        waits: message.wait_seconds > 0,
    })
}

#[tonic::async_trait]
impl WorkerService for Workers {
    async fn sync(
        &self,
        request: Request<v1::SyncRequest>,
    ) -> Result<Response<v1::SyncResponse>, Status> {
        let (worker, operator) = self.enrolled(&request)?;
        let message = request.into_inner();
        let report = report(worker, operator, &message)?;
        self.core.presence.heard(worker, &message.worker_version, wall::now());
        let hold = Duration::from_secs(u64::from(message.wait_seconds.min(HOLD_SECONDS_MAX)));
        let until = Instant::now() + hold;
        // Registered before the queue is asked, so that no wake falls between.
        let held = report.waits.then(|| self.core.wakes.hold(&*self.core.store, worker));
        let desired = loop {
            let desired = self.desired(&report).await?;
            let idle = desired.offers.is_empty() && desired.stop.is_empty();
            let Some(call) = held.as_ref().filter(|_| idle) else { break desired };
            if !call.woken(until, &self.core.stopping).await {
                break desired;
            }
        };
        drop(held);
        let lost_from = self.lost_from(worker, &message)?;
        Ok(Response::new(v1::SyncResponse {
            offers: self.offers(&desired)?,
            stop: desired.stop.iter().map(ToString::to_string).collect(),
            next_sync_seconds: if message.leases.is_empty() { 1 } else { 15 },
            coordinator_time: wall::now().unix(),
            resubmit: lost_from.is_some(),
            resubmit_from_position: lost_from.unwrap_or(0),
            coordinator_key: self.core.loaded.public_key().id().to_string(),
        }))
    }

    async fn accept(
        &self,
        request: Request<v1::AcceptRequest>,
    ) -> Result<Response<v1::AcceptResponse>, Status> {
        let (worker, _) = self.enrolled(&request)?;
        let message = request.into_inner();
        let (lease, fence) = convert::lease(&message.lease, message.fence)?;
        let reply = self.core.store.act(Event::Accept { worker, lease, fence }, nothing()).await;
        match reply.map_err(|e| store_status(&e))? {
            Reply::Granted { execution_ms, .. } => {
                let execution_seconds_max = execution_ms.div_ceil(1000);
                Ok(Response::new(v1::AcceptResponse { execution_seconds_max }))
            }
            Reply::Refused(refusal) => Err(refusal_status(refusal)),
            _ => Err(status::precondition("the offer is over")),
        }
    }

    async fn decline(
        &self,
        request: Request<v1::DeclineRequest>,
    ) -> Result<Response<v1::DeclineResponse>, Status> {
        let (worker, operator) = self.enrolled(&request)?;
        let message = request.into_inner();
        let (lease, fence) = convert::lease(&message.lease, message.fence)?;
        let reason: String = message.reason.chars().filter(|c| !c.is_control()).take(500).collect();
        tracing::info!(operator.name = %operator, lease.id = %lease, %reason, "lease declined");
        let event = Event::Decline { worker, lease, fence };
        match self.core.store.act(event, nothing()).await.map_err(|e| store_status(&e))? {
            Reply::Refused(refusal) => Err(refusal_status(refusal)),
            _ => Ok(Response::new(v1::DeclineResponse {})),
        }
    }

    async fn fetch_job(
        &self,
        request: Request<v1::FetchJobRequest>,
    ) -> Result<Response<v1::FetchJobResponse>, Status> {
        self.enrolled(&request)?;
        let job = convert::job(&request.into_inner().job)?;
        let announce = self.core.store.newest_about(Kind::ANNOUNCE, &job.0);
        let announce = announce.map_err(|e| store_status(&e))?;
        let announce =
            announce.ok_or_else(|| status::missing(format!("no job {job} was announced")))?;
        Ok(Response::new(v1::FetchJobResponse { announce_envelope: announce.body }))
    }

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        self.enrolled(&request)?;
        let message = request.into_inner();
        let (lease, fence) = convert::lease(&message.lease, message.fence)?;
        let envelope = convert::envelope("envelope", &message.envelope)?;
        // As it is read, without what a reader skips: blanks, and keys that nobody knows.
        let stored = envelope.to_json();
        let (observation, submission) = self.checked(&envelope, stored.len())?;
        if (observation.lease, observation.fence) != (lease, fence) {
            return Err(status::malformed(
                "expected the lease and fence of the signed observation",
            ));
        }
        let (job, lease) = (submission.job, submission.lease);
        self.about_the_job(&observation)?;
        if stored.len() > BODY_BYTES_MAX {
            let found = stored.len();
            return Err(status::malformed(format!(
                "expected an observation of at most {BODY_BYTES_MAX} bytes, found {found}"
            )));
        }
        let filed = self.core.store.complete(submission, stored).await;
        let filed = filed.map_err(|e| store_status(&e))?;
        self.keep_explanation(&observation, message.explanation).await;
        self.core.metrics.observed();
        self.core.announce_change();
        let receipt = Receipt {
            observation: envelope.observation_id(),
            job,
            lease,
            position: filed.position,
            received_at: wall::now(),
            log_index: None,
        };
        let signed = receipt
            .sign(&self.core.loaded.verdict_key)
            .map_err(|e| status::unavailable(format!("the receipt could not be signed: {e}")))?;
        let filed_as = match (filed.filed.known, filed.filed.role) {
            (true, _) => "duplicate",
            (false, Role::Counted | Role::Noted) => "counted",
            (false, Role::Volunteer) => "volunteer",
            (false, Role::Equivocation) => "equivocation",
        };
        Ok(Response::new(v1::SubmitResponse {
            receipt: Some(v1::Receipt {
                received: receipt.observation.to_string(),
                journal_position: filed.position.0,
                envelope: signed.to_json(),
                promised_log_index: 0,
            }),
            filed_as: filed_as.to_owned(),
        }))
    }
}

impl Workers {
    /// From which position on this worker must send its results again: its newest receipt names a
    /// record that is not here, or another one stands there. A restored journal grows past the
    /// positions that it lost, so positions tell nothing of how much is missing: every result is
    /// asked for, and those that are here are answered as duplicates.
    fn lost_from(
        &self,
        worker: WorkerId,
        message: &v1::SyncRequest,
    ) -> Result<Option<u64>, Status> {
        if !message.holds_receipts {
            return Ok(None);
        }
        let (end, newest) = (self.core.store.end(), message.newest_receipt_position);
        let lost = if newest >= end.0 {
            true
        } else if message.newest_receipt_observation.is_empty() {
            false
        } else {
            let id = convert::observation(&message.newest_receipt_observation)?;
            let found = self.core.store.observation(&id).map_err(|e| store_status(&e))?;
            found.is_none_or(|stored| stored.position.0 != newest)
        };
        if lost {
            tracing::error!(
                worker.id = %worker,
                receipt.position = newest,
                journal.end = end.0,
                "a worker holds a receipt for a record that this journal lacks: acknowledged \
                 records were lost; the worker is asked for its results again"
            );
        }
        Ok(lost.then_some(0))
    }

    /// Refuses what is about another subject than the job that it answers: it would fill a slot and
    /// could never count.
    fn about_the_job(&self, observation: &Observation) -> Result<(), Status> {
        let job = self.core.store.job(&observation.job).map_err(|e| store_status(&e))?;
        match job {
            Some(job) if job.spec.subject != observation.subject => {
                Err(status::malformed(format!(
                    "expected an observation of {}, found one of {}, which is about another \
                     subject than the job's",
                    job.spec.subject, observation.subject
                )))
            }
            _ => Ok(()),
        }
    }

    /// The observation, if the worker that it names signed it; `bytes` is how long it is stored.
    fn checked(
        &self,
        envelope: &Envelope,
        bytes: usize,
    ) -> Result<(Arc<Observation>, Submission), Status> {
        let observation = Observation::read(envelope).map_err(status::malformed)?;
        let roster = self.core.roster();
        let worker = roster.worker(&observation.worker).ok_or_else(|| {
            status::refused(format!(
                "worker {} is not enrolled, or was revoked",
                observation.worker
            ))
        })?;
        envelope.verify(&worker.key).map_err(status::refused)?;
        if observation.operator != worker.operator {
            return Err(status::refused(format!(
                "expected operator {} as the worker's record says, found {}",
                worker.operator, observation.operator
            )));
        }
        let said = match &observation.outcome {
            Outcome::Output(output) => Said::Output { manifest: output.manifest },
            Outcome::BuildFailed { class, .. } => Said::BuildFailed { class: class.clone() },
            Outcome::RecipeInvalid { gaps } => {
                let mut codes: Vec<&str> = gaps.iter().map(|g| g.code.as_str()).collect();
                codes.sort_unstable();
                codes.dedup();
                Said::RecipeInvalid { class: codes.join(",") }
            }
            Outcome::InputUnavailable { .. } => Said::InputUnavailable,
            Outcome::Timeout { .. } => Said::Timeout,
            Outcome::LimitExceeded { limit, .. } => Said::LimitExceeded { class: limit.clone() },
            Outcome::Refused { .. } => Said::Refused,
        };
        let durations = observation.durations;
        let submission = Submission {
            job: observation.job,
            attempt: observation.attempt,
            lease: observation.lease,
            fence: observation.fence,
            worker: observation.worker,
            operator: observation.operator.clone(),
            observation: envelope.observation_id(),
            said,
            duration_ms: durations.fetch_ms + durations.build_ms + durations.compare_ms,
            bytes: bytes as u64,
        };
        Ok((observation, submission))
    }

    /// Keeps the explanation that the observation names. Losing it loses no evidence.
    async fn keep_explanation(&self, observation: &Observation, bytes: Vec<u8>) {
        let wanted = observation.explanation;
        if bytes.is_empty() || bytes.len() > EXPLANATION_BYTES_MAX {
            return;
        }
        if !evidence::is_json(&bytes) {
            tracing::warn!(job.id = %observation.job, "an explanation is not JSON");
            return;
        }
        if wanted != Some(Digest::of(&bytes)) {
            tracing::warn!(job.id = %observation.job, "an explanation is not the one that was signed");
            return;
        }
        let about = Digest::of(&bytes);
        if matches!(self.core.store.newest_about(Kind::EVIDENCE, &about), Ok(None)) {
            let record = NewRecord::new(Kind::EVIDENCE, about, bytes);
            if let Err(error) = self.core.store.append(vec![record]).await {
                tracing::warn!(%error, "an explanation could not be kept");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_report_have_a_length() {
        let said = |name: String| {
            let capabilities = v1::Capabilities {
                architectures: vec!["amd64".into(), name],
                ..v1::Capabilities::default()
            };
            let message =
                v1::SyncRequest { capabilities: Some(capabilities), ..v1::SyncRequest::default() };
            report(WorkerId(Digest::of(b"w")), "acme".parse().unwrap(), &message)
        };
        assert!(said("x".repeat(NAME_BYTES_MAX)).is_ok());
        let refused = said("x".repeat(NAME_BYTES_MAX + 1)).unwrap_err();
        assert!(refused.message().contains("found one of 65"), "{refused}");
    }
}
