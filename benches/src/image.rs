//! Published images with a recipe that a publisher signed, and what workers say of them.
//!
//! Small, but whole: the coordinator derives the recipe from a signed statement and judges signed
//! observations, as it does for any image. Two layers, one statement, 24 fetched packages.

use anyhow::{Result, bail};
use attest::{
    Digest, Platform, Subject,
    dsse::{Envelope, IN_TOTO},
    evidence::{EvidenceKind, RawEvidence},
    evidence_set::EvidenceSet,
    id::{Attempt, Fence, JobId, LeaseId, OperatorId},
    key::SigningKey,
    observation::{
        CacheState, Durations, Environment, LayerHygieneFact, LayerOutput, Material, Observation,
        Outcome, Output,
    },
    policy::{Policy, Source},
    recipe::{Derivation, derive},
    statement::{Statement, StatementSubject},
    time::Timestamp,
    trust::{Signers, judge_evidence},
};
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

/// Packages that a build fetched: a small image of apko has about so many.
const MATERIALS: usize = 24;

/// An image and the evidence that its publisher attached.
pub struct Image {
    /// What is published.
    pub subject: Subject,
    /// Manifest and publisher's evidence.
    pub set: EvidenceSet,
    /// Its recipes, ascending.
    pub recipes: Vec<Digest>,
}

/// This machine's clock.
pub fn now() -> Timestamp {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Timestamp::from_unix(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default()
}

/// The manifest of an image; each number is another image.
pub fn manifest(number: u64) -> Result<Vec<u8>> {
    let layer = |which: u8| {
        let digest = Digest::of(&[&number.to_be_bytes()[..], &[which]].concat());
        json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": digest, "size": 3_000_000 + number,
        })
    };
    let config = Digest::of(format!("config {number}").as_bytes());
    Ok(serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config, "size": 1200,
        },
        "layers": [layer(1), layer(2)],
    }))?)
}

/// Where an image is published: so many images to a repository.
pub fn subject(number: u64, per_repository: u64) -> Result<Subject> {
    Ok(Subject {
        repository: format!("registry.example/load/r{}", number / per_repository).parse()?,
        digest: Digest::of(&manifest(number)?),
        platform: Platform::linux("amd64"),
    })
}

impl Image {
    /// An image whose publisher signed its configuration.
    pub fn new(number: u64, publisher: &SigningKey, policy: &Policy) -> Result<Self> {
        let subject = subject(number, 100)?;
        let named = vec![StatementSubject::new("load", &subject.digest)];
        let packages: Vec<_> = (0..6).map(|n| format!("package-{n}=1.{number}.{n}-r0")).collect();
        let configuration = json!({"archs": ["amd64"], "contents": {"packages": packages}});
        let kind = "https://apko.dev/image-configuration";
        let statement = serde_json::to_vec(&Statement::new(named, kind, configuration))?;
        let envelope = Envelope::sign(publisher, IN_TOTO, statement)?;
        let uri = format!("oci://{}@{}", subject.repository, subject.digest);
        let kind = EvidenceKind::DsseEnvelope;
        let evidence = RawEvidence::new(kind, envelope.to_json(), uri, subject.digest);
        let mut set = EvidenceSet::new(Source::Registry, subject.clone(), manifest(number)?);
        set.publisher = vec![evidence];
        let signers = Signers::Policy(policy, Source::Registry);
        let trust = judge_evidence(signers, &subject.repository, &set.publisher);
        let Derivation::Recipes { recipes, .. } = derive(&subject, None, &trust) else {
            bail!("expected a recipe of image {number}, found none");
        };
        let mut recipes: Vec<Digest> = recipes.iter().map(|recipe| recipe.digest()).collect();
        recipes.sort_unstable();
        Ok(Self { subject, set, recipes })
    }
}

/// Under which lease something is observed.
pub struct Permission {
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub attempt: Attempt,
    /// The lease.
    pub lease: LeaseId,
    /// Its fence.
    pub fence: Fence,
}

/// What a worker says that built exactly what was published, signed.
pub fn observed(
    subject: &Subject,
    manifest_bytes: Vec<u8>,
    recipes: &[Digest],
    permission: &Permission,
    (operator, key): (&OperatorId, &SigningKey),
) -> Result<Envelope> {
    let parsed = attest::image_manifest::ImageManifest::parse(&manifest_bytes)?;
    let layers = parsed.layers.iter().map(|layer| LayerOutput {
        blob: Some(layer.digest),
        diff_id: Digest::of(layer.digest.raw()),
        size: layer.size,
    });
    let output = Output {
        manifest: Digest::of(&manifest_bytes),
        config: parsed.config.digest,
        layers: layers.collect(),
        manifest_bytes,
        index: None,
    };
    let material = |n: usize| Material {
        uri: format!("https://packages.example/os/x86_64/package-{n}-1.2.{n}-r0.apk"),
        digest: Digest::of(&n.to_be_bytes()),
        from: None,
        verified_by: "index-signature".into(),
    };
    let observation = Observation {
        subject: subject.clone(),
        index: None,
        tag: None,
        job: permission.job,
        attempt: permission.attempt,
        lease: permission.lease,
        fence: permission.fence,
        operator: operator.clone(),
        operator_uri: Observation::operator_urn(operator),
        worker: attest::id::WorkerId(key.public().id()),
        recipe: recipes.first().copied(),
        recipes_tried: recipes.to_vec(),
        builder: None,
        publisher: None,
        source: None,
        epoch: None,
        published_at: None,
        hygiene: vec![LayerHygieneFact { clean: true, why: vec![] }; output.layers.len()],
        outcome: Outcome::Output(output),
        environment: Environment {
            kernel: "Linux 6.12".into(),
            cpu_vendor: "AuthenticAMD".into(),
            ..Environment::default()
        },
        materials: (0..MATERIALS).map(material).collect(),
        inputs_missing: 0,
        hints: vec![],
        searched: vec![],
        compared: None,
        explanation: None,
        cache: CacheState::Cold,
        durations: Durations::default(),
        observed_at: now(),
        input_mac: None,
        r32: None,
    };
    Ok(observation.sign(key)?)
}
