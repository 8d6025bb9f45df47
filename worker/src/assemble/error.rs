//! Why nothing was assembled, and what that means for the exit code.
//!
//! Invariant: what follows from the configuration or a package is `not rebuildable` (14) and names
//! it; what this machine or the network did is 1; a wrong call is 2. Nothing is written in any case.

use crate::material::{MaterialError, StoreError};
use attest::Gap;
use rebuild::{
    apk::resolver::ResolveError,
    apko::{AssembleError, ConfigError},
};
use std::io;

/// Why nothing was assembled.
#[derive(Debug, thiserror::Error)]
pub enum AssembleFailure {
    /// The call's words are off, or a file that it names is not what it should be.
    #[error("{0}")]
    Usage(String),
    /// The configuration or the lockfile.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something that Assay does not know how to do.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unsupported(Vec<Gap>),
    /// The packages that are asked for cannot be had together.
    #[error("linux/{architecture}: {error}")]
    Resolve {
        /// In OCI's words.
        architecture: String,
        /// Why.
        #[source]
        error: Box<ResolveError>,
    },
    /// A package, an index or a key.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// The packages do not make an image.
    #[error("{platform}: {error}")]
    Assembly {
        /// Which one.
        platform: String,
        /// Why.
        #[source]
        error: Box<AssembleError>,
    },
    /// The image whose order is asked for, or the layout.
    #[error(transparent)]
    Oci(#[from] oci::Error),
    /// The disk.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl From<StoreError> for AssembleFailure {
    fn from(error: StoreError) -> Self {
        Self::Material(error.into())
    }
}

/// 2: a wrong call.
const USAGE: u8 = 2;
/// 14: follows from the configuration or a package.
const NOT_REBUILDABLE: u8 = 14;
/// 1: this machine or the network.
const OPERATION: u8 = 1;

impl AssembleFailure {
    /// The exit code.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Config(ConfigError::Gaps(_)) => NOT_REBUILDABLE,
            Self::Config(_) => USAGE,
            Self::Unsupported(_) | Self::Resolve { .. } => NOT_REBUILDABLE,
            Self::Material(error) if error.gap().is_some() => NOT_REBUILDABLE,
            Self::Assembly { error, .. } if error.gap().is_some() => NOT_REBUILDABLE,
            Self::Material(_) | Self::Assembly { .. } | Self::Oci(_) | Self::Io { .. } => OPERATION,
        }
    }

    /// What a person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Unsupported(_) => Some("docs/SUPPORT.md lists what is done"),
            Self::Material(error) => match error {
                MaterialError::Unproven { .. } => {
                    Some("give the key with --keyring, or pin it in a --policy")
                }
                other => other.hint(),
            },
            Self::Assembly { error, .. } => error.hint(),
            Self::Oci(error) => Some(error.hint()),
            Self::Usage(_) | Self::Resolve { .. } | Self::Io { .. } => None,
        }
    }
}
