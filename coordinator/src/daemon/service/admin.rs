//! Operators in and out, workers in and out, jobs out of the parking place.
//!
//! Invariant: only clients that the configuration calls administrators; and even they bring records
//! that operators signed.

use super::{Core, client, refusal_status, store_status};
use crate::{
    daemon::{
        drains, publish,
        roster::{Roster, RosterError},
        wall,
    },
    journal::NewRecord,
    queue::{Event, Reply},
    store::nothing,
};
use attest::{dsse::Envelope, id::WorkerId};
use proto::{convert, status, v1, v1::admin_service_server::AdminService};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Most publications of one answer: the evidence of each is read, one after the other.
const PENDING_MAX: usize = 1000;

/// The service.
pub struct Admin {
    core: Arc<Core>,
    /// One record at a time: each is checked against those before it.
    taking: Arc<tokio::sync::Mutex<()>>,
}

fn roster_status(error: &RosterError) -> Status {
    match error {
        RosterError::Record(_) => status::malformed(error),
        RosterError::UnknownOperator(_) => status::missing(error),
        RosterError::Store(store) => store_status(store),
        RosterError::Journal { .. } => status::unavailable(error),
        RosterError::NameTaken(_) | RosterError::WorkerTaken { .. } | RosterError::Revoked(_) => {
            status::precondition(error)
        }
    }
}

fn pending(publication: &publish::run::Pending) -> v1::PendingPublication {
    let (failures, problem) = publication.failed.clone().unwrap_or_default();
    let mut row = v1::PendingPublication { failures, problem, ..Default::default() };
    match &publication.what {
        Ok(what) => {
            row.image.clone_from(&what.image);
            row.platform = what.platform.as_ref().map(ToString::to_string).unwrap_or_default();
            row.target = what.target.to_string();
            (row.attested, row.evidence) = (what.attested, what.evidence);
        }
        Err(problem) => row.problem.clone_from(problem),
    }
    row
}

impl Admin {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, taking: Arc::default() }
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let client = client(&self.core, request)?;
        if client.administrator {
            return Ok(());
        }
        Err(status::refused(format!("{} is no administrator", client.name)))
    }

    /// What is known of an enrolled worker.
    fn worker(&self, roster: &Roster, id: &WorkerId) -> Result<v1::WorkerSummary, Status> {
        let store = self.core.store.as_ref();
        let drained = drains::is_drained(store, id).map_err(|e| store_status(&e))?;
        let heard = self.core.presence.of(id);
        let state = match &heard {
            _ if roster.worker(id).is_none() => "revoked",
            _ if drained => "draining",
            Some(heard) if !heard.is_away(wall::now()) => "connected",
            _ => "away",
        };
        Ok(v1::WorkerSummary {
            worker: id.to_string(),
            state: state.to_owned(),
            leases: u32::try_from(store.leases_out_to(id)).unwrap_or(u32::MAX),
            last_seen: heard.as_ref().map_or(0, |heard| heard.at.unix()),
            worker_version: heard.map(|heard| heard.version).unwrap_or_default(),
        })
    }

    /// Checks a record against the roster, keeps it, and goes on with the roster that has it.
    async fn take(
        &self,
        bytes: &[u8],
        check: impl FnOnce(&mut Roster, &Envelope) -> Result<NewRecord, RosterError>,
    ) -> Result<u64, Status> {
        let envelope = convert::envelope("record_envelope", bytes)?;
        let one = Arc::clone(&self.taking).lock_owned().await;
        let mut roster = Roster::clone(&self.core.roster());
        let record = check(&mut roster, &envelope).map_err(|e| roster_status(&e))?;
        let core = Arc::clone(&self.core);
        // A task of its own: a caller that goes away must not part journal and roster.
        let kept = tokio::spawn(async move {
            let kept = core.store.append(vec![record]).await;
            if kept.is_ok() {
                core.go_on_with(roster);
                core.revoked.notify_one();
            }
            drop(one);
            kept
        });
        let kept = kept.await.map_err(status::unavailable)?;
        Ok(kept.map_err(|e| store_status(&e))?.first.0)
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn add_operator(
        &self,
        request: Request<v1::AddOperatorRequest>,
    ) -> Result<Response<v1::AddOperatorResponse>, Status> {
        self.admit(&request)?;
        let record = request.into_inner().record_envelope;
        let journal_position = self.take(&record, Roster::take_operator).await?;
        Ok(Response::new(v1::AddOperatorResponse { journal_position }))
    }

    async fn enroll_worker(
        &self,
        request: Request<v1::EnrollWorkerRequest>,
    ) -> Result<Response<v1::EnrollWorkerResponse>, Status> {
        self.admit(&request)?;
        let record = request.into_inner().record_envelope;
        let journal_position = self.take(&record, Roster::take_worker).await?;
        Ok(Response::new(v1::EnrollWorkerResponse { journal_position }))
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeRequest>,
    ) -> Result<Response<v1::RevokeResponse>, Status> {
        self.admit(&request)?;
        let record = request.into_inner().revocation_envelope;
        let journal_position = self.take(&record, Roster::take_revocation).await?;
        Ok(Response::new(v1::RevokeResponse { journal_position }))
    }

    async fn list_operators(
        &self,
        request: Request<v1::ListOperatorsRequest>,
    ) -> Result<Response<v1::ListOperatorsResponse>, Status> {
        self.admit(&request)?;
        let roster = self.core.roster();
        let mut operators = Vec::new();
        for (name, operator) in &roster.operators {
            let own = roster.workers.iter().filter(|(_, w)| w.operator == *name);
            let workers: Result<_, Status> = own.map(|(id, _)| self.worker(&roster, id)).collect();
            operators.push(v1::OperatorSummary {
                operator: name.to_string(),
                root_key: operator.root_key.id().to_string(),
                workers: workers?,
                revoked: roster.revoked.contains(&operator.root_key.id()),
            });
        }
        Ok(Response::new(v1::ListOperatorsResponse { operators }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        self.admit(&request)?;
        let message = request.into_inner();
        let worker = convert::worker(&message.worker)?;
        if !self.core.roster().workers.contains_key(&worker) {
            let text = format!("worker {worker} is not known; `assay operator list` names them");
            return Err(status::missing(text));
        }
        let drained = drains::set(&self.core, worker, !message.undo).await;
        drained.map_err(|e| store_status(&e))?;
        Ok(Response::new(v1::DrainWorkerResponse {}))
    }

    async fn unpark(
        &self,
        request: Request<v1::UnparkRequest>,
    ) -> Result<Response<v1::UnparkResponse>, Status> {
        self.admit(&request)?;
        let job = convert::job(&request.into_inner().job)?;
        let reply = self.core.store.act(Event::Unpark { job }, nothing()).await;
        match reply.map_err(|e| store_status(&e))? {
            Reply::Refused(refusal) => Err(refusal_status(refusal)),
            _ => Ok(Response::new(v1::UnparkResponse {})),
        }
    }

    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        self.admit(&request)?;
        let message = request.into_inner();
        let limit = (message.rows_max as usize).clamp(1, PENDING_MAX);
        let core = Arc::clone(&self.core);
        let reading = tokio::task::spawn_blocking(move || publish::run::pending(&core, limit));
        let found = reading.await.map_err(status::unavailable)?.map_err(|e| store_status(&e))?;
        if !message.dry_run {
            self.core.publishing.try_now();
        }
        Ok(Response::new(v1::PublishResponse {
            publications: found.0.iter().map(pending).collect(),
            more: found.1,
            configured: self.core.loaded.config.publish.is_some(),
        }))
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        client(&self.core, &request)?;
        let (roster, store) = (self.core.roster(), &self.core.store);
        let (figures, now) = (store.figures(), store.now());
        let enrolled = roster.workers.keys().filter(|id| roster.worker(id).is_some()).count();
        let status = serde_json::json!({
            "schema": "assay/coordinator-status/v1",
            "version": env!("CARGO_PKG_VERSION"),
            "journal_end": store.end(),
            "operators": roster.operators.len(),
            "workers": enrolled,
            "workers_heard": figures.workers,
            "jobs_unfinished": store.totals().unfinished,
            "jobs_in_memory": figures.jobs_in_memory,
            "offers_out": figures.offers,
            "leases_out": figures.leases,
            "leases_silent": figures.suspects,
            "oldest_unfinished_seconds": figures.oldest_waiting.map(|at| now.since(at) / 1000),
        });
        let status = serde_json::to_vec(&status).unwrap_or_default();
        Ok(Response::new(v1::StatusResponse { status }))
    }
}
