//! Signed records of the protocol: who vouches for whom, which job, which lease, what was received.
//!
//! ```text
//! DSSE payloadType application/vnd.assay.<kind>+json
//! {"schema":"assay/<kind>/v1", …the record's fields…}        canonical JSON
//! ```
//! Invariant: a record is used only after [`Record::open`] has checked its signature under a key
//! that the reader already trusted for another reason (the policy's root keys and coordinator
//! key); the names inside a record bind nothing. One spelling: a payload that this version would
//! have written differently, or with a field that it does not know, is refused.
//! Fields of the second stage (salt, beacon, checkpoint) are there and optional.

mod kinds;

pub use kinds::{
    Capabilities, EnvironmentClass, JobAnnounce, KeyRevocation, Lease, OperatorRecord, Receipt,
    Validity, WorkerRecord,
};

use crate::{
    canonical::{self, CanonicalError},
    dsse::{Envelope, EnvelopeError},
    image_manifest::parse_strict,
    key::{PublicKey, SigningKey},
    name::serde_as_text,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt, str::FromStr};

/// Largest record: an announcement of 1024 pieces of evidence at 76 bytes, twice over.
pub const RECORD_BYTES_MAX: usize = 160 * 1024;
/// Longest text in a record.
pub const RECORD_TEXT_BYTES_MAX: usize = 1024;
/// Longest list in a record, evidence and recipes apart.
pub const RECORD_LIST_MAX: usize = 256;

/// What can be wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Larger than [`RECORD_BYTES_MAX`].
    #[error("expected a record of at most {RECORD_BYTES_MAX} bytes, found {0}")]
    TooLarge(usize),
    /// Another kind of payload.
    #[error("expected payload type {expected}, found {found:?}")]
    PayloadType {
        /// The type of the record that was asked for.
        expected: String,
        /// What was found, at most 200 characters of it.
        found: String,
    },
    /// Not exactly one signature.
    #[error("expected exactly one signature on {kind}, found {found}")]
    Signatures {
        /// The kind.
        kind: &'static str,
        /// How many there are.
        found: usize,
    },
    /// Another schema inside the payload.
    #[error("expected schema {expected}, found {found:?}")]
    Schema {
        /// The schema of the record that was asked for.
        expected: String,
        /// What was found, at most 200 characters of it.
        found: String,
    },
    /// Not the JSON of the record; unknown fields are refused.
    #[error("expected {kind}: {error}")]
    Json {
        /// The kind.
        kind: &'static str,
        /// What the reader says.
        error: serde_json::Error,
    },
    /// The payload is not the canonical spelling of what it says.
    #[error("expected the canonical bytes of {0}, found another spelling")]
    Spelling(&'static str),
    /// A field is out of bounds.
    #[error("expected {field} to be {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// No canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The signature is wrong, or signing failed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// A record: typed content with one spelling, inside a DSSE envelope.
pub trait Record: Serialize + DeserializeOwned + PartialEq {
    /// The kind, as in the payload type and the schema.
    const KIND: &'static str;

    /// Bounds on the fields, checked before signing and after reading.
    fn check(&self) -> Result<(), RecordError>;

    /// The payload type: `application/vnd.assay.<kind>+json`.
    fn payload_type() -> String {
        format!("application/vnd.assay.{}+json", Self::KIND)
    }

    /// The exact bytes that are signed.
    fn encode(&self) -> Result<Vec<u8>, RecordError> {
        self.check()?;
        let bytes = canonical::to_vec(&WithSchema { schema: schema(Self::KIND), record: self })?;
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    /// Signs the record.
    fn sign(&self, key: &SigningKey) -> Result<Envelope, RecordError> {
        Ok(Envelope::sign(key, &Self::payload_type(), self.encode()?)?)
    }

    /// Reads the record without looking at its signature: to find out which key to ask for.
    fn read_unverified(envelope: &Envelope) -> Result<Self, RecordError> {
        let expected = Self::payload_type();
        if envelope.payload_type != expected {
            let found = envelope.payload_type.chars().take(200).collect();
            return Err(RecordError::PayloadType { expected, found });
        }
        if envelope.signatures.len() != 1 {
            let (kind, found) = (Self::KIND, envelope.signatures.len());
            return Err(RecordError::Signatures { kind, found });
        }
        if envelope.payload.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge(envelope.payload.len()));
        }
        if let Some(record) = canonical_record(&envelope.payload) {
            return Ok(record);
        }
        // Not as this version writes it: read once more, to say what is wrong.
        let json = |error| RecordError::Json { kind: Self::KIND, error };
        let mut value = parse_strict(&envelope.payload).map_err(json)?;
        let found = value.as_object_mut().and_then(|fields| fields.remove("schema"));
        let found = found.as_ref().and_then(Value::as_str).unwrap_or_default();
        if found != schema(Self::KIND) {
            let found = found.chars().take(200).collect();
            return Err(RecordError::Schema { expected: schema(Self::KIND), found });
        }
        let record: Self = serde_json::from_value(value).map_err(json)?;
        if record.encode()? != envelope.payload {
            return Err(RecordError::Spelling(Self::KIND));
        }
        Ok(record)
    }

    /// Reads the record if `key` signed it.
    fn open(envelope: &Envelope, key: &PublicKey) -> Result<Self, RecordError> {
        let record = Self::read_unverified(envelope)?;
        envelope.verify(key)?;
        Ok(record)
    }
}

#[derive(Serialize)]
struct WithSchema<'a, R> {
    schema: String,
    #[serde(flatten)]
    record: &'a R,
}

/// The record if the payload is exactly what it would be written as. Whatever is left out on the
/// way to it would show there.
fn canonical_record<R: Record>(payload: &[u8]) -> Option<R> {
    let schema = format!("\"schema\":\"{}\"", schema(R::KIND));
    let at = payload.windows(schema.len()).position(|window| window == schema.as_bytes())?;
    let (before, after) = (&payload[..at], &payload[at + schema.len()..]);
    let fields = match after.strip_prefix(b",") {
        Some(after) => [before, after],
        None => [before.strip_suffix(b",")?, after],
    };
    let record: R = serde_json::from_slice(&fields.concat()).ok()?;
    (record.encode().ok()? == payload).then_some(record)
}

fn schema(kind: &str) -> String {
    format!("assay/{kind}/v1")
}

/// 32 random bytes, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Random32(pub [u8; 32]);

impl fmt::Display for Random32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Random32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random32(redacted)")
    }
}

impl FromStr for Random32 {
    type Err = crate::digest::DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        crate::Digest::from_hex(text).map(|digest| Self(*digest.raw()))
    }
}

serde_as_text!(Random32);

pub(crate) fn key_to_text<S: Serializer>(
    key: &PublicKey,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    serializer.serialize_str(&STANDARD.encode(key.spki_der()))
}

pub(crate) fn key_from_text<'de, D>(deserializer: D) -> Result<PublicKey, D::Error>
where
    D: Deserializer<'de>,
{
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::de::Error;
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    let der = STANDARD.decode(text.as_bytes()).map_err(|e| Error::custom(e.to_string()))?;
    PublicKey::from_spki_der(&der).map_err(Error::custom)
}

#[cfg(test)]
mod tests;
