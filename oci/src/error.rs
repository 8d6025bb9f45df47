//! What can go wrong between us and a registry or a layout, told apart by what a caller must do.
//!
//! Invariant: "could not fetch" and "there is none" are different variants, and only a definite
//! answer (404, a layout without the entry) is [`Error::NotFound`]. Messages say what was expected
//! and what was found; text from the network is cut and cleaned before it comes in here.
//! It must never hold a credential.

use crate::{printable::printable, reference::ReferenceError};
use attest::Digest;
use std::time::Duration;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reference could not be read.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The registry or the layout says definitely that it has no such thing.
    #[error("expected {what}, found none{detail}")]
    NotFound {
        /// What was asked for, and where.
        what: String,
        /// What the other side said, with a leading separator; may be empty.
        detail: String,
    },
    /// 401 or 403: it may exist, but not for us.
    #[error("expected to be allowed to read {what}, found HTTP status {status}{detail}")]
    Denied {
        /// What was asked for, and where.
        what: String,
        /// 401 or 403.
        status: u16,
        /// What the other side said, with a leading separator; may be empty.
        detail: String,
    },
    /// No answer, or one that says "not now": nothing is known.
    #[error("expected an answer about {what}, found {cause}")]
    Unavailable {
        /// What was asked for, and where.
        what: String,
        /// The status or the network's error.
        cause: String,
        /// The HTTP status, if there was one.
        status: Option<u16>,
        /// How long the other side asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The body ended before its announced length.
    #[error("expected {expected} bytes of {what}, found the body cut short after {found}")]
    Truncated {
        /// What was read.
        what: String,
        /// The length announced.
        expected: u64,
        /// The bytes that came.
        found: u64,
    },
    /// A limit on bytes or on a count was exceeded.
    #[error("expected at most {limit} {unit} in {what}, found {found}")]
    TooLarge {
        /// What was read.
        what: String,
        /// The limit.
        limit: u64,
        /// What the limit counts: bytes, entries, pages.
        unit: &'static str,
        /// What was found, for instance "8388608" or "more".
        found: String,
    },
    /// The bytes are others than the digest says.
    #[error("expected {what} to have digest {expected}, found {found}")]
    WrongDigest {
        /// What was read.
        what: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The bytes are more or fewer than the descriptor says.
    #[error("expected {what} to have {expected} bytes as its descriptor says, found {found}")]
    WrongSize {
        /// What was read.
        what: String,
        /// The descriptor's size.
        expected: u64,
        /// The size found.
        found: String,
    },
    /// A document that is not what it must be.
    #[error("expected {expected} in {what}, found {found}")]
    Malformed {
        /// The document.
        what: String,
        /// What would have been accepted.
        expected: String,
        /// What stood there, cut and cleaned.
        found: String,
    },
    /// An index lists another index; runtimes disagree on what that means.
    #[error("expected only image manifests in index {index}, found an index at entry {position}")]
    IndexInIndex {
        /// The outer index.
        index: Digest,
        /// Which entry, counted from 0.
        position: usize,
    },
    /// A tag named one digest before and names another now.
    #[error("expected {tag} to still name {expected}, found that it names {found}")]
    TagMoved {
        /// Repository and tag.
        tag: String,
        /// The digest it was resolved to.
        expected: Digest,
        /// The digest it has now.
        found: Digest,
    },
    /// The network policy forbids to talk to this address.
    #[error("expected a public address over HTTPS for {what}, found {found}")]
    NetworkRefused {
        /// Where the request, or the redirect, wanted to go.
        what: String,
        /// The address or scheme that is refused.
        found: String,
    },
    /// Attaching a bundle here would switch off the publisher's legacy signatures.
    #[error(
        "expected Sigstore bundles or no legacy signatures at {image}, found only {found}: \
         verifiers that see one bundle stop reading those"
    )]
    WouldHideLegacy {
        /// Repository and digest.
        image: String,
        /// The legacy tags that exist.
        found: String,
    },
    /// A file could not be read or written.
    #[error("expected to {action} {path}, found: {source}")]
    Io {
        /// What was tried: read, write, open.
        action: &'static str,
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
}

/// The variants of [`Error`], for callers that decide by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ErrorKind {
    Reference,
    NotFound,
    Denied,
    Unavailable,
    Truncated,
    TooLarge,
    WrongDigest,
    WrongSize,
    Malformed,
    IndexInIndex,
    TagMoved,
    NetworkRefused,
    WouldHideLegacy,
    Io,
}

impl Error {
    /// Which kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Reference(_) => ErrorKind::Reference,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Truncated { .. } => ErrorKind::Truncated,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::WrongDigest { .. } => ErrorKind::WrongDigest,
            Self::WrongSize { .. } => ErrorKind::WrongSize,
            Self::Malformed { .. } => ErrorKind::Malformed,
            Self::IndexInIndex { .. } => ErrorKind::IndexInIndex,
            Self::TagMoved { .. } => ErrorKind::TagMoved,
            Self::NetworkRefused { .. } => ErrorKind::NetworkRefused,
            Self::WouldHideLegacy { .. } => ErrorKind::WouldHideLegacy,
            Self::Io { .. } => ErrorKind::Io,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self.kind() {
            ErrorKind::Reference => {
                "write registry/repo:tag, registry/repo@sha256:…, oci:DIR:REF or oci:DIR@sha256:…"
            }
            ErrorKind::NotFound => "check the name, the tag and the digest for typing errors",
            ErrorKind::Denied => {
                "log in with `docker login`; credentials come from the Docker configuration file \
                 and are sent to no other host than the registry's"
            }
            ErrorKind::Unavailable | ErrorKind::Truncated => {
                "nothing is known about the image: try again when the registry answers"
            }
            ErrorKind::TooLarge => "the limit protects this machine; the image is out of bounds",
            ErrorKind::WrongDigest | ErrorKind::WrongSize => {
                "the registry or the layout is damaged or dishonest: fetch from another copy"
            }
            ErrorKind::Malformed | ErrorKind::IndexInIndex => {
                "the publisher has to push it again, in a form that all runtimes read alike"
            }
            ErrorKind::TagMoved => "decide again, with the digest that the tag names now",
            ErrorKind::NetworkRefused => {
                "if this host is meant, allow it in the policy: [[registry]] with its host and port"
            }
            ErrorKind::WouldHideLegacy => "publish into a repository of your own instead",
            ErrorKind::Io => "check the path, its permissions and the space on the disk",
        }
    }

    /// True if this is a definite "there is none".
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// How long the other side asked to be left alone, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn unavailable(what: impl Into<String>, cause: impl Into<String>) -> Self {
        let (what, cause) = (what.into(), cause.into());
        Self::Unavailable { what, cause, status: None, retry_after: None }
    }

    pub(crate) fn malformed(
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl AsRef<str>,
    ) -> Self {
        Self::Malformed {
            what: what.into(),
            expected: expected.into(),
            found: printable(found.as_ref()),
        }
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into(), detail: String::new() }
    }

    pub(crate) fn too_large(
        what: impl Into<String>,
        limit: u64,
        unit: &'static str,
        found: impl ToString,
    ) -> Self {
        Self::TooLarge { what: what.into(), limit, unit, found: found.to_string() }
    }

    pub(crate) fn io(action: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.display().to_string(), source }
    }
}
