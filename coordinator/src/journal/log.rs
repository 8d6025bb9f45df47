//! The writing end of the journal, without threads: open and recover, write groups, sync.
//!
//! Invariant: `durable` counts only records that a successful sync covered; a group is in one
//! segment and is kept whole or not at all; a segment is complete and synced before the next one
//! begins. After a failed sync nothing may be written any more: the pages may be gone.

use super::{
    disk::{Disk, DiskFile},
    error::JournalError,
    floor,
    frame::{self, BODY_BYTES_MAX, Place, SEGMENT_HEADER_BYTES, SegmentHeader},
    open::{self, Opened, Options, Recovery},
    read::{Active, Reader, Segment, Shared},
    record::{NewRecord, Stored},
    segment,
};
use attest::{Digest, id::JournalPosition, time::Timestamp};
use std::sync::{Arc, PoisonError, atomic::Ordering};

/// Longest group: 16 MiB, a few observations with everything that follows from them.
pub const GROUP_BYTES_MAX: usize = 16 << 20;

/// Records that are kept together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// At least one.
    pub records: Vec<NewRecord>,
    /// The wall clock.
    pub time: Timestamp,
}

impl Group {
    /// Bytes that it takes in the journal.
    pub fn bytes(&self) -> usize {
        self.records.iter().map(|record| frame::frame_bytes(record.body.len())).sum()
    }

    /// Within the limits of the format?
    pub fn check(&self) -> Result<(), JournalError> {
        let too_long = |limit, found| Err(JournalError::TooLong { limit, found });
        match self.records.iter().map(|record| record.body.len()).max() {
            Some(found) if found > BODY_BYTES_MAX => return too_long(BODY_BYTES_MAX, found),
            _ => {}
        }
        match self.bytes() {
            found if found > GROUP_BYTES_MAX => too_long(GROUP_BYTES_MAX, found),
            _ => Ok(()),
        }
    }
}

/// The groups that were written, and the error that stopped the rest.
pub struct Written {
    /// The records of each group that is in the file (not yet durable).
    pub groups: Vec<Vec<Stored>>,
    /// Why the others are not.
    pub failed: Option<JournalError>,
}

/// The one writer of a journal.
pub struct Log<D: Disk> {
    shared: Arc<Shared<D>>,
    options: Options,
    file: Arc<D::File>,
    /// The first position of the active segment.
    first: u64,
    /// Where the next frame goes.
    end: u64,
    /// The file's size: zeros are written up to here.
    allocated: u64,
    next: u64,
    chain: Digest,
    synced: bool,
    _lock: D::Lock,
}

/// Frames that go to the disk in one write.
#[derive(Default)]
struct Run {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
    groups: Vec<Vec<Stored>>,
    /// The position and the chain after the last record in it; none while there is no record.
    after: Option<(u64, Digest)>,
}

impl<D: Disk> Log<D> {
    /// Opens the journal in this directory, or creates it; recovers what a crash left.
    pub fn open(disk: D, options: Options) -> Result<(Self, Recovery), JournalError> {
        let Opened { shared, lock, file, first, end, allocated, next, chain, recovery } =
            open::open(disk, &options)?;
        let log = Self {
            shared,
            options,
            file,
            first,
            end,
            allocated,
            next,
            chain,
            synced: true,
            _lock: lock,
        };
        Ok((log, recovery))
    }

    /// A reader of the durable records.
    pub fn reader(&self) -> Reader<D> {
        Reader(self.shared.clone())
    }

    /// The position of the next record to be written.
    pub fn next(&self) -> JournalPosition {
        JournalPosition(self.next)
    }

    /// Writes groups. They are not durable before [`Log::sync`].
    ///
    /// A full disk refuses the rest and leaves the journal usable; any other error must end it.
    pub fn write(&mut self, groups: Vec<Group>) -> Written {
        let mut written = Written { groups: Vec::new(), failed: None };
        let mut run = Run::default();
        for group in groups {
            if let Err(error) = self.place(group, &mut run, &mut written) {
                // What was encoded before this group is still good.
                written.failed = Some(self.flush(&mut run, &mut written).err().unwrap_or(error));
                return written;
            }
        }
        written.failed = self.flush(&mut run, &mut written).err();
        written
    }

    fn place(
        &mut self,
        group: Group,
        run: &mut Run,
        written: &mut Written,
    ) -> Result<(), JournalError> {
        group.check()?;
        let empty = self.end == SEGMENT_HEADER_BYTES as u64 && run.bytes.is_empty();
        let after = self.end + (run.bytes.len() + group.bytes()) as u64;
        if after > self.options.segment_bytes && !empty {
            self.flush(run, written)?;
            self.rotate()?;
        }
        self.encode(group, run);
        Ok(())
    }

    fn encode(&mut self, group: Group, run: &mut Run) {
        let durable = self.shared.durable.load(Ordering::Acquire);
        let (time, last) = (group.time, group.records.len().saturating_sub(1));
        let mut stored = Vec::with_capacity(group.records.len());
        // The run's own position and chain: `self` moves on only when the bytes are in the file.
        let (mut next, mut previous) = run.after.unwrap_or((self.next, self.chain));
        for (i, record) in group.records.into_iter().enumerate() {
            let offset = self.end + run.bytes.len() as u64;
            let continued = i < last;
            let place = Place { position: next, durable, time, continued, previous };
            let chain = frame::encode(&record, &place, &mut run.bytes);
            run.offsets.push(u32::try_from(offset).unwrap_or(u32::MAX));
            let NewRecord { kind, public, about, body } = record;
            let position = JournalPosition(next);
            stored.push(Stored { position, time, kind, public, continued, about, body, chain });
            (next, previous) = (next + 1, chain);
            run.after = Some((next, previous));
        }
        run.groups.push(stored);
    }

    fn flush(&mut self, run: &mut Run, written: &mut Written) -> Result<(), JournalError> {
        let Run { bytes, offsets, groups, after } = std::mem::take(run);
        let Some((next, chain)) = after else {
            written.groups.extend(groups);
            return Ok(());
        };
        let end = self.end + bytes.len() as u64;
        self.allocate(end)?;
        if let Err(error) = self.file.write_at(&bytes, self.end) {
            return Err(self.undo(&error));
        }
        self.synced = false;
        (self.end, self.next, self.chain) = (end, next, chain);
        let mut segments = self.shared.segments.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(active) = segments.last_mut().and_then(|segment| segment.active.as_mut()) {
            active.offsets.extend(offsets);
        }
        drop(segments);
        written.groups.extend(groups);
        Ok(())
    }

    /// Writes zeros ahead, so that the disk is full here and not in the middle of a frame.
    fn allocate(&mut self, end: u64) -> Result<(), JournalError> {
        if end <= self.allocated {
            return Ok(());
        }
        let target = end + self.options.ahead_bytes;
        let zeros = vec![0; (target - self.allocated) as usize];
        match self.file.write_at(&zeros, self.allocated) {
            Ok(()) => {
                self.allocated = target;
                Ok(())
            }
            Err(error) => Err(self.undo(&error)),
        }
    }

    /// Takes back a write that failed in part. If that fails too, the error is final.
    fn undo(&mut self, error: &std::io::Error) -> JournalError {
        let name = segment::name(self.first);
        match self.file.set_size(self.end) {
            Ok(()) => {
                self.allocated = self.end;
                JournalError::io("write", &name, error)
            }
            Err(second) => JournalError::Io {
                action: "take back a failed write to",
                name,
                why: format!("{second} (the write: {error})"),
            },
        }
    }

    /// Makes everything written durable; gives the position after the last durable record.
    ///
    /// An error is final: the caller must end the process, and must not call this again.
    pub fn sync(&mut self) -> Result<JournalPosition, JournalError> {
        if !self.synced {
            self.file.sync().map_err(|error| JournalError::Io {
                action: "sync",
                name: segment::name(self.first),
                why: error.to_string(),
            })?;
            self.synced = true;
            self.shared.durable.store(self.next, Ordering::Release);
        }
        Ok(JournalPosition(self.next))
    }

    fn rotate(&mut self) -> Result<(), JournalError> {
        self.sync()?;
        let header =
            SegmentHeader { journal: self.shared.journal, first: self.next, chain: self.chain };
        let disk = &*self.shared.disk;
        let file = Arc::new(segment::create(disk, &header, self.options.ahead_bytes as usize)?);
        // The zeros ahead are of no use any more. Not synced: with or without them it is whole, and
        // once the next segment has its name nothing may fail: records go there from now on.
        let _ = self.file.set_size(self.end);
        let active = Some(Active { file: file.clone(), offsets: Vec::new() });
        let next = Segment { first: self.next, active };
        let mut segments = self.shared.segments.write().unwrap_or_else(PoisonError::into_inner);
        let before = segments.last_mut().and_then(|segment| segment.active.take());
        segments.push(next);
        drop(segments);
        if let Some(active) = before {
            // Only a hint, see `segment`.
            let _ = segment::write_offsets(disk, self.first, &active.offsets);
        }
        (self.file, self.first) = (file, self.next);
        self.end = SEGMENT_HEADER_BYTES as u64;
        self.allocated = self.end + self.options.ahead_bytes;
        Ok(())
    }

    /// Records that others were promised everything durable up to here.
    pub fn raise_floor(&mut self) -> Result<(), JournalError> {
        let end = self.sync()?;
        floor::write(&*self.shared.disk, end, &self.chain)
    }
}
