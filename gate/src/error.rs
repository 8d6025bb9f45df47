//! What keeps a gate from deciding: the image or the evidence could not be read, or the policy
//! asks for what cannot be checked.
//!
//! Invariant: "could not be read" is never "there is none". Every message names the file, URL or
//! image it is about, what was expected and what was found.

use attest::{evidence_set::EvidenceSetError, policy::PolicyError};

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The registry, the layout or the coordinator.
    #[error(transparent)]
    Oci(#[from] oci::Error),
    /// A set of evidence that is wrong, or about another image.
    #[error("{uri}: {error}")]
    Evidence {
        /// Where it is.
        uri: String,
        /// What is wrong with it.
        error: EvidenceSetError,
    },
    /// A file that is neither evidence nor something else that is known.
    #[error("{uri}: expected {expected}, found {found}")]
    File {
        /// Where it is.
        uri: String,
        /// What would have been accepted.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// More than is read.
    #[error("{uri}: expected at most {max} {unit}, found more")]
    TooMany {
        /// Where.
        uri: String,
        /// The bound.
        max: u64,
        /// Of what.
        unit: &'static str,
    },
    /// The evidence says nothing that binds it to what was asked for.
    #[error("{image}: expected {expected}, found {found}")]
    Image {
        /// The image that was asked for.
        image: String,
        /// What is needed.
        expected: &'static str,
        /// What there is.
        found: String,
    },
    /// Which index a manifest is deployed from decides what counts, and nobody said which.
    #[error("{image}: expected evidence of one index, found {first} and {second}")]
    TwoIndexes {
        /// The manifest that was asked for.
        image: String,
        /// An index and where it is named.
        first: String,
        /// Another one.
        second: String,
    },
    /// The policy asks for what this version cannot check.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl GateError {
    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Oci(error) => error.hint(),
            Self::Evidence { error: EvidenceSetError::OtherSubject { .. }, .. } => {
                "what is known belongs to (repository, digest): ask for the image that the \
                 evidence is about, or bring evidence about this one"
            }
            Self::Evidence { .. } | Self::File { .. } => {
                "get the evidence again from where it came"
            }
            Self::TooMany { .. } => "give the files of this image alone",
            Self::TwoIndexes { .. } => {
                "ask for the image by the digest of the index that it is deployed from"
            }
            Self::Image { .. } => "ask where the image can be read, or bring complete evidence",
            Self::Policy(error) => error.hint().unwrap_or("read the policy's documentation"),
        }
    }
}
