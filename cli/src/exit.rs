//! Exit codes: what scripts and gates depend on.
//!
//! Invariant: 0 is said only of what was reproduced, admitted, or simply done; everything that is
//! not known has a code of its own. A failure of network or disk is 1, never a verdict.

use crate::no_answer::NoAnswer;
use std::{fmt, process::ExitCode};

/// Why the program ends with other than 0, for commands that are not verdicts.
#[derive(Debug)]
pub enum Failure {
    /// 2: the call's words are off, or something is missing that the call needs.
    Usage(String),
    /// 16: the policy file is invalid.
    Policy(String),
    /// 1: network, registry, disk.
    Operation(anyhow::Error),
}

impl Failure {
    /// The exit code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Policy(_) => 16,
            Self::Operation(_) => 1,
        }
    }

    /// What a person can do about it, where the library that failed says so.
    pub fn hint(&self) -> Option<String> {
        let Self::Operation(error) = self else { return None };
        error.chain().find_map(|cause| {
            let image = cause.downcast_ref::<oci::Error>().map(|e| e.hint().to_owned());
            let gate = || cause.downcast_ref::<gate::GateError>().map(|e| e.hint().to_owned());
            let material = || {
                let error = cause.downcast_ref::<worker::material::MaterialError>()?;
                error.hint().map(str::to_owned)
            };
            let store = || cause.downcast_ref::<coordinator::store::StoreError>()?.hint();
            let fleet = || cause.downcast_ref::<NoAnswer>().map(NoAnswer::hint);
            image.or_else(gate).or_else(material).or_else(store).or_else(fleet)
        })
    }

    /// The result of a command that ended without one, for `--format json`: standard output holds
    /// one JSON value whatever happened.
    pub fn json(&self, schema: &str, image: &str) -> serde_json::Value {
        serde_json::json!({
            "schema": schema, "image": image, "outcome": "error", "exit": self.code(),
            "error": self.to_string(), "hint": self.hint(),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Policy(message) => f.write_str(message),
            Self::Operation(error) => write!(f, "{error:#}"),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Operation(error.into())
    }
}

/// What a command ends with: an exit code it computed, or a failure.
pub type Outcome = Result<u8, Failure>;

/// Turns an outcome into the process's exit code, saying a failure on standard error once.
pub fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            crate::output::say(&format!("error: {failure}"));
            if let Some(hint) = failure.hint() {
                crate::output::say(&format!("hint: {hint}"));
            }
            ExitCode::from(failure.code())
        }
    }
}
