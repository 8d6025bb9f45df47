//! Sigstore bundles, read: v0.1, v0.2 and v0.3 (protobuf-specs, `sigstore_bundle.proto`, as JSON).
//!
//! ```text
//! {"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",
//!  "verificationMaterial":{"publicKey":{"hint":"<base64>"},"tlogEntries":[…]},
//!  "dsseEnvelope":{"payload":…,"payloadType":…,"signatures":[{"sig":…}]}}
//! ```
//! Invariant: nothing outside the envelope is signed, so nothing outside it decides anything: the
//! hint is for messages, log entries and time stamps are counted and not looked at. The envelope
//! is read from its own bytes, not from parsed JSON. What is not done here: certificates (keyless),
//! proofs of logs, signatures over a bare artifact.

use crate::{
    Digest,
    dsse::{ENVELOPE_BYTES_MAX, Envelope, EnvelopeError},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

/// Largest bundle that is read: the largest envelope, and 1 MiB for proofs and certificates (a
/// log entry has 5 KB, a chain of certificates 4 KB).
pub const BUNDLE_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + 1024 * 1024;
/// Most log entries and time stamps of one bundle (sigstore-go has 32 and 32).
pub const PROOFS_MAX: usize = 64;

/// The media types of a bundle, with the version that each means.
const MEDIA_TYPES: [(&str, BundleVersion); 4] = [
    ("application/vnd.dev.sigstore.bundle+json;version=0.1", BundleVersion::V01),
    ("application/vnd.dev.sigstore.bundle+json;version=0.2", BundleVersion::V02),
    ("application/vnd.dev.sigstore.bundle+json;version=0.3", BundleVersion::V03),
    ("application/vnd.dev.sigstore.bundle.v0.3+json", BundleVersion::V03),
];

/// What can be wrong with a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Larger than [`BUNDLE_BYTES_MAX`].
    #[error("expected a bundle of at most {BUNDLE_BYTES_MAX} bytes, found {0}")]
    TooLarge(usize),
    /// Not the JSON of a bundle.
    #[error("expected a Sigstore bundle: {0}")]
    Json(#[from] serde_json::Error),
    /// A version that is not known.
    #[error("expected a Sigstore bundle of version 0.1, 0.2 or 0.3, found media type {0:?}")]
    MediaType(String),
    /// The bundle signs an artifact directly and states nothing.
    #[error("expected a DSSE envelope in the bundle, found a signature over an artifact")]
    NoEnvelope,
    /// None, or several, of key hint, certificate and chain.
    #[error("expected one of publicKey, certificate and x509CertificateChain, found {0}")]
    Material(usize),
    /// More than [`PROOFS_MAX`] log entries or time stamps.
    #[error("expected at most {PROOFS_MAX} log entries and time stamps, found {0}")]
    Proofs(usize),
    /// The specification allows exactly one signature in a bundle's envelope.
    #[error("expected exactly one signature in the bundle's envelope, found {0}")]
    Signatures(usize),
    /// The envelope itself.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// The version of a bundle's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BundleVersion {
    /// 0.1
    V01,
    /// 0.2
    V02,
    /// 0.3
    V03,
}

/// What the bundle offers for checking its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// A key that the verifier has to know already; the hint is a name for it.
    PublicKey {
        /// As written; most writers put base64 of SHA-256 of the SPKI DER.
        hint: Option<String>,
    },
    /// A certificate (keyless). Recognised, not checked.
    Certificate,
}

/// A bundle that was read. Its statement is not trusted before the envelope is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Which version.
    pub version: BundleVersion,
    /// Key or certificate.
    pub material: Material,
    /// How many log entries it carries. They are not checked.
    pub log_entries: usize,
    /// How many time stamps it carries. They are not checked.
    pub timestamps: usize,
    /// The envelope, with exactly one signature.
    pub envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireBundle<'a> {
    media_type: String,
    verification_material: WireMaterial,
    #[serde(borrow)]
    dsse_envelope: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMaterial {
    public_key: Option<WireKey>,
    certificate: Option<IgnoredAny>,
    #[serde(rename = "x509CertificateChain")]
    chain: Option<IgnoredAny>,
    tlog_entries: Option<Vec<IgnoredAny>>,
    timestamp_verification_data: Option<WireTimestamps>,
}

#[derive(Deserialize)]
struct WireKey {
    hint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTimestamps {
    rfc3161_timestamps: Option<Vec<IgnoredAny>>,
}

impl Bundle {
    /// Reads a bundle's JSON.
    pub fn parse(json: &[u8]) -> Result<Self, BundleError> {
        if json.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLarge(json.len()));
        }
        let wire: WireBundle<'_> = serde_json::from_slice(json)?;
        let version = MEDIA_TYPES
            .iter()
            .find(|(media_type, _)| *media_type == wire.media_type)
            .map(|(_, version)| *version)
            .ok_or_else(|| BundleError::MediaType(wire.media_type.chars().take(200).collect()))?;
        let material = wire.verification_material;
        let offered = usize::from(material.public_key.is_some())
            + usize::from(material.certificate.is_some())
            + usize::from(material.chain.is_some());
        if offered != 1 {
            return Err(BundleError::Material(offered));
        }
        let log_entries = material.tlog_entries.map_or(0, |entries| entries.len());
        let timestamps = material
            .timestamp_verification_data
            .and_then(|data| data.rfc3161_timestamps)
            .map_or(0, |stamps| stamps.len());
        if log_entries + timestamps > PROOFS_MAX {
            return Err(BundleError::Proofs(log_entries + timestamps));
        }
        let raw = wire.dsse_envelope.ok_or(BundleError::NoEnvelope)?;
        let envelope = Envelope::parse(raw.get().as_bytes())?;
        if envelope.signatures.len() != 1 {
            return Err(BundleError::Signatures(envelope.signatures.len()));
        }
        let material = match material.public_key {
            Some(key) => Material::PublicKey { hint: key.hint.filter(|hint| !hint.is_empty()) },
            None => Material::Certificate,
        };
        Ok(Self { version, material, log_entries, timestamps, envelope })
    }
}

/// A hint or keyid for people: `sha256:<hex>` where it is the base64 of 32 bytes, else as written
/// without control characters. It proves nothing.
pub fn readable_hint(hint: &str) -> String {
    let raw = STANDARD.decode(hint).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    match raw {
        Some(raw) => Digest::from_raw(raw).to_string(),
        None => hint.chars().filter(|c| !c.is_control()).take(100).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dsse::IN_TOTO, key::SigningKey};
    use serde_json::{Value, json};

    fn bundle(key: &SigningKey) -> Value {
        let envelope = Envelope::sign(key, IN_TOTO, b"{}".to_vec()).unwrap();
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": key.public().bundle_hint()}},
            "dsseEnvelope": envelope.to_value(),
        })
    }

    fn parse(value: &Value) -> Result<Bundle, BundleError> {
        Bundle::parse(value.to_string().as_bytes())
    }

    #[test]
    fn every_version_of_the_key_profile() {
        let key = SigningKey::generate().unwrap();
        for (media_type, version) in MEDIA_TYPES {
            let mut value = bundle(&key);
            value["mediaType"] = media_type.into();
            value["unknown"] = json!({"a": 1});
            value["verificationMaterial"]["tlogEntries"] = json!([{}, {}]);
            value["verificationMaterial"]["timestampVerificationData"] =
                json!({"rfc3161Timestamps": [{"signedTimestamp": "AA=="}]});
            let read = parse(&value).unwrap();
            assert_eq!((read.version, read.log_entries, read.timestamps), (version, 2, 1));
            read.envelope.verify(key.public()).unwrap();
            let Material::PublicKey { hint: Some(hint) } = read.material else { panic!() };
            assert_eq!(readable_hint(&hint), key.public().id().to_string());
        }
        assert_eq!(readable_hint("my\u{1b}[31m key"), "my[31m key");
    }

    #[test]
    fn certificates_are_recognised() {
        let mut value = bundle(&SigningKey::generate().unwrap());
        for material in [
            json!({"certificate": {"rawBytes": "AA=="}, "tlogEntries": null}),
            json!({"x509CertificateChain": {"certificates": []}}),
        ] {
            value["verificationMaterial"] = material;
            assert_eq!(parse(&value).unwrap().material, Material::Certificate);
        }
    }

    #[test]
    fn what_is_not_a_bundle() {
        let key = SigningKey::generate().unwrap();
        let change = |edit: &dyn Fn(&mut Value)| {
            let mut value = bundle(&key);
            edit(&mut value);
            parse(&value).unwrap_err()
        };
        let error = change(&|v| v["mediaType"] = "application/x".into());
        assert!(matches!(error, BundleError::MediaType(_)));
        let error = change(&|v| v["verificationMaterial"] = json!({}));
        assert!(matches!(error, BundleError::Material(0)));
        let error = change(&|v| v["verificationMaterial"]["certificate"] = json!({}));
        assert!(matches!(error, BundleError::Material(2)));
        let error = change(&|v| {
            v.as_object_mut().unwrap().remove("dsseEnvelope");
            v["messageSignature"] = json!({"signature": "AA=="});
        });
        assert!(matches!(error, BundleError::NoEnvelope));
        let error = change(&|v| {
            let one = v["dsseEnvelope"]["signatures"][0].clone();
            v["dsseEnvelope"]["signatures"] = json!([one, one]);
        });
        assert!(matches!(error, BundleError::Signatures(2)));
        let error = change(&|v| v["dsseEnvelope"]["signatures"] = json!([]));
        assert!(matches!(error, BundleError::Envelope(EnvelopeError::Signatures(0))));
        let error =
            change(&|v| v["verificationMaterial"]["tlogEntries"] = json!(vec![0; PROOFS_MAX + 1]));
        assert!(matches!(error, BundleError::Proofs(_)));
        let twice = bundle(&key).to_string().replacen('{', "{\"mediaType\":\"x\",", 1);
        assert!(matches!(Bundle::parse(twice.as_bytes()), Err(BundleError::Json(_))));
        let large = vec![b' '; BUNDLE_BYTES_MAX + 1];
        assert!(matches!(Bundle::parse(&large), Err(BundleError::TooLarge(_))));
        for bad in ["", "null", "[]", "{}", "\"x\"", &"[".repeat(100_000)] {
            assert!(Bundle::parse(bad.as_bytes()).is_err());
        }
    }
}
