//! What can be wrong with a policy file: always with the line, what was expected, what was found.
//!
//! Invariant: no message carries the contents of a key file.

/// Why a policy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Larger than a policy is ever going to be.
    #[error("expected a policy of at most {max} bytes, found {found}")]
    TooLarge {
        /// The bound.
        max: usize,
        /// The file's size.
        found: usize,
    },
    /// Not TOML, or a key that does not exist, or a value of the wrong type.
    #[error("line {line}: {message}")]
    Toml {
        /// From 1.
        line: usize,
        /// What the parser expected and found.
        message: String,
    },
    /// A value that does not mean anything.
    #[error("line {line}: {key}: expected {expected}, found {found:?}")]
    Value {
        /// From 1.
        line: usize,
        /// Table and key: `gate.mode`.
        key: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What stood there.
        found: String,
    },
    /// A file that the policy names cannot be read, or is not what it should be.
    #[error("line {line}: {key}: expected a readable file, found {path:?}: {reason}")]
    File {
        /// From 1.
        line: usize,
        /// Table and key: `publisher.key`.
        key: &'static str,
        /// The path as written.
        path: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// The same name or key in two places where that would let one party count as two, or sign
    /// for two roles.
    #[error("line {line}: {key}: expected {expected}, found {found} again")]
    Duplicate {
        /// From 1.
        line: usize,
        /// Table and key.
        key: &'static str,
        /// The rule.
        expected: &'static str,
        /// The name, or the key's identity.
        found: String,
    },
    /// A table lacks a key, or has two that exclude each other.
    #[error("line {line}: [{table}]: expected {expected}")]
    Table {
        /// From 1.
        line: usize,
        /// The table.
        table: &'static str,
        /// What the table must have.
        expected: String,
    },
    /// More entries in one list than a policy may have.
    #[error("{key}: expected at most {max} entries, found {found}")]
    TooMany {
        /// Table or key.
        key: &'static str,
        /// The bound.
        max: usize,
        /// How many there are.
        found: usize,
    },
    /// The policy asks for a check that this version cannot make. It is refused, never skipped.
    #[error("the policy asks for {what}, which this version cannot check")]
    Unsupported {
        /// Which demand, by its key and value.
        what: String,
    },
}

impl PolicyError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Toml { .. } => {
                Some("`assay policy init IMAGE` drafts a policy with every key explained")
            }
            Self::File { .. } => Some("paths are relative to the policy file"),
            Self::Duplicate { key, .. } if key.starts_with("operator") => {
                Some("independence is counted in operators: each has one name and its own key")
            }
            Self::Unsupported { .. } => {
                Some("drop the demand from the policy, or use a version that can check it")
            }
            _ => None,
        }
    }
}
