//! What can be wrong with a tar archive, in words.
//!
//! Invariant: a message says what was expected and what was found; names from the archive are
//! escaped before they get here.

use std::io;

/// An archive was refused at this entry.
#[derive(Debug, thiserror::Error)]
#[error("tar entry {entry}: {problem}")]
pub struct TarError {
    /// The entry's name, or its number where the name could not be read.
    pub entry: String,
    /// What is wrong.
    #[source]
    pub problem: TarProblem,
}

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum TarProblem {
    #[error("expected to read more, found {0}")]
    Read(#[source] io::Error),
    #[error("expected more bytes, found the end of the archive")]
    Truncated,
    #[error("expected the magic of POSIX ustar or GNU tar, found another")]
    Magic,
    #[error("expected the header checksum {computed:o}, found {stored:o}")]
    HeaderChecksum { stored: u64, computed: u64 },
    #[error("expected an octal number that is not negative in the field {field}")]
    Number { field: &'static str },
    #[error("expected only NULs behind the first NUL of the {field}, found other bytes")]
    BytesBehindNul { field: &'static str },
    #[error("expected a PAX record `<length> <key>=<value>`, found something else")]
    RecordSyntax,
    #[error("expected a value that suits the PAX record {key}, found another")]
    RecordValue { key: String },
    #[error("expected the PAX record {key} once, found it again")]
    DuplicateRecord { key: String },
    #[error("expected one extension of a kind before an entry, found two")]
    DuplicateExtension,
    #[error("expected an entry behind an extension, found the end of the archive")]
    DanglingExtension,
    #[error("expected PAX or GNU extensions, found both, or one under the magic of the other")]
    MixedFormats,
    #[error("expected one size, found {field} in the header and {record} in its PAX record")]
    ContradictingSize { field: u64, record: u64 },
    #[error("expected a plain file, found a sparse one")]
    Sparse,
    #[error("expected no global PAX header, found one")]
    GlobalHeader,
    #[error("expected a type 0 to 6, x, L or K, found {flag:?}")]
    UnknownType { flag: char },
    #[error("expected a name, found an empty one")]
    EmptyName,
    #[error("expected a link target, found an empty one")]
    EmptyLink,
    #[error("expected a file, found one whose name ends in `/` as a directory's does")]
    FileNamedAsDirectory,
    #[error("expected no content in an entry that is not a file, found {size} bytes")]
    UnexpectedContent { size: u64 },
    #[error("expected zero bytes as padding, found others")]
    Padding,
    #[error("expected zero bytes behind the end of the archive, found others")]
    BehindTheEnd,
    #[error("expected at most {max} {what}, found more")]
    Limit { what: &'static str, max: u64 },
}

impl TarProblem {
    /// True where a bound was exceeded: too much, not wrong.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Limit { .. })
    }
}
