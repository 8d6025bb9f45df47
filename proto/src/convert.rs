//! Messages to domain types and back: all validation of form happens here.
//!
//! Invariant: an `Err` names the field, what was expected and what was found; a default value of
//! proto3 (empty text, zero) is never taken for "not given" where the field is required.

use crate::v1;
use attest::{
    Digest, Platform, Repository, Subject,
    dsse::{ENVELOPE_BYTES_MAX, Envelope},
    id::{Fence, JobId, LeaseId, ObservationId, WorkerId},
};
use std::{fmt::Display, str::FromStr};

/// A field of a message that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {problem}")]
pub struct FieldError {
    /// The field's name in the .proto file.
    pub field: &'static str,
    /// What was expected and what was found.
    pub problem: String,
}

impl From<FieldError> for tonic::Status {
    fn from(error: FieldError) -> Self {
        crate::status::malformed(error)
    }
}

fn parse<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T, FieldError> {
    text.parse().map_err(|e: T::Err| FieldError { field, problem: e.to_string() })
}

/// A digest field.
pub fn digest(field: &'static str, text: &str) -> Result<Digest, FieldError> {
    parse(field, text)
}

/// A repository field.
pub fn repository(text: &str) -> Result<Repository, FieldError> {
    parse("repository", text)
}

/// A job field.
pub fn job(text: &str) -> Result<JobId, FieldError> {
    parse("job", text)
}

/// A worker field.
pub fn worker(text: &str) -> Result<WorkerId, FieldError> {
    parse("worker", text)
}

/// An observation field.
pub fn observation(text: &str) -> Result<ObservationId, FieldError> {
    parse("newest_receipt_observation", text)
}

/// A lease with its fence; fences start at 1.
pub fn lease(lease: &str, fence: u64) -> Result<(LeaseId, Fence), FieldError> {
    let id = parse("lease", lease)?;
    if fence == 0 {
        let problem = "expected a fence from 1, found 0".to_owned();
        return Err(FieldError { field: "fence", problem });
    }
    Ok((id, Fence(fence)))
}

/// An envelope field. Only its form is checked: who signed it is the caller's matter.
pub fn envelope(field: &'static str, bytes: &[u8]) -> Result<Envelope, FieldError> {
    if bytes.is_empty() || bytes.len() > ENVELOPE_BYTES_MAX {
        let problem = format!(
            "expected an envelope of 1 to {ENVELOPE_BYTES_MAX} bytes, found {}",
            bytes.len()
        );
        return Err(FieldError { field, problem });
    }
    Envelope::parse(bytes).map_err(|e| FieldError { field, problem: e.to_string() })
}

impl TryFrom<&v1::Subject> for Subject {
    type Error = FieldError;

    fn try_from(message: &v1::Subject) -> Result<Self, FieldError> {
        Ok(Self {
            repository: repository(&message.repository)?,
            digest: digest("manifest", &message.manifest)?,
            platform: parse::<Platform>("platform", &message.platform)?,
        })
    }
}

impl From<&Subject> for v1::Subject {
    fn from(subject: &Subject) -> Self {
        Self {
            repository: subject.repository.to_string(),
            manifest: subject.digest.to_string(),
            platform: subject.platform.to_string(),
        }
    }
}

/// A subject field, which must be there.
pub fn subject(message: Option<&v1::Subject>) -> Result<Subject, FieldError> {
    let problem = || "expected a subject, found none".to_owned();
    message.ok_or_else(|| FieldError { field: "subject", problem: problem() })?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_round_trip_and_defaults_are_refused() {
        let subject = Subject {
            repository: "demo/hello".parse().unwrap(),
            digest: Digest::of(b"m"),
            platform: Platform::linux("arm64"),
        };
        let message = v1::Subject::from(&subject);
        assert_eq!(Subject::try_from(&message).unwrap(), subject);
        assert!(Subject::try_from(&v1::Subject::default()).is_err());
        assert!(super::subject(None).is_err());
        assert!(lease(&"0".repeat(32), 0).is_err());
        assert!(envelope("envelope", b"").is_err());
    }
}
