//! Dead Simple Signing Envelope (DSSE 1.0.2): what is signed, and the JSON around it.
//!
//! ```text
//! PAE(type, body) = "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body
//! {"payload":"<base64>","payloadType":"<type>","signatures":[{"sig":"<base64>"}]}
//! ```
//! Written: standard padded base64, one signature, no keyid (the intersection that stock verifiers
//! take). Read: also URL-safe or unpadded base64, several signatures, unknown fields.
//! Invariant: the payload is kept as the bytes that were signed and never parsed and written again;
//! nothing from an envelope is used before [`Envelope::verify`] said which key signed it.

use crate::{
    Digest,
    id::ObservationId,
    key::{KeyError, PublicKey, SigningKey},
};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use serde::{Deserialize, Serialize};

/// The payload type of in-toto statements, compared for equality by every stock verifier.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Largest envelope that is read: an SBOM with 20,000 packages is about 12 MiB in base64.
pub const ENVELOPE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most signatures looked at in one envelope.
pub const SIGNATURES_MAX: usize = 16;

/// What can be wrong with an envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Larger than [`ENVELOPE_BYTES_MAX`].
    #[error("expected an envelope of at most {ENVELOPE_BYTES_MAX} bytes, found {0}")]
    TooLarge(usize),
    /// Not the JSON of an envelope.
    #[error("expected a DSSE envelope: {0}")]
    Json(#[from] serde_json::Error),
    /// A field that is not base64.
    #[error("expected base64 in the envelope's {0}")]
    Base64(&'static str),
    /// No signature, or more than [`SIGNATURES_MAX`].
    #[error("expected 1 to {SIGNATURES_MAX} signatures, found {0}")]
    Signatures(usize),
    /// No signature verifies under the given key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// A hint that nothing relies on.
    pub keyid: Option<String>,
    /// The signature's bytes: DER, or r‖s.
    pub bytes: Vec<u8>,
}

/// A parsed envelope. Its payload is not trusted before [`Envelope::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What the payload is.
    pub payload_type: String,
    /// The bytes that were signed, as they came.
    pub payload: Vec<u8>,
    /// Who says so.
    pub signatures: Vec<Signature>,
}

/// The pre-authentication encoding: exactly the bytes that are signed.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[derive(Serialize, Deserialize)]
struct WireEnvelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
struct WireSignature {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyid: Option<String>,
    sig: String,
}

/// Standard or URL-safe alphabet, padding or none, as the DSSE specification asks of readers.
fn decode(text: &str, field: &'static str) -> Result<Vec<u8>, EnvelopeError> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(false);
    let url_safe = text.contains(['-', '_']);
    let table = if url_safe { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(table, config).decode(text).map_err(|_| EnvelopeError::Base64(field))
}

impl Envelope {
    /// Signs a payload.
    pub fn sign(
        key: &SigningKey,
        payload_type: &str,
        payload: Vec<u8>,
    ) -> Result<Self, EnvelopeError> {
        let bytes = key.sign(&pae(payload_type, &payload))?;
        let signatures = vec![Signature { keyid: None, bytes }];
        Ok(Self { payload_type: payload_type.to_owned(), payload, signatures })
    }

    /// Reads an envelope's JSON.
    pub fn parse(json: &[u8]) -> Result<Self, EnvelopeError> {
        if json.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge(json.len()));
        }
        Self::from_wire(serde_json::from_slice(json)?)
    }

    /// Reads an envelope that stands inside a larger JSON value (a Sigstore bundle).
    pub fn from_value(value: serde_json::Value) -> Result<Self, EnvelopeError> {
        Self::from_wire(serde_json::from_value(value)?)
    }

    fn from_wire(wire: WireEnvelope) -> Result<Self, EnvelopeError> {
        let count = wire.signatures.len();
        if count == 0 || count > SIGNATURES_MAX {
            return Err(EnvelopeError::Signatures(count));
        }
        let signatures = wire
            .signatures
            .into_iter()
            .map(|s| Ok(Signature { keyid: s.keyid, bytes: decode(&s.sig, "signature")? }))
            .collect::<Result<_, EnvelopeError>>()?;
        let payload = decode(&wire.payload, "payload")?;
        Ok(Self { payload_type: wire.payload_type, payload, signatures })
    }

    /// The envelope's JSON as a value, for embedding.
    pub fn to_value(&self) -> serde_json::Value {
        let signatures: Vec<_> = self
            .signatures
            .iter()
            .map(|s| match &s.keyid {
                Some(keyid) => {
                    serde_json::json!({"sig": STANDARD.encode(&s.bytes), "keyid": keyid})
                }
                None => serde_json::json!({"sig": STANDARD.encode(&s.bytes)}),
            })
            .collect();
        serde_json::json!({
            "payload": STANDARD.encode(&self.payload),
            "payloadType": self.payload_type,
            "signatures": signatures,
        })
    }

    /// The envelope's JSON bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let signature = |s: &Signature| WireSignature {
            keyid: s.keyid.clone(),
            sig: STANDARD.encode(&s.bytes),
        };
        let wire = WireEnvelope {
            payload: STANDARD.encode(&self.payload),
            payload_type: self.payload_type.clone(),
            signatures: self.signatures.iter().map(signature).collect(),
        };
        serde_json::to_vec(&wire).unwrap_or_else(|_| self.to_value().to_string().into_bytes())
    }

    /// The bytes that were signed.
    pub fn pae(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }

    /// SHA-256 of the bytes that were signed: the identity of what is said, not of who signed how.
    pub fn signed_digest(&self) -> Digest {
        Digest::of(&self.pae())
    }

    /// The identity of the observation in this envelope.
    pub fn observation_id(&self) -> ObservationId {
        ObservationId(self.signed_digest())
    }

    /// True for any of the signatures: the payload was signed by `key`.
    pub fn verify(&self, key: &PublicKey) -> Result<(), EnvelopeError> {
        let message = self.pae();
        let mut last = KeyError::Signature { key: key.id() };
        for signature in &self.signatures {
            match key.verify(&message, &signature.bytes) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pae_of_the_specification() {
        // DSSE protocol.md, "Test Vectors".
        let bytes = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn signed_bytes_survive_and_bind() {
        let key = SigningKey::generate().unwrap();
        let envelope = Envelope::sign(&key, IN_TOTO, b"{ \"a\" : 1 }".to_vec()).unwrap();
        let read = Envelope::parse(&envelope.to_json()).unwrap();
        assert_eq!(read, envelope);
        read.verify(key.public()).unwrap();
        let mut other = read.clone();
        other.payload_type = "text/plain".into();
        assert!(other.verify(key.public()).is_err());
        let mut other = read;
        other.payload.push(b' ');
        assert!(other.verify(key.public()).is_err());
    }

    #[test]
    fn url_safe_and_unpadded_are_read() {
        let json = br#"{"payload":"_-8","payloadType":"x","signatures":[{"sig":"AA","x":1}]}"#;
        assert_eq!(Envelope::parse(json).unwrap().payload, [0xff, 0xef]);
        for bad in [
            &br#"{"payload":"*","payloadType":"x","signatures":[{"sig":"AA"}]}"#[..],
            br#"{"payload":"AA","payloadType":"x","signatures":[]}"#,
            br#"{"payloadType":"x","signatures":[{"sig":"AA"}]}"#,
            b"",
        ] {
            assert!(Envelope::parse(bad).is_err());
        }
    }
}
