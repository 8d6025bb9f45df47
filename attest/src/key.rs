//! Signature keys: ECDSA P-256 for everything that is attested, Ed25519 for checkpoints.
//!
//! Formats: SubjectPublicKeyInfo PEM (RFC 5280, RFC 7468) and PKCS#8 PEM (RFC 5958); signatures are
//! ASN.1 DER when made, DER or r‖s (P1363) when read, because both occur in the wild.
//! Invariant: a secret key never appears in `Debug`, `Display` or serde. A key type other than
//! these is refused by name; no signature is ever checked with a hash other than SHA-256.

use crate::{Digest, verified};
use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, KeyPair, UnparsedPublicKey, VerificationAlgorithm},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::fmt;

/// A key file larger than this is not a key: an RSA-4096 PKCS#8 PEM has 3.3 KB.
pub const KEY_FILE_BYTES_MAX: usize = 16 * 1024;

/// SPKI of a P-256 key: this prefix and the 65 bytes of the uncompressed point (RFC 5480).
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// SPKI of an Ed25519 key: this prefix and the 32 bytes of the key (RFC 8410).
const ED25519_SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What can be wrong with a key or a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PEM of the expected label.
    #[error("expected a PEM block {expected:?}, found {found}")]
    Pem {
        /// The label that was looked for.
        expected: &'static str,
        /// What was there instead.
        found: String,
    },
    /// The PEM is right but the key is of a kind that is not used here.
    #[error("expected an ECDSA P-256 or Ed25519 public key, found another kind ({bytes} bytes)")]
    Kind {
        /// Length of the key's DER.
        bytes: usize,
    },
    /// The private key does not parse.
    #[error("expected a PKCS#8 ECDSA P-256 private key: {0}")]
    Private(String),
    /// The signature does not belong to this message and key.
    #[error("expected a signature by key {key}, found one that does not verify")]
    Signature {
        /// The key's identity.
        key: Digest,
    },
    /// The library could not sign or generate.
    #[error("the crypto library refused to {0}")]
    Library(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    P256,
    Ed25519,
}

/// A public key. Equality is equality of the SPKI DER.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    kind: Kind,
    spki: Vec<u8>,
}

impl PublicKey {
    /// From SPKI DER.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        let kind = if der.starts_with(&P256_SPKI_PREFIX) && der.len() == 26 + 65 && der[26] == 4 {
            Kind::P256
        } else if der.starts_with(&ED25519_SPKI_PREFIX) && der.len() == 12 + 32 {
            Kind::Ed25519
        } else {
            return Err(KeyError::Kind { bytes: der.len() });
        };
        Ok(Self { kind, spki: der.to_vec() })
    }

    /// From a `PUBLIC KEY` PEM block.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::from_spki_der(&pem_decode(text, "PUBLIC KEY")?)
    }

    /// The `PUBLIC KEY` PEM block, 64 columns, with a final newline.
    pub fn to_pem(&self) -> String {
        pem_encode("PUBLIC KEY", &self.spki)
    }

    /// The SPKI DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The key's identity: SHA-256 of its SPKI DER.
    pub fn id(&self) -> Digest {
        Digest::of(&self.spki)
    }

    /// The hint of a Sigstore bundle: base64 of SHA-256 of the SPKI DER.
    pub fn bundle_hint(&self) -> String {
        STANDARD.encode(self.id().raw())
    }

    /// Checks a signature over `message` (SHA-256 for ECDSA).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        let name = verified::name(&self.spki, signature, message);
        if verified::holds(&name) {
            return Ok(());
        }
        let wrong = || KeyError::Signature { key: self.id() };
        let check = |algorithm: &'static dyn VerificationAlgorithm, raw: &[u8]| {
            UnparsedPublicKey::new(algorithm, raw).verify(message, signature).map_err(|_| wrong())
        };
        match self.kind {
            Kind::P256 if signature.len() == 64 => {
                check(&signature::ECDSA_P256_SHA256_FIXED, &self.spki[26..])
            }
            Kind::P256 => check(&signature::ECDSA_P256_SHA256_ASN1, &self.spki[26..]),
            Kind::Ed25519 => check(&signature::ED25519, &self.spki[12..]),
        }?;
        verified::keep(name);
        Ok(())
    }

    /// True for the kind that attestations are signed with.
    pub fn is_p256(&self) -> bool {
        self.kind == Kind::P256
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id().short())
    }
}

/// A P-256 private key. Never printed, never serialised except by [`SigningKey::to_pem`].
pub struct SigningKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
    public: PublicKey,
}

impl SigningKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| KeyError::Library("generate a P-256 key"))?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| KeyError::Library("encode a P-256 key"))?;
        Self::from_pkcs8_der(pkcs8.as_ref())
    }

    /// From a `PRIVATE KEY` PEM block (PKCS#8).
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::from_pkcs8_der(&pem_decode(text, "PRIVATE KEY")?)
    }

    fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map_err(|error| KeyError::Private(error.to_string()))?;
        let spki = pair
            .public_key()
            .as_der()
            .map_err(|_| KeyError::Library("encode a public key"))?
            .as_ref()
            .to_vec();
        let public = PublicKey::from_spki_der(&spki)?;
        Ok(Self { pair, pkcs8: der.to_vec(), public })
    }

    /// The `PRIVATE KEY` PEM block. The caller writes it to a file that only its owner can read.
    pub fn to_pem(&self) -> String {
        pem_encode("PRIVATE KEY", &self.pkcs8)
    }

    /// The same key again, for another owner in this process.
    pub fn duplicate(&self) -> Result<Self, KeyError> {
        Self::from_pkcs8_der(&self.pkcs8)
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs SHA-256 of `message`; ASN.1 DER. Two signatures of one message differ.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signed = self.pair.sign(&SystemRandom::new(), message);
        Ok(signed.map_err(|_| KeyError::Library("sign"))?.as_ref().to_vec())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {:?}, secret redacted)", self.public)
    }
}

/// The bytes of the one PEM block with this label (RFC 7468). Text around it is refused.
pub fn pem_decode(text: &str, label: &'static str) -> Result<Vec<u8>, KeyError> {
    let bad = |found: &str| KeyError::Pem { expected: label, found: found.to_owned() };
    if text.len() > KEY_FILE_BYTES_MAX {
        return Err(bad("a text that is too long for a key"));
    }
    let body = text
        .trim()
        .strip_prefix(&format!("-----BEGIN {label}-----"))
        .ok_or_else(|| bad(&first_line(text)))?
        .strip_suffix(&format!("-----END {label}-----"))
        .ok_or_else(|| bad("no matching END line, or more after it"))?;
    let packed: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(packed).map_err(|_| bad("a body that is not base64"))
}

fn first_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    // A private key pasted in the wrong place must not end up in a log.
    if line.starts_with("-----BEGIN ") { line.chars().take(64).collect() } else { "no PEM".into() }
}

/// A PEM block with 64 columns and a final newline.
pub fn pem_encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_signatures_bind() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(PublicKey::from_pem(&key.public().to_pem()).unwrap(), *again.public());
        let signature = again.sign(b"message").unwrap();
        key.public().verify(b"message", &signature).unwrap();
        assert!(key.public().verify(b"messagE", &signature).is_err());
        let other = SigningKey::generate().unwrap();
        assert!(other.public().verify(b"message", &signature).is_err());
        assert!(key.public().verify(b"message", &[]).is_err());
    }

    #[test]
    fn a_secret_is_never_printed() {
        let key = SigningKey::generate().unwrap();
        assert!(format!("{key:?}").contains("redacted"));
        let error = PublicKey::from_pem(&key.to_pem()).unwrap_err().to_string();
        assert!(!error.contains(&key.to_pem()[30..60]), "{error}");
    }
}
