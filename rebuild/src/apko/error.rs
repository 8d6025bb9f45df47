//! Why an image could not be assembled.
//!
//! Invariant: each error says which package and entry, or which step and field, stands in the way.
//! None of them is a verdict on the image: [`AssembleError::gap`] turns what follows from the
//! recipe into a gap; what is left is an operational failure of this machine.

use super::fs::FsError;
use crate::{
    apk::package::Package,
    go::{tar::TarError, time::TimeError},
};
use attest::{Gap, GapCode};
use std::io;

/// Why an entry of a package cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum EntryProblem {
    /// A name that a file system would read otherwise than apko does.
    #[error("expected a relative name of plain components, found {0}")]
    Name(&'static str),
    /// A kind that apko does not install.
    #[error("expected a file, directory, symlink or hard link, found a {0}")]
    Kind(&'static str),
    /// Files and symlinks must carry their SHA-1.
    #[error("expected an APK-TOOLS.checksum.SHA1 record, found none")]
    ChecksumMissing,
    /// Another package has this path and neither may replace the other.
    #[error("expected the path to be free or replaceable, found it owned by {0}")]
    Owned(String),
    /// A directory, or something that the build itself made.
    #[error("expected the path to be free, found a directory or a file that the build made")]
    Taken,
    /// The tree says no.
    #[error(transparent)]
    Tree(#[from] FsError),
}

/// Why an image could not be assembled.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// An entry of a package stands in the way.
    #[error("package {package}, entry {entry:?}: {problem}")]
    Entry {
        /// `name-version`.
        package: String,
        /// The entry's name, at most 200 characters.
        entry: String,
        /// Why.
        #[source]
        problem: EntryProblem,
    },
    /// The same name twice in the list of packages.
    #[error("expected every package once, found {0} twice")]
    PackageTwice(String),
    /// A step of the build failed the way apko's would.
    #[error("{step}: {detail}")]
    Step {
        /// Which step.
        step: &'static str,
        /// What was expected and found.
        detail: String,
    },
    /// A step of the build met the tree in a state it cannot use.
    #[error("{step}: {source}")]
    Tree {
        /// Which step.
        step: &'static str,
        /// Why.
        #[source]
        source: FsError,
    },
    /// Something that Assay does not know how to do.
    #[error("the image needs what Assay cannot do: {}",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unsupported(Vec<Gap>),
    /// A bound of this program.
    #[error("expected at most {limit} {what}, found {found}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The bound.
        limit: u64,
        /// What was found.
        found: String,
    },
    /// An entry that no tar format can hold.
    #[error("layer entry {entry:?}: {source}")]
    Tar {
        /// The entry's path.
        entry: String,
        /// Why.
        #[source]
        source: TarError,
    },
    /// A time that no JSON of Go can hold.
    #[error("the creation time: {0}")]
    Time(#[from] TimeError),
    /// Package data could not be read or a layer not be written on this machine.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl AssembleError {
    /// The error for an entry of a package.
    pub(super) fn entry(package: &Package, name: &[u8], problem: impl Into<EntryProblem>) -> Self {
        Self::Entry {
            package: package.label(),
            entry: super::fs::tree::shown(name),
            problem: problem.into(),
        }
    }

    /// A function that puts the name of a step around an error of the tree.
    pub(super) fn in_step(step: &'static str) -> impl Fn(FsError) -> Self {
        move |source| Self::Tree { step, source }
    }

    /// A failure that apko has too.
    pub(super) fn step(step: &'static str, detail: impl Into<String>) -> Self {
        Self::Step { step, detail: detail.into() }
    }

    /// What this says about the recipe; none if this machine is to blame.
    pub fn gap(&self) -> Option<Gap> {
        let code = match self {
            Self::Io { .. } => return None,
            Self::Unsupported(gaps) => return gaps.first().cloned(),
            Self::Limit { .. }
            | Self::Entry { problem: EntryProblem::Tree(FsError::Limit { .. }), .. }
            | Self::Tree { source: FsError::Limit { .. }, .. } => GapCode::Limit,
            _ => GapCode::BuildFailed,
        };
        Some(Gap::new(code, self.to_string()))
    }

    /// What a person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Entry { problem: EntryProblem::Owned(_), .. } => {
                Some("apko refuses this pair too; a package list that built has another version")
            }
            Self::Unsupported(_) => Some("docs/SUPPORT.md lists what is done"),
            Self::Limit { .. } => Some("a hostile or very unusual input; nothing was written"),
            Self::Io { .. } => Some("this says nothing about the image; try again"),
            _ => None,
        }
    }
}
