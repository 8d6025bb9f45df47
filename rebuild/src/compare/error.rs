//! What can stop a comparison. None of these says anything about the published image's honesty.
//!
//! Invariant: a defect of the published image is never an error here, it is a difference. An error
//! means that the question could not be answered; it must never be read as "equal" or "diverged".

use std::{fmt, io};

/// Which of the two images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The image as its publisher has it.
    Published,
    /// The image that we built.
    Rebuilt,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Published => "published",
            Self::Rebuilt => "rebuilt",
        })
    }
}

/// Why two images could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// Bytes of an image could not be read: a matter of disks and networks, not of the image.
    #[error("the {side} image's {what} could not be read: {source}")]
    Read {
        /// Which image.
        side: Side,
        /// Which part of it, `layer 3`.
        what: String,
        /// What the reader said.
        source: io::Error,
    },
    /// The caller handed in bytes that are not those that the manifest names.
    #[error("expected the {side} image's {what} to be {expected}, found {found}")]
    WrongBytes {
        /// Which image.
        side: Side,
        /// Which part of it.
        what: String,
        /// The digest that its manifest names.
        expected: String,
        /// The digest of the bytes that came.
        found: String,
    },
    /// A bound on what is read was exceeded.
    #[error("expected at most {limit} {what} in the {side} image")]
    Limit {
        /// Which image.
        side: Side,
        /// What was counted.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The published image uses something that Assay does not read, so nothing follows from it.
    #[error("expected {expected}, found {found}")]
    Unsupported {
        /// What Assay reads.
        expected: &'static str,
        /// What stood there.
        found: String,
    },
    /// The rebuilt image contradicts itself: a defect of ours.
    #[error("the rebuilt image is not consistent: {0}")]
    Rebuilt(String),
    /// The explanation has no canonical form: a defect of ours.
    #[error("the explanation could not be written: {0}")]
    Canonical(#[from] attest::canonical::CanonicalError),
}

impl CompareError {
    /// The gap that this error is for a recipe; none for errors of the environment or our own.
    pub fn gap(&self) -> Option<attest::Gap> {
        let code = match self {
            Self::Limit { .. } => attest::GapCode::Limit,
            Self::Unsupported { .. } => attest::GapCode::UnsupportedField,
            _ => return None,
        };
        Some(attest::Gap::new(code, self.to_string()))
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => Some("try again; the bytes come from a registry, layout or disk"),
            Self::WrongBytes { side: Side::Published, .. } => {
                Some("fetch the image again: what is stored under this digest is something else")
            }
            Self::Limit { .. } => Some("raise the limits only for images that you trust"),
            Self::WrongBytes { .. } | Self::Rebuilt(_) | Self::Canonical(_) => {
                Some("this is a defect of Assay: please report it with the image's digest")
            }
            Self::Unsupported { .. } => None,
        }
    }
}
