//! Jobs: begun in a process of their own, ended, and signed for.
//!
//! Invariant: the job's folder, which names the lease to the next process, is there until its
//! result is in the outbox or the lease was given back. What the build said is signed only with the
//! recipes that were announced; a job that could not be run here is never an answer about the
//! image.

use super::super::{
    cage,
    child::{self, ChildError, Order},
    environment,
    observe::{self, Draft, Witness},
    offer::CheckedOffer,
    outbox::PendingResult,
};
use super::{Finished, RunError, Running, Worker, job_folder, now};
use attest::{dsse::Envelope, id::LeaseId, observation::Observation};
use std::{fs, time::Duration};
use tokio::{task::JoinHandle, time::Instant};

impl Worker {
    pub(super) fn begin(&mut self, offer: CheckedOffer, allowed: Duration) -> Result<(), RunError> {
        let config = &self.loaded.config;
        let lease = offer.lease.lease;
        let work = self.loaded.work_folder().join(lease.to_string());
        let folder = |error| RunError::Folder { path: work.display().to_string(), error };
        job_folder::make(&work, offer.lease.fence).map_err(folder)?;
        let order = Order {
            subject: offer.announce.subject.clone(),
            index: offer.announce.index,
            policy: self.loaded.policy_path.clone(),
            alpine_releases: config.alpine_releases.clone(),
            store: self.loaded.store_folder(),
            store_mib_max: config.store_mib_max,
            work: work.clone(),
            memory_mib_max: config.memory_mib_max,
            threads: std::thread::available_parallelism()
                .map_or(1, |n| n.get().div_ceil(config.slots.max(1) as usize)),
        };
        let own = Duration::from_secs(config.execution_seconds_max);
        let cap = if allowed.is_zero() { own } else { own.min(allowed) };
        let (launcher, finished) = (self.launcher.clone(), self.finished.0.clone());
        tracing::info!(job.subject = %order.subject, lease.id = %lease, "job started");
        let task = tokio::spawn(async move {
            let draft = child::execute(&launcher, &order, cap).await;
            let _ = finished.send(Finished { lease, draft }).await;
        });
        self.running.insert(lease, Running { offer, task });
        Ok(())
    }

    /// Signs what a job said and hands it in; gives the lease back where it said nothing. The job's
    /// folder, which names the lease to the next process, is there until one of the two is done.
    pub(super) async fn finish(&mut self, finished: Finished) -> Result<(), RunError> {
        let Some(running) = self.running.remove(&finished.lease) else { return Ok(()) };
        let (lease, fence) = (finished.lease, running.offer.lease.fence);
        match self.signed(finished.draft, &running.offer) {
            Ok((envelope, explanation)) => {
                let result = PendingResult { lease, fence, envelope, explanation };
                self.outbox.put(&result)?;
                self.remove_folder(lease);
                self.submit(&result).await
            }
            Err(reason) => {
                self.decline(&running.offer, reason).await;
                self.remove_folder(lease);
                Ok(())
            }
        }
    }

    pub(super) fn remove_folder(&self, lease: LeaseId) {
        let _ = fs::remove_dir_all(self.loaded.work_folder().join(lease.to_string()));
    }

    /// The observation and its explanation, or why there is none.
    pub(super) fn signed(
        &mut self,
        draft: Result<Draft, ChildError>,
        offer: &CheckedOffer,
    ) -> Result<(Envelope, Vec<u8>), String> {
        let draft = draft.map_err(|error| {
            self.unfit(&error);
            error.to_string()
        })?;
        if self.fitness.ran() {
            tracing::info!("jobs can be run again");
        }
        let draft = observe::check_recipes(draft, offer);
        let problem = draft.problem.clone();
        let explanation = draft.explanation.clone().into_bytes();
        match observe::observation(draft, offer, &self.witness()) {
            Some(observation) => Ok((self.sign(&observation, offer)?, explanation)),
            None => Err(problem.unwrap_or_else(|| "the build said nothing".to_owned())),
        }
    }

    /// A job could not be run: for a while none is asked for. Said aloud once in a row.
    pub(super) fn unfit(&mut self, error: &ChildError) {
        let (rest, first) = self.fitness.failed(Instant::now(), rand::random_range(0.5..1.0));
        if first {
            tracing::error!(
                %error,
                worker.rest_ms = rest.as_millis() as u64,
                "a job could not be run on this machine; the waits before the next double until \
                 one runs"
            );
        }
    }

    pub(super) fn sign(
        &self,
        observation: &Observation,
        offer: &CheckedOffer,
    ) -> Result<Envelope, String> {
        let outcome = observation.outcome.as_str();
        let envelope = observation.sign(self.identity.key()).map_err(|e| e.to_string())?;
        tracing::info!(
            job.subject = %offer.announce.subject,
            observation.outcome = outcome,
            job.fetch_ms = observation.durations.fetch_ms,
            job.build_ms = observation.durations.build_ms,
            job.compare_ms = observation.durations.compare_ms,
            job.cpu_ms = observation.durations.cpu_ms,
            observation.id = %envelope.observation_id(),
            "job finished"
        );
        Ok(envelope)
    }

    pub(super) fn witness(&self) -> Witness {
        let config = &self.loaded.config;
        let uri = config.operator_uri.clone();
        Witness {
            worker: self.identity.worker(),
            operator: config.operator.clone(),
            operator_uri: uri.unwrap_or_else(|| Observation::operator_urn(&config.operator)),
            environment: environment::read(&self.loaded.work_folder()),
            now: now(),
        }
    }

    /// Ends a job in the middle, with its processes and its files.
    pub(super) async fn end(&self, task: JoinHandle<()>, lease: LeaseId) {
        task.abort();
        let _ = task.await;
        let work = self.loaded.work_folder().join(lease.to_string());
        if !cage::Cage::new(&work, self.loaded.config.memory_mib_max).end().await {
            tracing::error!(lease.id = %lease, "processes of the job could not be ended");
        }
        self.remove_folder(lease);
    }
}
