//! The data of an unpacked package, read chunk by chunk and checked as it is read.
//!
//! Invariant: no byte leaves here that was not checked under its chunk's tag in the very read that
//! fetched it. A chunk that is wrong removes the entry, so that the next run unpacks again.

use super::seal::{CHUNK_BYTES, EntrySeal, TAG_BYTES};
use rebuild::source::RandomAccess;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// The data of one entry.
pub(super) struct VerifiedFile {
    file: Arc<File>,
    len: u64,
    tags: Vec<u8>,
    seal: EntrySeal,
    path: PathBuf,
    /// The chunk that was read last: files smaller than a chunk lie side by side in it.
    last: Mutex<Chunk>,
}

#[derive(Default)]
struct Chunk {
    /// Its number plus one; 0 when there is none.
    number: u64,
    bytes: Vec<u8>,
}

impl VerifiedFile {
    pub(super) fn new(
        file: Arc<File>,
        len: u64,
        tags: Vec<u8>,
        seal: EntrySeal,
        path: PathBuf,
    ) -> Self {
        Self { file, len, tags, seal, path, last: Mutex::default() }
    }

    /// Reads and checks a whole chunk.
    fn chunk(&self, number: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, number * CHUNK_BYTES as u64)?;
        let at = usize::try_from(number).unwrap_or(usize::MAX).saturating_mul(TAG_BYTES);
        let tag = self.tags.get(at..at.saturating_add(TAG_BYTES)).unwrap_or_default();
        if self.seal.fits_chunk(number, into, tag) {
            return Ok(());
        }
        let _ = fs::remove_file(&self.path);
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "expected the unpacked package {} as it was written, found chunk {number} altered; \
                 it was removed and will be unpacked again",
                self.path.display()
            ),
        ))
    }

    fn chunk_len(&self, number: u64) -> usize {
        let left = self.len - number * CHUNK_BYTES as u64;
        usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES))
    }
}

impl RandomAccess for VerifiedFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut offset, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let number = offset / CHUNK_BYTES as u64;
            let inside = usize::try_from(offset % CHUNK_BYTES as u64).unwrap_or_default();
            let there = self.chunk_len(number);
            let count = (there - inside).min(rest.len());
            let (part, behind) = rest.split_at_mut(count);
            if count == there {
                self.chunk(number, part)?;
            } else {
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.number != number + 1 {
                    last.number = 0;
                    last.bytes.resize(there, 0);
                    self.chunk(number, &mut last.bytes)?;
                    last.number = number + 1;
                }
                part.copy_from_slice(&last.bytes[inside..inside + count]);
            }
            offset += count as u64;
            rest = behind;
        }
        Ok(())
    }
}
