//! A small fleet with real keys: a publisher, operators with one worker each, a coordinator.

use crate::{
    Digest, Gap, GapCode, Level, Platform, Subject,
    dsse::{Envelope, IN_TOTO},
    evidence::{EvidenceKind, RawEvidence},
    evidence_set::{EvidenceSet, Filed},
    id::{Attempt, Fence, JobId, JournalPosition, LeaseId, ObservationId, OperatorId, WorkerId},
    key::SigningKey,
    observation::{
        CacheState, Durations, Environment, LayerHygieneFact, Observation, Outcome, Output,
        Refusal,
        strategy::{manifest_bytes, output_of},
    },
    policy::{Operator, Policy, Publisher, Quorum, SignerRule, Source, Transparency},
    recipe::{Derivation, Tier, derive},
    record::{
        Capabilities, EnvironmentClass, JobAnnounce, KeyRevocation, Lease, OperatorRecord, Receipt,
        Record, Validity, WorkerRecord,
    },
    statement::{Statement, StatementSubject},
    time::Timestamp,
    trust::{Signers, judge_evidence},
    verdict::{Judgement, judge},
};
use serde_json::json;
use std::sync::OnceLock;

pub(crate) const NAMES: [&str; 8] =
    ["acme", "globex", "hooli", "initech", "pied-piper", "tyrell", "umbrella", "wayne"];
/// When everything happens, unless a test says otherwise.
pub(crate) const NOON: i64 = 1_700_000_000;

pub(crate) fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}

pub(crate) fn operator(who: usize) -> OperatorId {
    NAMES[who].parse().unwrap()
}

/// Keys are made once: their values never matter.
pub(crate) struct Keys {
    pub(crate) publisher: SigningKey,
    pub(crate) coordinator: SigningKey,
    pub(crate) roots: Vec<SigningKey>,
    pub(crate) workers: Vec<SigningKey>,
    pub(crate) stranger: SigningKey,
}

pub(crate) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let key = || SigningKey::generate().unwrap();
    KEYS.get_or_init(|| Keys {
        publisher: key(),
        coordinator: key(),
        roots: NAMES.iter().map(|_| key()).collect(),
        workers: NAMES.iter().map(|_| key()).collect(),
        stranger: key(),
    })
}

pub(crate) fn worker(who: usize) -> WorkerId {
    WorkerId(keys().workers[who].public().id())
}

/// The published image: two layers.
pub(crate) fn published() -> Vec<u8> {
    let layers = [(Digest::of(b"layer 1"), 10), (Digest::of(b"layer 2"), 20)];
    manifest_bytes(&Digest::of(b"config"), &layers)
}

/// The output that is the published image.
pub(crate) fn same() -> Outcome {
    Outcome::Output(output_of(published()))
}

/// Another image; each number is one of its own.
pub(crate) fn other(number: u8) -> Outcome {
    let config = Digest::of(&[number]);
    Outcome::Output(output_of(manifest_bytes(&config, &[(Digest::of(b"layer 1"), 10)])))
}

/// The published configuration with layers that are compressed otherwise.
pub(crate) fn recompressed() -> Outcome {
    let layers = [(Digest::of(b"layer 1, small"), 9), (Digest::of(b"layer 2"), 20)];
    Outcome::Output(output_of(manifest_bytes(&Digest::of(b"config"), &layers)))
}

pub(crate) fn failed(class: &str) -> Outcome {
    Outcome::BuildFailed { class: class.into(), detail: "no such thing".into() }
}

pub(crate) fn invalid(detail: &str) -> Outcome {
    Outcome::RecipeInvalid { gaps: vec![Gap::new(GapCode::UnsupportedField, detail)] }
}

pub(crate) fn refused() -> Outcome {
    Outcome::Refused { reason: Refusal::Policy, detail: "not in my policy".into() }
}

fn subject() -> Subject {
    Subject {
        repository: "registry.example/demo/hello".parse().unwrap(),
        digest: Digest::of(&published()),
        platform: Platform::linux("amd64"),
    }
}

/// A statement by the publisher about the image, as evidence.
pub(crate) fn stated(
    key: &SigningKey,
    about: &Digest,
    predicate: serde_json::Value,
) -> RawEvidence {
    let subject = vec![StatementSubject::new("demo/hello", about)];
    let statement = Statement::new(subject, "https://apko.dev/image-configuration", predicate);
    let payload = serde_json::to_vec(&statement).unwrap();
    let envelope = Envelope::sign(key, IN_TOTO, payload).unwrap();
    let uri = format!("oci://registry.example/demo/hello@{about}");
    RawEvidence::new(EvidenceKind::DsseEnvelope, envelope.to_json(), uri, *about)
}

pub(crate) fn configuration(package: &str) -> serde_json::Value {
    json!({"archs": ["amd64"], "contents": {"packages": [package]}})
}

/// The fleet, its policy, and the evidence so far.
pub(crate) struct Fleet {
    pub(crate) policy: Policy,
    pub(crate) set: EvidenceSet,
    pub(crate) recipes: Vec<Digest>,
    pub(crate) fence: u64,
}

impl Fleet {
    /// `operators` of which `required` must agree; the coordinator is pinned.
    pub(crate) fn new(operators: usize, required: u32) -> Self {
        let names: Vec<OperatorId> = (0..operators).map(operator).collect();
        let policy = Policy {
            publishers: vec![Publisher {
                repositories: vec!["registry.example/*".parse().unwrap()],
                signer: SignerRule::Key(keys().publisher.public().clone()),
                transparency: Transparency::None,
            }],
            operators: names
                .iter()
                .enumerate()
                .map(|(who, name)| Operator {
                    name: name.clone(),
                    root_key: keys().roots[who].public().clone(),
                    affiliations: vec![],
                })
                .collect(),
            quorum: Some(Quorum {
                operators: names,
                reproduced: required,
                level: Level::Config,
                tier: Tier::Attested,
                hints: ["epoch".to_owned(), "install-order".to_owned()].into(),
                dissent_sources: vec![],
                diversity: vec![],
            }),
            coordinator: Some(keys().coordinator.public().clone()),
            ..Policy::default()
        };
        let mut set = EvidenceSet::new(Source::Registry, subject(), published());
        set.publisher = vec![stated(&keys().publisher, &subject().digest, configuration("a=1"))];
        set.workers = (0..operators).map(|who| vouch(who, who, forever())).collect();
        let mut fleet = Self { policy, set, recipes: vec![], fence: 0 };
        fleet.derive();
        fleet
    }

    /// The same without a pinned coordinator: only the workers' own words about leases.
    pub(crate) fn unpinned(operators: usize, required: u32) -> Self {
        let mut fleet = Self::new(operators, required);
        fleet.policy.coordinator = None;
        fleet
    }

    pub(crate) fn quorum(&mut self) -> &mut Quorum {
        self.policy.quorum.as_mut().unwrap()
    }

    /// Takes the recipes anew from the evidence.
    pub(crate) fn derive(&mut self) {
        let signers = Signers::Policy(&self.policy, self.set.source);
        let trust = judge_evidence(signers, &self.set.subject.repository, &self.set.publisher);
        let Derivation::Recipes { recipes, .. } = derive(&self.set.subject, None, &trust) else {
            panic!("no recipe");
        };
        self.recipes = recipes.iter().map(|recipe| recipe.digest()).collect();
        self.recipes.sort_unstable();
    }

    pub(crate) fn job(&self) -> JobId {
        let subject = &self.set.subject;
        JobId::of(&subject.repository, &subject.digest, &subject.platform, &self.recipes)
    }

    /// An unsigned observation and the lease that fits it.
    pub(crate) fn prepared(
        &mut self,
        who: usize,
        attempt: u64,
        outcome: Outcome,
    ) -> (Observation, Lease) {
        self.fence += 1;
        let mut lease = [0; 16];
        lease[..8].copy_from_slice(&self.fence.to_be_bytes());
        let lease = Lease {
            job: self.job(),
            attempt: Attempt(attempt),
            slot: who as u32,
            worker: worker(who),
            lease: LeaseId(lease),
            fence: Fence(self.fence),
            issued_at: time(NOON),
            not_after: time(NOON + 600),
            salt: None,
        };
        let observation = Observation {
            subject: self.set.subject.clone(),
            index: None,
            tag: None,
            job: lease.job,
            attempt: lease.attempt,
            lease: lease.lease,
            fence: lease.fence,
            operator: operator(who),
            operator_uri: Observation::operator_urn(&operator(who)),
            worker: worker(who),
            recipe: self.recipes.first().copied(),
            recipes_tried: self.recipes.clone(),
            builder: None,
            publisher: None,
            source: None,
            epoch: None,
            published_at: None,
            hygiene: hygiene(&outcome),
            outcome,
            environment: Environment {
                kernel: format!("Linux 6.{who}"),
                cpu_vendor: "AuthenticAMD".into(),
                ..Environment::default()
            },
            materials: vec![],
            inputs_missing: 0,
            hints: vec![],
            searched: vec![],
            compared: None,
            explanation: None,
            cache: CacheState::Cold,
            durations: Durations::default(),
            observed_at: time(NOON + 60),
            input_mac: None,
            r32: None,
        };
        (observation, lease)
    }

    /// A leased observation.
    pub(crate) fn observe(&mut self, who: usize, attempt: u64, outcome: Outcome) -> ObservationId {
        self.observe_with(who, attempt, outcome, |_, _| ())
    }

    /// A leased observation, changed before both are signed by whom they name.
    pub(crate) fn observe_with(
        &mut self,
        who: usize,
        attempt: u64,
        outcome: Outcome,
        change: impl FnOnce(&mut Observation, &mut Lease),
    ) -> ObservationId {
        let (mut observation, mut lease) = self.prepared(who, attempt, outcome);
        change(&mut observation, &mut lease);
        self.lease(&lease);
        let envelope = observation.sign(&keys().workers[who]).unwrap();
        self.file(envelope)
    }

    /// An observation without a lease.
    pub(crate) fn volunteer(&mut self, who: usize, outcome: Outcome) -> ObservationId {
        let (observation, _) = self.prepared(who, 1, outcome);
        self.file(observation.sign(&keys().workers[who]).unwrap())
    }

    pub(crate) fn lease(&mut self, lease: &Lease) {
        self.set.leases.push(lease.sign(&keys().coordinator).unwrap());
    }

    pub(crate) fn file(&mut self, envelope: Envelope) -> ObservationId {
        let id = envelope.observation_id();
        self.set.observations.push(Filed { envelope, position: None });
        id
    }

    /// The coordinator had this observation at that time.
    pub(crate) fn receipt(&mut self, observation: ObservationId, at: i64) {
        let receipt = Receipt {
            observation,
            job: self.job(),
            lease: LeaseId([0; 16]),
            position: JournalPosition(1),
            received_at: time(at),
            log_index: None,
        };
        self.set.receipts.push(receipt.sign(&keys().coordinator).unwrap());
    }

    /// The coordinator opens the job (again).
    pub(crate) fn announce(&mut self, attempt: u64, wanted: u32, reopened_by: &[ObservationId]) {
        let announce = JobAnnounce {
            job: self.job(),
            subject: self.set.subject.clone(),
            index: None,
            recipes: self.recipes.clone(),
            evidence: vec![],
            rebuilder: "apko".into(),
            observations_wanted: wanted,
            class: "push".into(),
            attempt: Attempt(attempt),
            reopened_by: reopened_by.to_vec(),
            announced_at: time(NOON),
            eligible_checkpoint: None,
            beacon_round: None,
        };
        self.set.announces.push(announce.sign(&keys().coordinator).unwrap());
    }

    pub(crate) fn judge(&self) -> Judgement {
        judge(&self.policy, &self.set)
    }

    pub(crate) fn outcome(&self) -> &'static str {
        self.judge().outcome.as_str()
    }

    /// The codes of the reasons for which this operator is not counted.
    pub(crate) fn why(&self, who: &str) -> Vec<String> {
        let judgement = self.judge();
        let of = judgement.not_counted.iter().filter(|n| n.operator == who);
        of.map(|n| n.why.split(':').next().unwrap().to_owned()).collect()
    }
}

pub(crate) fn hygiene(outcome: &Outcome) -> Vec<LayerHygieneFact> {
    let layers = match outcome {
        Outcome::Output(Output { .. }) => 2,
        _ => 0,
    };
    vec![LayerHygieneFact { clean: true, why: vec![] }; layers]
}

pub(crate) fn forever() -> Validity {
    Validity { from: time(0), until: time(4_000_000_000) }
}

/// Operator `who`'s root key vouches for worker `of`.
pub(crate) fn vouch(who: usize, of: usize, valid: Validity) -> Envelope {
    vouched(who, of, valid).sign(&keys().roots[who]).unwrap()
}

pub(crate) fn vouched(who: usize, of: usize, valid: Validity) -> WorkerRecord {
    WorkerRecord {
        operator: operator(who),
        key: keys().workers[of].public().clone(),
        capabilities: Capabilities::default(),
        environment: EnvironmentClass::default(),
        valid,
    }
}

pub(crate) fn revocation(who: usize, key: Digest, since: Option<i64>) -> KeyRevocation {
    KeyRevocation {
        operator: operator(who),
        key,
        compromised_since: since.map(time),
        reason: "stolen".into(),
        revoked_at: time(NOON + 1000),
    }
}

pub(crate) fn operator_record(who: usize, affiliations: &[&str], valid: Validity) -> Envelope {
    let record = OperatorRecord {
        operator: operator(who),
        root_key: keys().roots[who].public().clone(),
        organisation: "An organisation".into(),
        affiliations: affiliations.iter().map(|a| (*a).to_owned()).collect(),
        contact: "ops@example".into(),
        valid,
    };
    record.sign(&keys().roots[who]).unwrap()
}
