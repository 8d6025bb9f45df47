//! Identities of the protocol: operators, workers, jobs, leases, fences, journal positions.
//!
//! Invariant: each is its own type, read once at the boundary; a worker is its key and a job is
//! its content, so neither can be renamed. A name says nothing by itself: only the policy binds an
//! operator's name to a key.

use crate::{Digest, Platform, Repository, canonical, name::serde_as_text};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// An identity could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct IdError {
    /// What would have been accepted.
    pub expected: &'static str,
    /// What stood there, at most 100 characters of it.
    pub found: String,
}

impl IdError {
    fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.chars().take(100).collect() }
    }
}

/// The name of an operator: the party behind one or more workers. 1 to 64 of `a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorId(String);

impl OperatorId {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for OperatorId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let ok = (1..=64).contains(&text.len())
            && text.bytes().all(allowed)
            && text.as_bytes()[0].is_ascii_alphanumeric();
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::new("an operator name (1 to 64 of a-z 0-9 . _ -)", text))
        }
    }
}

macro_rules! digest_ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.short())
            }
        }

        impl FromStr for $name {
            type Err = crate::digest::DigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

digest_ids! {
    /// A worker: SHA-256 of its public key's SPKI DER.
    WorkerId;
    /// A job: SHA-256 of its canonical content, see [`JobId::of`].
    JobId;
    /// An observation: SHA-256 of the bytes that were signed (DSSE PAE), never of the signature.
    ObservationId;
}

impl JobId {
    /// The identity of the job that judges this subject under these recipes. The same subject and
    /// recipes are the same job, whoever submits them and however often: duplicates coalesce.
    ///
    /// `recipes` may come in any order. A subject without any recipe has a job too: its answer is
    /// a gap.
    pub fn of(
        repository: &Repository,
        manifest: &Digest,
        platform: &Platform,
        recipes: &[Digest],
    ) -> Self {
        let mut recipes = recipes.to_vec();
        recipes.sort_unstable();
        recipes.dedup();
        let content = serde_json::json!({
            "schema": "assay/job/v1",
            "repository": repository,
            "manifest": manifest,
            "platform": platform,
            "recipes": recipes,
        });
        // Names and digests are ASCII text: the canonical form always exists.
        let bytes = canonical::to_vec(&content).unwrap_or_else(|_| content.to_string().into());
        Self(Digest::of(&bytes))
    }
}

/// Permission for one worker to execute one job once: 16 random bytes, written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub [u8; 16]);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({})", &hex::encode(self.0)[..8])
    }
}

impl FromStr for LeaseId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::new("a lease of 32 lower-case hex digits", text);
        if text.len() != 32 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad());
        }
        let mut raw = [0; 16];
        hex::decode_to_slice(text, &mut raw).map_err(|_| bad())?;
        Ok(Self(raw))
    }
}

serde_as_text!(OperatorId, LeaseId);

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The next one.
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )+};
}

counters! {
    /// Strictly increasing per job: a stale fence never changes the state of a lease.
    Fence;
    /// The number of a record in the journal, from 0, without holes.
    JournalPosition;
    /// How often a job has been opened: 1 at first, one more at each re-opening after dissent.
    Attempt;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_its_content() {
        let repository: Repository = "demo/hello".parse().unwrap();
        let other: Repository = "demo/other".parse().unwrap();
        let platform = Platform::linux("amd64");
        let (m, a, b) = (Digest::of(b"m"), Digest::of(b"a"), Digest::of(b"b"));
        let id = JobId::of(&repository, &m, &platform, &[a, b]);
        assert_eq!(id, JobId::of(&repository, &m, &platform, &[b, a, b]));
        assert_ne!(id, JobId::of(&other, &m, &platform, &[a, b]));
        assert_ne!(id, JobId::of(&repository, &m, &platform, &[a]));
    }

    #[test]
    fn text_forms() {
        assert!("acme".parse::<OperatorId>().is_ok());
        for bad in ["", "Acme", "-a", "a b", &"a".repeat(65)] {
            assert!(bad.parse::<OperatorId>().is_err(), "{bad}");
        }
        let lease = LeaseId([7; 16]);
        assert_eq!(lease.to_string().parse::<LeaseId>().unwrap(), lease);
        assert!("07".parse::<LeaseId>().is_err());
    }
}
