//! A Sigstore bundle v0.3 for an envelope that one of our keys signed (protobuf-specs,
//! `sigstore_bundle.proto`, as JSON).
//!
//! ```text
//! {"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",
//!  "verificationMaterial":{"publicKey":{"hint":"<base64 of SHA-256 of the SPKI DER>"},
//!                          "tlogEntries":[]},
//!  "dsseEnvelope":{"payload":…,"payloadType":…,"signatures":[{"sig":…}]}}
//! ```
//! Invariant: exactly one signature, without a keyid, that verifies under the key whose hint is
//! written: the intersection of what stock verifiers take. No log entry is written while there is
//! no log; verifiers are told so (`--insecure-ignore-tlog`).

use crate::{
    dsse::{Envelope, EnvelopeError, IN_TOTO},
    key::PublicKey,
};
use serde_json::json;

/// The media type of the bundle, of its layer, and of the manifest that holds it.
pub const BUNDLE_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Why an envelope cannot be bundled.
#[derive(Debug, thiserror::Error)]
pub enum BundleWriteError {
    /// Stock verifiers compare the payload type for equality.
    #[error("expected payload type {IN_TOTO} in a bundle, found {0:?}")]
    PayloadType(String),
    /// The specification allows exactly one signature, and a keyid makes some verifiers skip it.
    #[error("expected exactly one signature without a keyid in a bundle, found {0}")]
    Signatures(String),
    /// The signature is not by this key.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// The bundle's JSON.
pub fn key_bundle(envelope: &Envelope, key: &PublicKey) -> Result<Vec<u8>, BundleWriteError> {
    if envelope.payload_type != IN_TOTO {
        let found = envelope.payload_type.chars().take(200).collect();
        return Err(BundleWriteError::PayloadType(found));
    }
    match envelope.signatures.as_slice() {
        [only] if only.keyid.is_none() => {}
        [_] => return Err(BundleWriteError::Signatures("one with a keyid".into())),
        more => return Err(BundleWriteError::Signatures(more.len().to_string())),
    }
    envelope.verify(key)?;
    let bundle = json!({
        "mediaType": BUNDLE_MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": key.bundle_hint()},
            "tlogEntries": [],
        },
        "dsseEnvelope": envelope.to_value(),
    });
    Ok(bundle.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bundle::Bundle, bundle::Material, key::SigningKey};

    #[test]
    fn what_is_written_is_read() {
        let key = SigningKey::generate().unwrap();
        let envelope = Envelope::sign(&key, IN_TOTO, b"{}".to_vec()).unwrap();
        let bundle = Bundle::parse(&key_bundle(&envelope, key.public()).unwrap()).unwrap();
        assert_eq!(bundle.envelope, envelope);
        let hint = Some(key.public().bundle_hint());
        assert_eq!((bundle.material, bundle.log_entries), (Material::PublicKey { hint }, 0));
    }

    #[test]
    fn what_stock_verifiers_refuse_is_not_written() {
        let key = SigningKey::generate().unwrap();
        let envelope = Envelope::sign(&key, IN_TOTO, b"{}".to_vec()).unwrap();
        let stranger = SigningKey::generate().unwrap();
        assert!(key_bundle(&envelope, stranger.public()).is_err());
        let mut twice = envelope.clone();
        twice.signatures.push(twice.signatures[0].clone());
        assert!(key_bundle(&twice, key.public()).is_err());
        let mut named = envelope;
        named.signatures[0].keyid = Some(key.public().bundle_hint());
        assert!(key_bundle(&named, key.public()).is_err());
        let record = Envelope::sign(&key, "application/vnd.assay.outcome+json", b"{}".to_vec());
        assert!(matches!(
            key_bundle(&record.unwrap(), key.public()),
            Err(BundleWriteError::PayloadType(_))
        ));
    }
}
