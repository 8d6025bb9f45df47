//! Evidence as it was found: the bytes that a publisher attached to an image, and where they lay.
//!
//! Invariant: `digest` is the SHA-256 of `bytes`, and `bytes` are exactly what the registry or the
//! layout held. Nothing here was judged: finding evidence says nothing about who made it.
//! It must never be built from parsed and re-written JSON, because signatures cover the bytes.

use crate::Digest;
use base64::Engine as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the bytes claim to be, by their media type and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A Sigstore bundle (`application/vnd.dev.sigstore.bundle…+json`).
    SigstoreBundle,
    /// A bare DSSE envelope, as legacy `.att` tags hold them.
    DsseEnvelope,
    /// An in-toto Statement without any signature, as BuildKit puts them into an index.
    UnsignedStatement,
}

/// One piece of evidence, unjudged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct RawEvidence {
    /// What the bytes claim to be.
    pub kind: EvidenceKind,
    /// The bytes as found; base64 in JSON.
    #[serde(serialize_with = "to_base64")]
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`.
    pub digest: Digest,
    /// Where it was found: `oci://<repository>@<digest of the manifest that holds it>`.
    pub uri: String,
    /// The manifest or index that it is attached to.
    pub attached_to: Digest,
}

impl RawEvidence {
    /// Evidence from the bytes that were found; the digest is computed here.
    pub fn new(kind: EvidenceKind, bytes: Vec<u8>, uri: String, attached_to: Digest) -> Self {
        let digest = Digest::of(&bytes);
        Self { kind, bytes, digest, uri, attached_to }
    }
}

/// The same fields before `digest` was compared with `bytes`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    kind: EvidenceKind,
    #[serde(deserialize_with = "from_base64")]
    bytes: Vec<u8>,
    digest: Digest,
    uri: String,
    attached_to: Digest,
}

impl TryFrom<Unchecked> for RawEvidence {
    type Error = String;

    fn try_from(found: Unchecked) -> Result<Self, String> {
        let digest = Digest::of(&found.bytes);
        if digest != found.digest {
            return Err(format!("expected bytes with digest {}, found {digest}", found.digest));
        }
        let Unchecked { kind, bytes, uri, attached_to, .. } = found;
        Ok(Self { kind, bytes, digest, uri, attached_to })
    }
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    base64::engine::general_purpose::STANDARD
        .decode(text.as_bytes())
        .map_err(|error| serde::de::Error::custom(format!("expected base64: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_the_bytes() {
        let subject = Digest::of(b"image");
        let evidence = RawEvidence::new(
            EvidenceKind::DsseEnvelope,
            vec![0, 255, b'{'],
            "oci://demo/hello@sha256:00".into(),
            subject,
        );
        let json = serde_json::to_string(&evidence).unwrap();
        assert!(json.contains("\"dsse-envelope\"") && json.contains("\"AP97\""), "{json}");
        assert_eq!(serde_json::from_str::<RawEvidence>(&json).unwrap(), evidence);
        for bad in ["A", "AP98"] {
            assert!(serde_json::from_str::<RawEvidence>(&json.replace("AP97", bad)).is_err());
        }
    }
}
