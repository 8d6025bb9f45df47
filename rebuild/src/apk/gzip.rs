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

/// Bytes that SHA-256 works on at once.
const HASH_BLOCK: usize = 64;

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
    pub(super) sha256: BlockHash,
}

/// A SHA-256 that knows where its blocks begin.
#[derive(Default)]
pub(super) struct BlockHash {
    sha256: Sha256,
    bytes: u64,
}

impl BlockHash {
    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Takes what completes a block, and gives the rest: whole blocks, and less than one.
    fn complete_block<'b>(&mut self, bytes: &'b [u8]) -> (&'b [[u8; HASH_BLOCK]], &'b [u8]) {
        let missing = self.bytes.wrapping_neg() as usize % HASH_BLOCK;
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        self.update(head);
        rest.as_chunks()
    }

    /// The digest of everything that was taken.
    pub(super) fn finish(self) -> [u8; 32] {
        self.sha256.finalize().into()
    }
}

/// Hashes the same bytes for two digests, block by block in turns: the rounds of a block wait for
/// each other, so the processor works on a block of both at once, in three quarters of the time.
/// The blocks of the two need not begin at the same bytes.
fn hash_in_turns(one: &mut BlockHash, other: &mut BlockHash, bytes: &[u8]) {
    let (one_blocks, one_rest) = one.complete_block(bytes);
    let (other_blocks, other_rest) = other.complete_block(bytes);
    for (one_block, other_block) in one_blocks.iter().zip(other_blocks) {
        one.sha256.update(one_block);
        other.sha256.update(other_block);
    }
    let both = one_blocks.len().min(other_blocks.len());
    for (hash, blocks, rest) in [(one, one_blocks, one_rest), (other, other_blocks, other_rest)] {
        hash.bytes += (both * HASH_BLOCK) as u64;
        hash.update(blocks[both..].as_flattened());
        hash.update(rest);
    }
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
    sha256: BlockHash,
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
            sha256: BlockHash::default(),
        }
    }

    /// Compressed bytes read so far.
    pub(super) fn compressed(&self) -> u64 {
        self.compressed
    }

    /// SHA-256 of all compressed bytes read so far.
    pub(super) fn file_sha256(self) -> [u8; 32] {
        self.sha256.finish()
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
        hash_in_turns(&mut members.sha256, &mut self.digests.sha256, used);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_turns_as_one_after_the_other() {
        let data: Vec<u8> = (0..1000_u32).map(|i| ((i * i) >> 3) as u8).collect();
        for ahead in [0, 1, 63, 64, 65, 200] {
            for piece in [1, 7, 63, 64, 65, 128, 1000] {
                let (mut one, mut other) = (BlockHash::default(), BlockHash::default());
                one.update(&data[..ahead]);
                for part in data[ahead..].chunks(piece) {
                    hash_in_turns(&mut one, &mut other, part);
                }
                assert_eq!(one.finish(), <[u8; 32]>::from(Sha256::digest(&data)));
                assert_eq!(other.finish(), <[u8; 32]>::from(Sha256::digest(&data[ahead..])));
            }
        }
    }
}
