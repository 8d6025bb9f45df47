//! Where a package came from: an index that a trusted key signed, or the signature inside the
//! package file (apko-assembly.md, 4 and 20.2).
//!
//! Invariant: both ways end at the compressed control member, whose hash covers everything else
//! (control → datahash → data). A package without either is not trusted, whatever it says.

use super::Package;
use crate::apk::{
    index::IndexEntry,
    key::{Digests, KeyError, KeyRing, Signature, SignedBy},
};
use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// The signature member of a package, and what it has to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageSignature {
    /// Every `.SIGN.` entry.
    pub signatures: Vec<Signature>,
    /// SHA-256 of the compressed control member, which `.SIGN.RSA256.` entries sign.
    pub control_sha256: [u8; 32],
}

/// A package cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("package {package}: {problem}")]
pub struct TrustError {
    /// `name-version`.
    pub package: String,
    /// Why not.
    pub problem: TrustProblem,
}

/// Why a package cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum TrustProblem {
    #[error("expected {field} {expected:?} as in the index, found {found:?}")]
    Index { field: &'static str, expected: String, found: String },
    #[error("expected a signature in the file, found none")]
    Unsigned,
    #[error(transparent)]
    Signature(#[from] KeyError),
}

impl TrustError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.problem {
            TrustProblem::Index { .. } => Some("fetch index and package again, from one source"),
            TrustProblem::Unsigned => Some("only a verified index can vouch for this package"),
            TrustProblem::Signature(error) => error.hint(),
        }
    }
}

impl Package {
    /// Compares with the record of an index that was verified: name, version, size and the hash
    /// of the control member.
    pub fn verify_against_index(&self, record: &IndexEntry) -> Result<(), TrustError> {
        let stated = record.control_sha1.map(hex::encode).unwrap_or_default();
        let fields = [
            ("the name", record.name.clone(), self.info.name.clone()),
            ("the version", record.version.clone(), self.info.version.clone()),
            ("the size", record.size.to_string(), self.file_size.to_string()),
            ("the control hash", stated, hex::encode(self.control_sha1)),
        ];
        for (field, expected, found) in fields {
            if expected != found {
                return Err(self.untrusted(TrustProblem::Index { field, expected, found }));
            }
        }
        Ok(())
    }

    /// Verifies the signature inside the file; the key that made it.
    pub fn verify_signature(&self, keys: &KeyRing) -> Result<SignedBy, TrustError> {
        let unsigned = || self.untrusted(TrustProblem::Unsigned);
        let member = self.signature.as_ref().ok_or_else(unsigned)?;
        let sha1 = digest::Digest::import_less_safe(&self.control_sha1, &SHA1_FOR_LEGACY_USE_ONLY);
        let sha256 = digest::Digest::import_less_safe(&member.control_sha256, &SHA256);
        let (Ok(sha1), Ok(sha256)) = (sha1, sha256) else { return Err(unsigned()) };
        keys.verify_digests(&member.signatures, &Digests { sha1: &sha1, sha256: &sha256 })
            .map_err(|error| self.untrusted(error.into()))
    }

    fn untrusted(&self, problem: TrustProblem) -> TrustError {
        TrustError { package: self.label(), problem }
    }
}
