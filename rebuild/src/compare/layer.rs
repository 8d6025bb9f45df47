//! One layer as a stream: the blob is hashed while it is read, unpacked while it is pulled, and
//! what is unusual about its compression is noted on the way.
//!
//! Invariant: memory is bounded by two buffers and the decoder's window. A broken stream ends
//! early with a note in `unclean`; it is never an error, and it is never clean.

use super::{
    compression::{Compression, GzipHeader, detect},
    error::{CompareError, Side},
    gzip::GzipStream,
    image::{BUFFER_BYTES, LayerForm, Limits},
    tap::{LayerName, Tap},
    unclean::Unclean,
    zstandard::ZstdStream,
};
use attest::Digest;
use sha2::{Digest as _, Sha256};
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

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
        let bytes_max = match form {
            LayerForm::Blob => limits.blob_bytes_max,
            LayerForm::Tar => limits.image_bytes_max,
        };
        let mut tap = Tap::new(name, source, bytes_max, limits.zstd_window_bytes_max);
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
            blob_size: self.tap.taken(),
            blob: self.tap.digest(),
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
        let allowed = self.tap.taken().saturating_mul(self.limits.ratio_max);
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
