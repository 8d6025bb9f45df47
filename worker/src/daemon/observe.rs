//! From what the building process says to an observation.
//!
//! The process that builds has no key: it prints a [`Draft`] of plain facts. The process that signs
//! adds who and for which lease, and checks the draft against the job.
//! Invariant: the draft can say nothing about job, lease, worker or operator; a recipe set other
//! than the announced one becomes a refusal, so a coordinator can't make a worker speak about
//! another recipe than the one the worker derived.

use super::offer::CheckedOffer;
use attest::{
    Digest,
    id::{OperatorId, WorkerId},
    observation::{
        Builder, CacheState, Compared, Durations, Environment, Hint, LayerHygieneFact, Material,
        Observation, Outcome, Refusal, Searched, Source,
    },
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// A material, as it travels between the two processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftMaterial {
    /// Where the recipe says it is.
    pub uri: String,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Where the bytes came from, if elsewhere.
    pub from: Option<String>,
    /// What vouched for it.
    pub verified_by: String,
}

/// What the building process says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Every recipe that follows from the evidence under this worker's policy, ascending.
    pub recipes: Vec<Digest>,
    /// The recipe that was rebuilt.
    pub recipe: Option<Digest>,
    /// Every recipe that was tried, ascending.
    pub recipes_tried: Vec<Digest>,
    /// The builder that the recipe names.
    pub builder: Option<Builder>,
    /// Who signed the recipe.
    pub publisher: Option<String>,
    /// The source that the evidence names.
    pub source: Option<Source>,
    /// The build epoch that was used.
    pub epoch: Option<i64>,
    /// When the image says that it was made.
    pub published_at: Option<Timestamp>,
    /// What happened; none where nothing can be said (network, registry, disk).
    pub outcome: Option<Outcome>,
    /// What stood in the way where `outcome` is none.
    pub problem: Option<String>,
    /// Every input that was fetched.
    pub materials: Vec<DraftMaterial>,
    /// Inputs that could not be had.
    pub inputs_missing: u32,
    /// What was taken from the published image.
    pub hints: Vec<Hint>,
    /// What was found by search.
    pub searched: Vec<Searched>,
    /// Hygiene of the published layers.
    pub hygiene: Vec<LayerHygieneFact>,
    /// The comparison.
    pub compared: Option<Compared>,
    /// The explanation's canonical JSON; empty where there is none.
    pub explanation: String,
    /// Where inputs came from.
    pub warm: bool,
    /// How long it took.
    pub durations: Durations,
}

impl Draft {
    /// A draft that says nothing but why.
    pub fn failed(outcome: Option<Outcome>, problem: Option<String>) -> Self {
        Self {
            recipes: Vec::new(),
            recipe: None,
            recipes_tried: Vec::new(),
            builder: None,
            publisher: None,
            source: None,
            epoch: None,
            published_at: None,
            outcome,
            problem,
            materials: Vec::new(),
            inputs_missing: 0,
            hints: Vec::new(),
            searched: Vec::new(),
            hygiene: Vec::new(),
            compared: None,
            explanation: String::new(),
            warm: false,
            durations: Durations::default(),
        }
    }

    /// A refusal, in place of whatever the draft says.
    pub fn refused(detail: impl Into<String>) -> Self {
        let outcome = Outcome::Refused { reason: Refusal::Policy, detail: detail.into() };
        Self::failed(Some(outcome), None)
    }
}

/// Who signs, and where it ran.
#[derive(Debug, Clone)]
pub struct Witness {
    /// The worker.
    pub worker: WorkerId,
    /// Its operator.
    pub operator: OperatorId,
    /// The operator's URI.
    pub operator_uri: String,
    /// The environment.
    pub environment: Environment,
    /// The worker's clock.
    pub now: Timestamp,
}

/// Replaces a draft by a refusal where it was made for other recipes than the job announces.
pub fn check_recipes(draft: Draft, offer: &CheckedOffer) -> Draft {
    let spoke = draft.outcome.as_ref().is_some_and(|outcome| {
        match outcome {
            Outcome::Refused { .. } | Outcome::Timeout { .. } => false,
            // A build that died of a limit may have died before it derived anything.
            Outcome::LimitExceeded { .. } | Outcome::BuildFailed { .. } => {
                !draft.recipes.is_empty()
            }
            _ => true,
        }
    });
    if spoke && draft.recipes != offer.announce.recipes {
        let list = |digests: &[Digest]| {
            let texts: Vec<String> = digests.iter().map(Digest::to_string).collect();
            if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
        };
        return Draft::refused(format!(
            "the job announces recipes {}, this worker derives {}",
            list(&offer.announce.recipes),
            list(&draft.recipes)
        ));
    }
    draft
}

/// The observation. None where nothing can be said: then the lease is given back.
pub fn observation(draft: Draft, offer: &CheckedOffer, witness: &Witness) -> Option<Observation> {
    let materials = draft.materials.into_iter().map(|m| Material {
        uri: m.uri,
        digest: m.digest,
        from: m.from,
        verified_by: m.verified_by,
    });
    let explanation = draft.explanation;
    Some(Observation {
        subject: offer.announce.subject.clone(),
        index: offer.announce.index,
        tag: None,
        job: offer.lease.job,
        attempt: offer.lease.attempt,
        lease: offer.lease.lease,
        fence: offer.lease.fence,
        operator: witness.operator.clone(),
        operator_uri: witness.operator_uri.clone(),
        worker: witness.worker,
        recipe: draft.recipe,
        recipes_tried: draft.recipes_tried,
        builder: draft.builder,
        publisher: draft.publisher,
        source: draft.source,
        epoch: draft.epoch,
        published_at: draft.published_at,
        outcome: draft.outcome?,
        environment: witness.environment.clone(),
        materials: materials.collect(),
        inputs_missing: draft.inputs_missing,
        hints: draft.hints,
        searched: draft.searched,
        hygiene: draft.hygiene,
        compared: draft.compared,
        explanation: (!explanation.is_empty()).then(|| Digest::of(explanation.as_bytes())),
        cache: if draft.warm { CacheState::Warm } else { CacheState::Cold },
        durations: draft.durations,
        observed_at: witness.now,
        input_mac: None,
        r32: None,
    })
}
