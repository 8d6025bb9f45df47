//! A layer's blob as its bytes are taken: buffered, counted, bounded and hashed.
//!
//! Invariant: every byte that was read is in the hash, once and in order, whoever consumes it; one
//! buffer is all the memory. It must never read past the limit of a blob.

use super::{
    error::{CompareError, Side},
    image::BUFFER_BYTES,
};
use attest::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read};

/// The blob's bytes, buffered, counted and hashed.
pub(super) struct Tap<'a> {
    inner: Box<dyn Read + 'a>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    hash: Sha256,
    taken: u64,
    name: &'a LayerName,
    limit: u64,
    pub(super) zstd_window_bytes_max: u64,
}

/// Which layer this is, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerName {
    /// Which image.
    pub side: Side,
    /// Counted as in the manifest.
    pub index: usize,
}

impl LayerName {
    pub(super) fn read_error(&self, source: io::Error) -> CompareError {
        CompareError::Read { side: self.side, what: format!("layer {}", self.index), source }
    }
}

impl<'a> Tap<'a> {
    /// A blob of at most `limit` bytes, of which nothing is read yet.
    pub(super) fn new(
        name: &'a LayerName,
        inner: Box<dyn Read + 'a>,
        limit: u64,
        zstd_window_bytes_max: u64,
    ) -> Self {
        let (buffer, start, end) = (vec![0; BUFFER_BYTES], 0, 0);
        let (hash, taken) = (Sha256::new(), 0);
        Self { inner, buffer, start, end, hash, taken, name, limit, zstd_window_bytes_max }
    }

    /// At least `wanted` bytes (at most 64), or all that are left. An empty slice is the end.
    pub(super) fn peek(&mut self, wanted: usize) -> Result<&[u8], CompareError> {
        if self.end - self.start < wanted {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < wanted {
                let free = &mut self.buffer[self.end..];
                let read = match self.inner.read(free) {
                    Ok(read) => read.min(free.len()),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(self.name.read_error(e)),
                };
                if read == 0 {
                    break;
                }
                self.hash.update(&free[..read]);
                self.end += read;
                self.taken += read as u64;
                if self.taken > self.limit {
                    let (side, limit) = (self.name.side, self.limit);
                    return Err(CompareError::Limit { side, what: "bytes in a blob", limit });
                }
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Moves on by `count` bytes that [`Self::peek`] showed.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// The next byte, none at the end.
    pub(super) fn byte(&mut self) -> Result<Option<u8>, CompareError> {
        let byte = self.peek(1)?.first().copied();
        self.consume(1);
        Ok(byte)
    }

    /// How many bytes were consumed.
    pub(super) fn offset(&self) -> u64 {
        self.taken - (self.end - self.start) as u64
    }

    /// Reads to the end, so that the hash is of the whole blob. Returns how many bytes were left.
    pub(super) fn drain(&mut self) -> Result<u64, CompareError> {
        let before = self.offset();
        loop {
            let left = self.peek(1)?.len();
            if left == 0 {
                return Ok(self.offset() - before);
            }
            self.consume(left);
        }
    }

    pub(super) fn side(&self) -> Side {
        self.name.side
    }

    /// How many bytes were read from the blob.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Digest of what was read: of the whole blob once it was drained.
    pub(super) fn digest(self) -> Digest {
        Digest::from_raw(self.hash.finalize().into())
    }
}
