//! Keys, signatures and the real verdict, for the schedules in which nothing is abstract.
//!
//! Invariant: keys are the same in every process (their scalars are written here), so a schedule
//! replays exactly; every signature has the same length, so that the journal's bytes lie where they
//! lay. It must never be reachable outside tests: these keys are public.

use super::checks::{Checks, Violation, violation};
use super::images::{self, IMAGES_MAX};
use super::plan::{OPERATORS_MAX, Plan};
use crate::journal::{Kind, NewRecord, Stored};
use crate::queue::{Job, JobSpec, Need, Offer, Said};
use crate::store::Notary;
use attest::{
    Digest, Gap, GapCode, Level,
    dsse::{Envelope, IN_TOTO},
    evidence::{EvidenceKind, RawEvidence},
    evidence_set::{EvidenceSet, Filed},
    id::{Attempt, Fence, LeaseId, ObservationId, OperatorId, WorkerId},
    image_manifest::ImageManifest,
    key::{SigningKey, pem_encode},
    observation::{
        CacheState, Durations, Environment, LayerHygieneFact, LayerOutput, Observation, Outcome,
        Output, Refusal,
    },
    policy::{Operator, Policy, Publisher, Quorum, SignerRule, Source, Transparency},
    recipe::{Derivation, Tier, derive},
    record::{Capabilities, EnvironmentClass, JobAnnounce, Lease, Record, Validity, WorkerRecord},
    statement::{Statement, StatementSubject},
    time::Timestamp,
    trust::{Signers, judge_evidence},
    verdict::{self, Judgement},
};
use std::{collections::BTreeSet, sync::OnceLock};

/// Workers of one operator.
pub(super) const WORKERS_PER_OPERATOR: usize = 2;
/// Base64 of an ECDSA signature of 70 to 72 bytes.
const SIGNATURE_TEXT_BYTES: usize = 96;

struct Keys {
    publisher: SigningKey,
    coordinator: SigningKey,
    stranger: SigningKey,
    roots: Vec<SigningKey>,
    workers: Vec<SigningKey>,
}

/// A key whose scalar is this small number.
fn key(scalar: u8) -> SigningKey {
    let mut der = vec![
        0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02,
        0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25,
        0x02, 0x01, 0x01, 0x04, 0x20,
    ];
    der.extend([0; 31]);
    der.push(scalar);
    SigningKey::from_pem(&pem_encode("PRIVATE KEY", &der)).expect("a P-256 key")
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let many = |from: u8, count: usize| (0..count as u8).map(|i| key(from + i)).collect();
    KEYS.get_or_init(|| Keys {
        publisher: key(3),
        coordinator: key(4),
        stranger: key(5),
        roots: many(20, OPERATORS_MAX),
        workers: many(40, OPERATORS_MAX * WORKERS_PER_OPERATOR),
    })
}

/// The operators' names.
pub(super) fn names() -> &'static [OperatorId] {
    static NAMES: OnceLock<Vec<OperatorId>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let name = |i| format!("operator-{i}").parse().expect("a name");
        (0..OPERATORS_MAX).map(name).collect()
    })
}

fn key_of(operator: usize, nth: usize) -> &'static SigningKey {
    &keys().workers[operator * WORKERS_PER_OPERATOR + nth % WORKERS_PER_OPERATOR]
}

/// The nth worker of an operator.
pub(super) fn worker(operator: usize, nth: usize) -> WorkerId {
    static KNOWN: OnceLock<Vec<WorkerId>> = OnceLock::new();
    let known = KNOWN
        .get_or_init(|| keys().workers.iter().map(|key| WorkerId(key.public().id())).collect());
    known[operator * WORKERS_PER_OPERATOR + nth % WORKERS_PER_OPERATOR]
}

/// Signs until the signature has the usual length.
fn alike(sign: impl Fn() -> Envelope) -> Envelope {
    loop {
        let envelope = sign();
        let value = envelope.to_value();
        let text = value["signatures"][0]["sig"].as_str().unwrap_or_default();
        if text.len() == SIGNATURE_TEXT_BYTES {
            return envelope;
        }
    }
}

fn noon() -> Timestamp {
    Timestamp::from_unix(1_800_000_000).expect("a time")
}

/// What the publisher attached to an image.
fn base(image: u8) -> &'static EvidenceSet {
    static SETS: OnceLock<Vec<EvidenceSet>> = OnceLock::new();
    let set = |image: u8| {
        let subject = images::subject(image);
        let about = subject.digest;
        let named = vec![StatementSubject::new("demo/hello", &about)];
        let packages = [format!("package-{image}")];
        let predicate = serde_json::json!({"archs": ["amd64"], "contents": {"packages": packages}});
        let statement = Statement::new(named, "https://apko.dev/image-configuration", predicate);
        let payload = serde_json::to_vec(&statement).expect("JSON");
        let envelope = Envelope::sign(&keys().publisher, IN_TOTO, payload).expect("signed");
        let uri = format!("oci://registry.example/demo/hello@{about}");
        let manifest = images::manifest(image, images::PUBLISHED);
        let mut set = EvidenceSet::new(Source::Registry, subject, manifest);
        set.publisher =
            vec![RawEvidence::new(EvidenceKind::DsseEnvelope, envelope.to_json(), uri, about)];
        set
    };
    &SETS.get_or_init(|| (0..IMAGES_MAX as u8).map(set).collect())[usize::from(image)]
}

fn vouched() -> &'static [Envelope] {
    static RECORDS: OnceLock<Vec<Envelope>> = OnceLock::new();
    RECORDS.get_or_init(|| {
        let vouch = |i: usize| {
            let operator = i / WORKERS_PER_OPERATOR;
            let until = Timestamp::from_unix(4_000_000_000).expect("a time");
            let record = WorkerRecord {
                operator: names()[operator].clone(),
                key: keys().workers[i].public().clone(),
                capabilities: Capabilities::default(),
                environment: EnvironmentClass::default(),
                valid: Validity { from: Timestamp::default(), until },
            };
            record.sign(&keys().roots[operator]).expect("signed")
        };
        (0..keys().workers.len()).map(vouch).collect()
    })
}

fn policy(operators: usize, required: u32) -> Policy {
    let operator = |i: usize| Operator {
        name: names()[i].clone(),
        root_key: keys().roots[i].public().clone(),
        affiliations: vec![],
    };
    Policy {
        publishers: vec![Publisher {
            repositories: vec!["registry.example/*".parse().expect("a pattern")],
            signer: SignerRule::Key(keys().publisher.public().clone()),
            transparency: Transparency::None,
        }],
        operators: (0..operators).map(operator).collect(),
        quorum: Some(Quorum {
            operators: names()[..operators].to_vec(),
            reproduced: required,
            level: Level::Config,
            tier: Tier::Attested,
            hints: BTreeSet::new(),
            dissent_sources: vec![],
            diversity: vec![],
        }),
        coordinator: Some(keys().coordinator.public().clone()),
        ..Policy::default()
    }
}

/// The job for an image, under the recipe that follows from its evidence.
pub(super) fn spec(image: u8, wanted: u32, routable: bool) -> JobSpec {
    static RECIPES: OnceLock<Vec<Vec<Digest>>> = OnceLock::new();
    let recipes = RECIPES.get_or_init(|| {
        let policy = policy(OPERATORS_MAX, 1);
        let recipes = |image: u8| {
            let set = base(image);
            let signers = Signers::Policy(&policy, Source::Registry);
            let trust = judge_evidence(signers, &set.subject.repository, &set.publisher);
            match derive(&set.subject, None, &trust) {
                Derivation::Recipes { recipes, .. } => {
                    recipes.iter().map(|recipe| recipe.digest()).collect()
                }
                _ => Vec::new(),
            }
        };
        (0..IMAGES_MAX as u8).map(recipes).collect()
    });
    images::spec(image, wanted, routable, recipes[usize::from(image)].clone())
}

/// Signs as everybody does, and judges as the daemon does.
pub(super) struct Ink {
    policy: Policy,
    operators: usize,
}

impl Notary for Ink {
    fn lease(&self, job: &Job, offer: &Offer, wall: Timestamp) -> Option<Vec<u8>> {
        let lease = Lease {
            job: job.spec.id,
            attempt: offer.attempt,
            slot: offer.slot,
            worker: offer.grant.worker,
            lease: offer.grant.lease,
            fence: offer.grant.fence,
            issued_at: wall,
            not_after: Timestamp::from_unix(wall.unix() + 3600).unwrap_or(wall),
            salt: None,
        };
        Some(alike(|| lease.sign(&keys().coordinator).expect("signed")).to_json())
    }
}

/// What an observation is about.
pub(super) struct About<'a> {
    pub(super) image: u8,
    pub(super) spec: &'a JobSpec,
    pub(super) attempt: Attempt,
    pub(super) lease: LeaseId,
    pub(super) fence: Fence,
    pub(super) operator: usize,
    pub(super) nth: usize,
}

fn outcome(image: u8, said: &Said) -> Outcome {
    let own = |manifest: &Digest| {
        let variants = 0..images::OWN;
        variants.clone().find(|variant| images::digest(image, *variant) == *manifest)
    };
    match said {
        Said::Output { manifest } => {
            // What is nobody else's is told apart by its digest alone.
            let number = u32::from_le_bytes(*manifest.raw().first_chunk().expect("32 bytes"));
            let variant = own(manifest).unwrap_or(images::OWN + number % (1 << 30));
            let bytes = images::manifest(image, variant);
            let read = ImageManifest::parse(&bytes).expect("a manifest");
            let layers = read.layers.iter().map(|layer| LayerOutput {
                blob: Some(layer.digest),
                diff_id: Digest::of(layer.digest.raw()),
                size: layer.size,
            });
            Outcome::Output(Output {
                manifest: Digest::of(&bytes),
                config: read.config.digest,
                layers: layers.collect(),
                manifest_bytes: bytes,
                index: None,
            })
        }
        Said::BuildFailed { class } => {
            Outcome::BuildFailed { class: class.clone(), detail: "it fails".into() }
        }
        Said::RecipeInvalid { .. } => {
            Outcome::RecipeInvalid { gaps: vec![Gap::new(GapCode::UnsupportedField, "a field")] }
        }
        Said::InputUnavailable => Outcome::InputUnavailable {
            gap: Gap::new(GapCode::UnsupportedField, "gone"),
            uri: "https://packages.example/a".into(),
        },
        Said::Timeout => Outcome::Timeout { limit_seconds: 3600 },
        Said::LimitExceeded { class } => {
            Outcome::LimitExceeded { limit: class.clone(), detail: "too much".into() }
        }
        Said::Refused => Outcome::Refused { reason: Refusal::Policy, detail: "no".into() },
    }
}

/// What a worker observes of a job: all that may be left out is.
pub(crate) fn observation(
    spec: &JobSpec,
    (operator, worker): (&OperatorId, WorkerId),
    (attempt, lease, fence): (Attempt, LeaseId, Fence),
    outcome: Outcome,
) -> Observation {
    let layers = match &outcome {
        Outcome::Output(output) => output.layers.len(),
        _ => 0,
    };
    Observation {
        subject: spec.subject.clone(),
        index: None,
        tag: None,
        job: spec.id,
        attempt,
        lease,
        fence,
        operator: operator.clone(),
        operator_uri: Observation::operator_urn(operator),
        worker,
        recipe: spec.recipes.first().copied(),
        recipes_tried: spec.recipes.clone(),
        builder: None,
        publisher: None,
        source: None,
        epoch: None,
        published_at: None,
        hygiene: vec![LayerHygieneFact { clean: true, why: vec![] }; layers],
        outcome,
        environment: Environment::default(),
        materials: vec![],
        inputs_missing: 0,
        hints: vec![],
        searched: vec![],
        compared: None,
        explanation: None,
        cache: CacheState::Cold,
        durations: Durations::default(),
        observed_at: noon(),
        input_mac: None,
        r32: None,
    }
}

impl Ink {
    pub(super) fn new(plan: &Plan) -> Self {
        let operators = plan.workers.iter().map(|w| w.operator as usize + 1).max().unwrap_or(1);
        Self { policy: policy(operators, plan.required), operators }
    }

    /// What a worker signs; `forged` is signed by somebody else's key. Gives what it says, too:
    /// for outputs of one's own the digest follows from the manifest.
    pub(super) fn observe(&self, about: &About<'_>, said: &Said, forged: bool) -> (Envelope, Said) {
        let outcome = outcome(about.image, said);
        let said = match &outcome {
            Outcome::Output(output) => Said::Output { manifest: output.manifest },
            _ => said.clone(),
        };
        let operator = &names()[about.operator];
        let by = (operator, worker(about.operator, about.nth));
        let under = (about.attempt, about.lease, about.fence);
        let observation = observation(about.spec, by, under, outcome);
        let key = key_of(about.operator, about.nth);
        let genuine = observation.sign(key).expect("signed");
        let key = if forged { &keys().stranger } else { key };
        let (kind, payload) = (genuine.payload_type, genuine.payload);
        (alike(|| Envelope::sign(key, &kind, payload.clone()).expect("signed")), said)
    }

    /// The announcement that stands in the journal when a job is opened, or goes on.
    pub(super) fn announcement(job: &Job, reopened_by: &[ObservationId]) -> NewRecord {
        let announce = JobAnnounce {
            job: job.spec.id,
            subject: job.spec.subject.clone(),
            index: None,
            recipes: job.spec.recipes.clone(),
            evidence: vec![],
            rebuilder: job.spec.rebuilder.clone(),
            observations_wanted: job.slots.len() as u32,
            class: job.class.as_str().to_owned(),
            attempt: job.attempt,
            reopened_by: reopened_by.to_vec(),
            announced_at: noon(),
            eligible_checkpoint: None,
            beacon_round: None,
        };
        let envelope = alike(|| announce.sign(&keys().coordinator).expect("signed"));
        NewRecord::new(Kind::ANNOUNCE, job.spec.id.0, envelope.to_json())
    }

    /// Everything that the journal has about a job, and what a bad coordinator puts beside it.
    fn evidence(
        image: u8,
        records: &[Stored],
        forged: &[Vec<u8>],
    ) -> Result<EvidenceSet, Violation> {
        let mut set = base(image).clone();
        set.workers = vouched().to_vec();
        let read =
            |body: &[u8]| Envelope::parse(body).or_else(|error| violation("I1", error.to_string()));
        for stored in records {
            let envelope = match stored.kind {
                Kind::ANNOUNCE | Kind::LEASE | Kind::OBSERVATION => read(&stored.body)?,
                _ => continue,
            };
            match stored.kind {
                Kind::ANNOUNCE => set.announces.push(envelope),
                Kind::LEASE => set.leases.push(envelope),
                _ => set.observations.push(Filed { envelope, position: Some(stored.position) }),
            }
        }
        for body in forged {
            set.observations.push(Filed { envelope: read(body)?, position: None });
        }
        Ok(set)
    }

    /// Judges; checks on the way that order, forgery and identity do not matter (I1, I5, I9, I11).
    pub(super) fn judge(
        &self,
        image: u8,
        spec: &JobSpec,
        records: &[Stored],
        forged: &[Vec<u8>],
        checks: &Checks,
    ) -> Result<(Judgement, Need), Violation> {
        let set = Self::evidence(image, records, forged)?;
        let judgement = verdict::judge(&self.policy, &set);
        let mut turned = set.clone();
        turned.observations.reverse();
        turned.leases.reverse();
        turned.workers.reverse();
        turned.announces.reverse();
        let again = verdict::judge(&self.policy, &turned);
        if again.to_canonical_json().ok() != judgement.to_canonical_json().ok() {
            return violation("I5", "the same evidence in another order is judged otherwise");
        }
        let dissents = judgement.dissent.iter().flat_map(|dissent| &dissent.observations);
        for id in judgement.counted.iter().map(|counted| &counted.observation).chain(dissents) {
            if checks.signed(id).is_none() {
                return violation(
                    "I1",
                    format!("{} enters a verdict, nobody signed it", id.0.short()),
                );
            }
        }
        let who: BTreeSet<_> = judgement.counted.iter().map(|counted| &counted.operator).collect();
        if who.len() != judgement.counted.len()
            || who.iter().any(|w| self.policy.operator(w).is_none())
        {
            return violation("I9", "an operator counts twice, or is not the policy's");
        }
        if judgement.reproduced().is_some() && (who.len() as u32) < judgement.required {
            return violation("I9", format!("{} operators are called enough", who.len()));
        }
        if judgement.subject != spec.subject || judgement.job.is_some_and(|job| job != spec.id) {
            return violation("I11", "the verdict is about another image");
        }
        let need = match verdict::needs(&self.policy, &set) {
            verdict::Need::Enough => Need::Enough,
            verdict::Need::MoreObservations(more) => Need::More(more),
            verdict::Need::ReopenWith(wanted) => {
                let without = judgement.dissent.iter().map(|d| d.operator.clone()).collect();
                Need::Reopen { wanted, without }
            }
        };
        Ok((judgement, need))
    }

    pub(super) fn operators(&self) -> usize {
        self.operators
    }
}
