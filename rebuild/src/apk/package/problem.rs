//! What can be wrong with a package file, in words that name the package and the entry.
//!
//! Invariant: a limit can be told from damage ([`PackageError::is_limit`]): too much is an outcome
//! of its own, never a divergence.

use super::super::{
    gzip::GzipError,
    pkginfo::PkgInfoError,
    tar::{TarError, TarProblem},
};
use attest::Digest;
use std::io;

/// A package file was refused.
#[derive(Debug, thiserror::Error)]
#[error("package {package}: {problem}")]
pub struct PackageError {
    /// `name-version`, or a placeholder where `.PKGINFO` was not reached.
    pub package: String,
    /// What is wrong.
    #[source]
    pub problem: PackageProblem,
}

/// What is wrong with a package file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum PackageProblem {
    #[error("{member}: {error}")]
    Tar {
        member: &'static str,
        #[source]
        error: TarError,
    },
    #[error("expected to read the file, found {0}")]
    Read(#[source] io::Error),
    #[error("expected a {member}, found the end of the file")]
    MissingMember { member: &'static str },
    #[error("expected .PKGINFO in the control member, found none")]
    NoPkgInfo,
    #[error("control entry {entry}: expected a file, found something else")]
    NoFile { entry: String },
    #[error("control entry {entry}: expected it once, found it again")]
    DuplicateControlEntry { entry: String },
    #[error("expected at most {max} bytes in the control member, found more")]
    ControlTooLarge { max: u64 },
    #[error(transparent)]
    PkgInfo(#[from] PkgInfoError),
    #[error("expected a datahash of 64 hex digits in .PKGINFO, found {found:?}")]
    NoDataHash { found: String },
    #[error("expected a data member with the digest {expected}, found {found}")]
    DataHash { expected: Digest, found: Digest },
    #[error(
        "entry {entry}: expected a checksum of 20 bytes as hex, or Q1 and base64, found {found:?}"
    )]
    ChecksumRecord { entry: String, found: String },
    #[error("entry {entry}: expected the SHA-1 {expected}, found {found}")]
    Checksum { entry: String, expected: String, found: String },
    #[error("expected room for the unpacked data, found {0}")]
    Spool(#[source] io::Error),
}

impl PackageError {
    /// True where a bound was exceeded: too much, not wrong.
    pub fn is_limit(&self) -> bool {
        match &self.problem {
            PackageProblem::ControlTooLarge { .. } => true,
            PackageProblem::Read(error) => is_gzip_limit(error),
            PackageProblem::Tar { error, .. } => match &error.problem {
                TarProblem::Read(error) => is_gzip_limit(error),
                problem => problem.is_limit(),
            },
            _ => false,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.problem {
            PackageProblem::Spool(_) => Some("check the free space of the content store"),
            PackageProblem::DataHash { .. } | PackageProblem::Checksum { .. } => {
                Some("fetch the file again; if that does not help, its source is damaged")
            }
            _ => None,
        }
    }
}

fn is_gzip_limit(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref()).is_some_and(GzipError::is_limit)
}
