//! A tar reader for examining images: it takes what container runtimes take and notes whatever
//! two readers could see differently (POSIX.1-1988 ustar, POSIX.1-2001 pax, GNU tar, V7).
//!
//! Package archives are read by `apk::tar`, which refuses the unusual. Here the unusual is the
//! finding: a tampered layer may hide in it. So ambiguity is an [`Oddity`] with its place, and only
//! a header that cannot be read at all ends the reading.
//!
//! Where readers differ this one follows Go's `archive/tar`, which containerd, Docker and Podman
//! use. Invariant: every byte of the stream is in an entry's frame digest, in its content or in the
//! tail digest, so two streams that differ always differ in what this reader reports. Sparse files
//! are not expanded: they are an oddity, and no level rests on them.

mod extension;
mod field;
mod header;
mod oddities;

use super::{
    error::{CompareError, Side},
    image::{BUFFER_BYTES, Limits},
    layer::Pull,
};
use extension::Extensions;
use header::BLOCK;
pub(super) use header::{EntryKind, TarEntry, clean};
pub(super) use oddities::{Oddities, Oddity, OddityKind};
use sha2::{Digest as _, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};

/// What follows the last entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tail {
    /// Bytes from the first zero block on.
    pub size: u64,
    /// Their digest.
    pub digest: [u8; 32],
}

/// What is kept in memory for all layers of one image.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Memory {
    fn entry(&self, side: Side, limits: &Limits) -> Result<(), CompareError> {
        let (what, limit) = ("tar entries", limits.entries_max);
        spend(&self.entries, 1, limit).map_err(|()| CompareError::Limit { side, what, limit })
    }

    fn keep(&self, side: Side, bytes: usize, limits: &Limits) -> Result<(), CompareError> {
        let (what, limit) = ("bytes of names and attributes", limits.metadata_bytes_max);
        spend(&self.bytes, bytes as u64, limit).map_err(|()| CompareError::Limit {
            side,
            what,
            limit,
        })
    }
}

fn spend(counter: &AtomicU64, by: u64, limit: u64) -> Result<(), ()> {
    let total = counter.fetch_add(by, Ordering::Relaxed).saturating_add(by);
    if total <= limit { Ok(()) } else { Err(()) }
}

/// Who is told what the reader finds.
pub(super) trait Visit {
    /// A new entry; its content follows in pieces.
    fn entry(&mut self, entry: TarEntry);
    /// A piece of the present entry's content.
    fn data(&mut self, bytes: &[u8]);
    /// The present entry ends. `frame` is the digest of its bytes but for the content.
    fn end(&mut self, frame: [u8; 32]);
}

/// Reads a whole stream.
pub(super) fn read(
    stream: &mut dyn Pull,
    side: Side,
    memory: &Memory,
    limits: &Limits,
    oddities: &mut Oddities,
    visitor: &mut dyn Visit,
) -> Result<Tail, CompareError> {
    let blocks = Blocks::new(stream);
    Reader { blocks, side, memory, limits, oddities, frame: Sha256::new() }.run(visitor)
}

/// Why reading entries stopped.
enum Stop {
    /// A zero block, already taken.
    Zero,
    /// The stream's end between two entries.
    End,
    /// What comes is no tar.
    Broken(String),
}

struct Reader<'a> {
    blocks: Blocks<'a>,
    side: Side,
    memory: &'a Memory,
    limits: &'a Limits,
    oddities: &'a mut Oddities,
    frame: Sha256,
}

impl Reader<'_> {
    fn run(mut self, visitor: &mut dyn Visit) -> Result<Tail, CompareError> {
        let stop = loop {
            match self.entry(visitor)? {
                None => {}
                Some(stop) => break stop,
            }
        };
        let offset = self.blocks.offset;
        let mut tail = Sha256::new();
        let mut size = 0;
        match stop {
            Stop::Broken(why) => {
                self.oddities.add(OddityKind::Broken, b"", format!("before byte {offset}: {why}"));
                // What was read of the broken header must count, too.
                tail.update(std::mem::take(&mut self.frame).finalize());
                size += self.blocks.hash_rest(&mut tail)?.0;
            }
            Stop::End => self.oddities.add(OddityKind::NoEndMarker, b"", format!("byte {offset}")),
            Stop::Zero => {
                tail.update([0; BLOCK]);
                size += BLOCK as u64;
                let mut second = [0; BLOCK];
                let read = self.blocks.fill(&mut second)?;
                tail.update(&second[..read]);
                size += read as u64;
                let zero = second.iter().all(|b| *b == 0);
                if read < BLOCK {
                    let detail = format!("one zero block at byte {offset}");
                    self.oddities.add(OddityKind::NoEndMarker, b"", detail);
                } else if !zero {
                    let detail = format!("before byte {}", self.blocks.offset);
                    self.oddities.add(OddityKind::LoneZeroBlock, b"", detail);
                }
                let (rest, rest_zero) = self.blocks.hash_rest(&mut tail)?;
                size += rest;
                if !rest_zero || (!zero && read < BLOCK) {
                    let detail = format!("{rest} bytes after byte {offset}, not all zero");
                    self.oddities.add(OddityKind::BytesAfterEnd, b"", detail);
                }
            }
        }
        Ok(Tail { size, digest: tail.finalize().into() })
    }

    /// Reads one entry with its extension headers and content. `Some` at the end.
    fn entry(&mut self, visitor: &mut dyn Visit) -> Result<Option<Stop>, CompareError> {
        self.frame = Sha256::new();
        let start = self.blocks.offset;
        let mut extensions = Extensions::default();
        loop {
            let mut block = [0; BLOCK];
            let read = self.blocks.fill(&mut block)?;
            if read == 0 && !extensions.any() {
                return Ok(Some(Stop::End));
            }
            if read == BLOCK && block == [0; BLOCK] && !extensions.any() {
                return Ok(Some(Stop::Zero));
            }
            self.frame.update(&block[..read]);
            if read < BLOCK {
                return Ok(Some(Stop::Broken("the stream ends inside a header".into())));
            }
            let raw = match header::parse(&block, self.oddities) {
                Ok(raw) => raw,
                Err(why) => return Ok(Some(Stop::Broken(why))),
            };
            if let Some(kind) = extension::Kind::of(raw.typeflag) {
                let Some(data) = self.extension_data(raw.size)? else {
                    return Ok(Some(Stop::Broken("the stream ends inside an extension".into())));
                };
                match extensions.add(kind, &data, self.oddities) {
                    Ok(()) => continue,
                    Err(why) => return Ok(Some(Stop::Broken(why))),
                }
            }
            return self.main_entry(start, raw, extensions, visitor);
        }
    }

    fn main_entry(
        &mut self,
        start: u64,
        raw: header::Raw,
        extensions: Extensions,
        visitor: &mut dyn Visit,
    ) -> Result<Option<Stop>, CompareError> {
        let entry = match raw.with(extensions, start, self.oddities) {
            Ok(entry) => entry,
            Err(why) => return Ok(Some(Stop::Broken(why))),
        };
        self.memory.entry(self.side, self.limits)?;
        self.memory.keep(self.side, entry.kept_bytes(), self.limits)?;
        let (path, size) = (entry.path.clone(), entry.stored_size);
        visitor.entry(entry);
        let mut left = size;
        while left > 0 {
            let piece = self.blocks.some(left)?;
            if piece.is_empty() {
                visitor.end(std::mem::take(&mut self.frame).finalize().into());
                return Ok(Some(Stop::Broken("the stream ends inside a file".into())));
            }
            left -= piece.len() as u64;
            visitor.data(piece);
        }
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        let (read, zero) = self.padding(padding)?;
        if !zero {
            self.oddities.add(OddityKind::HiddenBytes, &path, "padding after the content");
        }
        visitor.end(std::mem::take(&mut self.frame).finalize().into());
        if read < padding {
            return Ok(Some(Stop::Broken("the stream ends inside padding".into())));
        }
        Ok(None)
    }

    fn padding(&mut self, size: u64) -> Result<(u64, bool), CompareError> {
        let mut left = size;
        let mut zero = true;
        while left > 0 {
            let piece = self.blocks.some(left)?;
            if piece.is_empty() {
                break;
            }
            left -= piece.len() as u64;
            zero &= piece.iter().all(|b| *b == 0);
            self.frame.update(piece);
        }
        Ok((size - left, zero))
    }

    /// The data of an extension header; none where the stream ends before it does.
    fn extension_data(&mut self, size: u64) -> Result<Option<Vec<u8>>, CompareError> {
        let limit = self.limits.extension_bytes_max;
        if size > limit {
            let what = "bytes in a tar extension header";
            return Err(CompareError::Limit { side: self.side, what, limit });
        }
        let mut data = Vec::with_capacity(size as usize);
        while (data.len() as u64) < size {
            let piece = self.blocks.some(size - data.len() as u64)?;
            if piece.is_empty() {
                self.frame.update(&data);
                return Ok(None);
            }
            data.extend_from_slice(piece);
        }
        self.frame.update(&data);
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        let (read, zero) = self.padding(padding)?;
        if !zero {
            self.oddities.add(OddityKind::HiddenBytes, b"", "padding of an extension header");
        }
        Ok((read == padding).then_some(data))
    }
}

/// The stream in a buffer.
struct Blocks<'a> {
    stream: &'a mut dyn Pull,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
}

impl<'a> Blocks<'a> {
    fn new(stream: &'a mut dyn Pull) -> Self {
        Self { stream, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, offset: 0 }
    }

    /// The next bytes, at most `wanted`; empty at the end.
    fn some(&mut self, wanted: u64) -> Result<&[u8], CompareError> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.end = self.stream.pull(&mut self.buffer)?;
        }
        let count = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.end - self.start);
        let from = self.start;
        self.start += count;
        self.offset += count as u64;
        Ok(self.buffer.get(from..from + count).unwrap_or_default())
    }

    /// Fills `out` as far as the stream goes.
    fn fill(&mut self, out: &mut [u8]) -> Result<usize, CompareError> {
        let mut filled = 0;
        while filled < out.len() {
            let piece = self.some((out.len() - filled) as u64)?;
            if piece.is_empty() {
                break;
            }
            let next = filled + piece.len();
            out[filled..next].copy_from_slice(piece);
            filled = next;
        }
        Ok(filled)
    }

    /// Hashes everything that is left: how much it was, and whether it was all zero.
    fn hash_rest(&mut self, hash: &mut Sha256) -> Result<(u64, bool), CompareError> {
        let (mut size, mut zero) = (0, true);
        loop {
            let piece = self.some(u64::MAX)?;
            if piece.is_empty() {
                return Ok((size, zero));
            }
            size += piece.len() as u64;
            zero &= piece.iter().all(|b| *b == 0);
            hash.update(piece);
        }
    }
}
