//! The attestation of a verdict: SLSA Verification Summary Attestation v1 (slsa.dev, "Verification
//! Summary Attestation"), PASSED only.
//!
//! ```text
//! {"_type":"https://in-toto.io/Statement/v1",
//!  "subject":[{"name":"<repository>","digest":{"sha256":"<hex>"}}],
//!  "predicateType":"https://slsa.dev/verification_summary/v1",
//!  "predicate":{"verifier":{"id":"https://…","version":{"assay":"0.1.0"}},
//!   "timeVerified":"…Z","resourceUri":"oci://<repository>@sha256:<hex>",
//!   "policy":{"uri":"…","digest":{"sha256":"<hex>"}},
//!   "inputAttestations":[{"uri":"…","digest":{"sha256":"<hex>"}}],
//!   "verificationResult":"PASSED","verifiedLevels":["…"],"slsaVersion":"1.2"}}
//! ```
//! Invariant: a [`Vsa`] can only be made of [`Reproduced`], so there is no FAILED one, and none
//! about an image that was not reproduced: naive gates take any statement by our key for a pass.
//! Everything else that was found is signed as a [`VerdictRecord`], which is no statement.
//! `SLSA_BUILD_REPRODUCED` is said only of exact levels with two independent operators.

mod index;
mod levels;
mod outcome;

#[cfg(test)]
mod tests;

pub use index::{IndexError, IndexImage};
pub use levels::{ALL_PLATFORMS_REPRODUCED, SLSA_BUILD_REPRODUCED};
pub use outcome::{VERDICT_SCHEMA, VerdictRecord, VerdictRecordError};

use crate::{
    Digest, Repository,
    canonical::{self, CanonicalError},
    dsse::{Envelope, EnvelopeError, IN_TOTO},
    key::SigningKey,
    statement::{Statement, StatementSubject},
    time::Timestamp,
    verdict::{Finding, Reproduced},
};
use serde::Serialize;
use std::collections::BTreeSet;

/// The predicate type.
pub const VSA_V1: &str = "https://slsa.dev/verification_summary/v1";
/// The version of SLSA whose words are used.
const SLSA_VERSION: &str = "1.2";
/// Longest URI of a verifier or a policy.
const URI_BYTES_MAX: usize = 2048;

/// What can be wrong when an attestation is made.
#[derive(Debug, thiserror::Error)]
pub enum VsaError {
    /// A URI that is none.
    #[error("expected {field} to be a URI of at most {URI_BYTES_MAX} bytes, found {found:?}")]
    Uri {
        /// Which.
        field: &'static str,
        /// What it is, at most 200 characters of it.
        found: String,
    },
    /// The index is not covered.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// No canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// Signing failed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// Who attests, in the words that consumers pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    /// `verifier.id`: a URI that whoever runs the fleet owns.
    pub id: String,
    /// The version of this software.
    pub version: String,
    /// Where the policy can be read.
    pub policy_uri: String,
}

/// A verification summary, PASSED.
#[derive(Debug, Clone, PartialEq)]
pub struct Vsa {
    repository: Repository,
    subject: Digest,
    verifier: Verifier,
    policy: Digest,
    inputs: Vec<Input>,
    levels: Vec<String>,
    time_verified: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Input {
    uri: String,
    digest: Sha256,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Sha256 {
    sha256: String,
}

impl Sha256 {
    fn of(digest: &Digest) -> Self {
        Self { sha256: digest.hex() }
    }
}

fn check(verifier: &Verifier) -> Result<(), VsaError> {
    for (field, uri) in [("verifier.id", &verifier.id), ("policy.uri", &verifier.policy_uri)] {
        let scheme = uri.split_once(':').is_some_and(|(scheme, rest)| {
            !rest.is_empty()
                && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        });
        let plain = uri.chars().all(|c| c.is_ascii_graphic());
        if !scheme || !plain || uri.len() > URI_BYTES_MAX {
            let found = uri.chars().take(200).collect();
            return Err(VsaError::Uri { field, found });
        }
    }
    Ok(())
}

/// Every attestation that a finding rests on: the publisher's statements by the digest of the blob
/// that holds them; observations and records by SHA-256 of what was signed, because that, and not
/// an envelope's JSON, is their identity.
fn inputs(finding: &Finding) -> BTreeSet<Input> {
    let evidence = finding
        .evidence
        .iter()
        .map(|used| Input { uri: used.uri.clone(), digest: Sha256::of(&used.digest) });
    let urn = |kind: &str, digest: &Digest| Input {
        uri: format!("urn:assay:{kind}:{digest}"),
        digest: Sha256::of(digest),
    };
    let counted = finding.counted.iter().map(|c| c.observation);
    let dissent = finding.dissent.iter().flat_map(|d| d.observations.iter().copied());
    let observations = counted.chain(dissent).map(|id| urn("observation", &id.0));
    let records = finding.records.iter().map(|record| urn("record", record));
    evidence.chain(observations).chain(records).collect()
}

impl Vsa {
    /// The attestation of one platform's image. The time is the caller's: the verdict has none.
    pub fn of_image(
        reproduced: &Reproduced<'_>,
        verifier: &Verifier,
        time_verified: Timestamp,
    ) -> Result<Self, VsaError> {
        check(verifier)?;
        let finding = reproduced.finding();
        Ok(Self {
            repository: finding.subject.repository.clone(),
            subject: finding.subject.digest,
            verifier: verifier.clone(),
            policy: finding.policy,
            inputs: inputs(finding).into_iter().collect(),
            levels: levels::of_image(reproduced),
            time_verified,
        })
    }

    /// The attestation of an index all of whose images were reproduced. See [`IndexImage`].
    pub fn of_index(
        index: &IndexImage<'_>,
        verifier: &Verifier,
        time_verified: Timestamp,
    ) -> Result<Self, VsaError> {
        check(verifier)?;
        let (repository, policy) = index.check()?;
        let findings = index.reproduced.iter().map(Reproduced::finding);
        Ok(Self {
            repository: repository.clone(),
            subject: Digest::of(index.bytes),
            verifier: verifier.clone(),
            policy,
            inputs: findings.flat_map(inputs).collect::<BTreeSet<_>>().into_iter().collect(),
            levels: levels::of_index(index.reproduced),
            time_verified,
        })
    }

    /// The same for verifiers that take every `SLSA_…` level for a track with a number
    /// (slsa-verifier 2.7): `ASSAY_REPRODUCED` stands for `SLSA_BUILD_REPRODUCED`. Served as a raw
    /// DSSE envelope.
    pub fn without_slsa_levels(&self) -> Self {
        Self { levels: levels::without_slsa(&self.levels), ..self.clone() }
    }

    /// What is attested about the subject.
    pub fn verified_levels(&self) -> &[String] {
        &self.levels
    }

    /// The manifest or index that it is about.
    pub fn subject(&self) -> &Digest {
        &self.subject
    }

    /// The one form in which images are named: `oci://<repository>@sha256:<hex>`.
    pub fn resource_uri(&self) -> String {
        format!("oci://{}@{}", self.repository, self.subject)
    }

    /// The in-toto statement.
    pub fn statement(&self) -> Statement {
        let predicate = serde_json::json!({
            "verifier": {"id": self.verifier.id, "version": {"assay": self.verifier.version}},
            "timeVerified": self.time_verified,
            "resourceUri": self.resource_uri(),
            "policy": {"uri": self.verifier.policy_uri, "digest": Sha256::of(&self.policy)},
            "inputAttestations": self.inputs,
            "verificationResult": "PASSED",
            "verifiedLevels": self.levels,
            "slsaVersion": SLSA_VERSION,
        });
        let subject = StatementSubject::new(self.repository.as_str(), &self.subject);
        Statement::new(vec![subject], VSA_V1, predicate)
    }

    /// Signs the statement: one signature, no keyid, the payload type of in-toto.
    pub fn sign(&self, key: &SigningKey) -> Result<Envelope, VsaError> {
        let payload = canonical::to_vec(&self.statement())?;
        Ok(Envelope::sign(key, IN_TOTO, payload)?)
    }
}
