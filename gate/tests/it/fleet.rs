//! A published image, its publisher, operators with a worker each and a coordinator: real keys,
//! real records, real sets of evidence.

use attest::{
    Digest, Platform, Repository, Subject,
    dsse::{Envelope, IN_TOTO},
    evidence::{EvidenceKind, RawEvidence},
    evidence_set::{EvidenceSet, Filed},
    id::{Attempt, Fence, JobId, LeaseId, OperatorId, WorkerId},
    key::SigningKey,
    observation::{
        CacheState, Durations, Environment, LayerHygieneFact, LayerOutput, Observation, Outcome,
        Output,
    },
    policy::{Policy, Source},
    recipe::{Derivation, derive},
    record::{Capabilities, EnvironmentClass, Lease, Record, Validity, WorkerRecord},
    statement::{Statement, StatementSubject},
    time::Timestamp,
    trust::{Signers, judge_evidence},
};
use oci::{Descriptor, LayoutWriter, Tag, media};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

pub const NAMES: [&str; 5] = ["acme", "globex", "hooli", "initech", "tyrell"];
/// When everything is observed.
pub const NOON: i64 = 1_790_000_000;
pub const DAY: i64 = 86_400;
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}

/// One platform of a published image.
#[derive(Clone)]
pub struct Built {
    pub platform: Platform,
    pub descriptor: Descriptor,
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
}

/// A published image of two platforms.
#[derive(Clone)]
pub struct Published {
    pub index: Descriptor,
    pub index_bytes: Vec<u8>,
    pub platforms: Vec<Built>,
}

/// One platform's image; `salt` makes it another one.
pub fn build(architecture: &str, salt: &str) -> (Built, Vec<u8>) {
    let layer = format!("{salt} layer for {architecture}").into_bytes();
    let diff_id = Digest::of(&[b"tar of ", layer.as_slice()].concat());
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"Labels": {"salt": salt}},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": Descriptor::of(media::IMAGE_CONFIG, &config).to_json(),
        "layers": [Descriptor::of(LAYER, &layer).to_json()],
    });
    let manifest = manifest.to_string().into_bytes();
    let platform = Platform::linux(architecture);
    let mut descriptor = Descriptor::of(media::OCI_MANIFEST, &manifest);
    descriptor.platform = Some(platform.clone());
    (Built { platform, descriptor, manifest, config }, layer)
}

/// An index over these entries.
pub fn index(entries: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries})
        .to_string()
        .into_bytes()
}

/// Writes a two-platform image into a layout as `repository:tag`.
pub fn publish(dir: &Path, repository: &str, tag: &str, salt: &str) -> Published {
    let writer = LayoutWriter::create(dir).unwrap();
    let mut platforms = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let (built, layer) = build(architecture, salt);
        writer.put_blob(&layer).unwrap();
        writer.put_blob(&built.config).unwrap();
        writer.put_manifest(media::OCI_MANIFEST, &built.manifest).unwrap();
        platforms.push(built);
    }
    let entries: Vec<Value> = platforms.iter().map(|p| p.descriptor.to_json()).collect();
    let index_bytes = index(&entries);
    let descriptor = writer.put_manifest(media::OCI_INDEX, &index_bytes).unwrap();
    let (repository, tag): (Repository, Tag) = (repository.parse().unwrap(), tag.parse().unwrap());
    writer.tag(&repository, &tag, &descriptor).unwrap();
    Published { index: descriptor, index_bytes, platforms }
}

/// Everybody's keys, and a folder for images and evidence.
pub struct Fleet {
    pub dir: TempDir,
    pub publisher: SigningKey,
    pub stranger: SigningKey,
    pub coordinator: SigningKey,
    pub roots: Vec<SigningKey>,
    pub workers: Vec<SigningKey>,
    fence: std::cell::Cell<u64>,
}

impl Fleet {
    pub fn new() -> Self {
        let key = || SigningKey::generate().unwrap();
        Self {
            dir: TempDir::new().unwrap(),
            publisher: key(),
            stranger: key(),
            coordinator: key(),
            roots: NAMES.iter().map(|_| key()).collect(),
            workers: NAMES.iter().map(|_| key()).collect(),
            fence: std::cell::Cell::new(0),
        }
    }

    /// A path in the fleet's folder.
    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// A policy in which 3 of 5 operators must agree, with more tables at its end.
    pub fn policy(&self, more: &str) -> Policy {
        self.policy_with("reproduced = 3\nlevel = \"config\"\n", more)
    }

    pub fn policy_with(&self, quorum: &str, more: &str) -> Policy {
        let mut text = String::from(
            "[[publisher]]\nrepositories = [\"oci:*\", \"127.0.0.1:*\"]\nkey = \"publisher\"\n\
             transparency = \"none\"\n[coordinator]\nkey = \"coordinator\"\n",
        );
        for name in NAMES {
            text += &format!("[[operator]]\nname = \"{name}\"\nroot_key = \"{name}\"\n");
        }
        text += &format!("[quorum]\noperators = {NAMES:?}\n{quorum}{more}");
        let read_key = |path: &str| {
            let key = match NAMES.iter().position(|name| *name == path) {
                Some(who) => &self.roots[who],
                None if path == "coordinator" => &self.coordinator,
                None if path == "publisher" => &self.publisher,
                None => return Err("no such file".to_owned()),
            };
            Ok(key.public().to_pem().into_bytes())
        };
        Policy::parse(&text, &read_key).unwrap()
    }

    /// The set of one platform: stated by the publisher, vouched for, not observed.
    pub fn set(
        &self,
        source: Source,
        repository: &str,
        of: &Published,
        which: usize,
    ) -> EvidenceSet {
        self.set_by(&self.publisher, source, repository, of, which)
    }

    pub fn set_by(
        &self,
        signer: &SigningKey,
        source: Source,
        repository: &str,
        of: &Published,
        which: usize,
    ) -> EvidenceSet {
        let built = &of.platforms[which];
        let repository: Repository = repository.parse().unwrap();
        let platform = built.platform.clone();
        let digest = built.descriptor.digest;
        let subject = Subject { repository, digest, platform };
        let mut set = EvidenceSet::new(source, subject, built.manifest.clone());
        set.index = Some(of.index_bytes.clone());
        set.config = Some(built.config.clone());
        let architecture = &built.platform.architecture;
        let predicate = json!({"archs": [architecture], "contents": {"packages": ["hello=1"]}});
        let about = vec![StatementSubject::new("demo/hello", &digest)];
        let statement = Statement::new(about, "https://apko.dev/image-configuration", predicate);
        let payload = serde_json::to_vec(&statement).unwrap();
        let envelope = Envelope::sign(signer, IN_TOTO, payload).unwrap().to_json();
        let uri = format!("oci://{}@{digest}", set.subject.repository);
        set.publisher = vec![RawEvidence::new(EvidenceKind::DsseEnvelope, envelope, uri, digest)];
        for (who, name) in NAMES.iter().enumerate() {
            let record = WorkerRecord {
                operator: name.parse().unwrap(),
                key: self.workers[who].public().clone(),
                capabilities: Capabilities::default(),
                environment: EnvironmentClass::default(),
                valid: Validity { from: time(0), until: time(NOON + 9000 * DAY) },
            };
            set.workers.push(record.sign(&self.roots[who]).unwrap());
        }
        set
    }

    fn recipes(&self, set: &EvidenceSet) -> Vec<Digest> {
        let policy = self.policy("");
        let signers = Signers::Policy(&policy, set.source);
        let trust = judge_evidence(signers, &set.subject.repository, &set.publisher);
        match derive(&set.subject, set.index_digest().as_ref(), &trust) {
            Derivation::Recipes { recipes, .. } => recipes.iter().map(|r| r.digest()).collect(),
            _ => vec![Digest::of(b"a recipe that nobody stated")],
        }
    }

    /// Worker `who` is leased the job, and says at `when` that it built `manifest`.
    pub fn observe_at(
        &self,
        set: &mut EvidenceSet,
        who: usize,
        attempt: u64,
        manifest: &[u8],
        when: i64,
    ) {
        let recipes = self.recipes(set);
        let operator: OperatorId = NAMES[who].parse().unwrap();
        let subject = set.subject.clone();
        let fence = self.fence.get() + 1;
        self.fence.set(fence);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&fence.to_be_bytes());
        let lease = Lease {
            job: JobId::of(&subject.repository, &subject.digest, &subject.platform, &recipes),
            attempt: Attempt(attempt),
            slot: who as u32,
            worker: WorkerId(self.workers[who].public().id()),
            lease: LeaseId(id),
            fence: Fence(fence),
            issued_at: time(when - 60),
            not_after: time(when + 600),
            salt: None,
        };
        let observation = Observation {
            subject,
            index: set.index_digest(),
            tag: None,
            job: lease.job,
            attempt: lease.attempt,
            lease: lease.lease,
            fence: lease.fence,
            operator_uri: Observation::operator_urn(&operator),
            operator,
            worker: lease.worker,
            recipe: recipes.first().copied(),
            recipes_tried: recipes,
            builder: None,
            publisher: None,
            source: None,
            epoch: None,
            published_at: None,
            outcome: Outcome::Output(output(manifest)),
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
            observed_at: time(when),
            input_mac: None,
            r32: None,
        };
        set.leases.push(lease.sign(&self.coordinator).unwrap());
        let envelope = observation.sign(&self.workers[who]).unwrap();
        set.observations.push(Filed { envelope, position: None });
    }

    /// The same at noon, in the first attempt.
    pub fn observe(&self, set: &mut EvidenceSet, who: usize, manifest: &[u8]) {
        self.observe_at(set, who, 1, manifest, NOON);
    }

    /// Sets of both platforms, that workers 0, 1 and 2 rebuilt.
    pub fn reproduced(&self, source: Source, repository: &str, of: &Published) -> Vec<EvidenceSet> {
        let sets = (0..of.platforms.len()).map(|which| {
            let mut set = self.set(source, repository, of, which);
            for who in 0..3 {
                self.observe(&mut set, who, &of.platforms[which].manifest);
            }
            set
        });
        sets.collect()
    }

    /// Writes sets as files into a folder.
    pub fn keep(&self, folder: &str, sets: &[EvidenceSet]) -> std::path::PathBuf {
        let folder = self.path(folder);
        std::fs::create_dir_all(&folder).unwrap();
        for set in sets {
            let file = folder.join(gate::collect::file::name_of(set));
            std::fs::write(file, set.to_canonical_json().unwrap()).unwrap();
        }
        folder
    }
}

/// What a worker says that it built.
fn output(manifest_bytes: &[u8]) -> Output {
    let manifest: Value = serde_json::from_slice(manifest_bytes).unwrap();
    let digest = |value: &Value| value["digest"].as_str().unwrap().parse::<Digest>().unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| LayerOutput {
        blob: Some(digest(layer)),
        diff_id: Digest::of(digest(layer).raw()),
        size: layer["size"].as_u64().unwrap(),
    });
    Output {
        manifest: Digest::of(manifest_bytes),
        config: digest(&manifest["config"]),
        layers: layers.collect(),
        manifest_bytes: manifest_bytes.to_vec(),
        index: None,
    }
}
