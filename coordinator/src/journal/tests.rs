//! The journal as a whole over a disk in memory: cuts, flips, lost writes, floors, backups.
//!
//! Each test says what a reader of the issue would ask: is what was acknowledged there, exactly
//! once, or is the start refused with a position?

mod examined;
mod faults;
mod faulty;
mod golden;
mod hinted;
mod kept;
mod threads;

use super::{
    Disk, DiskFile, Examined, Group, JournalError, Kind, Log, MemoryDisk, NewRecord, Options,
    Recovery, examine, floor, segment,
};
use attest::{Digest, id::JournalPosition, time::Timestamp};

/// Small segments, so that rotation is part of every test.
pub(super) fn options() -> Options {
    Options { segment_bytes: 4 << 10, ahead_bytes: 1 << 10, ..Options::new([7; 16]) }
}

pub(super) fn record(n: u64) -> NewRecord {
    let body = format!("record {n} {}", "x".repeat((n * 37 % 300) as usize));
    NewRecord::new(Kind::TAG_SEEN, Digest::of(b"about"), body)
}

/// A group of `size` records that go on from `n`.
pub(super) fn group(n: u64, size: u64) -> Group {
    let time = Timestamp::from_unix(1_800_000_000).unwrap();
    Group { records: (n..n + size).map(record).collect(), time }
}

pub(super) fn bodies(log: &Log<MemoryDisk>) -> Vec<Vec<u8>> {
    let all = log.reader().from(JournalPosition(0));
    all.map(|stored| stored.unwrap().body).collect()
}

/// A copy of the disk that shares nothing with it.
pub(super) fn copy(disk: &MemoryDisk) -> MemoryDisk {
    let fresh = MemoryDisk::default();
    for name in disk.names().unwrap() {
        let file = disk.open(&name).unwrap();
        let mut bytes = vec![0; file.size().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        fresh.create(&name).unwrap().write_at(&bytes, 0).unwrap();
    }
    fresh
}

pub(super) fn open(disk: &MemoryDisk) -> Result<(Log<MemoryDisk>, Recovery), JournalError> {
    Log::open(disk.clone(), options())
}

/// A journal of groups of these sizes, each synced; gives the position after each group.
pub(super) fn journal(sizes: &[u64]) -> (MemoryDisk, Vec<u64>) {
    let disk = MemoryDisk::default();
    let (mut log, recovery) = open(&disk).unwrap();
    assert!(recovery.created);
    let mut ends = Vec::new();
    for size in sizes {
        let written = log.write(vec![group(log.next().0, *size)]);
        assert!(written.failed.is_none());
        log.sync().unwrap();
        ends.push(log.next().0);
    }
    (disk, ends)
}

pub(super) fn seen(disk: &MemoryDisk) -> (Examined, u64) {
    let mut count = 0;
    let found = examine(disk, |stored| {
        assert_eq!(stored.position.0, count);
        count += 1;
    });
    (found.unwrap(), count)
}

#[test]
fn what_was_synced_is_there_after_a_restart_over_many_segments() {
    let (disk, ends) = journal(&[1, 3, 2, 7, 1, 1, 5, 9, 4]);
    let total = *ends.last().unwrap();
    let (log, recovery) = open(&disk).unwrap();
    assert_eq!((recovery.end.0, recovery.created, recovery.cut), (total, false, None));
    assert!(recovery.segments > 2, "{} segments", recovery.segments);
    let expected: Vec<_> = (0..total).map(|n| record(n).body).collect();
    assert_eq!(bodies(&log), expected);
    for n in 0..total {
        assert_eq!(log.reader().read(JournalPosition(n)).unwrap().unwrap().body, record(n).body);
    }
    assert_eq!(log.reader().read(JournalPosition(total)).unwrap(), None);
    let (found, count) = seen(&disk);
    assert_eq!((found.end.0, count), (total, total));
    assert!(found.fault.is_none() && found.torn.is_none());
    assert_eq!(found.chain, Some(recovery.chain));
}

#[test]
fn offsets_are_hints_that_nobody_believes() {
    let (disk, ends) = journal(&[4; 12]);
    let hints: Vec<_> =
        disk.names().unwrap().into_iter().filter(|name| name.ends_with(".offsets")).collect();
    assert!(!hints.is_empty());
    for name in &hints {
        disk.open(name).unwrap().write_at(&[1, 2, 3, 4, 5, 6, 7, 8], 0).unwrap();
    }
    let (log, _) = open(&disk).unwrap();
    for n in 0..*ends.last().unwrap() {
        assert_eq!(log.reader().read(JournalPosition(n)).unwrap().unwrap().body, record(n).body);
    }
}

#[test]
fn a_bit_that_flips_in_the_hints_damages_nothing() {
    // Seed 110080 of the simulator: eight bytes into the first record stand zeros, which read as
    // the position 0, and the record was called damaged.
    let (disk, ends) = journal(&[4; 12]);
    let total = *ends.last().unwrap();
    let name = segment::offsets_name(0);
    let mut hints = vec![0; 4 * total as usize];
    let length = disk.open(&name).unwrap().read_at(&mut hints, 0).unwrap();
    for bit in 0..8 * length {
        let mut flipped = hints[..length].to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let record_of = bit as u64 / 32;
        // Reading one makes the hints again.
        for whole in [false, true] {
            let (log, _) = open(&disk).unwrap();
            disk.open(&name).unwrap().write_at(&flipped, 0).unwrap();
            let position = JournalPosition(record_of);
            let body = if whole {
                log.reader().from(position).next().unwrap().unwrap().body
            } else {
                log.reader().read(position).unwrap().unwrap().body
            };
            assert_eq!(body, record(record_of).body, "bit {bit}");
        }
    }
}

#[test]
fn a_directory_has_one_writer() {
    let (disk, _) = journal(&[1]);
    let held = open(&disk).unwrap();
    let Err(refused) = open(&disk) else { panic!("expected a refusal") };
    assert!(matches!(refused, JournalError::Locked { .. }), "{refused}");
    assert!(refused.hint().unwrap().contains("stop the other coordinator"));
    drop(held);
    open(&disk).unwrap();
}

#[test]
fn a_journal_below_its_floor_does_not_start_and_says_both_positions() {
    let (disk, ends) = journal(&[2, 2, 2]);
    let (mut log, _) = open(&disk).unwrap();
    log.raise_floor().unwrap();
    drop(log);
    open(&disk).unwrap();
    // The last group is gone without a trace: zeros are a clean end.
    let name = segment::name(0);
    let file = disk.open(&name).unwrap();
    let (found, _) = seen(&disk);
    let bytes = found.segments[0].bytes;
    let gone = super::frame::frame_bytes(record(5).body.len()) as u64;
    file.write_at(&vec![0; gone as usize], bytes - gone).unwrap();
    let Err(error) = open(&disk) else { panic!("expected a refusal") };
    let JournalError::BelowFloor { end, floor, .. } = error else { panic!("{error}") };
    assert_eq!((end, floor), (4, ends[2]));
    let (found, _) = seen(&disk);
    assert!(matches!(found.fault, Some(JournalError::BelowFloor { end: 4, floor: 6, .. })));
    // Refusing changed nothing: the same refusal again.
    assert!(open(&disk).is_err());
}

#[test]
fn a_floor_of_another_history_or_journal_is_refused() {
    let (disk, _) = journal(&[2, 2]);
    floor::write(&disk, JournalPosition(2), &Digest::of(b"other")).unwrap();
    let Err(error) = open(&disk) else { panic!("expected a refusal") };
    assert!(matches!(error, JournalError::OtherHistory { position: 2, .. }), "{error}");
    assert!(matches!(seen(&disk).0.fault, Some(JournalError::OtherHistory { .. })));
    // A receipt or a tree head from elsewhere, given at the start.
    let (disk, _) = journal(&[2, 2]);
    let promise = super::Floor {
        position: JournalPosition(9),
        chain: None,
        promise: "the tree head of size 9".into(),
    };
    let floors = Options { floors: vec![promise], ..options() };
    let Err(error) = Log::open(disk, floors) else { panic!("expected a refusal") };
    assert!(error.to_string().contains("the tree head of size 9"), "{error}");
}

#[test]
fn a_missing_segment_is_named() {
    let (disk, _) = journal(&[6; 12]);
    let mut segments: Vec<_> =
        disk.names().unwrap().into_iter().filter(|name| name.ends_with(".journal")).collect();
    segments.sort();
    assert!(segments.len() > 3);
    let middle = copy(&disk);
    middle.remove(&segments[1]).unwrap();
    let Err(error) = open(&middle) else { panic!("expected a refusal") };
    assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
    let (found, count) = seen(&middle);
    assert_eq!(found.end.0, count);
    assert_eq!(found.behind, segments[2..]);
    let first = copy(&disk);
    first.remove(&segments[0]).unwrap();
    let Err(error) = open(&first) else { panic!("expected a refusal") };
    assert!(matches!(error, JournalError::Files { .. }), "{error}");
}
