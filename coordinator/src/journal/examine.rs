//! Reads a whole journal and changes nothing: every frame, every link, the floor.
//!
//! Invariant: nothing is written, cut or repaired. The good part is what can be read from record 0
//! without a fault, whole groups only; the first fault is named exactly as a start would name it.
//! What lies behind a fault is counted and never called good.

use super::{
    disk::Disk,
    error::{Floor, JournalError},
    floor,
    frame::chain_start,
    record::Stored,
    recover::{self, Cut, Tail, unreadable_tail},
    segment::{self, load},
};
use attest::{Digest, id::JournalPosition};

/// What a journal holds.
#[derive(Debug, Clone)]
pub struct Examined {
    /// Its identity; none where no segment could be read.
    pub journal: Option<[u8; 16]>,
    /// The good segments, and the one in which the good part ends.
    pub segments: Vec<Examination>,
    /// Names of segment files behind the good part.
    pub behind: Vec<String>,
    /// The position after the last good record.
    pub end: JournalPosition,
    /// The chain's value there; none where not even a header could be read.
    pub chain: Option<Digest>,
    /// A torn tail: nothing in it was acknowledged, the next start cuts it.
    pub torn: Option<Cut>,
    /// The first fault: a start refuses it.
    pub fault: Option<JournalError>,
    /// Records behind the fault that can still be read by themselves.
    pub readable_behind: u64,
    /// What was promised to others.
    pub floor: Option<Floor>,
}

/// One segment's good part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// The file's name.
    pub name: String,
    /// The position of its first record.
    pub first: u64,
    /// How many good records it holds.
    pub records: u64,
    /// Its good part in bytes.
    pub bytes: u64,
    /// The file's size.
    pub file_bytes: u64,
}

/// Reads everything; `see` is shown each good record, in order.
///
/// An error is one of reading; a fault of the journal is part of the answer.
pub fn examine<D: Disk>(disk: &D, mut see: impl FnMut(&Stored)) -> Result<Examined, JournalError> {
    let names = disk.names().map_err(|error| JournalError::io("list", &disk.describe(), &error))?;
    let firsts = segment::firsts(&names);
    let mut found = Examined {
        journal: None,
        segments: Vec::new(),
        behind: Vec::new(),
        end: JournalPosition(0),
        chain: None,
        torn: None,
        fault: None,
        readable_behind: 0,
        floor: None,
    };
    match floor::read(disk) {
        Ok(floor) => found.floor = floor,
        Err(fault @ JournalError::Files { .. }) => found.fault = Some(fault),
        Err(error) => return Err(error),
    }
    let mut at_floor = None;
    for (i, first) in firsts.iter().enumerate() {
        let last = i + 1 == firsts.len();
        let promised = found.floor.as_ref().map(|floor| floor.position.0);
        let outcome = one(disk, *first, last, &mut found, |stored| {
            if Some(stored.position.0 + 1) == promised {
                at_floor = Some(stored.chain);
            }
            see(stored);
        });
        match outcome {
            Ok(()) => {}
            Err(error @ JournalError::Io { .. }) => return Err(error),
            Err(fault) => {
                found.fault.get_or_insert(fault);
                let rest = firsts.get(i + 1..).unwrap_or_default();
                let damaged_itself = found.segments.last().is_none_or(|s| s.first != *first);
                let from = if damaged_itself { &firsts[i..] } else { rest };
                found.behind = from.iter().map(|first| segment::name(*first)).collect();
                found.readable_behind +=
                    rest.iter().map(|first| readable(disk, *first)).sum::<u64>();
                break;
            }
        }
    }
    if found.fault.is_none() {
        found.fault = below_floor(&found, at_floor);
    }
    Ok(found)
}

/// One segment, which must go on where the good part ends.
fn one<D: Disk>(
    disk: &D,
    first: u64,
    last: bool,
    found: &mut Examined,
    see: impl FnMut(&Stored),
) -> Result<(), JournalError> {
    if first != found.end.0 && found.segments.is_empty() {
        let (expected, found) = (segment::name(found.end.0), segment::name(first));
        return Err(JournalError::Files { expected, found });
    }
    let (_, bytes, header) = load(disk, first)?;
    let name = segment::name(first);
    let damaged = |position: u64, segment: &str, offset: u64, why: String| {
        Err(JournalError::Damaged { position, segment: segment.to_owned(), offset, why })
    };
    if let Some(before) = found.segments.last() {
        if first != found.end.0 {
            let why = format!("expected records up to {first}, found {}", found.end);
            return damaged(found.end.0, &before.name, before.bytes, why);
        }
        if found.chain != Some(header.chain) || found.journal != Some(header.journal) {
            let why = "expected the chain and the identity of the segment before, found others";
            return damaged(first, &name, 0, why.into());
        }
    } else if header.chain != chain_start(&header.journal) {
        let why = "expected the chain of a journal's beginning, found another one";
        return damaged(first, &name, 0, why.into());
    }
    let scan = recover::scan(&bytes, &header, last, see);
    found.journal = Some(header.journal);
    found.segments.push(Examination {
        name: name.clone(),
        first,
        records: scan.next - first,
        bytes: scan.end as u64,
        file_bytes: bytes.len() as u64,
    });
    (found.end, found.chain) = (JournalPosition(scan.next), Some(scan.chain));
    match &scan.tail {
        Tail::Clean => {}
        Tail::Torn { bytes, records } => {
            let (offset, bytes) = (scan.end as u64, *bytes as u64);
            found.torn = Some(Cut { segment: name, offset, bytes, records: *records });
        }
        Tail::Damaged { position, offset, why } => {
            found.readable_behind += recover::readable_behind(&bytes, *offset, *position);
            return damaged(*position, &name, *offset as u64, why.clone());
        }
    }
    if scan.durable > scan.next {
        return Err(unreadable_tail(&scan));
    }
    Ok(())
}

fn below_floor(found: &Examined, at_floor: Option<Digest>) -> Option<JournalError> {
    let floor = found.floor.as_ref()?;
    if floor.position > found.end {
        let (end, promise) = (found.end.0, floor.promise.clone());
        return Some(JournalError::BelowFloor { end, floor: floor.position.0, promise });
    }
    let expected = floor.chain?;
    let there = match floor.position.0 {
        0 => chain_start(&found.journal?),
        _ => at_floor?,
    };
    (there != expected).then_some(JournalError::OtherHistory {
        position: floor.position.0,
        expected,
        found: there,
    })
}

/// Records that a segment behind a fault holds, taken by itself: those of whole groups, and every
/// other one that can be read.
fn readable<D: Disk>(disk: &D, first: u64) -> u64 {
    let Ok((_, bytes, header)) = load(disk, first) else { return 0 };
    let scan = recover::scan(&bytes, &header, false, |_| {});
    let (end, next) = (scan.end.saturating_sub(1), scan.next.saturating_sub(1));
    scan.next - first + recover::readable_behind(&bytes, end, next)
}
