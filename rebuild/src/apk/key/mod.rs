//! RSA keys that sign packages and indexes: key files as they lie in `etc/apk/keys`, sets of keys
//! from discovery, and the check of a signature (apko-assembly.md, 4 and 6.3).
//!
//! Invariant: a key is named by its file, and a signature is checked only with the key it names. A
//! key file is kept byte for byte: pins are over the file, and the file is part of the image. A
//! key is never taken from the image that is being checked.

mod jwks;
mod pem;
mod signature;

pub use jwks::{JWKS_BYTES_MAX, keys_from_jwks};
pub use signature::{Signature, SignatureAlgorithm, SignedBy};

use attest::Digest;
use aws_lc_rs::{
    digest,
    signature::{
        RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters,
        UnparsedPublicKey,
    },
};
use std::collections::BTreeMap;

/// Bytes of a key file. One of 8,192 bits has about 1,400.
pub const KEY_FILE_BYTES_MAX: usize = 16 << 10;

/// Bytes of a key file's name; ext4 allows 255.
const NAME_BYTES_MAX: usize = 200;

/// Signatures looked at in one file; each costs a verification.
const SIGNATURES_MAX: usize = 64;

/// A key or a signature was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum KeyError {
    #[error("expected a plain file name for a key, found {found:?}")]
    Name { found: String },
    #[error("key {name}: expected one PEM block PUBLIC KEY, found {detail}")]
    Pem { name: String, detail: &'static str },
    #[error("key {name}: expected an RSA key of 2048 to 8192 bits, found another")]
    NotRsa { name: String },
    #[error("key {name}: expected it once, found another of that name")]
    Duplicate { name: String },
    #[error("expected a JSON Web Key Set, found {detail}")]
    Jwks { detail: String },
    #[error("expected a signature by a trusted key, found signatures by {signers:?}")]
    NoTrustedKey { signers: Vec<String> },
    #[error("expected a signature by {name} over these bytes, found one over others")]
    WrongSignature { name: String },
}

impl KeyError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoTrustedKey { .. } => {
                Some("add the key to the policy's pins after checking it at its origin")
            }
            _ => None,
        }
    }
}

/// A public key, in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    file: Vec<u8>,
    /// SubjectPublicKeyInfo.
    spki: Vec<u8>,
}

impl PublicKey {
    /// Reads a key file. `name` is the last component of its path.
    pub fn from_file(name: &str, file: &[u8]) -> Result<Self, KeyError> {
        if !is_safe_name(name) {
            return Err(KeyError::Name { found: name.chars().take(NAME_BYTES_MAX).collect() });
        }
        let spki =
            pem::decode(file).map_err(|detail| KeyError::Pem { name: name.to_owned(), detail })?;
        let key = Self { name: name.to_owned(), file: file.to_vec(), spki };
        match key.is_rsa() {
            true => Ok(key),
            false => Err(KeyError::NotRsa { name: name.to_owned() }),
        }
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's bytes, as they lie in an image.
    pub fn file(&self) -> &[u8] {
        &self.file
    }

    /// SHA-256 of the file: what a policy pins.
    pub fn pin(&self) -> Digest {
        Digest::of(&self.file)
    }

    fn is_rsa(&self) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.spki).parse().is_ok_and(|_| {
            pem::modulus_bits(&self.spki).is_some_and(|n| (2048..=8192).contains(&n))
        })
    }

    fn verifies(&self, signature: &Signature, digests: &Digests<'_>) -> bool {
        let (parameters, digest): (&'static RsaParameters, _) = match signature.algorithm {
            SignatureAlgorithm::RsaSha1 => {
                (&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, digests.sha1)
            }
            SignatureAlgorithm::RsaSha256 => (&RSA_PKCS1_2048_8192_SHA256, digests.sha256),
        };
        UnparsedPublicKey::new(parameters, &self.spki)
            .verify_digest(digest, &signature.bytes)
            .is_ok()
    }
}

/// True for a name that stays in its folder and in one line: letters, digits and `._@+-`, not
/// beginning with a dot.
fn is_safe_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@+-".contains(&b))
}

/// Both digests that a signature may be over.
pub(super) struct Digests<'a> {
    pub(super) sha1: &'a digest::Digest,
    pub(super) sha256: &'a digest::Digest,
}

/// The keys that are trusted to sign packages or indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRing {
    keys: BTreeMap<String, PublicKey>,
}

impl KeyRing {
    /// A ring without keys, which trusts nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key. The same file twice is fine; another file of the same name is not.
    pub fn add(&mut self, key: PublicKey) -> Result<(), KeyError> {
        match self.keys.get(key.name()) {
            Some(there) if *there != key => Err(KeyError::Duplicate { name: key.name }),
            _ => {
                self.keys.insert(key.name.clone(), key);
                Ok(())
            }
        }
    }

    /// The key in the file of this name.
    pub fn get(&self, name: &str) -> Option<&PublicKey> {
        self.keys.get(name)
    }

    /// The keys by name.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.values()
    }

    /// Checks that one of the signatures over `message` was made by a key of this ring.
    pub fn verify(&self, signatures: &[Signature], message: &[u8]) -> Result<SignedBy, KeyError> {
        let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, message);
        let sha256 = digest::digest(&digest::SHA256, message);
        self.verify_digests(signatures, &Digests { sha1: &sha1, sha256: &sha256 })
    }

    pub(super) fn verify_digests(
        &self,
        signatures: &[Signature],
        digests: &Digests<'_>,
    ) -> Result<SignedBy, KeyError> {
        let mut wrong = None;
        for signature in signatures.iter().take(SIGNATURES_MAX) {
            let Some(key) = self.key_of(signature) else { continue };
            if key.verifies(signature, digests) {
                return Ok(SignedBy { key: key.name.clone(), algorithm: signature.algorithm });
            }
            wrong = Some(KeyError::WrongSignature { name: key.name.clone() });
        }
        let signers = signatures.iter().take(SIGNATURES_MAX).map(|s| s.key_name.clone()).collect();
        Err(wrong.unwrap_or(KeyError::NoTrustedKey { signers }))
    }

    /// By the name in the signature; key files from mirrors may lack the ending `.rsa.pub`.
    fn key_of(&self, signature: &Signature) -> Option<&PublicKey> {
        let name = &signature.key_name;
        self.keys.get(name).or_else(|| self.keys.get(name.strip_suffix(".rsa.pub")?))
    }
}

#[cfg(test)]
mod tests;
