//! A repository's index, `APKINDEX.tar.gz`: signature members, then a gzip member with the tar
//! entries `APKINDEX` and `DESCRIPTION` (apko-assembly.md, 3.2 and 4; Alpine wiki, "Apk spec").
//!
//! Invariant: [`Index::read`] parses exactly the bytes that a trusted key signed: everything behind
//! the signature. It must never hand out a record of an index whose signature was not found right;
//! who wants that has to say so by name.

mod record;
mod words;

pub use record::IndexEntry;
pub use words::Words;

use super::{
    gzip::{GzipError, GzipLimits, MemberDigests, Members, Span},
    key::{KeyError, KeyRing, Signature, SignedBy},
    tar::{self, TarError, TarLimits, TarProblem},
};
use record::Records;
use std::io::Read;

/// Signature members in front of an index, one for each key where several sign.
const SIGNATURE_MEMBERS_MAX: usize = 8;

/// Bytes of the description, a line about the repository.
const DESCRIPTION_BYTES_MAX: u64 = 64 << 10;

/// Bytes of one signature: 8,192 bits have 1,024.
const SIGNATURE_BYTES_MAX: u64 = 4096;

/// Bounds on one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexLimits {
    /// Bytes of the file, unpacked bytes, and their proportion.
    pub gzip: GzipLimits,
    /// Packages in it.
    pub records_max: usize,
    /// Bytes of a line. apko reads at most 1 MiB; provides of 72 KB were seen.
    pub line_bytes_max: usize,
}

impl Default for IndexLimits {
    /// Large public indexes have some 200,000 records of 700 bytes: 140 MB, 20 MB compressed.
    fn default() -> Self {
        Self {
            gzip: GzipLimits {
                compressed_bytes_max: 128 << 20,
                uncompressed_bytes_max: 1 << 30,
                ratio_max: 100,
                ratio_counts_from_bytes: 16 << 20,
                members_max: 64,
            },
            records_max: 1_000_000,
            line_bytes_max: 1 << 20,
        }
    }
}

/// An index was refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum IndexError {
    #[error("index: expected a signature in front, found none")]
    Unsigned,
    #[error("index: {0}")]
    Signature(#[from] KeyError),
    #[error("index: {0}")]
    Tar(#[from] TarError),
    #[error("index: expected the entries APKINDEX and DESCRIPTION, found {entry}")]
    UnexpectedEntry { entry: String },
    #[error("index: expected one entry APKINDEX, found {found}")]
    NoIndex { found: &'static str },
    #[error("index: expected at most {max} {what}, found more")]
    Limit { what: &'static str, max: u64 },
    #[error("index, line {line}: expected {expected}, found {found:?}")]
    Line { line: u64, expected: &'static str, found: String },
}

impl IndexError {
    /// True where a bound was exceeded: too much, not wrong.
    pub fn is_limit(&self) -> bool {
        match self {
            Self::Limit { .. } => true,
            Self::Tar(TarError { problem: TarProblem::Read(error), .. }) => error
                .get_ref()
                .and_then(|inner| inner.downcast_ref())
                .is_some_and(GzipError::is_limit),
            Self::Tar(error) => error.problem.is_limit(),
            _ => false,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Signature(error) => error.hint(),
            _ => None,
        }
    }
}

/// The records of an index, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// What the repository says about itself.
    pub description: String,
    /// One record for each package.
    pub entries: Vec<IndexEntry>,
}

impl Index {
    /// Reads an index that a key of the ring signed.
    pub fn read(
        file: &[u8],
        keys: &KeyRing,
        limits: &IndexLimits,
    ) -> Result<(Self, SignedBy), IndexError> {
        let parts = split(file, limits)?;
        let mut refused = IndexError::Unsigned;
        for (signatures, signed) in &parts.signed {
            match keys.verify(signatures, signed) {
                Ok(signer) => return Ok((Self::parse(parts.index, limits)?, signer)),
                Err(error) => refused = error.into(),
            }
        }
        Err(refused)
    }

    /// Reads an index without looking at signatures. Nothing in it is proven: only for tools
    /// that say so, and for repositories that their user just made.
    pub fn read_without_signature(file: &[u8], limits: &IndexLimits) -> Result<Self, IndexError> {
        Self::parse(split(file, limits)?.index, limits)
    }

    fn parse(bytes: &[u8], limits: &IndexLimits) -> Result<Self, IndexError> {
        let mut members = Members::new(bytes, limits.gzip);
        let mut digests = MemberDigests::default();
        let stream = members.member(&mut digests, Span::Rest);
        let mut tar = tar::Reader::new(stream, TAR_LIMITS);
        let mut index = Self::default();
        let mut found = false;
        while let Some(header) = tar.next_entry()? {
            let problem = |problem| TarError { entry: tar::show(&header.name), problem };
            match &header.name[..] {
                b"APKINDEX" if found => return Err(IndexError::NoIndex { found: "two" }),
                b"APKINDEX" => {
                    index.entries = records(&mut tar, limits, problem)?;
                    found = true;
                }
                b"DESCRIPTION" => {
                    let text = tar.content(DESCRIPTION_BYTES_MAX).map_err(problem)?;
                    index.description = String::from_utf8_lossy(&text).into_owned();
                }
                other => return Err(IndexError::UnexpectedEntry { entry: tar::show(other) }),
            }
        }
        if found { Ok(index) } else { Err(IndexError::NoIndex { found: "none" }) }
    }
}

/// An index and its signatures have a handful of entries.
const TAR_LIMITS: TarLimits = TarLimits {
    entries_max: 100,
    name_bytes_max: 1024,
    depth_max: 4,
    pax_bytes_max: 64 << 10,
    xattr_bytes_max: 0,
    metadata_bytes_max: 1 << 20,
};

/// An index taken apart: each group of signatures with the bytes that it signs.
struct Parts<'a> {
    signed: Vec<(Vec<Signature>, &'a [u8])>,
    index: &'a [u8],
}

/// Leading members with `.SIGN.` entries sign everything behind themselves.
fn split<'a>(file: &'a [u8], limits: &IndexLimits) -> Result<Parts<'a>, IndexError> {
    let mut parts = Parts { signed: Vec::new(), index: file };
    while let Some((signatures, length)) = signature_member(parts.index, limits)? {
        if parts.signed.len() == SIGNATURE_MEMBERS_MAX {
            let max = SIGNATURE_MEMBERS_MAX as u64;
            return Err(IndexError::Limit { what: "signature members", max });
        }
        parts.index = parts.index.get(length..).unwrap_or_default();
        parts.signed.push((signatures, parts.index));
    }
    Ok(parts)
}

/// The signatures of the first member and its compressed length; `None` where it holds none.
fn signature_member(
    file: &[u8],
    limits: &IndexLimits,
) -> Result<Option<(Vec<Signature>, usize)>, IndexError> {
    let mut members = Members::new(file, limits.gzip);
    let mut digests = MemberDigests::default();
    let mut tar = tar::Reader::new(members.member(&mut digests, Span::One), TAR_LIMITS);
    let mut signatures = Vec::new();
    let mut first = true;
    while let Some(header) = tar.next_entry()? {
        if !header.name.starts_with(b".SIGN.") {
            return match first {
                true => Ok(None),
                false => Err(IndexError::UnexpectedEntry { entry: tar::show(&header.name) }),
            };
        }
        first = false;
        let content = tar
            .content(SIGNATURE_BYTES_MAX)
            .map_err(|problem| TarError { entry: tar::show(&header.name), problem })?;
        signatures.extend(Signature::of_entry(&header.name, content));
    }
    drop(tar);
    let length = usize::try_from(members.compressed()).unwrap_or(usize::MAX);
    Ok((!first).then_some((signatures, length)))
}

/// Feeds the lines of the current entry to the record parser.
fn records<R: Read>(
    tar: &mut tar::Reader<R>,
    limits: &IndexLimits,
    problem: impl Fn(TarProblem) -> TarError,
) -> Result<Vec<IndexEntry>, IndexError> {
    let mut records = Records::new(limits.records_max);
    let mut line = Vec::new();
    loop {
        let chunk = tar.chunk().map_err(&problem)?;
        if chunk.is_empty() {
            break;
        }
        for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
            if line.len() + piece.len() > limits.line_bytes_max {
                let max = limits.line_bytes_max as u64;
                return Err(IndexError::Limit { what: "bytes in a line", max });
            }
            line.extend_from_slice(piece);
            if line.ends_with(b"\n") {
                records.line(&line)?;
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        records.line(&line)?;
    }
    Ok(records.finish())
}
