//! What of other jobs belongs to the evidence of a job, and what shows when a revoked key's
//! observation was there.

use super::*;
use crate::{
    daemon::publish::tests::{announce, core},
    queue::{Said, Submission as Answered},
    simulation::signed::observation,
};
use attest::{
    id::{Attempt, Fence, LeaseId, OperatorId},
    key::SigningKey,
    observation::{LayerOutput, Outcome, Output},
    record::{Capabilities, EnvironmentClass, OperatorRecord, Validity, WorkerRecord},
    time::Timestamp,
};

fn operator() -> OperatorId {
    "acme".parse().unwrap()
}

/// A volunteer's observation of this job, filed.
async fn observe(core: &Core, job: &JobId, outcome: Outcome, key: &SigningKey) {
    let spec = core.store.job(job).unwrap().unwrap().spec;
    let said = match &outcome {
        Outcome::Output(output) => Said::Output { manifest: output.manifest },
        _ => Said::Timeout,
    };
    let by = (&operator(), WorkerId(key.public().id()));
    let under = (Attempt(1), LeaseId([9; 16]), Fence(1));
    let observation = observation(&spec, by, under, outcome);
    let envelope = observation.sign(key).unwrap();
    let submission = Answered {
        job: *job,
        attempt: observation.attempt,
        lease: observation.lease,
        fence: observation.fence,
        worker: observation.worker,
        operator: observation.operator,
        observation: envelope.observation_id(),
        said,
        duration_ms: 1,
        bytes: 1000,
    };
    core.store.complete(submission, envelope.to_json()).await.unwrap();
}

/// An image with one layer.
fn another_image() -> Outcome {
    let (config, layer) = (Digest::of(b"config"), Digest::of(b"layer"));
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2,
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer, "size": 9,
        }],
    });
    let manifest_bytes = serde_json::to_vec(&manifest).unwrap();
    Outcome::Output(Output {
        index: None,
        manifest: Digest::of(&manifest_bytes),
        config,
        layers: vec![LayerOutput { blob: Some(layer), diff_id: Digest::of(b"tar"), size: 9 }],
        manifest_bytes,
    })
}

#[tokio::test]
async fn what_was_built_under_another_recipe_is_evidence_about_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let (core, key) = (core(folder.path()), SigningKey::generate().unwrap());
    let first = announce(&core, b"recipe", None).await;
    observe(&core, &first, another_image(), &key).await;
    let second = announce(&core, b"recipe, said once more", None).await;
    assert_ne!(first, second);
    let jobs = |job: &JobId| -> Vec<JobId> {
        let set = set_of(&core, job).unwrap().unwrap();
        set.check().unwrap();
        let read = set.observations.iter().map(|o| Observation::read(&o.envelope).unwrap().job);
        read.collect()
    };
    assert_eq!((jobs(&first), jobs(&second)), (vec![first], vec![first]));
    // That somebody ran out of time under another recipe says nothing of the image.
    observe(&core, &first, Outcome::Timeout { limit_seconds: 1 }, &key).await;
    assert_eq!((jobs(&first).len(), jobs(&second).len()), (2, 1));
}

#[tokio::test]
async fn what_a_revoked_key_signed_comes_with_the_time_of_its_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    let (root, key) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let until = Timestamp::from_unix(4_000_000_000).unwrap();
    let valid = Validity { from: Timestamp::default(), until };
    let mut roster = Roster::clone(&core.roster());
    let record = OperatorRecord {
        operator: operator(),
        root_key: root.public().clone(),
        organisation: String::new(),
        affiliations: vec![],
        contact: String::new(),
        valid,
    };
    roster.take_operator(&record.sign(&root).unwrap()).unwrap();
    let record = WorkerRecord {
        operator: operator(),
        key: key.public().clone(),
        capabilities: Capabilities::default(),
        environment: EnvironmentClass::default(),
        valid,
    };
    roster.take_worker(&record.sign(&root).unwrap()).unwrap();
    core.go_on_with(roster.clone());
    let job = announce(&core, b"recipe", None).await;
    observe(&core, &job, another_image(), &key).await;
    assert!(set_of(&core, &job).unwrap().unwrap().receipts.is_empty(), "nobody asks when");
    for (since, receipts) in [(None, 0), (Some(until), 1)] {
        let mut roster = roster.clone();
        let revocation = KeyRevocation {
            operator: operator(),
            key: key.public().id(),
            compromised_since: since,
            reason: "stolen".into(),
            revoked_at: Timestamp::default(),
        };
        roster.take_revocation(&revocation.sign(&root).unwrap()).unwrap();
        core.go_on_with(roster);
        let set = set_of(&core, &job).unwrap().unwrap();
        assert_eq!(set.receipts.len(), receipts, "{since:?}");
        let Some(envelope) = set.receipts.first() else { continue };
        let receipt = Receipt::open(envelope, core.loaded.public_key()).unwrap();
        let filed = &set.observations[0];
        assert_eq!(receipt.observation, filed.envelope.observation_id());
        let stored = core.store.record(receipt.position).unwrap().unwrap();
        assert_eq!((Some(receipt.position), receipt.received_at), (filed.position, stored.time));
    }
}

#[test]
fn nothing_with_a_zero_byte_is_json() {
    assert!(is_json(br#" {"a":"\u0000"} "#));
    for bytes in [&b"{\"a\":\"\0\"}"[..], b"{}\0", b"\0{}", b"AYFR\0\0\0\0", b""] {
        assert!(!is_json(bytes), "{bytes:?}");
    }
}
