//! Verdicts on the published cases, through the public interface only: real evidence, real keys,
//! three operators. What a worker would have built is taken from the fixtures.

use attest::{
    Digest, Level, Platform, Repository, Subject,
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
    time::Timestamp,
    trust::{Signers, judge_evidence},
    verdict::{Judgement, VerdictOutcome, judge},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

const OPERATORS: [&str; 3] = ["acme", "globex", "initech"];
/// When everything happens.
const NOW: i64 = 1_790_000_000;

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn digest(value: &Value) -> Digest {
    value.as_str().unwrap().parse().unwrap()
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}

/// The fixtures, and a fleet that judges them.
struct Bench {
    root: PathBuf,
    tags: BTreeMap<String, Digest>,
    cases: Value,
    policy: Policy,
    coordinator: SigningKey,
    roots: Vec<SigningKey>,
    workers: Vec<SigningKey>,
}

impl Bench {
    fn new() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/published");
        let index = json(&fs::read(root.join("index.json")).unwrap());
        let tags = index["manifests"].as_array().unwrap().iter().map(|entry| {
            let name = &entry["annotations"]["org.opencontainers.image.ref.name"];
            (name.as_str().unwrap().to_owned(), digest(&entry["digest"]))
        });
        let keys = || OPERATORS.map(|_| SigningKey::generate().unwrap()).into();
        let (coordinator, roots): (_, Vec<_>) = (SigningKey::generate().unwrap(), keys());
        let mut text = String::from(
            "[[publisher]]\nrepositories = [\"oci:*\"]\nkey = \"keys/publisher.pub\"\n\
             transparency = \"none\"\n[coordinator]\nkey = \"coordinator\"\n",
        );
        for name in OPERATORS {
            text += &format!("[[operator]]\nname = \"{name}\"\nroot_key = \"{name}\"\n");
        }
        text += "[quorum]\noperators = [\"acme\", \"globex\", \"initech\"]\nreproduced = 2\n\
                 level = \"config\"\ntier = \"attested\"\n";
        let read_key = |path: &str| match OPERATORS.iter().position(|name| *name == path) {
            Some(who) => Ok(roots[who].public().to_pem().into_bytes()),
            None if path == "coordinator" => Ok(coordinator.public().to_pem().into_bytes()),
            None => fs::read(root.join(path)).map_err(|error| error.to_string()),
        };
        let policy = Policy::parse(&text, &read_key).unwrap();
        let cases = json(&fs::read(root.join("cases.json")).unwrap());
        Self { tags: tags.collect(), cases, policy, coordinator, roots, workers: keys(), root }
    }

    fn blob(&self, digest: &Digest) -> Vec<u8> {
        fs::read(self.root.join("blobs/sha256").join(digest.hex())).unwrap()
    }

    fn evidence(&self, repository: &Repository, on: Digest) -> Vec<RawEvidence> {
        let mut manifests = Vec::new();
        if let Some(index) = self.tags.get(&format!("{repository}:{}", on.fallback_tag())) {
            let index = json(&self.blob(index));
            let listed = index["manifests"].as_array().unwrap();
            manifests.extend(listed.iter().map(|m| digest(&m["digest"])));
        }
        manifests.extend(self.tags.get(&format!("{repository}:{}.att", on.fallback_tag())));
        let mut found = Vec::new();
        for manifest in manifests {
            for layer in json(&self.blob(&manifest))["layers"].as_array().unwrap() {
                let kind = match layer["mediaType"].as_str().unwrap() {
                    "application/vnd.dsse.envelope.v1+json" => EvidenceKind::DsseEnvelope,
                    _ => EvidenceKind::SigstoreBundle,
                };
                let bytes = self.blob(&digest(&layer["digest"]));
                let uri = format!("oci://{repository}@{manifest}");
                found.push(RawEvidence::new(kind, bytes, uri, on));
            }
        }
        found
    }

    /// The set of one platform of one case, with every worker vouched for and nothing observed.
    fn set(&self, case: &str, place: &str) -> EvidenceSet {
        let repository: Repository = format!("demo/{case}").parse().unwrap();
        let platform = place.split('#').next().unwrap().parse::<Platform>().unwrap();
        let found = &self.cases[case]["platforms"][place];
        let subject = Subject { repository, digest: digest(&found["manifest"]), platform };
        let index = digest(&self.cases[case]["index"]);
        let manifest = self.blob(&subject.digest);
        let config = digest(&json(&manifest)["config"]["digest"]);
        let mut set = EvidenceSet::new(Source::Layout, subject, manifest);
        set.index = Some(self.blob(&index));
        set.config = Some(self.blob(&config));
        let (repository, digest) = (&set.subject.repository, set.subject.digest);
        set.publisher = self.evidence(repository, digest);
        set.publisher.extend(self.evidence(repository, index));
        for (who, name) in OPERATORS.iter().enumerate() {
            let record = WorkerRecord {
                operator: name.parse().unwrap(),
                key: self.workers[who].public().clone(),
                capabilities: Capabilities::default(),
                environment: EnvironmentClass::default(),
                valid: Validity { from: time(NOW - 1000), until: time(NOW + 1000) },
            };
            set.workers.push(record.sign(&self.roots[who]).unwrap());
        }
        set
    }

    fn recipes(&self, set: &EvidenceSet) -> Vec<Digest> {
        let signers = Signers::Policy(&self.policy, set.source);
        let trust = judge_evidence(signers, &set.subject.repository, &set.publisher);
        match derive(&set.subject, set.index_digest().as_ref(), &trust) {
            Derivation::Recipes { recipes, .. } => recipes.iter().map(|r| r.digest()).collect(),
            _ => Vec::new(),
        }
    }

    /// Worker `who` is leased the job and says that it built this manifest.
    fn observe(&self, set: &mut EvidenceSet, who: usize, manifest: Vec<u8>, clean: bool) {
        let mut recipes = self.recipes(set);
        // Whoever has no recipe has nothing to rebuild; a liar makes one up.
        if recipes.is_empty() {
            recipes.push(Digest::of(b"a recipe that nobody stated"));
        }
        let operator: OperatorId = OPERATORS[who].parse().unwrap();
        let subject = &set.subject;
        let lease = Lease {
            job: JobId::of(&subject.repository, &subject.digest, &subject.platform, &recipes),
            attempt: Attempt(1),
            slot: who as u32,
            worker: WorkerId(self.workers[who].public().id()),
            lease: LeaseId([who as u8; 16]),
            fence: Fence(who as u64 + 1),
            issued_at: time(NOW),
            not_after: time(NOW + 600),
            salt: None,
        };
        let layers = json(&set.manifest)["layers"].as_array().unwrap().len();
        let why = if clean { vec![] } else { vec!["bytes after the stream".to_owned()] };
        let observation = Observation {
            subject: subject.clone(),
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
            outcome: Outcome::Output(self.output(manifest)),
            environment: Environment::default(),
            materials: vec![],
            inputs_missing: 0,
            hints: vec![],
            searched: vec![],
            hygiene: vec![LayerHygieneFact { clean, why }; layers],
            compared: None,
            explanation: None,
            cache: CacheState::Cold,
            durations: Durations::default(),
            observed_at: time(NOW + 60),
            input_mac: None,
            r32: None,
        };
        set.leases.push(lease.sign(&self.coordinator).unwrap());
        let envelope = observation.sign(&self.workers[who]).unwrap();
        set.observations.push(Filed { envelope, position: None });
    }

    fn output(&self, manifest_bytes: Vec<u8>) -> Output {
        let manifest = json(&manifest_bytes);
        let config = digest(&manifest["config"]["digest"]);
        let diff_ids = json(&self.blob(&config))["rootfs"]["diff_ids"].clone();
        let layers =
            manifest["layers"].as_array().unwrap().iter().zip(diff_ids.as_array().unwrap());
        let layers = layers.map(|(layer, diff_id)| LayerOutput {
            blob: Some(digest(&layer["digest"])),
            diff_id: digest(diff_id),
            size: layer["size"].as_u64().unwrap(),
        });
        let layers = layers.collect();
        let manifest = Digest::of(&manifest_bytes);
        Output { manifest, config, layers, manifest_bytes, index: None }
    }

    /// Every worker says that it built this.
    fn judged(&self, case: &str, place: &str, manifest: Option<&Digest>, clean: bool) -> Judgement {
        let mut set = self.set(case, place);
        let manifest = manifest.map_or_else(|| set.manifest.clone(), |digest| self.blob(digest));
        for who in 0..OPERATORS.len() {
            self.observe(&mut set, who, manifest.clone(), clean);
        }
        judge(&self.policy, &set)
    }

    fn places(&self) -> Vec<(String, String)> {
        let cases = self.cases.as_object().unwrap();
        let places = |(case, value): (&String, &Value)| {
            let places = value["platforms"].as_object().unwrap().keys();
            places.map(|place| (case.clone(), place.clone())).collect::<Vec<_>>()
        };
        cases.iter().flat_map(places).collect()
    }
}

#[test]
fn whoever_claims_the_published_digests_helps_only_where_there_is_a_trusted_recipe() {
    let bench = Bench::new();
    let (mut reproduced, mut others) = (0, BTreeMap::<String, u32>::new());
    for (case, place) in bench.places() {
        let judgement = bench.judged(&case, &place, None, true);
        match &judgement.outcome {
            VerdictOutcome::Reproduced { level } => {
                assert_eq!(*level, Level::Manifest, "{case} {place}");
                assert_eq!((judgement.k, judgement.n), (3, 3));
                assert!(!judgement.evidence.is_empty());
                reproduced += 1;
            }
            VerdictOutcome::NotRebuildable { gaps } => {
                assert_eq!(bench.cases[&case]["platforms"][&place]["gap"], gaps[0].code.as_str());
                *others.entry(gaps[0].code.to_string()).or_default() += 1;
            }
            other => {
                assert_eq!(other, &VerdictOutcome::Untrusted, "{case} {place}");
                *others.entry(case.clone()).or_default() += 1;
            }
        }
        // A judge elsewhere, from the file alone, comes to the same bytes.
        let mut set = bench.set(&case, &place);
        for who in (0..OPERATORS.len()).rev() {
            let manifest = set.manifest.clone();
            bench.observe(&mut set, who, manifest, true);
        }
        let here = judge(&bench.policy, &set).to_canonical_json().unwrap();
        let file = set.to_canonical_json().unwrap();
        let read = EvidenceSet::parse(&file).unwrap();
        assert_eq!(judge(&bench.policy, &read).to_canonical_json().unwrap(), here, "{case}");
    }
    assert_eq!(reproduced, 42);
    let expected = [("index-only-recipe", 2), ("no-recipe", 2), ("wrong-signer", 1)];
    assert_eq!(others, expected.map(|(name, count)| (name.to_owned(), count)).into());
}

#[test]
fn honest_rebuilds_of_altered_images_diverge() {
    let bench = Bench::new();
    let amd64 = "linux/amd64";
    let hello = digest(&bench.cases["hello"]["platforms"][amd64]["manifest"]);
    // Each was `hello` before it was altered: a rebuild gives `hello` back.
    let (mut diverged, mut config) = (BTreeSet::new(), BTreeSet::new());
    for case in [
        "tampered",
        "setuid",
        "owner",
        "mtime",
        "runs-as-root",
        "env-added",
        "planted-key",
        "gzip-name",
        "gzip-trailing",
        "gzip-two-members",
        "recompressed",
    ] {
        let judgement = bench.judged(case, amd64, Some(&hello), !case.starts_with("gzip-"));
        match judgement.outcome {
            VerdictOutcome::Diverged => diverged.insert(case),
            VerdictOutcome::Reproduced { level: Level::Config } => config.insert(case),
            ref other => panic!("{case}: {other:?}"),
        };
    }
    // The configuration alone was rebuilt, from layers that are clean: only one case is that.
    assert_eq!(config, BTreeSet::from(["recompressed"]));
    assert_eq!(diverged.len(), 10);
}

#[test]
fn observations_of_one_repository_help_no_other() {
    let bench = Bench::new();
    let mut hello = bench.set("hello", "linux/amd64");
    let manifest = hello.manifest.clone();
    for who in 0..OPERATORS.len() {
        bench.observe(&mut hello, who, manifest.clone(), true);
    }
    assert_eq!(judge(&bench.policy, &hello).outcome.as_str(), "reproduced");
    for case in [
        "hello-both",
        "hello-legacy",
        "wrong-signer",
        "no-attestation",
        "unknown-field",
        "undeclared-package",
        "withdrawn",
        "stranger-beside",
    ] {
        let mut set = bench.set(case, "linux/amd64");
        set.observations = hello.observations.clone();
        set.leases = hello.leases.clone();
        let judgement = judge(&bench.policy, &set);
        assert_ne!(judgement.outcome.as_str(), "reproduced", "{case}");
        assert!(judgement.counted.is_empty(), "{case}");
        let reasons = judgement.not_counted.iter().map(|n| n.why.as_str());
        assert!(reasons.clone().all(|why| why.starts_with("other-repository")), "{case}");
    }
    // Nor does the recipe of another architecture.
    let mut arm64 = bench.set("hello", "linux/arm64");
    arm64.observations = hello.observations;
    arm64.leases = hello.leases;
    let judgement = judge(&bench.policy, &arm64);
    assert!(judgement.not_counted.iter().all(|n| n.why.starts_with("other-image")));
}
