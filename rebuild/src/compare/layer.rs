//! One layer as a stream: the blob is hashed while it is read, unpacked while it is pulled, and
//! what is unusual about its compression is noted on the way.
//!
//! Which compression it is, is read from the bytes, never from the media type, as container
//! runtimes do. Gzip: RFC 1952; Zstandard: RFC 8878; anything else is taken for the tar itself.
//!
//! Invariant: memory is bounded by two buffers and the decoder's window. A broken stream ends
//! early with a note in `unclean`; it is never an error, and it is never clean.

use super::{
    error::{CompareError, Side},
    gzip::GzipStream,
    hygiene::{Unclean, UncleanCode},
    image::{BUFFER_BYTES, LayerForm, Limits},
    zstandard::ZstdStream,
};
use attest::Digest;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

/// How a layer's blob is compressed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// The tar itself.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// The word as it is written in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The fields of a gzip member's header that do not change what the layer holds (RFC 1952, 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GzipHeader {
    /// FLG as it stands.
    pub flags: u8,
    /// MTIME in seconds, 0 when not set.
    pub mtime: u32,
    /// XFL: 2 and 4 are the slowest and the fastest level of most encoders.
    pub extra_flags: u8,
    /// OS: 255 is Go's, 3 is Unix.
    pub os: u8,
}

/// Where pulled bytes come from: a layer's uncompressed stream.
pub(super) trait Pull {
    /// Fills part of `out` (not empty); 0 at the end.
    fn pull(&mut self, out: &mut [u8]) -> Result<usize, CompareError>;
}

/// Counters that all layers of one image share.
#[derive(Debug, Default)]
pub(super) struct Budget {
    unpacked: AtomicU64,
}

impl Budget {
    fn spend(&self, side: Side, bytes: u64, limits: &Limits) -> Result<(), CompareError> {
        let total = self.unpacked.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let limit = limits.image_bytes_max;
        if total <= limit {
            return Ok(());
        }
        Err(CompareError::Limit { side, what: "bytes in all layers, uncompressed,", limit })
    }
}

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

impl Tap<'_> {
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
}

enum Stream {
    Plain,
    Gzip(Box<GzipStream>),
    Zstd(Box<ZstdStream>),
}

/// The uncompressed bytes of one layer.
pub(super) struct LayerStream<'a> {
    tap: Tap<'a>,
    stream: Stream,
    compression: Compression,
    unclean: Vec<Unclean>,
    hash: Sha256,
    unpacked: u64,
    budget: &'a Budget,
    limits: &'a Limits,
    ended: bool,
}

/// What is known of a layer once it was read to its end.
#[derive(Debug, Clone)]
pub(super) struct LayerFacts {
    /// Digest of the bytes as stored.
    pub blob: Digest,
    /// How many they are.
    pub blob_size: u64,
    /// By the first bytes.
    pub compression: Compression,
    /// The first member's header.
    pub gzip: Option<GzipHeader>,
    /// What is wrong with the compression; empty for a clean layer.
    pub unclean: Vec<Unclean>,
    /// Digest of the uncompressed bytes, as far as they could be unpacked.
    pub diff_id: Digest,
    /// How many they are.
    pub size: u64,
}

impl<'a> LayerStream<'a> {
    /// Starts on a layer.
    pub(super) fn open(
        name: &'a LayerName,
        source: Box<dyn Read + 'a>,
        form: LayerForm,
        budget: &'a Budget,
        limits: &'a Limits,
    ) -> Result<Self, CompareError> {
        let mut tap = Tap {
            inner: source,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            hash: Sha256::new(),
            taken: 0,
            name,
            limit: match form {
                LayerForm::Blob => limits.blob_bytes_max,
                LayerForm::Tar => limits.image_bytes_max,
            },
            zstd_window_bytes_max: limits.zstd_window_bytes_max,
        };
        let compression = match form {
            LayerForm::Blob => detect(tap.peek(4)?),
            LayerForm::Tar => Compression::None,
        };
        let stream = match compression {
            Compression::None => Stream::Plain,
            Compression::Gzip => Stream::Gzip(Box::default()),
            Compression::Zstd => Stream::Zstd(Box::default()),
        };
        let hash = Sha256::new();
        let (unclean, unpacked, ended) = (Vec::new(), 0, false);
        Ok(Self { tap, stream, compression, unclean, hash, unpacked, budget, limits, ended })
    }

    /// Reads what is left and says what the layer was.
    pub(super) fn finish(mut self) -> Result<LayerFacts, CompareError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.pull(&mut buffer)? > 0 {}
        self.tap.drain()?;
        let gzip = self.header();
        Ok(LayerFacts {
            blob: Digest::from_raw(self.tap.hash.finalize().into()),
            blob_size: self.tap.taken,
            compression: self.compression,
            gzip,
            unclean: self.unclean,
            diff_id: Digest::from_raw(self.hash.finalize().into()),
            size: self.unpacked,
        })
    }

    /// The first gzip member's header, once something was pulled.
    pub(super) fn header(&self) -> Option<GzipHeader> {
        match &self.stream {
            Stream::Gzip(stream) => stream.header(),
            _ => None,
        }
    }

    fn check_ratio(&self) -> Result<(), CompareError> {
        let allowed = self.tap.taken.saturating_mul(self.limits.ratio_max);
        if self.unpacked <= self.limits.ratio_from_bytes || self.unpacked <= allowed {
            return Ok(());
        }
        let limit = self.limits.ratio_max;
        let what = "uncompressed bytes for each byte of a blob";
        Err(CompareError::Limit { side: self.tap.side(), what, limit })
    }
}

impl Pull for LayerStream<'_> {
    fn pull(&mut self, out: &mut [u8]) -> Result<usize, CompareError> {
        if self.ended || out.is_empty() {
            return Ok(0);
        }
        let count = match &mut self.stream {
            Stream::Plain => {
                let available = self.tap.peek(1)?;
                let count = available.len().min(out.len());
                out[..count].copy_from_slice(&available[..count]);
                self.tap.consume(count);
                count
            }
            Stream::Gzip(stream) => stream.pull(&mut self.tap, out, &mut self.unclean)?,
            Stream::Zstd(stream) => stream.pull(&mut self.tap, out, &mut self.unclean)?,
        };
        let produced = out.get(..count).unwrap_or_default();
        self.ended = produced.is_empty();
        self.hash.update(produced);
        self.unpacked += produced.len() as u64;
        self.budget.spend(self.tap.side(), produced.len() as u64, self.limits)?;
        self.check_ratio()?;
        Ok(produced.len())
    }
}

fn detect(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame before the data: still Zstandard to a decoder.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Notes a defect, up to a number that no honest layer comes near.
pub(super) fn note(unclean: &mut Vec<Unclean>, code: UncleanCode, detail: impl Into<String>) {
    const NOTES_MAX: usize = 16;
    if unclean.len() < NOTES_MAX {
        unclean.push(Unclean { code, detail: detail.into() });
    }
}
