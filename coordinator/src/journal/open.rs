//! Opening a journal: the lock, the segments in order, recovery of the last one, the floors.
//!
//! Invariant: nothing is cut before every floor was checked, and nothing is durable before it was
//! synced here: after a kill the last records may lie in the page cache only. It must never start
//! on a journal that ends below what others were promised, or that has another history.

use super::{
    disk::{Disk, DiskFile},
    error::{Floor, JournalError},
    floor,
    frame::{SEGMENT_HEADER_BYTES, SegmentHeader, chain_start},
    kept::Kept,
    read::{Active, Segment, Shared},
    recover::{self, Cut, Scan, Tail, unreadable_tail},
    segment::{self, load},
};
use attest::{Digest, id::JournalPosition};
use std::{
    io,
    sync::{Arc, RwLock, atomic::AtomicU64},
};

/// A segment is closed when it would grow past this: 64 MiB, verified in about 100 ms.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Zeros written ahead, so that `fdatasync` has no size and no extent to write: 1 MiB.
pub const AHEAD_BYTES: u64 = 1 << 20;

/// How a journal is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment is closed when it would grow past this.
    pub segment_bytes: u64,
    /// Zeros written ahead of the records.
    pub ahead_bytes: u64,
    /// The identity of the journal, should it be created now: random.
    pub identity: [u8; 16],
    /// What others were promised, beside the journal's own floor file.
    pub floors: Vec<Floor>,
    /// Bytes of older segments, newest first, that are verified at the start (the last segment
    /// always is): 1 GiB, about a second. `fsck` verifies all.
    pub verify_bytes: u64,
}

impl Options {
    /// The defaults; `identity` are 16 random bytes.
    pub fn new(identity: [u8; 16]) -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            ahead_bytes: AHEAD_BYTES,
            identity,
            floors: Vec::new(),
            verify_bytes: 1 << 30,
        }
    }
}

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The journal was created now.
    pub created: bool,
    /// The position after the last record.
    pub end: JournalPosition,
    /// The chain's value there.
    pub chain: Digest,
    /// How many segments there are.
    pub segments: usize,
    /// Bytes that were verified.
    pub verified_bytes: u64,
    /// A tail that was cut: it had never been acknowledged.
    pub cut: Option<Cut>,
}

/// Everything that the writer starts from.
pub(super) struct Opened<D: Disk> {
    pub(super) shared: Arc<Shared<D>>,
    pub(super) lock: D::Lock,
    pub(super) file: Arc<D::File>,
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) allocated: u64,
    pub(super) next: u64,
    pub(super) chain: Digest,
    pub(super) recovery: Recovery,
}

/// Takes the directory for this process.
pub(crate) fn lock<D: Disk>(disk: &D) -> Result<D::Lock, JournalError> {
    disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => JournalError::Locked { place: disk.describe() },
        _ => JournalError::io("lock", &disk.describe(), &error),
    })
}

/// Opens or creates; see [`super::Log::open`].
pub(super) fn open<D: Disk>(disk: D, options: &Options) -> Result<Opened<D>, JournalError> {
    let lock = lock(&disk)?;
    let mut floors = options.floors.clone();
    floors.extend(floor::read(&disk)?);
    let names = disk.names().map_err(|error| JournalError::io("list", &disk.describe(), &error))?;
    let firsts = segment::firsts(&names);
    let created = firsts.is_empty();
    if created {
        check_ends(0, &floors)?;
        let journal = options.identity;
        let header = SegmentHeader { journal, first: 0, chain: chain_start(&journal) };
        segment::create(&disk, &header, options.ahead_bytes as usize)?;
    }
    let firsts = if created { vec![0] } else { firsts };
    let last_first = firsts.last().copied().unwrap_or_default();
    let (file, bytes, header) = load(&disk, last_first)?;
    verify_older(&disk, &firsts, &header, options.verify_bytes)?;
    let scan = recover::scan(&bytes, &header, true, |_| {});
    let cut = judge_tail(&scan, last_first, &floors)?;
    let recovery = Recovery {
        created,
        end: JournalPosition(scan.next),
        chain: scan.chain,
        segments: firsts.len(),
        verified_bytes: bytes.len() as u64,
        cut,
    };
    check_histories(&disk, &header, &firsts, &scan, &floors)?;
    let promised = floors.iter().map(|floor| floor.position.0).max().unwrap_or_default();
    write_again(&file, &scan, &bytes, &header, promised)?;
    let allocated = settle(&disk, &file, &scan, &recovery, bytes.len() as u64)?;
    let file = Arc::new(file);
    let shared = share(disk, &header, &firsts, &file, scan.offsets, scan.next);
    Ok(Opened {
        shared: Arc::new(shared),
        lock,
        file,
        first: last_first,
        end: scan.end as u64,
        allocated,
        next: scan.next,
        chain: scan.chain,
        recovery,
    })
}

fn share<D: Disk>(
    disk: impl Into<Arc<D>>,
    header: &SegmentHeader,
    firsts: &[u64],
    file: &Arc<D::File>,
    offsets: Vec<u32>,
    durable: u64,
) -> Shared<D> {
    let mut segments: Vec<Segment<D>> =
        firsts.iter().map(|first| Segment { first: *first, active: None }).collect();
    if let Some(last) = segments.last_mut() {
        last.active = Some(Active { file: file.clone(), offsets });
    }
    Shared {
        disk: disk.into(),
        journal: header.journal,
        segments: RwLock::new(segments),
        durable: AtomicU64::new(durable),
        kept: Kept::default(),
    }
}

/// Verifies older segments, newest first, within the budget; their order and identity always.
fn verify_older<D: Disk>(
    disk: &D,
    firsts: &[u64],
    last: &SegmentHeader,
    budget: u64,
) -> Result<(), JournalError> {
    if firsts.first() != Some(&0) {
        let found = firsts.first().map_or("none".into(), |first| segment::name(*first));
        return Err(JournalError::Files { expected: segment::name(0), found });
    }
    let (mut after, mut verified) = (*last, 0);
    for first in firsts.iter().rev().skip(1) {
        if verified >= budget {
            break;
        }
        let (_, bytes, header) = load(disk, *first)?;
        verified += bytes.len() as u64;
        check_link(&header, &bytes, &after)?;
        after = header;
    }
    Ok(())
}

/// A closed segment must end exactly where the next one begins.
pub(super) fn check_link(
    header: &SegmentHeader,
    bytes: &[u8],
    after: &SegmentHeader,
) -> Result<Scan, JournalError> {
    let scan = recover::scan(bytes, header, false, |_| {});
    let name = segment::name(header.first);
    let damaged = |position, offset, why| {
        Err(JournalError::Damaged { position, segment: name.clone(), offset, why })
    };
    if let Tail::Damaged { position, offset, why } = &scan.tail {
        return damaged(*position, *offset as u64, why.clone());
    }
    if scan.next != after.first {
        let why = format!("expected records up to {}, found {}", after.first, scan.next);
        return damaged(scan.next, scan.end as u64, why);
    }
    if scan.chain != after.chain || header.journal != after.journal {
        let why = format!(
            "expected the chain {} of journal {}, found {} of {}",
            after.chain,
            hex::encode(after.journal),
            scan.chain,
            hex::encode(header.journal)
        );
        return damaged(scan.next, scan.end as u64, why);
    }
    Ok(scan)
}

fn judge_tail(scan: &Scan, first: u64, floors: &[Floor]) -> Result<Option<Cut>, JournalError> {
    let segment = segment::name(first);
    let cut = match &scan.tail {
        Tail::Clean => None,
        Tail::Torn { bytes, records } => {
            Some(Cut { segment, offset: scan.end as u64, bytes: *bytes as u64, records: *records })
        }
        Tail::Damaged { position, offset, why } => {
            return Err(JournalError::Damaged {
                position: *position,
                segment,
                offset: *offset as u64,
                why: why.clone(),
            });
        }
    };
    if scan.durable > scan.next {
        return Err(unreadable_tail(scan));
    }
    check_ends(scan.next, floors)?;
    Ok(cut)
}

fn check_ends(end: u64, floors: &[Floor]) -> Result<(), JournalError> {
    match floors.iter().find(|floor| floor.position.0 > end) {
        None => Ok(()),
        Some(floor) => Err(JournalError::BelowFloor {
            end,
            floor: floor.position.0,
            promise: floor.promise.clone(),
        }),
    }
}

fn check_histories<D: Disk>(
    disk: &D,
    header: &SegmentHeader,
    firsts: &[u64],
    scan: &Scan,
    floors: &[Floor],
) -> Result<(), JournalError> {
    for floor in floors {
        let Some(expected) = floor.chain else { continue };
        let found = if floor.position.0 == scan.next {
            scan.chain
        } else {
            chain_below_end(disk, header, firsts, scan, floor.position)?
        };
        if found != expected {
            return Err(JournalError::OtherHistory { position: floor.position.0, expected, found });
        }
    }
    Ok(())
}

fn chain_below_end<D: Disk>(
    disk: &D,
    header: &SegmentHeader,
    firsts: &[u64],
    scan: &Scan,
    position: JournalPosition,
) -> Result<Digest, JournalError> {
    let first = firsts.iter().rev().find(|first| **first <= position.0).copied();
    let first = first.unwrap_or_default();
    let (_, bytes, own) = load(disk, first)?;
    if position.0 == first {
        return Ok(own.chain);
    }
    let (mut found, last) = (None, first == header.first);
    recover::scan(&bytes, &own, last, |stored| {
        if stored.position.0 + 1 == position.0 {
            found = Some(stored.chain);
        }
    });
    found.ok_or_else(|| JournalError::Damaged {
        position: position.0.saturating_sub(1),
        segment: segment::name(first),
        offset: 0,
        why: format!("expected a record below {}, found none", scan.next),
    })
}

/// Writes the last batch again: the records that nothing says were durable. After a failed sync the
/// kernel may show pages as clean that never reached the disk, and a sync alone would skip them.
fn write_again<F: DiskFile>(
    file: &F,
    scan: &Scan,
    bytes: &[u8],
    header: &SegmentHeader,
    promised: u64,
) -> Result<(), JournalError> {
    let durable = scan.durable.max(promised).saturating_sub(header.first);
    let Some(from) = usize::try_from(durable).ok().and_then(|i| scan.offsets.get(i)) else {
        return Ok(());
    };
    let from = *from as usize;
    let again = bytes.get(from..scan.end).unwrap_or_default();
    file.write_at(again, from as u64)
        .map_err(|error| JournalError::io("write again", &segment::name(header.first), &error))
}

/// Cuts the tail, sweeps leftovers, and makes durable what is kept. Gives the file's size.
fn settle<D: Disk>(
    disk: &D,
    file: &D::File,
    scan: &Scan,
    recovery: &Recovery,
    size: u64,
) -> Result<u64, JournalError> {
    let place = disk.describe();
    let io = |action| {
        let place = place.clone();
        move |error: io::Error| JournalError::io(action, &place, &error)
    };
    let names = disk.names().map_err(io("list"))?;
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        disk.remove(name).map_err(io("sweep temporary files in"))?;
    }
    let allocated = if recovery.cut.is_some() {
        file.set_size(scan.end as u64).map_err(io("cut the torn tail in"))?;
        scan.end as u64
    } else {
        size
    };
    file.sync().map_err(io("sync the last segment in"))?;
    disk.sync_directory().map_err(io("sync the directory"))?;
    Ok(allocated.max(SEGMENT_HEADER_BYTES as u64))
}
