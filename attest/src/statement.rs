//! in-toto Statement (v1, and v0.1 when read): which artifacts a predicate is about.
//!
//! ```text
//! {"_type":"https://in-toto.io/Statement/v1",
//!  "subject":[{"name":"…","digest":{"sha256":"<hex>"}}],
//!  "predicateType":"<URI>","predicate":{…}}
//! ```
//! Invariant: strict above `predicate` (an unknown key is refused, as cosign does), so that two
//! readers never see two different statements. Duplicate keys are refused at that level too.

use crate::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The type that is written.
pub const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
/// The older type that is also read.
pub const STATEMENT_V0_1: &str = "https://in-toto.io/Statement/v0.1";
/// Most subjects of one statement (sigstore-go has the same bound).
pub const SUBJECTS_MAX: usize = 1024;

/// What can be wrong with a statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Not the JSON of a statement.
    #[error("expected an in-toto Statement: {0}")]
    Json(#[from] serde_json::Error),
    /// `_type` is something else.
    #[error("expected _type {STATEMENT_V1} or {STATEMENT_V0_1}, found {0:?}")]
    Type(String),
    /// No subject, or more than [`SUBJECTS_MAX`].
    #[error("expected 1 to {SUBJECTS_MAX} subjects, found {0}")]
    Subjects(usize),
    /// The predicate is not an object.
    #[error("expected the predicate to be an object")]
    Predicate,
    /// A key that only this program's JSON library understands.
    #[error(
        "expected keys that every reader understands alike, found {0:?}: state it in plain JSON"
    )]
    ReservedKey(String),
}

/// One artifact that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementSubject {
    /// A name; publishers write what they like, so it never decides anything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Digest by algorithm name, lower-case hex.
    pub digest: BTreeMap<String, String>,
}

impl StatementSubject {
    /// A subject with its SHA-256 digest.
    pub fn new(name: impl Into<String>, digest: &Digest) -> Self {
        let digest = BTreeMap::from([("sha256".to_owned(), digest.hex())]);
        Self { name: name.into(), digest }
    }

    /// The SHA-256 digest, if it is there and well-formed.
    pub fn sha256(&self) -> Option<Digest> {
        Digest::from_hex(self.digest.get("sha256")?).ok()
    }
}

/// A parsed statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// [`STATEMENT_V1`] or [`STATEMENT_V0_1`].
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// What it is about.
    pub subject: Vec<StatementSubject>,
    /// What the predicate is.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// The claim itself.
    #[serde(default)]
    pub predicate: serde_json::Value,
}

impl Statement {
    /// A v1 statement.
    pub fn new(
        subject: Vec<StatementSubject>,
        predicate_type: impl Into<String>,
        predicate: serde_json::Value,
    ) -> Self {
        let statement_type = STATEMENT_V1.to_owned();
        Self { statement_type, subject, predicate_type: predicate_type.into(), predicate }
    }

    /// Reads a statement from a verified payload.
    pub fn parse(payload: &[u8]) -> Result<Self, StatementError> {
        if let Some(key) = crate::ambiguous_keys::reserved(payload) {
            return Err(StatementError::ReservedKey(key));
        }
        let statement: Self = serde_json::from_slice(payload)?;
        if ![STATEMENT_V1, STATEMENT_V0_1].contains(&statement.statement_type.as_str()) {
            return Err(StatementError::Type(statement.statement_type.chars().take(200).collect()));
        }
        let count = statement.subject.len();
        if count == 0 || count > SUBJECTS_MAX {
            return Err(StatementError::Subjects(count));
        }
        if !statement.predicate.is_object() {
            return Err(StatementError::Predicate);
        }
        Ok(statement)
    }

    /// True when one of the subjects has this SHA-256 digest.
    pub fn is_about(&self, digest: &Digest) -> bool {
        self.subject.iter().any(|subject| subject.sha256().as_ref() == Some(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_above_the_predicate() {
        let digest = Digest::of(b"x");
        let subject = vec![StatementSubject::new("demo/hello", &digest)];
        let statement = Statement::new(subject, "https://x.test/v1", serde_json::json!({"a": 1}));
        let bytes = serde_json::to_vec(&statement).unwrap();
        let read = Statement::parse(&bytes).unwrap();
        assert!(read.is_about(&digest) && !read.is_about(&Digest::of(b"y")));
        let text = String::from_utf8(bytes).unwrap();
        for bad in [
            text.replacen('{', "{\"extra\":1,", 1),
            text.replacen('{', "{\"predicateType\":\"y\",", 1),
            text.replace("Statement/v1", "Statement/v9"),
            text.replace("{\"a\":1}", "[]"),
            // Another recipe, which no other reader sees.
            text.replace("{\"a\":1}", r#"{"$serde_json::private::RawValue":"{\"a\":2}"}"#),
            text.replace("{\"a\":1}", r#"{"\u0024serde_json::private::RawValue":"{}"}"#),
        ] {
            assert!(Statement::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
