//! Copies the durable part of a journal, also while another process writes it.
//!
//! Invariant: what is handed out was durable in the journal before: each segment is synced after it
//! was read and before it is shown, so a copy is never ahead of a journal that loses power. Whole
//! groups only, checked frame by frame. It takes no lock and changes nothing.

use super::{
    disk::{Disk, DiskFile},
    error::JournalError,
    floor,
    frame::SegmentHeader,
    recover::{self, Scan, Tail},
    segment::{self, load},
};
use attest::{Digest, id::JournalPosition};
use std::time::Duration;

/// A frame that is being written while it is read looks like damage: it is read again this often,
const READS_MAX: usize = 20;
/// and this long after. One write of a batch takes a few milliseconds.
const READ_AGAIN: Duration = Duration::from_millis(25);

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The journal's identity.
    pub journal: [u8; 16],
    /// The position after the last record.
    pub end: JournalPosition,
    /// The chain's value there.
    pub chain: Digest,
}

/// Shows the good bytes of each segment, in order: its file's name and what belongs into it.
pub fn snapshot<D: Disk, E: From<JournalError>>(
    disk: &D,
    mut each: impl FnMut(&str, &[u8]) -> Result<(), E>,
) -> Result<Snapshot, E> {
    let promised = floor::read(disk)?;
    let names = disk.names().map_err(|error| JournalError::io("list", &disk.describe(), &error))?;
    let firsts = segment::firsts(&names);
    if firsts.first() != Some(&0) {
        let found = firsts.first().map_or("none".into(), |first| segment::name(*first));
        return Err(JournalError::Files { expected: segment::name(0), found }.into());
    }
    let mut before: Option<(SegmentHeader, Scan)> = None;
    for (i, first) in firsts.iter().enumerate() {
        let (bytes, header, scan) = one(disk, *first, i + 1 == firsts.len())?;
        if let Some((previous, end)) = &before
            && (end.next, end.chain, previous.journal)
                != (header.first, header.chain, header.journal)
        {
            let why = format!("expected the continuation of record {}, found another", end.next);
            let (position, segment) = (end.next, segment::name(*first));
            return Err(JournalError::Damaged { position, segment, offset: 0, why }.into());
        }
        each(&segment::name(*first), bytes.get(..scan.end).unwrap_or_default())?;
        before = Some((header, scan));
    }
    let (header, scan) = before.ok_or(JournalError::Closed)?;
    if let Some(floor) = promised.filter(|floor| floor.position.0 > scan.next) {
        let (end, promise) = (scan.next, floor.promise);
        return Err(JournalError::BelowFloor { end, floor: floor.position.0, promise }.into());
    }
    let end = JournalPosition(scan.next);
    Ok(Snapshot { journal: header.journal, end, chain: scan.chain })
}

/// One segment: read, checked, and then synced.
fn one<D: Disk>(
    disk: &D,
    first: u64,
    last: bool,
) -> Result<(Vec<u8>, SegmentHeader, Scan), JournalError> {
    let name = segment::name(first);
    let mut reads = 0;
    loop {
        let (file, bytes, header) = load(disk, first)?;
        let scan = recover::scan(&bytes, &header, last, |_| {});
        reads += 1;
        match &scan.tail {
            Tail::Damaged { .. } if last && reads < READS_MAX => std::thread::sleep(READ_AGAIN),
            Tail::Damaged { position, offset, why } => {
                return Err(JournalError::Damaged {
                    position: *position,
                    segment: name,
                    offset: *offset as u64,
                    why: why.clone(),
                });
            }
            _ => {
                file.sync().map_err(|error| JournalError::io("sync", &name, &error))?;
                return Ok((bytes, header, scan));
            }
        }
    }
}
