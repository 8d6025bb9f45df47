//! An attestation that does not hold any more goes from the registry: that of the platform, and that
//! of every index which has the platform. With the built binary, over a registry that deletes.

use crate::{
    publishing::{attestations, pending, small_fleet, start},
    stage::{Host, Stage},
};
use attest::{
    Digest, Repository,
    dsse::Envelope,
    evidence_set::EvidenceSet,
    id::OperatorId,
    image_manifest::ImageManifest,
    key::{PublicKey, SigningKey},
    observation::{Builder, LayerHygieneFact, LayerOutput, Observation, Outcome, Output},
    record::{JobAnnounce, KeyRevocation, Lease, Record},
    time::Timestamp,
};
use coordinator::{
    daemon::Daemon,
    journal::{Kind, NewRecord},
    queue::Limits,
    setup::Loaded,
};
use oci::{Descriptor, Destination, ImageSource, media};
use proto::v1::{
    self, image_service_client::ImageServiceClient, worker_service_client::WorkerServiceClient,
};
use serde_json::{Value, json};
use worker::daemon::{
    connect, environment,
    identity::Identity,
    observe::{self, Draft, Witness},
    offer::CheckedOffer,
};

const PENDING: &str = "assay publish --dry-run --format json";

/// The image's own index again, under another digest: with an attestation manifest, as BuildKit
/// adds one, so that it is another image with the same two platforms.
async fn with_an_attestation_entry(images: &Host, repository: &Repository, of: &Digest) -> Digest {
    let destination = Destination::Registry(images.client());
    let source = ImageSource::Registry(images.client());
    let bytes = source.manifest(repository, of).await.unwrap().bytes;
    let mut index: Value = serde_json::from_slice(&bytes).unwrap();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "subject": [], "predicate": {},
        "predicateType": "https://example.org/a-claim-that-nobody-signed",
    });
    let statement = statement.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": Descriptor::of(media::EMPTY, b"{}").to_json(),
        "layers": [Descriptor::of(media::IN_TOTO, &statement).to_json()],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = Descriptor::of(media::OCI_MANIFEST, &manifest).to_json();
    entry["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    entry["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": index["manifests"][0]["digest"],
    });
    index["manifests"].as_array_mut().unwrap().push(entry);
    for blob in [b"{}".to_vec(), statement] {
        destination.put_blob(repository, blob.into()).await.unwrap();
    }
    let put = async |media_type: &str, bytes: Vec<u8>| {
        let put = destination.put_manifest(repository, media_type, bytes.into(), None, None);
        put.await.unwrap().digest
    };
    put(media::OCI_MANIFEST, manifest).await;
    put(media::OCI_INDEX, index.to_string().into_bytes()).await
}

/// A client of the coordinator, with one of the keys of the stage.
fn identity(stage: &Stage, key: &str) -> (tonic::transport::Channel, Identity) {
    let ca = std::fs::read_to_string(stage.path("c/ca.pem")).unwrap();
    let identity = Identity::load(&stage.path(key)).unwrap();
    let address = stage.env["ASSAY_COORDINATOR"].clone();
    (connect::channel(&address, Some(&ca), &identity).unwrap(), identity)
}

/// Everything that the coordinator knows of a platform.
async fn evidence(stage: &Stage, subject: &attest::Subject) -> EvidenceSet {
    let (channel, _) = identity(stage, "c/admin.key");
    let client = ImageServiceClient::new(channel);
    let request = v1::EvidenceRequest { subject: Some(subject.into()), explanations: false };
    let answer = client.max_decoding_message_size(proto::MESSAGE_BYTES_MAX).evidence(request).await;
    EvidenceSet::parse(&answer.unwrap().into_inner().evidence_set).unwrap()
}

/// What somebody says who built something else: the published manifest with another config.
fn another_output(published: &[u8]) -> Outcome {
    let read = ImageManifest::parse(published).unwrap();
    let config = Digest::of(b"another config");
    let text = String::from_utf8(published.to_vec()).unwrap();
    let bytes = text.replace(&read.config.digest.to_string(), &config.to_string()).into_bytes();
    let layers = read.layers.iter().map(|layer| LayerOutput {
        blob: Some(layer.digest),
        diff_id: Digest::of(layer.digest.raw()),
        size: layer.size,
    });
    Outcome::Output(Output {
        manifest: Digest::of(&bytes),
        config,
        layers: layers.collect(),
        manifest_bytes: bytes,
        index: None,
    })
}

/// Globex's worker builds something else, and says so unasked, under the lease of acme's: a
/// volunteer's word, which can veto.
async fn dissent(stage: &Stage, set: &EvidenceSet) {
    let pem = std::fs::read_to_string(stage.path("c/verdict.pub")).unwrap();
    let coordinator = PublicKey::from_pem(&pem).unwrap();
    let lease = Lease::open(set.leases.last().unwrap(), &coordinator).unwrap();
    let announce = JobAnnounce::open(set.announces.last().unwrap(), &coordinator).unwrap();
    let offer = CheckedOffer { lease, announce };
    let (channel, globex) = identity(stage, "g/worker.key");
    let operator: OperatorId = "globex".parse().unwrap();
    let witness = Witness {
        worker: globex.worker(),
        operator_uri: Observation::operator_urn(&operator),
        operator,
        environment: environment::read(&stage.path("g")),
        now: coordinator::daemon::wall::now(),
    };
    let outcome = another_output(&set.manifest);
    let mut draft = Draft::failed(Some(outcome), None);
    draft.recipes.clone_from(&offer.announce.recipes);
    draft.recipes_tried.clone_from(&offer.announce.recipes);
    draft.recipe = draft.recipes.first().copied();
    draft.builder = Some(Builder { name: "apko".to_owned(), version: None });
    draft.hygiene = vec![LayerHygieneFact { clean: true, why: vec![] }];
    let observation = observe::observation(draft, &offer, &witness).unwrap();
    let key = std::fs::read_to_string(stage.path("g/worker.key")).unwrap();
    let envelope = observation.sign(&SigningKey::from_pem(&key).unwrap()).unwrap();
    let request = v1::SubmitRequest {
        lease: observation.lease.to_string(),
        fence: observation.fence.0,
        envelope: envelope.to_json(),
        explanation: Vec::new(),
        reveal: Vec::new(),
    };
    let answer = WorkerServiceClient::new(channel).submit(request).await.unwrap().into_inner();
    assert_eq!(answer.filed_as, "volunteer");
}

/// Keeps the revocation of acme's worker while nobody runs: as after a crash between the record and
/// what follows from it.
async fn revoke_without_a_coordinator(stage: &Stage) {
    let read = |path: &str| std::fs::read_to_string(stage.path(path)).unwrap();
    let key = PublicKey::from_pem(&read("w/worker.pub")).unwrap().id();
    let revocation = KeyRevocation {
        operator: "acme".parse().unwrap(),
        key,
        compromised_since: None,
        reason: "stolen".into(),
        revoked_at: Timestamp::default(),
    };
    let envelope: Envelope =
        revocation.sign(&SigningKey::from_pem(&read("c/acme.key")).unwrap()).unwrap();
    let loaded = Loaded::read(&stage.path("c")).unwrap();
    let daemon = Daemon::open(loaded, Limits::default()).await.unwrap();
    let record = NewRecord::new(Kind::REVOCATION, key, envelope.to_json());
    daemon.core().store.append(vec![record]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_diverged_or_rested_on_a_revoked_key_is_withdrawn_with_its_indexes() {
    let (images, sidecar) = (Host::own(true, None).await, Host::own(false, None).await);
    let mut stage = small_fleet(&images, sidecar.name(), &["acme", "globex"]).await;
    let hello = format!("{}/demo/hello", images.name());
    let submit = |what: &str| format!("assay submit {hello}{what} --wait --format json");
    let state: Value = serde_json::from_str(&stage.expect(&submit(":latest"), 0).out).unwrap();
    let platforms: Vec<Digest> = state["platforms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|platform| platform["manifest"].as_str().unwrap().parse().unwrap())
        .collect();
    let first: Digest = state["digest"].as_str().unwrap().parse().unwrap();
    let repository: Repository = hello.parse().unwrap();
    let second = with_an_attestation_entry(&images, &repository, &first).await;
    stage.expect(&submit(&format!("@{second}")), 0);
    stage.until(PENDING, |out| pending(out).is_empty());
    let standing = async |digests: &[Digest]| {
        let mut found = Vec::new();
        for digest in digests {
            found.push(attestations(&sidecar, &images, &digest.to_string()).await);
        }
        found
    };
    let [amd64, arm64] = platforms[..] else { panic!("expected two platforms: {state}") };
    let all = [amd64, arm64, first, second];
    assert_eq!(standing(&all).await, [1, 1, 1, 1]);

    // Nobody is there to answer the dissent.
    stage.stop("worker");
    stage.expect(
        "assay worker init g --operator globex --coordinator $ASSAY_COORDINATOR --ca c/ca.pem \
         --coordinator-key c/verdict.pub --policy c/policy.toml && \
         assay operator add globex --root-key c/globex.key && \
         assay operator enroll-worker g/worker.pub --operator globex --root-key c/globex.key",
        0,
    );
    let subject = attest::Subject {
        repository: repository.clone(),
        digest: amd64,
        platform: attest::Platform::linux("amd64"),
    };
    dissent(&stage, &evidence(&stage, &subject).await).await;
    let status = format!("assay status {hello}@{first} --format json || true");
    stage.until(&status, |out| out.contains("disputed"));
    // What follows from the verdict is decided right behind it.
    stage.until(PENDING, |out| pending(out).is_empty());
    while standing(&all).await != [0, 1, 0, 0] {
        stage.until(PENDING, |out| pending(out).is_empty());
    }

    stage.stop("coordinator");
    revoke_without_a_coordinator(&stage).await;
    start(&mut stage);
    stage.until(&status, |out| out.contains("inconclusive"));
    while standing(&all).await != [0, 0, 0, 0] {
        stage.until(PENDING, |out| pending(out).is_empty());
    }
    let evidence = evidence(&stage, &subject).await;
    assert_eq!(evidence.revocations.len(), 1);
    stage.stop("coordinator");
}
