//! Reads a file of concatenated gzip members (RFC 1952), one member at a time.
//!
//! Invariant: every byte of the file is counted and hashed exactly once, and a member's digest
//! covers exactly its own compressed bytes. It must never inflate past its bounds: what comes out
//! is limited in bytes and in proportion to what went in.

use flate2::{Decompress, FlushDecompress, Status};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use std::io::{self, Read};

/// Room for compressed bytes.
const BUFFER_BYTES: usize = 128 << 10;

/// The largest window that deflate has.
const WINDOW_BITS: u8 = 15;

/// Bounds on one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GzipLimits {
    /// Compressed bytes of the whole file.
    pub compressed_bytes_max: u64,
    /// Uncompressed bytes of all members together.
    pub uncompressed_bytes_max: u64,
    /// Uncompressed bytes for each compressed byte.
    pub ratio_max: u64,
    /// Uncompressed bytes from which on the ratio counts: a small bomb is no bomb.
    pub ratio_counts_from_bytes: u64,
    /// Members that may follow each other as one stream.
    pub members_max: u32,
}

/// What is wrong with a gzip file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum GzipError {
    #[error("expected a whole gzip member, found the end of the file at byte {at}")]
    Truncated { at: u64 },
    #[error("expected gzip data, found damage before byte {at}: {detail}")]
    Damaged { at: u64, detail: String },
    #[error("expected at most {max} {what}, found more")]
    Limit { what: &'static str, max: u64 },
}

impl GzipError {
    /// True where a bound was exceeded: too much, not wrong.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Limit { .. })
    }
}

impl From<GzipError> for io::Error {
    fn from(error: GzipError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// The digests of one member's compressed bytes. apk speaks of control members by SHA-1 and of
/// data members by SHA-256; the unneeded one is not computed.
#[derive(Default)]
pub(super) struct MemberDigests {
    pub(super) sha1: Option<Sha1>,
    pub(super) sha256: Sha256,
}

/// A file of gzip members being read.
pub(super) struct Members<R> {
    source: R,
    limits: GzipLimits,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    compressed: u64,
    uncompressed: u64,
    sha256: Sha256,
}

impl<R: Read> Members<R> {
    pub(super) fn new(source: R, limits: GzipLimits) -> Self {
        Self {
            source,
            limits,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            compressed: 0,
            uncompressed: 0,
            sha256: Sha256::new(),
        }
    }

    /// Compressed bytes read so far.
    pub(super) fn compressed(&self) -> u64 {
        self.compressed
    }

    /// SHA-256 of all compressed bytes read so far.
    pub(super) fn file_sha256(self) -> [u8; 32] {
        self.sha256.finalize().into()
    }

    /// True when bytes are left.
    pub(super) fn more(&mut self) -> io::Result<bool> {
        if self.start == self.end {
            self.fill()?;
        }
        Ok(self.start < self.end)
    }

    /// Starts the next member. `Span::Rest` takes all that is left as one stream.
    pub(super) fn member<'a>(
        &'a mut self,
        digests: &'a mut MemberDigests,
        span: Span,
    ) -> Member<'a, R> {
        let inflate = Decompress::new_gzip(WINDOW_BITS);
        Member { members: self, digests, inflate, span, seen: 1, done: false }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.start = 0;
        self.end = 0;
        loop {
            match self.source.read(&mut self.buffer) {
                Ok(read) => {
                    self.end = read;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn count(&mut self, consumed: usize, produced: usize) -> Result<(), GzipError> {
        self.compressed += consumed as u64;
        self.uncompressed += produced as u64;
        let limits = &self.limits;
        let limit = |what, max| Err(GzipError::Limit { what, max });
        if self.compressed > limits.compressed_bytes_max {
            return limit("compressed bytes", limits.compressed_bytes_max);
        }
        if self.uncompressed > limits.uncompressed_bytes_max {
            return limit("uncompressed bytes", limits.uncompressed_bytes_max);
        }
        if self.uncompressed > limits.ratio_counts_from_bytes
            && self.uncompressed / limits.ratio_max.max(1) > self.compressed
        {
            return limit("uncompressed bytes for each compressed byte", limits.ratio_max);
        }
        Ok(())
    }
}

/// How far a stream reaches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// To the end of one gzip member.
    One,
    /// To the end of the file: members that follow belong to it, as for Go's reader.
    Rest,
}

/// The uncompressed bytes of one member (or of all that are left).
pub(super) struct Member<'a, R> {
    members: &'a mut Members<R>,
    digests: &'a mut MemberDigests,
    inflate: Decompress,
    span: Span,
    seen: u32,
    done: bool,
}

impl<R: Read> Member<'_, R> {
    /// One call of the inflater: bytes produced, and whether the member ended.
    fn step(&mut self, out: &mut [u8]) -> io::Result<(usize, bool)> {
        if !self.members.more()? {
            return Err(GzipError::Truncated { at: self.members.compressed }.into());
        }
        let members = &mut *self.members;
        let input = &members.buffer[members.start..members.end];
        let before = (self.inflate.total_in(), self.inflate.total_out());
        let damaged = |detail: &str| GzipError::Damaged {
            at: members.compressed + input.len() as u64,
            detail: detail.to_owned(),
        };
        let status = self
            .inflate
            .decompress(input, out, FlushDecompress::None)
            .map_err(|error| damaged(&error.to_string()))?;
        let consumed = (self.inflate.total_in() - before.0) as usize;
        let produced = (self.inflate.total_out() - before.1) as usize;
        let ended = status == Status::StreamEnd;
        if consumed == 0 && produced == 0 && !ended {
            return Err(damaged("no progress").into());
        }
        let used = &input[..consumed];
        members.sha256.update(used);
        self.digests.sha256.update(used);
        if let Some(sha1) = &mut self.digests.sha1 {
            sha1.update(used);
        }
        members.start += consumed;
        members.count(consumed, produced)?;
        Ok((produced, ended))
    }

    fn next_member(&mut self) -> io::Result<()> {
        if self.span == Span::One || !self.members.more()? {
            self.done = true;
            return Ok(());
        }
        self.seen += 1;
        let max = self.members.limits.members_max;
        if self.seen > max {
            return Err(GzipError::Limit { what: "gzip members", max: max.into() }.into());
        }
        self.inflate = Decompress::new_gzip(WINDOW_BITS);
        Ok(())
    }
}

impl<R: Read> Read for Member<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while !self.done {
            let (produced, ended) = self.step(out)?;
            if ended {
                self.next_member()?;
            }
            if produced > 0 {
                return Ok(produced);
            }
        }
        Ok(0)
    }
}
