//! A verdict, signed, whatever it is: the record of the journal, of the log and of the interface.
//!
//! ```text
//! DSSE payloadType application/vnd.assay.outcome+json
//! {"schema":"assay/verdict/v1","judged_at":"…Z","finding":{…assay/judgement/v1…}}
//! ```
//! Invariant: it is no in-toto statement, so no verifier of attestations takes it for one, and it
//! is never attached to an image. Reading one back gives what the coordinator said, not a
//! judgement: whoever wants to know judges the evidence again.

use crate::{
    canonical::{self, CanonicalError},
    dsse::{Envelope, EnvelopeError},
    image_manifest::parse_strict,
    key::{PublicKey, SigningKey},
    observation::OUTCOME_TYPE,
    time::Timestamp,
    verdict::{FINDING_SCHEMA, Finding, Judgement},
};
use serde::{Deserialize, Serialize};

/// The schema of a signed verdict.
pub const VERDICT_SCHEMA: &str = "assay/verdict/v1";
/// Largest signed verdict: 4096 observations that are not counted, at 600 bytes.
const VERDICT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What can be wrong with a signed verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerdictRecordError {
    /// Another payload type.
    #[error("expected payload type {OUTCOME_TYPE}, found {0:?}")]
    PayloadType(String),
    /// Another schema.
    #[error("expected schema {expected}, found {found:?}")]
    Schema {
        /// What it must be.
        expected: &'static str,
        /// What it is, at most 200 characters of it.
        found: String,
    },
    /// Too large.
    #[error("expected a verdict of at most {VERDICT_BYTES_MAX} bytes, found {0}")]
    TooLarge(usize),
    /// Not the JSON of a verdict; unknown fields are refused.
    #[error("expected a signed verdict: {0}")]
    Json(#[from] serde_json::Error),
    /// The payload is not the canonical spelling of what it says.
    #[error("expected the canonical bytes of a verdict, found another spelling")]
    Spelling,
    /// No canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The signature is wrong, or signing failed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// A verdict as somebody signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictRecord {
    schema: String,
    /// When it was judged, by the signer's clock: what a gate's `max_age` is measured from.
    pub judged_at: Timestamp,
    /// What was found.
    pub finding: Finding,
}

impl VerdictRecord {
    /// Signs a judgement.
    pub fn sign(
        judgement: &Judgement,
        judged_at: Timestamp,
        key: &SigningKey,
    ) -> Result<Envelope, VerdictRecordError> {
        let finding = Finding::clone(judgement);
        let record = Self { schema: VERDICT_SCHEMA.to_owned(), judged_at, finding };
        let payload = canonical::to_vec(&record)?;
        if payload.len() > VERDICT_BYTES_MAX {
            return Err(VerdictRecordError::TooLarge(payload.len()));
        }
        Ok(Envelope::sign(key, OUTCOME_TYPE, payload)?)
    }

    /// Reads a verdict if `key` signed it.
    pub fn open(envelope: &Envelope, key: &PublicKey) -> Result<Self, VerdictRecordError> {
        envelope.verify(key)?;
        if envelope.payload_type != OUTCOME_TYPE {
            let found = envelope.payload_type.chars().take(200).collect();
            return Err(VerdictRecordError::PayloadType(found));
        }
        if envelope.payload.len() > VERDICT_BYTES_MAX {
            return Err(VerdictRecordError::TooLarge(envelope.payload.len()));
        }
        let value = parse_strict(&envelope.payload)?;
        let schema = |value: Option<&serde_json::Value>, expected: &'static str| {
            let found = value.and_then(serde_json::Value::as_str).unwrap_or_default();
            if found == expected {
                return Ok(());
            }
            let found = found.chars().take(200).collect();
            Err(VerdictRecordError::Schema { expected, found })
        };
        schema(value.get("schema"), VERDICT_SCHEMA)?;
        schema(value.get("finding").and_then(|f| f.get("schema")), FINDING_SCHEMA)?;
        let record: Self = serde_json::from_value(value)?;
        if canonical::to_vec(&record)? != envelope.payload {
            return Err(VerdictRecordError::Spelling);
        }
        Ok(record)
    }
}
