//! What a worker built, as it signs it: the observation. Never "it matches", only the facts.
//!
//! Two forms on the wire ([`BUILD_TYPE`] is documented with them in `wire.rs`):
//! an OUTPUT is an in-toto statement with SLSA provenance v1 whose subject is *what was built*, so
//! it can be about the published image only if it reproduced it; every other outcome is a DSSE
//! payload of type [`OUTCOME_TYPE`].
//! Invariant: what [`Observation::sign`] signs, [`Observation::read`] reads back as an equal value,
//! and a payload that this version would have written differently is refused: there is one
//! spelling, so no two readers see two observations. The identity of an observation is SHA-256 of
//! the signed bytes ([`crate::dsse::Envelope::observation_id`]).
//! It must never be read as a verdict: `compared` is informative, levels are computed by whoever
//! judges. `read` looks at structure only; who signed is the judge's question.

mod check;
mod facts;
mod known;
mod wire;

#[cfg(test)]
pub(crate) mod strategy;
#[cfg(test)]
mod tests;

pub use check::{ObservationError, one_line};
pub use facts::{
    Builder, CacheState, Compared, Durations, Environment, Hint, LayerHygieneFact, LayerOutput,
    Material, Outcome, Output, Refusal, Searched, Source,
};

use crate::{
    Digest, Subject,
    dsse::Envelope,
    id::{Attempt, Fence, JobId, LeaseId, OperatorId, WorkerId},
    key::SigningKey,
    record::Random32,
    time::Timestamp,
};
use std::sync::Arc;

/// The build type of an OUTPUT observation.
pub const BUILD_TYPE: &str = "urn:assay:rebuild:v1";
/// The predicate type of an OUTPUT observation.
pub const PROVENANCE_V1: &str = "https://slsa.dev/provenance/v1";
/// The payload type of every other outcome.
pub const OUTCOME_TYPE: &str = "application/vnd.assay.outcome+json";
/// The schema inside a payload of [`OUTCOME_TYPE`] that is an observation.
pub const OUTCOME_SCHEMA: &str = "assay/outcome/v1";
/// Largest signed payload: 4096 materials of about 400 bytes, and a manifest of 88 KiB in base64.
pub const PAYLOAD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Largest rebuilt manifest that is carried: 127 layers with annotations are under 64 KiB.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;

/// One observation: everything that a worker says about one execution of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The published image that was to be rebuilt.
    pub subject: Subject,
    /// The published index in which the subject was found.
    pub index: Option<Digest>,
    /// The tag under which it was submitted, when it was one. For research; never for trust.
    pub tag: Option<String>,
    /// The job.
    pub job: JobId,
    /// Which opening of the job.
    pub attempt: Attempt,
    /// The permission under which it was executed.
    pub lease: LeaseId,
    /// The lease's fence.
    pub fence: Fence,
    /// The operator that the worker says it belongs to. Only a record makes it true.
    pub operator: OperatorId,
    /// The operator's own URI, `runDetails.builder.id`; see [`Observation::operator_urn`].
    pub operator_uri: String,
    /// The worker: the identity of the key that signs.
    pub worker: WorkerId,
    /// The recipe that was rebuilt: the one that gave the published image, else the first (in the
    /// order of digests) that gave any.
    pub recipe: Option<Digest>,
    /// Every recipe that was tried, in ascending order.
    pub recipes_tried: Vec<Digest>,
    /// The builder that the recipe names.
    pub builder: Option<Builder>,
    /// Who signed the recipe.
    pub publisher: Option<String>,
    /// The source that the evidence names.
    pub source: Option<Source>,
    /// The build epoch that was used, in seconds since 1970.
    pub epoch: Option<i64>,
    /// When the image says that it was made.
    pub published_at: Option<Timestamp>,
    /// What happened.
    pub outcome: Outcome,
    /// Where it happened.
    pub environment: Environment,
    /// Every input that was fetched.
    pub materials: Vec<Material>,
    /// Inputs that could not be had.
    pub inputs_missing: u32,
    /// What was taken from the published image to choose among legitimate outputs.
    pub hints: Vec<Hint>,
    /// Engine flags that were found by trying.
    pub searched: Vec<Searched>,
    /// One for each layer of the *published* image, in its order.
    pub hygiene: Vec<LayerHygieneFact>,
    /// The worker's own comparison.
    pub compared: Option<Compared>,
    /// SHA-256 of the explanation's canonical JSON.
    pub explanation: Option<Digest>,
    /// Whether inputs came out of a store that earlier jobs filled.
    pub cache: CacheState,
    /// How long it took.
    pub durations: Durations,
    /// The worker's clock when it finished. Nothing is ordered by it.
    pub observed_at: Timestamp,
    /// Second stage: HMAC over the raw inputs under the lease's salt.
    pub input_mac: Option<Digest>,
    /// Second stage: the random bytes that blinded the commitment.
    pub r32: Option<Random32>,
}

impl Observation {
    /// The URI of an operator that has configured none: `urn:assay:operator:<name>`.
    pub fn operator_urn(operator: &OperatorId) -> String {
        format!("urn:assay:operator:{operator}")
    }

    /// Signs the observation. The key must be the worker's own.
    pub fn sign(&self, key: &SigningKey) -> Result<Envelope, ObservationError> {
        let found = WorkerId(key.public().id());
        if found != self.worker {
            return Err(ObservationError::OtherKey { expected: self.worker, found });
        }
        let (payload_type, payload) = self.encode()?;
        Ok(Envelope::sign(key, payload_type, payload)?)
    }

    /// The payload type and the exact bytes that are signed.
    pub fn encode(&self) -> Result<(&'static str, Vec<u8>), ObservationError> {
        check::check(self)?;
        let (payload_type, payload) = wire::encode(self)?;
        check::payload_size(payload.len())?;
        Ok((payload_type, payload))
    }

    /// Reads an observation from an envelope: its structure only. The signature is not looked at,
    /// because only the judge knows which key speaks for which worker.
    pub fn read(envelope: &Envelope) -> Result<Arc<Self>, ObservationError> {
        let signatures = envelope.signatures.len();
        if signatures != 1 {
            return Err(ObservationError::Signatures(signatures));
        }
        let id = envelope.observation_id();
        if let Some(known) = known::get(&id) {
            return Ok(known);
        }
        let read = Arc::new(Self::decode(&envelope.payload_type, &envelope.payload)?);
        known::keep(id, &read, envelope.payload.len());
        Ok(read)
    }

    /// When the worker's clock says that it was made, and nothing else: for tables over thousands of
    /// observations that were read in full when they were filed.
    pub fn time_in(envelope: &Envelope) -> Option<Timestamp> {
        wire::observed_at(&envelope.payload)
    }

    /// Reads an observation from a payload, see [`Observation::read`].
    pub fn decode(payload_type: &str, payload: &[u8]) -> Result<Self, ObservationError> {
        check::payload_size(payload.len())?;
        let observation = wire::decode(payload_type, payload)?;
        let (type_again, again) = observation.encode()?;
        if type_again != payload_type || again != payload {
            let at = again.iter().zip(payload).take_while(|(a, b)| a == b).count();
            return Err(ObservationError::Spelling { at });
        }
        Ok(observation)
    }

    /// What was built, if anything was.
    pub fn output(&self) -> Option<&Output> {
        match &self.outcome {
            Outcome::Output(output) => Some(output),
            _ => None,
        }
    }
}
