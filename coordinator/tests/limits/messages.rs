//! How large a message may be, and how often one may come.

use super::support::{Running, in_time, now};
use attest::{
    Digest, Platform, Subject,
    evidence_set::EvidenceSet,
    id::{Attempt, Fence, LeaseId, OperatorId, WorkerId},
    key::SigningKey,
    observation::{CacheState, Durations, Environment, Observation, Outcome},
    policy::Source,
    time::Timestamp,
};
use coordinator::{
    daemon::{evidence, net::listen::Patience},
    queue::{Class, Event, JobSpec, Tenant},
    store::nothing,
};
use proto::{
    status::retry_after,
    v1::{
        self, admin_service_client::AdminServiceClient, image_service_client::ImageServiceClient,
        worker_service_client::WorkerServiceClient,
    },
};
use std::time::Duration;
use tonic::{Code, Status};

fn too_large(status: &Status) -> bool {
    status.code() == Code::OutOfRange || status.code() == Code::ResourceExhausted
}

#[tokio::test]
async fn every_service_has_a_limit_on_messages() {
    let running = Running::start("", Patience::default()).await;
    let (_, key) = running.enrolled("acme").await;
    let admin = running.channel(&running.admin()).await;
    let get = v1::GetImageRequest { repository: "r".repeat(65 << 10), digest: String::new() };
    let answer = in_time(ImageServiceClient::new(admin.clone()).get(get)).await;
    assert!(too_large(&answer.unwrap_err()));
    let add = v1::AddOperatorRequest { record_envelope: vec![b'r'; 257 << 10] };
    let answer = in_time(AdminServiceClient::new(admin).add_operator(add)).await;
    assert!(too_large(&answer.unwrap_err()));
    let mut worker = WorkerServiceClient::new(running.channel(&key).await);
    let large = v1::SubmitRequest { envelope: vec![b'e'; 20 << 20], ..Default::default() };
    assert!(too_large(&in_time(worker.submit(large)).await.unwrap_err()));
    // The connection lives, and what is within the limit is looked at.
    let small = v1::SubmitRequest { envelope: vec![b'e'; 1 << 20], ..Default::default() };
    assert_eq!(worker.submit(small).await.unwrap_err().code(), Code::InvalidArgument);
    running.stopped().await;
}

#[tokio::test]
async fn strangers_are_refused_whatever_they_send() {
    let running = Running::start("", Patience::default()).await;
    let stranger = running.channel(&SigningKey::generate().unwrap()).await;
    let mut worker = WorkerServiceClient::new(stranger.clone());
    // Refused for who it is, before the size is looked at.
    let large = v1::SubmitRequest { envelope: vec![b'e'; 20 << 20], ..Default::default() };
    assert_eq!(in_time(worker.submit(large)).await.unwrap_err().code(), Code::PermissionDenied);
    let mut admin = AdminServiceClient::new(stranger.clone());
    let refused = admin.status(v1::StatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut images = ImageServiceClient::new(stranger);
    let refused = images.list_watches(v1::ListWatchesRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    running.stopped().await;
}

fn spec(name: &str) -> JobSpec {
    let subject = Subject {
        repository: format!("registry.example/{name}").parse().unwrap(),
        digest: Digest::of(name.as_bytes()),
        platform: Platform::linux("amd64"),
    };
    JobSpec::new(subject, vec![Digest::of(b"recipe")], "apko", 0, 3, 60_000).unwrap()
}

fn exhausted(status: &Status) -> Duration {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let wait = retry_after(status).expect("how long to wait");
    assert!(wait >= Duration::from_secs(1));
    // And as other clients read it.
    assert!(!status.details().is_empty());
    wait
}

#[tokio::test]
async fn submissions_of_a_client_have_a_quota() {
    let running = Running::start("submissions_per_minute = 2", Patience::default()).await;
    let mut images = ImageServiceClient::new(running.channel(&running.admin()).await);
    // Nobody listens there: the coordinator refuses to go, but it was asked.
    let submit = || v1::SubmitImageRequest { image: "127.0.0.1:9/a/b:1".into(), priority: 0 };
    for _ in 0..2 {
        let refused = in_time(images.submit(submit())).await.unwrap_err();
        assert_ne!(refused.code(), Code::ResourceExhausted);
    }
    let wait = exhausted(&in_time(images.submit(submit())).await.unwrap_err());
    assert!(wait <= Duration::from_secs(31), "{wait:?}");
    // Asking about images is no submission.
    images.list_watches(v1::ListWatchesRequest {}).await.unwrap();
    running.stopped().await;
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_again() {
    let store = oci::serve::Store::default();
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published");
    store.load_layout(std::path::Path::new(fixtures)).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = listener.local_addr().unwrap();
    let router = oci::serve::router(store, oci::serve::ServeOptions::default());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let policy = format!("[[registry]]\nhost = \"{registry}\"\nplain_http = true\n");
    let limits = "waiting_jobs_max = 1";
    let running = Running::start_with(limits, &policy, Patience::default()).await;
    let announce =
        |n| Event::Announce { spec: spec(n), tenant: Tenant("other".into()), class: Class::Push };
    running.core.store.act(announce("first"), nothing()).await.unwrap();
    let mut images = ImageServiceClient::new(running.channel(&running.admin()).await);
    let image = format!("{registry}/demo/hello:latest");
    let submit = v1::SubmitImageRequest { image, priority: 0 };
    exhausted(&in_time(images.submit(submit)).await.unwrap_err());
    running.stopped().await;
    serving.abort();
}

/// Something that a worker says without having been asked.
fn volunteered(
    job: &JobSpec,
    number: u8,
    operator: &OperatorId,
    key: &SigningKey,
) -> v1::SubmitRequest {
    let observation = Observation {
        subject: job.subject.clone(),
        index: None,
        tag: None,
        job: job.id,
        attempt: Attempt(1),
        lease: LeaseId([number; 16]),
        fence: Fence(1),
        operator: operator.clone(),
        operator_uri: Observation::operator_urn(operator),
        worker: WorkerId(key.public().id()),
        recipe: job.recipes.first().copied(),
        recipes_tried: job.recipes.clone(),
        builder: None,
        publisher: None,
        source: None,
        epoch: None,
        published_at: None,
        outcome: Outcome::Timeout { limit_seconds: 60 },
        environment: Environment::default(),
        materials: vec![],
        inputs_missing: 0,
        hints: vec![],
        searched: vec![],
        hygiene: vec![],
        compared: None,
        explanation: None,
        cache: CacheState::Cold,
        durations: Durations::default(),
        observed_at: Timestamp::from_unix(now()).unwrap(),
        input_mac: None,
        r32: None,
    };
    v1::SubmitRequest {
        lease: observation.lease.to_string(),
        fence: observation.fence.0,
        envelope: observation.sign(key).unwrap().to_json(),
        ..Default::default()
    }
}

#[tokio::test]
async fn observations_of_a_worker_have_a_quota() {
    // The smallest: ten at once.
    let running = Running::start("observations_per_minute = 1", Patience::default()).await;
    let (operator, key) = running.enrolled("acme").await;
    let mut worker = WorkerServiceClient::new(running.channel(&key).await);
    let jobs = [spec("a"), spec("b"), spec("c")];
    for job in &jobs {
        let (spec, tenant) = (job.clone(), Tenant("other".into()));
        let event = Event::Announce { spec, tenant, class: Class::Push };
        running.core.store.act(event, nothing()).await.unwrap();
    }
    let mut filed = 0;
    let (mut number, mut refusals) = (0, Vec::new());
    for job in &jobs {
        for _ in 0..5 {
            number += 1;
            match worker.submit(volunteered(job, number, &operator, &key)).await {
                Ok(answer) => {
                    assert_eq!(answer.into_inner().filed_as, "volunteer");
                    filed += 1;
                }
                Err(status) => refusals.push(exhausted(&status)),
            }
        }
    }
    // Four for each job, ten at once in all (and one more for each second that the test takes).
    assert!((8..=12).contains(&filed), "{filed}");
    assert!(refusals.len() >= 3);
    running.stopped().await;
}

#[tokio::test]
async fn evidence_holds_the_records_of_those_who_observed_and_no_others() {
    let running = Running::start("", Patience::default()).await;
    let (operator, key) = running.enrolled("acme").await;
    running.enrolled("globex").await;
    let layer = format!("\"digest\":\"{}\",\"size\":1", Digest::of(b"blob"));
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
         \"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",{layer}}},\
         \"layers\":[]}}"
    );
    let mut job = spec("seen");
    job.subject.digest = Digest::of(manifest.as_bytes());
    let recipes = job.recipes.clone();
    let job = JobSpec::new(job.subject, recipes, "apko", 0, 3, 60_000).unwrap();
    let set = EvidenceSet::new(Source::Registry, job.subject.clone(), manifest.into_bytes());
    let pieces = evidence::pieces(&job.id, &set).unwrap();
    let (spec, tenant) = (job.clone(), Tenant("other".into()));
    let event = Event::Announce { spec, tenant, class: Class::Push };
    running.core.store.act(event, Box::new(move |_| pieces)).await.unwrap();
    let mut worker = WorkerServiceClient::new(running.channel(&key).await);
    worker.submit(volunteered(&job, 1, &operator, &key)).await.unwrap();
    let set = evidence::set_of(&running.core, &job.id).unwrap().unwrap();
    assert_eq!(set.observations.len(), 1);
    // However many are enrolled: a set that held them all would be too long with 5,000 workers.
    assert_eq!((set.workers.len(), set.operators.len()), (1, 1));
    running.stopped().await;
}
