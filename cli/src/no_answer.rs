//! A coordinator that gave no answer, or none that a coordinator gives.
//!
//! Invariant: it says whose, what came instead, and what to look at. What a coordinator did say is
//! never one of these.

/// No answer came, or none that a coordinator gives.
#[derive(Debug, thiserror::Error)]
#[error("expected an answer of {address}, found {found}")]
pub struct NoAnswer {
    pub address: String,
    pub found: String,
    pub hint: &'static str,
}

impl NoAnswer {
    /// What to look at.
    pub fn hint(&self) -> String {
        self.hint.to_owned()
    }
}
