//! Reading the journal while it is written: one record by its position, or all from a position.
//!
//! Invariant: a reader sees durable records only, and checks checksum, position and chain of each
//! before it hands it out. It must never show a record that a power cut could still take back.

use super::{
    disk::{Disk, read_full},
    error::JournalError,
    frame::{self, FRAME_HEADER_BYTES, Frame, SEGMENT_HEADER_BYTES, SegmentHeader},
    kept::{Files, Kept},
    record::Stored,
    recover, segment,
};
use attest::{Digest, id::JournalPosition};
use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

/// Read ahead when records are read in order: twice as much each time, from 16 KiB (who wants eight
/// records should not pay for hundreds) to 256 KiB, a few hundred transitions.
const READ_AHEAD_FIRST_BYTES: usize = 16 << 10;
const READ_AHEAD_BYTES_MAX: usize = 256 << 10;

/// What the writer and the readers share.
pub(super) struct Shared<D: Disk> {
    pub(super) disk: Arc<D>,
    pub(super) journal: [u8; 16],
    pub(super) segments: RwLock<Vec<Segment<D>>>,
    pub(super) durable: AtomicU64,
    /// Closed segments that were read last.
    pub(super) kept: Kept<D>,
}

/// One segment, as readers know it.
pub(super) struct Segment<D: Disk> {
    pub(super) first: u64,
    /// Only the last segment has its offsets in memory; files of others: [`Shared::kept`].
    pub(super) active: Option<Active<D>>,
}

pub(super) struct Active<D: Disk> {
    pub(super) file: Arc<D::File>,
    pub(super) offsets: Vec<u32>,
}

/// Reads durable records; clones are cheap, and may be used from any thread.
pub struct Reader<D: Disk>(pub(super) Arc<Shared<D>>);

impl<D: Disk> Clone for Reader<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Where a record lies.
struct Found<D: Disk> {
    first: u64,
    name: String,
    file: Arc<D::File>,
    offset: u64,
    /// Only a hint says so.
    hinted: bool,
}

impl<D: Disk> Reader<D> {
    /// The position after the last durable record.
    pub fn end(&self) -> JournalPosition {
        JournalPosition(self.0.durable.load(Ordering::Acquire))
    }

    /// The journal's random identity.
    pub fn journal(&self) -> [u8; 16] {
        self.0.journal
    }

    /// The record at this position; none at or after the end.
    pub fn read(&self, position: JournalPosition) -> Result<Option<Stored>, JournalError> {
        if position >= self.end() {
            return Ok(None);
        }
        Ok(Some(self.locate(position.0)?.1.stored))
    }

    /// The record at this position and where it lies. A hint that leads to anything but the record
    /// was wrong, whatever stands there: then the segment itself says where the record is.
    fn locate(&self, position: u64) -> Result<(Found<D>, Frame), JournalError> {
        let found = self.find(position, true)?;
        match Self::frame(&found, position) {
            Err(_) if found.hinted => {
                // Through files that are opened anew: others may be in their place.
                self.0.kept.forget(found.first);
                let found = self.find(position, false)?;
                let frame = Self::frame(&found, position)?;
                Ok((found, frame))
            }
            frame => Ok((found, frame?)),
        }
    }

    /// Reads and checks the record at a place.
    fn frame(found: &Found<D>, position: u64) -> Result<Frame, JournalError> {
        let io = |error| JournalError::io("read", &found.name, &error);
        let mut head = [0; FRAME_HEADER_BYTES];
        read_full(&*found.file, &mut head, found.offset).map_err(io)?;
        let damaged = |why: String| damaged(position, &found.name, found.offset, why);
        let length = frame::body_length(&head).map_err(|error| damaged(error.to_string()))?;
        let mut bytes = vec![0; frame::frame_bytes(length)];
        bytes[..FRAME_HEADER_BYTES].copy_from_slice(&head);
        let at = found.offset + FRAME_HEADER_BYTES as u64;
        read_full(&*found.file, &mut bytes[FRAME_HEADER_BYTES..], at).map_err(io)?;
        let frame = frame::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
        if frame.stored.position.0 != position {
            let other = frame.stored.position;
            return Err(damaged(format!("expected record {position}, found {other}")));
        }
        Ok(frame)
    }

    /// The chain's value before this position: it fixes every record below it.
    pub fn chain_at(&self, position: JournalPosition) -> Result<Option<Digest>, JournalError> {
        if position > self.end() {
            return Ok(None);
        }
        match position.0.checked_sub(1) {
            None => Ok(Some(frame::chain_start(&self.0.journal))),
            Some(before) => Ok(self.read(JournalPosition(before))?.map(|stored| stored.chain)),
        }
    }

    /// All durable records from a position on, in order, up to the end at the time of the call.
    pub fn from(&self, position: JournalPosition) -> Records<D> {
        Records {
            reader: self.clone(),
            next: position.0,
            end: self.end().0,
            file: None,
            buffer: Vec::new(),
            ahead: READ_AHEAD_FIRST_BYTES,
            at: 0,
            chain: None,
        }
    }

    /// The file and the offset of a record below the end.
    fn find(&self, position: u64, hints: bool) -> Result<Found<D>, JournalError> {
        let (first, count) = {
            let segments = self.0.segments.read().unwrap_or_else(PoisonError::into_inner);
            let i = segments.partition_point(|segment| segment.first <= position).wrapping_sub(1);
            let Some(segment) = segments.get(i) else {
                return Err(JournalError::Files {
                    expected: format!("a segment with record {position}"),
                    found: "none".into(),
                });
            };
            let name = segment::name(segment.first);
            if let Some(active) = &segment.active {
                let offset = active.offsets.get((position - segment.first) as usize);
                let offset = *offset.ok_or_else(|| {
                    damaged(position, &name, 0, "expected the record's offset, found none".into())
                })?;
                let (file, offset) = (active.file.clone(), u64::from(offset));
                let first = segment.first;
                return Ok(Found { first, name, file, offset, hinted: false });
            }
            (segment.first, segments.get(i + 1).map_or(0, |next| next.first - segment.first))
        };
        let name = segment::name(first);
        let files = self.0.kept.files(&*self.0.disk, first);
        let files = files.map_err(|error| JournalError::io("open", &name, &error))?;
        let hint = hints.then(|| Self::hinted_offset(&files, first, position - first)).flatten();
        if let Some(offset) = hint {
            let file = files.segment.clone();
            return Ok(Found { first, name, file, offset, hinted: true });
        }
        // Its hints are wrong or missing, or it is damaged: nothing of it is kept open, and what is
        // there now is looked at, not what was there when it was opened.
        self.0.kept.forget(first);
        let file = self.0.disk.open(&name).map_err(|e| JournalError::io("open", &name, &e))?;
        let offset = self.closed_offset(first, count, position - first, &file)?;
        Ok(Found { first, name, file: Arc::new(file), offset, hinted: false })
    }

    /// Offsets of a closed segment lie beside it, as a hint: where a header of the record seems to
    /// be. Few bytes are looked at: eight zeros are a position, too.
    fn hinted_offset(files: &Files<D>, first: u64, index: u64) -> Option<u64> {
        let offset = segment::hinted_offset(files.offsets.as_ref()?, index)?;
        let mut head = [0; FRAME_HEADER_BYTES];
        let read = read_full(&*files.segment, &mut head, offset).unwrap_or(0);
        let seems = read == FRAME_HEADER_BYTES && frame::claims(&head).0 == first + index;
        (seems && offset >= SEGMENT_HEADER_BYTES as u64).then_some(offset)
    }

    /// Where the segment itself has the record; the hints are made again.
    fn closed_offset(
        &self,
        first: u64,
        count: u64,
        index: u64,
        file: &D::File,
    ) -> Result<u64, JournalError> {
        let name = segment::name(first);
        let bytes = segment::read_all::<D>(file, &name)?;
        let header = SegmentHeader::decode(&bytes)
            .map_err(|error| damaged(first, &name, 0, error.to_string()))?;
        let scan = recover::scan(&bytes, &header, false, |_| {});
        if scan.offsets.len() as u64 == count {
            // Only a hint: if it can't be written, the next reader scans again.
            let _ = segment::write_offsets(&*self.0.disk, first, &scan.offsets);
        }
        match (scan.offsets.get(index as usize), scan.tail) {
            (Some(offset), _) => Ok(u64::from(*offset)),
            (None, recover::Tail::Damaged { position, offset, why }) => {
                Err(damaged(position, &name, offset as u64, why))
            }
            (None, _) => {
                let why = "expected the record, found the segment's end".into();
                Err(damaged(first + index, &name, scan.end as u64, why))
            }
        }
    }
}

fn damaged(position: u64, name: &str, offset: u64, why: String) -> JournalError {
    JournalError::Damaged { position, segment: name.to_owned(), offset, why }
}

/// Records in order, see [`Reader::from`]. Ends after the first error.
pub struct Records<D: Disk> {
    reader: Reader<D>,
    next: u64,
    end: u64,
    file: Option<Found<D>>,
    buffer: Vec<u8>,
    /// Bytes that are read at least, the next time.
    ahead: usize,
    at: usize,
    chain: Option<Digest>,
}

impl<D: Disk> Records<D> {
    /// The position of the next record that it would give.
    pub fn position(&self) -> JournalPosition {
        JournalPosition(self.next)
    }

    /// Makes sure that `bytes` from the current place are in the buffer, if the file has them.
    fn fill(&mut self, bytes: usize) -> Result<(), JournalError> {
        if self.buffer.len() - self.at >= bytes {
            return Ok(());
        }
        let Some(found) = &mut self.file else { return Ok(()) };
        found.offset += self.at as u64;
        self.at = 0;
        self.buffer.resize(bytes.max(self.ahead), 0);
        self.ahead = (2 * self.ahead).min(READ_AHEAD_BYTES_MAX);
        let read = read_full(&*found.file, &mut self.buffer, found.offset)
            .map_err(|error| JournalError::io("read", &found.name, &error))?;
        self.buffer.truncate(read);
        Ok(())
    }

    fn advance(&mut self) -> Result<Stored, JournalError> {
        let boundary = {
            let segments = self.reader.0.segments.read().unwrap_or_else(PoisonError::into_inner);
            segments.binary_search_by_key(&self.next, |segment| segment.first).is_ok()
        };
        if self.file.is_none() || boundary {
            self.file = Some(self.reader.locate(self.next)?.0);
            self.buffer.clear();
            self.at = 0;
        }
        self.fill(FRAME_HEADER_BYTES)?;
        let wrong = |this: &Self, why: String| {
            let (name, offset) =
                this.file.as_ref().map_or(("", 0), |found| (found.name.as_str(), found.offset));
            damaged(this.next, name, offset + this.at as u64, why)
        };
        let head = self.buffer.get(self.at..).and_then(|rest| rest.first_chunk());
        let Some(head) = head else {
            return Err(wrong(self, "expected a record, found the end of the file".into()));
        };
        let length = frame::body_length(head).map_err(|e| wrong(self, e.to_string()))?;
        self.fill(frame::frame_bytes(length))?;
        let frame = match &self.chain {
            Some(chain) => recover::frame_at(&self.buffer, self.at, self.next, chain),
            None => frame::decode(&self.buffer[self.at..]).map_err(|error| error.to_string()),
        }
        .map_err(|why| wrong(self, why))?;
        if frame.stored.position.0 != self.next {
            let found = frame.stored.position;
            return Err(wrong(self, format!("expected record {}, found {found}", self.next)));
        }
        self.at += frame.bytes;
        self.next += 1;
        self.chain = Some(frame.stored.chain);
        Ok(frame.stored)
    }
}

impl<D: Disk> Iterator for Records<D> {
    type Item = Result<Stored, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let result = self.advance();
        if result.is_err() {
            self.end = self.next;
            if let Some(found) = &self.file {
                self.reader.0.kept.forget(found.first);
            }
        }
        Some(result)
    }
}
