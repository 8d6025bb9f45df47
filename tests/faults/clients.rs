//! Fast clients: submitters, and workers that answer at once.
//!
//! A worker here speaks the real protocol with a real key, checks the lease's signatures, and signs
//! a real observation; only the build is left out: it claims what is published. Invariant: a result
//! without a receipt is sent again until it has one, as a worker's outbox does.

use crate::{coordinator::Home, ledger::Ledger, press::Press, shown};
use ::coordinator::journal::Kind;
use attest::{
    Digest,
    dsse::Envelope,
    id::OperatorId,
    observation::{
        CacheState, Durations, Environment, LayerHygieneFact, LayerOutput, Observation, Outcome,
        Output,
    },
    record::{Receipt, Record},
};
use futures::future::join_all;
use proto::v1::{
    self, image_service_client::ImageServiceClient, worker_service_client::WorkerServiceClient,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tonic::{Code, transport::Channel};
use worker::daemon::{
    identity::Identity,
    offer::{self, CheckedOffer},
};

/// Between two tries against a coordinator that is away.
const AGAIN: Duration = Duration::from_millis(20);

/// A load that runs until it is aborted.
pub struct Load {
    pub home: Arc<Home>,
    pub press: Arc<Press>,
    pub ledger: Arc<Ledger>,
    /// Observations that are asked for each image.
    pub wanted: u64,
    /// The next image.
    pub next: AtomicU64,
    /// Images that may be submitted at most.
    pub images_max: AtomicU64,
    /// What must not happen, if it did.
    pub wrong: Mutex<Option<String>>,
    /// References of images that are not the press's.
    pub names: Vec<String>,
    /// Refusals for lack of room.
    pub refused: AtomicU64,
    /// The last refusal.
    pub refusal: Mutex<String>,
}

impl Load {
    /// A load without clients. With a `wanted` of 0 the submitter waits for nobody.
    pub fn new(home: Arc<Home>, press: Arc<Press>, wanted: u64, images_max: u64) -> Arc<Self> {
        Arc::new(Self {
            home,
            press,
            ledger: Arc::default(),
            wanted,
            next: AtomicU64::new(0),
            images_max: AtomicU64::new(images_max),
            wrong: Mutex::default(),
            names: Vec::new(),
            refused: AtomicU64::new(0),
            refusal: Mutex::default(),
        })
    }

    /// The same with images of another registry.
    pub fn with_names(load: Arc<Self>, names: Vec<String>) -> Result<Arc<Self>, String> {
        let load = Arc::into_inner(load).ok_or("expected a load that nobody uses yet")?;
        Ok(Arc::new(Self { names, ..load }))
    }

    /// The reference of an image.
    pub fn image(&self, n: u64) -> String {
        match usize::try_from(n).ok().and_then(|n| self.names.get(n)) {
            Some(name) => name.clone(),
            None => self.press.image(n),
        }
    }

    /// What must not happen, if it did.
    pub fn check(&self) -> Result<(), String> {
        match &*self.wrong.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(problem) => Err(problem.clone()),
            None => Ok(()),
        }
    }

    fn must_not(&self, problem: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
    }

    fn refuse(&self, status: &tonic::Status) {
        if status.code() == Code::ResourceExhausted {
            self.refused.fetch_add(1, Ordering::SeqCst);
            let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
            status.message().clone_into(&mut refusal);
        }
    }

    /// Submits images, one after the other, never far ahead of the workers.
    pub async fn submitter(self: Arc<Self>) -> Result<(), String> {
        let mut client = ImageServiceClient::new(self.home.admin()?);
        loop {
            let next = self.next.load(Ordering::SeqCst);
            let ahead = (next * self.wanted).saturating_sub(self.ledger.receipts());
            if ahead > 600 * self.wanted || next >= self.images_max.load(Ordering::SeqCst) {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            let n = self.next.fetch_add(1, Ordering::SeqCst);
            let request = v1::SubmitImageRequest {
                image: self.image(n),
                priority: v1::Priority::Push.into(),
            };
            loop {
                match client.submit(request.clone()).await {
                    Ok(answer) => {
                        for job in answer.into_inner().jobs {
                            self.ledger.job(job.parse().map_err(shown)?);
                        }
                        break;
                    }
                    Err(status) => {
                        self.refuse(&status);
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        }
    }

    /// Works for one operator.
    pub async fn worker(self: Arc<Self>, operator: String) -> Result<(), String> {
        let key = self.home.worker(&operator).join("worker.key");
        let identity = Identity::load(&key).map_err(shown)?;
        let client = WorkerServiceClient::new(self.home.channel(&key)?);
        let operator = operator.parse().map_err(shown)?;
        let worker = FastWorker { load: self, identity, operator, client };
        let mut pending: Vec<v1::SubmitRequest> = Vec::new();
        loop {
            let sent = join_all(pending.drain(..).map(|result| worker.submit(result))).await;
            pending = sent.into_iter().flatten().collect();
            let Ok(answer) = worker.client.clone().sync(worker.request()).await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            let offers = answer.into_inner().offers;
            let taken = join_all(offers.iter().map(|offer| worker.take(offer))).await;
            for result in taken {
                pending.extend(result?);
            }
            if !pending.is_empty() && offers.is_empty() {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

struct FastWorker {
    load: Arc<Load>,
    identity: Identity,
    operator: OperatorId,
    client: WorkerServiceClient<Channel>,
}

impl FastWorker {
    fn request(&self) -> v1::SyncRequest {
        v1::SyncRequest {
            worker_version: "faults".to_owned(),
            capabilities: Some(v1::Capabilities {
                architectures: vec!["amd64".to_owned()],
                rebuilders: vec!["apko".to_owned()],
                isolation: "process".to_owned(),
                memory_mib: 0,
            }),
            slots_free: 16,
            wait_seconds: 1,
            worker_time: crate::coordinator::now().unix(),
            ..v1::SyncRequest::default()
        }
    }

    /// Accepts an offer and makes the signed result.
    async fn take(&self, offer: &v1::Offer) -> Result<Option<v1::SubmitRequest>, String> {
        let read = |bytes: &[u8]| Envelope::parse(bytes).map_err(shown);
        let (lease, announce) = (read(&offer.lease_envelope)?, read(&offer.announce_envelope)?);
        let worker = self.identity.worker();
        let checked =
            offer::check(&lease, &announce, &self.load.home.key, worker).map_err(shown)?;
        self.load.ledger.given(Kind::LEASE, &offer.lease_envelope);
        self.load.ledger.given(Kind::ANNOUNCE, &offer.announce_envelope);
        let (lease, fence) = (checked.lease.lease.to_string(), checked.lease.fence.0);
        let request = v1::AcceptRequest { lease: lease.clone(), fence };
        // Idempotent: asked until there is an answer, so that no lease is held by nobody.
        while let Err(status) = self.client.clone().accept(request.clone()).await {
            if !matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) {
                self.load.refuse(&status);
                return Ok(None);
            }
            tokio::time::sleep(AGAIN).await;
        }
        let envelope = self.sign(&checked)?;
        let (explanation, reveal) = (Vec::new(), Vec::new());
        let result = v1::SubmitRequest { lease, fence, envelope, explanation, reveal };
        Ok(self.submit(result).await)
    }

    fn sign(&self, offer: &CheckedOffer) -> Result<Vec<u8>, String> {
        let subject = offer.announce.subject.clone();
        let number = subject.repository.as_str().rsplit('/').next().and_then(|n| n.parse().ok());
        let manifest =
            number.and_then(|n| self.load.press.manifest(n)).ok_or("expected an image")?;
        let observation = Observation {
            index: offer.announce.index,
            tag: None,
            job: offer.lease.job,
            attempt: offer.lease.attempt,
            lease: offer.lease.lease,
            fence: offer.lease.fence,
            operator_uri: Observation::operator_urn(&self.operator),
            operator: self.operator.clone(),
            worker: self.identity.worker(),
            recipe: offer.announce.recipes.first().copied(),
            recipes_tried: offer.announce.recipes.clone(),
            builder: None,
            publisher: None,
            source: None,
            epoch: None,
            published_at: None,
            outcome: Outcome::Output(output(&manifest)?),
            environment: Environment::default(),
            materials: vec![],
            inputs_missing: 0,
            hints: vec![],
            searched: vec![],
            hygiene: vec![LayerHygieneFact { clean: true, why: vec![] }],
            compared: None,
            explanation: None,
            cache: CacheState::Cold,
            durations: Durations::default(),
            observed_at: crate::coordinator::now(),
            input_mac: None,
            r32: None,
            subject,
        };
        Ok(observation.sign(self.identity.key()).map_err(shown)?.to_json())
    }

    /// Hands a result in; gives it back where there is no receipt yet.
    async fn submit(&self, result: v1::SubmitRequest) -> Option<v1::SubmitRequest> {
        match self.client.clone().submit(result.clone()).await {
            Ok(answer) => {
                let receipt = answer.into_inner().receipt.map(|r| Envelope::parse(&r.envelope));
                let opened =
                    receipt.and_then(Result::ok).map(|r| Receipt::open(&r, &self.load.home.key));
                match opened {
                    Some(Ok(receipt)) => {
                        self.load.ledger.receipt(&result.envelope, receipt.position.0);
                    }
                    _ => self.load.must_not("a receipt that the coordinator did not sign".into()),
                }
                None
            }
            // Its job was never acknowledged, and went with the power.
            Err(status) if status.code() == Code::NotFound => None,
            Err(status) => {
                self.load.refuse(&status);
                if matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition) {
                    self.load.must_not(format!("a result was refused: {}", status.message()));
                }
                Some(result)
            }
        }
    }
}

/// What a faithful rebuild says.
fn output(manifest_bytes: &[u8]) -> Result<Output, String> {
    let manifest: serde_json::Value = serde_json::from_slice(manifest_bytes).map_err(shown)?;
    let digest = |value: &serde_json::Value| -> Result<Digest, String> {
        value["digest"].as_str().unwrap_or_default().parse().map_err(shown)
    };
    let mut layers = Vec::new();
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        let blob = digest(layer)?;
        let size = layer["size"].as_u64().unwrap_or_default();
        layers.push(LayerOutput { blob: Some(blob), diff_id: Digest::of(blob.raw()), size });
    }
    Ok(Output {
        manifest: Digest::of(manifest_bytes),
        config: digest(&manifest["config"])?,
        layers,
        manifest_bytes: manifest_bytes.to_vec(),
        index: None,
    })
}

/// Waits until every submitted image is judged; gives how many have which outcome, in words. A
/// lease that a killed process held may last ten minutes, so short runs do not wait at all.
pub async fn all_settled(load: &Load, within: Duration) -> Result<String, String> {
    if within.is_zero() {
        return Ok("not waited for judgements".to_owned());
    }
    let mut client = ImageServiceClient::new(load.home.admin()?);
    let until = tokio::time::Instant::now() + within;
    let mut outcomes: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    for n in 0..load.next.load(Ordering::SeqCst) {
        let request =
            v1::SubmitImageRequest { image: load.image(n), priority: v1::Priority::Push.into() };
        loop {
            let state = match client.submit(request.clone()).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    let ask = v1::WatchImageRequest {
                        repository: answer.repository,
                        digest: answer.digest,
                        known_state: String::new(),
                        wait_seconds: 0,
                    };
                    client.watch(ask).await.map(tonic::Response::into_inner)
                }
                Err(status) => Err(status),
            };
            match state {
                Ok(state) if !state.outcome.is_empty() => {
                    *outcomes.entry(state.outcome).or_default() += 1;
                    break;
                }
                other if tokio::time::Instant::now() > until => {
                    return Err(format!("image {n} did not end: {other:?}"));
                }
                _ => tokio::time::sleep(AGAIN).await,
            }
        }
    }
    let words: Vec<String> = outcomes.iter().map(|(o, n)| format!("{n} {o}")).collect();
    Ok(words.join(", "))
}
