//! The real coordinator (the built binary, its own process, real gRPC over TLS) against workers
//! that lie: whose results it takes, how it files them, and what a gate then says.

mod bench;

use attest::{
    Digest,
    dsse::Envelope,
    id::{Fence, LeaseId, OperatorId},
    key::SigningKey,
    observation::{Observation, Outcome},
};
use bench::{Bench, fleet::Fleet};
use proto::v1::{self, worker_service_client::WorkerServiceClient};
use std::{fs, path::PathBuf};
use tonic::{Code, Status, transport::Channel};
use worker::daemon::{
    connect, environment,
    identity::Identity,
    observe::{self, Draft, Witness},
    offer::{CheckedOffer, check},
};

/// A client that holds a worker's key and says what it likes.
struct Liar {
    operator: OperatorId,
    folder: PathBuf,
    identity: Identity,
    client: WorkerServiceClient<Channel>,
}

struct Scene {
    bench: Bench,
    fleet: Fleet,
    coordinator_key: attest::key::PublicKey,
}

impl Scene {
    async fn new() -> Self {
        let bench = Bench::start().await;
        let fleet = Fleet::start(&bench, "").await;
        let pem = fs::read_to_string(fleet.folder.join("verdict.pub")).unwrap();
        let coordinator_key = attest::key::PublicKey::from_pem(&pem).unwrap();
        Self { bench, fleet, coordinator_key }
    }

    /// An operator's worker; enrolled or not.
    async fn worker(&self, operator: &str, enrolled: bool) -> Liar {
        let policy = self.bench.policy("worker.toml", "");
        let folder = self.fleet.worker(&self.bench, operator, &policy).await;
        if enrolled {
            self.fleet.add_operator(&self.bench, operator).await;
            let done = self.fleet.enrol(&self.bench, operator, &folder.join("worker.pub")).await;
            assert_eq!(done.code, Some(0), "{done:?}");
        }
        let identity = Identity::load(&folder.join("worker.key")).unwrap();
        let ca = fs::read_to_string(self.fleet.folder.join("ca.pem")).unwrap();
        let channel = connect::channel(&self.fleet.address, Some(&ca), &identity).unwrap();
        let client = WorkerServiceClient::new(channel);
        Liar { operator: operator.parse().unwrap(), folder, identity, client }
    }

    async fn submit(&self, image: &str) {
        let image = self.bench.image(image);
        let arguments = [&["submit", &image][..], &self.fleet.connection()].concat();
        let run = self.bench.assay(&arguments).await;
        assert_eq!(run.code, Some(0), "{run:?}");
    }

    /// The state of `hello` as the coordinator tells it.
    async fn state(&self) -> serde_json::Value {
        let image = self.bench.by_digest("hello");
        let status = [&["status", &image, "--format", "json"][..], &self.fleet.connection()];
        self.bench.assay(&status.concat()).await.json()
    }
}

impl Liar {
    fn request(&self) -> v1::SyncRequest {
        v1::SyncRequest {
            worker_version: "0".into(),
            capabilities: Some(v1::Capabilities {
                architectures: vec!["amd64".into(), "arm64".into()],
                rebuilders: vec!["apko".into()],
                isolation: "none".into(),
                memory_mib: 0,
            }),
            slots_free: 2,
            wait_seconds: 20,
            ..Default::default()
        }
    }

    /// Syncs until something is offered; the offers, checked as a worker does.
    async fn offers(&mut self, scene: &Scene) -> Vec<CheckedOffer> {
        loop {
            let answer = self.client.sync(self.request()).await.unwrap().into_inner();
            if answer.offers.is_empty() {
                continue;
            }
            let read = |bytes: &[u8]| Envelope::parse(bytes).unwrap();
            let checked = answer.offers.iter().map(|offer| {
                let (lease, job) = (read(&offer.lease_envelope), read(&offer.announce_envelope));
                check(&lease, &job, &scene.coordinator_key, self.identity.worker()).unwrap()
            });
            return checked.collect();
        }
    }

    /// An offer that was accepted.
    async fn leased(&mut self, scene: &Scene) -> CheckedOffer {
        let offer = self.offers(scene).await.remove(0);
        self.accept(&offer).await.unwrap();
        offer
    }

    async fn accept(&mut self, offer: &CheckedOffer) -> Result<(), Status> {
        let (lease, fence) = (offer.lease.lease.to_string(), offer.lease.fence.0);
        self.client.accept(v1::AcceptRequest { lease, fence }).await.map(|_| ())
    }

    /// A failure as this worker would report it.
    fn observation(&self, offer: &CheckedOffer, class: &str) -> Observation {
        let outcome = Outcome::BuildFailed { class: class.into(), detail: "a lie".into() };
        let witness = Witness {
            worker: self.identity.worker(),
            operator: self.operator.clone(),
            operator_uri: Observation::operator_urn(&self.operator),
            environment: environment::read(&self.folder),
            now: bench::coordinator::now(),
        };
        let mut draft = Draft::failed(Some(outcome), None);
        draft.recipes.clone_from(&offer.announce.recipes);
        observe::observation(draft, offer, &witness).unwrap()
    }

    async fn hand_in(
        &mut self,
        (lease, fence): (LeaseId, Fence),
        envelope: &Envelope,
    ) -> Result<v1::SubmitResponse, Status> {
        let request = v1::SubmitRequest {
            lease: lease.to_string(),
            fence: fence.0,
            envelope: envelope.to_json(),
            explanation: Vec::new(),
            reveal: Vec::new(),
        };
        self.client.submit(request).await.map(tonic::Response::into_inner)
    }

    /// Signs an observation with a key and hands it in under its own lease.
    async fn say(
        &mut self,
        observation: &Observation,
        key: &SigningKey,
    ) -> Result<v1::SubmitResponse, Status> {
        let envelope = observation.sign(key).unwrap();
        self.hand_in((observation.lease, observation.fence), &envelope).await
    }
}

fn key_of(liar: &Liar) -> SigningKey {
    SigningKey::from_pem(&fs::read_to_string(liar.folder.join("worker.key")).unwrap()).unwrap()
}

fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, says: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(says), "expected {says:?} in {:?}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_enrolled_or_was_revoked_is_not_heard() {
    let scene = Scene::new().await;
    let mut stranger = scene.worker("stranger", false).await;
    let request = stranger.request();
    refused(stranger.client.sync(request).await, Code::PermissionDenied, "not enrolled");
    let mut acme = scene.worker("acme", true).await;
    scene.submit("hello").await;
    let offer = acme.leased(&scene).await;
    // The stranger answers under a lease that it saw somewhere.
    let observation = stranger.observation(&offer, "x");
    let key = key_of(&stranger);
    refused(stranger.say(&observation, &key).await, Code::PermissionDenied, "not enrolled");
    // And the one whose key is taken back after it got its lease.
    let public = acme.folder.join("worker.pub");
    let done = scene.fleet.revoke(&scene.bench, "acme", &public).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let (observation, key) = (acme.observation(&offer, "x"), key_of(&acme));
    refused(acme.say(&observation, &key).await, Code::PermissionDenied, "was revoked");
    let request = acme.request();
    refused(acme.client.sync(request).await, Code::PermissionDenied, "was revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers_in_the_name_of_another() {
    let scene = Scene::new().await;
    let mut acme = scene.worker("acme", true).await;
    let mut globex = scene.worker("globex", true).await;
    scene.submit("hello").await;
    let offer = acme.leased(&scene).await;
    refused(globex.accept(&offer).await, Code::FailedPrecondition, "");
    // In another worker's name, by the own key.
    let (own, borrowed) = (key_of(&globex), acme.observation(&offer, "x"));
    assert!(borrowed.sign(&own).is_err(), "the observation names whose key signs it");
    let mut envelope = borrowed.sign(&key_of(&acme)).unwrap();
    let mine = globex.observation(&offer, "x").sign(&own).unwrap();
    envelope.signatures.clone_from(&mine.signatures);
    let place = (offer.lease.lease, offer.lease.fence);
    refused(globex.hand_in(place, &envelope).await, Code::PermissionDenied, "");
    // In another operator's name.
    let mut borrowed = globex.observation(&offer, "x");
    borrowed.operator = "acme".parse().unwrap();
    borrowed.operator_uri = Observation::operator_urn(&borrowed.operator);
    let says = "expected operator globex as the worker's record says, found acme";
    refused(globex.say(&borrowed, &own).await, Code::PermissionDenied, says);
    // Under another lease than the signed one.
    let envelope = acme.observation(&offer, "x").sign(&key_of(&acme)).unwrap();
    let other = (LeaseId([9; 16]), offer.lease.fence);
    let says = "expected the lease and fence of the signed observation";
    refused(acme.hand_in(other, &envelope).await, Code::InvalidArgument, says);
    // Changed after it was signed.
    let mut changed = envelope.clone();
    changed.payload =
        String::from_utf8(changed.payload).unwrap().replace("\"x\"", "\"y\"").into_bytes();
    refused(acme.hand_in(place, &changed).await, Code::PermissionDenied, "");
    // A lease of somebody else's counts for nobody: it is a volunteer's word.
    let observation = globex.observation(&offer, "x");
    let filed = globex.say(&observation, &own).await.unwrap();
    assert_eq!(filed.filed_as, "volunteer");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_different_answers_are_equivocation_and_one_twice_is_one() {
    let scene = Scene::new().await;
    let mut acme = scene.worker("acme", true).await;
    scene.submit("hello").await;
    let (offer, key) = (acme.leased(&scene).await, key_of(&acme));
    let first = acme.observation(&offer, "x");
    let envelope = first.sign(&key).unwrap();
    let place = (offer.lease.lease, offer.lease.fence);
    let filed = acme.hand_in(place, &envelope).await.unwrap();
    assert_eq!(filed.filed_as, "counted");
    let position = filed.receipt.unwrap().journal_position;
    let again = acme.hand_in(place, &envelope).await.unwrap();
    assert_eq!(again.filed_as, "duplicate");
    assert_eq!(again.receipt.unwrap().journal_position, position);
    // ECDSA signs differently each time: the same words under another signature are the same.
    let signed_again = first.sign(&key).unwrap();
    assert_eq!(acme.hand_in(place, &signed_again).await.unwrap().filed_as, "duplicate");
    let second = Observation { observed_at: first.observed_at, ..acme.observation(&offer, "y") };
    assert_eq!(acme.say(&second, &key).await.unwrap().filed_as, "equivocation");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_lease_is_a_volunteers_word() {
    let scene = Scene::new().await;
    let mut acme = scene.worker("acme", true).await;
    scene.submit("hello").await;
    let (offer, key) = (acme.leased(&scene).await, key_of(&acme));
    let (lease, fence) = (offer.lease.lease.to_string(), offer.lease.fence.0);
    let request = v1::DeclineRequest { lease, fence, reason: "given back".into() };
    acme.client.decline(request).await.unwrap();
    let observation = acme.observation(&offer, "x");
    assert_eq!(acme.say(&observation, &key).await.unwrap().filed_as, "volunteer");
    // A fence that the coordinator never gave.
    let mut stale = acme.observation(&offer, "x");
    stale.fence = Fence(offer.lease.fence.0 + 7);
    let filed = acme.say(&stale, &key).await.map(|response| response.filed_as);
    assert_ne!(filed.as_deref().ok(), Some("counted"), "{filed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_another_image_or_platform_fills_no_slot() {
    let scene = Scene::new().await;
    let mut acme = scene.worker("acme", true).await;
    scene.submit("hello").await;
    let (offer, key) = (acme.leased(&scene).await, key_of(&acme));
    let mut platform = acme.observation(&offer, "x");
    platform.subject.platform = attest::Platform::linux("s390x");
    let mut image = acme.observation(&offer, "x");
    image.subject.digest = Digest::of(b"another image");
    let mut repository = acme.observation(&offer, "x");
    repository.subject.repository = "registry.example/demo/other".parse().unwrap();
    for observation in [platform, image, repository] {
        let says = "about another subject than the job's";
        refused(acme.say(&observation, &key).await, Code::InvalidArgument, says);
    }
    let answered = |state: &serde_json::Value| {
        let platforms = state["platforms"].as_array().unwrap().clone();
        platforms.iter().map(|p| p["observations"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(answered(&scene.state().await), 0);
    let honest = acme.observation(&offer, "x");
    assert_eq!(acme.say(&honest, &key).await.unwrap().filed_as, "counted");
    assert_eq!(answered(&scene.state().await), 1);
}
