//! What `fsck` counts and names, and what a start and a backup refuse: figures to the record and to
//! the byte, on journals that were damaged by hand.

use super::*;
use crate::journal::{
    error::Floor,
    frame::{self, Place, SEGMENT_HEADER_BYTES, SegmentHeader},
    snapshot,
};

/// Where each record lies: its segment's first position, its offset, its bytes.
fn places(disk: &MemoryDisk) -> Vec<(u64, u64, u64)> {
    let mut places = Vec::new();
    let firsts = segment::firsts(&disk.names().unwrap());
    for (i, first) in firsts.iter().enumerate() {
        let end = firsts.get(i + 1).copied().unwrap_or(seen(disk).0.end.0);
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        for n in *first..end {
            let bytes = frame::frame_bytes(record(n).body.len()) as u64;
            places.push((*first, offset, bytes));
            offset += bytes;
        }
    }
    places
}

/// Turns a bit of a record's checksum.
fn damage(disk: &MemoryDisk, position: u64) -> (String, u64) {
    let (first, offset, _) = places(disk)[position as usize];
    let name = segment::name(first);
    let (file, mut byte) = (disk.open(&name).unwrap(), [0]);
    file.read_at(&mut byte, offset + 4).unwrap();
    file.write_at(&[byte[0] ^ 1], offset + 4).unwrap();
    (name, offset)
}

fn firsts(disk: &MemoryDisk) -> Vec<u64> {
    segment::firsts(&disk.names().unwrap())
}

fn is_damaged(error: Option<&JournalError>, at: u64, name: &str, byte: u64) -> bool {
    matches!(error, Some(JournalError::Damaged { position, segment, offset, .. })
        if (*position, segment.as_str(), *offset) == (at, name, byte))
}

#[test]
fn a_good_journal_is_counted_segment_by_segment() {
    let (disk, ends) = journal(&[6; 12]);
    let (found, _) = seen(&disk);
    let total = *ends.last().unwrap();
    assert!(found.segments.len() > 3 && found.behind.is_empty() && found.readable_behind == 0);
    assert_eq!(found.segments.iter().map(|s| s.records).sum::<u64>(), total);
    let places = places(&disk);
    for (segment, first) in found.segments.iter().zip(firsts(&disk)) {
        let own = places.iter().filter(|place| place.0 == first);
        let bytes: u64 = own.clone().map(|place| place.2).sum();
        assert_eq!((segment.first, segment.records), (first, own.count() as u64));
        assert_eq!(segment.bytes, SEGMENT_HEADER_BYTES as u64 + bytes);
    }
    let copied = snapshot(&disk, |_, _| Ok::<_, JournalError>(())).unwrap();
    assert_eq!((copied.end, Some(copied.chain)), (found.end, found.chain));
}

#[test]
fn what_lies_behind_a_fault_is_counted_to_the_record() {
    let (disk, ends) = journal(&[6; 12]);
    let total = *ends.last().unwrap();
    let second = firsts(&disk)[1];
    let (name, byte) = damage(&disk, second + 1);
    let (found, good) = seen(&disk);
    // Whole groups only: what can be read of the group that is damaged is not good.
    assert_eq!(good, found.end.0);
    assert!(is_damaged(found.fault.as_ref(), second + 1, &name, byte), "{:?}", found.fault);
    assert_eq!(found.readable_behind, total - second - 2);
    assert_eq!(found.segments.len(), 2);
    let behind: Vec<String> = firsts(&disk)[2..].iter().map(|at| segment::name(*at)).collect();
    assert_eq!(found.behind, behind);
    // Another fault in a later segment costs its own record only, one in a header the segment.
    let third = firsts(&disk)[2];
    damage(&disk, third + 2);
    assert_eq!(seen(&disk).0.readable_behind, total - second - 3);
    let last = *firsts(&disk).last().unwrap();
    disk.open(&segment::name(last)).unwrap().write_at(b"x", 0).unwrap();
    assert_eq!(seen(&disk).0.readable_behind, last - second - 3);
    // The first record of a segment.
    let (disk, _) = journal(&[6; 12]);
    damage(&disk, firsts(&disk)[1]);
    damage(&disk, firsts(&disk)[2]);
    assert_eq!(seen(&disk).0.readable_behind, total - firsts(&disk)[1] - 2);
}

#[test]
fn a_torn_tail_is_no_fault_and_is_measured() {
    let (disk, ends) = journal(&[6; 9]);
    let total = *ends.last().unwrap();
    let (mut log, _) = open(&disk).unwrap();
    assert!(log.write(vec![group(total, 3)]).failed.is_none());
    drop(log);
    let places = places(&disk);
    let (first, offset, bytes) = places[total as usize];
    assert_eq!(first, *firsts(&disk).last().unwrap(), "the group fits the last segment");
    damage(&disk, total);
    let (found, good) = seen(&disk);
    assert_eq!((good, found.end.0, found.fault), (total, total, None));
    let cut = found.torn.unwrap();
    let file = disk.open(&segment::name(first)).unwrap().size().unwrap();
    assert_eq!((cut.segment, cut.offset), (segment::name(first), offset));
    assert_eq!((cut.bytes, cut.records), (file - offset, 2), "{bytes}");
    let (_, recovery) = open(&disk).unwrap();
    let cut = recovery.cut.unwrap();
    assert_eq!((cut.offset, cut.bytes, cut.records), (offset, file - offset, 2));
}

#[test]
fn a_frame_that_knows_of_more_than_there_is_is_believed() {
    let header = SegmentHeader { journal: [7; 16], first: 0, chain: frame::chain_start(&[7; 16]) };
    for (durable, good) in [(0, true), (1, true), (2, false), (9, false)] {
        let mut bytes = header.encode().to_vec();
        let time = Timestamp::from_unix(1_800_000_000).unwrap();
        let previous = header.chain;
        let place = Place { position: 0, durable, time, continued: false, previous };
        frame::encode(&record(0), &place, &mut bytes);
        let disk = MemoryDisk::default();
        disk.create(&segment::name(0)).unwrap().write_at(&bytes, 0).unwrap();
        let (found, _) = seen(&disk);
        assert_eq!(found.fault.is_none(), good, "{durable}: {:?}", found.fault);
        assert_eq!(open(&copy(&disk)).is_ok(), good, "{durable}");
        if !good {
            let fault = found.fault.unwrap();
            assert!(
                matches!(fault, JournalError::BelowFloor { end: 1, floor, .. } if floor == durable)
            );
        }
    }
}

#[test]
fn a_segment_of_the_same_journal_with_another_past_does_not_fit() {
    // A copy of the same journal that went another way: the same identity, the same lengths.
    let (disk, _) = journal(&[6; 12]);
    let other = MemoryDisk::default();
    let (mut log, _) = open(&other).unwrap();
    for n in (0..72).step_by(6) {
        let Group { mut records, time } = group(n, 6);
        records.iter_mut().for_each(|record| record.about = Digest::of(b"something else"));
        assert!(log.write(vec![Group { records, time }]).failed.is_none());
        log.sync().unwrap();
    }
    drop(log);
    assert_eq!(firsts(&disk), firsts(&other));
    let name = segment::name(firsts(&disk)[1]);
    let file = other.open(&name).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    disk.remove(&name).unwrap();
    disk.create(&name).unwrap().write_at(&bytes, 0).unwrap();
    assert!(matches!(open(&disk), Err(JournalError::Damaged { .. })));
    let second = firsts(&disk)[1];
    assert!(is_damaged(seen(&disk).0.fault.as_ref(), second, &name, 0));
    let copied = snapshot(&disk, |_, _| Ok::<_, JournalError>(()));
    assert!(is_damaged(copied.err().as_ref(), second, &name, 0));
    // A beginning that is not one.
    let header = SegmentHeader { journal: [7; 16], first: 0, chain: Digest::of(b"a past") };
    let disk = MemoryDisk::default();
    disk.create(&segment::name(0)).unwrap().write_at(&header.encode(), 0).unwrap();
    assert!(is_damaged(seen(&disk).0.fault.as_ref(), 0, &segment::name(0), 0));
}

#[test]
fn older_segments_are_verified_as_far_as_the_budget_goes() {
    let (disk, _) = journal(&[6; 12]);
    damage(&disk, 3);
    let newest = firsts(&disk).len() as u64 - 1;
    let verify = |verify_bytes| Log::open(copy(&disk), Options { verify_bytes, ..options() });
    assert!(verify(1).is_ok(), "one segment");
    let bytes = |first: &u64| disk.open(&segment::name(*first)).unwrap().size().unwrap();
    let older: u64 = firsts(&disk)[1..newest as usize].iter().map(bytes).sum();
    assert!(verify(older).is_ok(), "all but the damaged one");
    assert!(matches!(verify(older + 1), Err(JournalError::Damaged { position: 3, .. })));
}

#[test]
fn a_backup_is_of_a_good_journal_that_keeps_its_promise() {
    let copied = |disk: &MemoryDisk| snapshot(disk, |_, _| Ok::<_, JournalError>(()));
    let (disk, ends) = journal(&[6; 9]);
    let (total, chain) = (*ends.last().unwrap(), Digest::of(b"whatever"));
    floor::write(&disk, JournalPosition(total), &chain).unwrap();
    assert_eq!(copied(&disk).unwrap().end.0, total);
    floor::write(&disk, JournalPosition(total + 1), &chain).unwrap();
    let error = copied(&disk).unwrap_err();
    let below = JournalError::BelowFloor {
        end: total,
        floor: total + 1,
        promise: floor::read(&disk).unwrap().unwrap().promise,
    };
    assert_eq!(error, below);
    // In the last segment as well: a batch that is being written looks torn for a moment only.
    let (disk, ends) = journal(&[2; 24]);
    let last = *firsts(&disk).last().unwrap();
    assert!(ends.last().unwrap() - last > 2, "two groups in the last segment");
    let (name, byte) = damage(&disk, last);
    let error = copied(&disk).unwrap_err();
    assert!(is_damaged(Some(&error), last, &name, byte), "{error}");
}

#[test]
fn a_floor_at_the_very_beginning_names_the_journal() {
    let (disk, _) = journal(&[2, 2]);
    floor::write(&disk, JournalPosition(0), &frame::chain_start(&[7; 16])).unwrap();
    assert_eq!(seen(&disk).0.fault, None);
    let other = frame::chain_start(&[8; 16]);
    floor::write(&disk, JournalPosition(0), &other).unwrap();
    let fault = seen(&disk).0.fault.unwrap();
    assert!(
        matches!(fault, JournalError::OtherHistory { position: 0, expected, .. } if expected == other)
    );
    // One for a place inside of a segment, with the chain of that place or of its neighbour.
    floor::write(&disk, JournalPosition(0), &frame::chain_start(&[7; 16])).unwrap();
    let (log, _) = open(&disk).unwrap();
    for (at, of, good) in [(3, 3, true), (3, 2, false), (3, 4, false), (4, 4, true), (1, 1, true)] {
        let chain = log.reader().chain_at(JournalPosition(of)).unwrap().unwrap();
        floor::write(&disk, JournalPosition(at), &chain).unwrap();
        assert_eq!(seen(&disk).0.fault.is_none(), good, "{at} with the chain of {of}");
    }
    drop(log);
    // One that others gave.
    let (log, _) = open(&journal(&[2, 2]).0).unwrap();
    let chain = log.reader().chain_at(JournalPosition(3)).unwrap();
    for (chain, good) in [(chain, true), (Some(other), false), (None, true)] {
        let promise = "a receipt".to_owned();
        let floors = vec![Floor { position: JournalPosition(3), chain, promise }];
        let opened = Log::open(journal(&[2, 2]).0, Options { floors, ..options() });
        assert_eq!(opened.is_ok(), good);
    }
}

#[test]
fn a_group_that_fits_exactly_is_taken_and_one_byte_more_is_not() {
    use crate::journal::{frame::BODY_BYTES_MAX, log::GROUP_BYTES_MAX};
    let of = |lengths: &[usize]| {
        let new =
            |length: &usize| NewRecord::new(Kind::TAG_SEEN, Digest::of(b"a"), vec![0; *length]);
        let time = Timestamp::from_unix(1_800_000_000).unwrap();
        Group { records: lengths.iter().map(new).collect(), time }.check()
    };
    let too_long = |limit, found| Err(JournalError::TooLong { limit, found });
    assert_eq!(of(&[BODY_BYTES_MAX]), Ok(()));
    assert_eq!(of(&[1, BODY_BYTES_MAX + 1]), too_long(BODY_BYTES_MAX, BODY_BYTES_MAX + 1));
    // Three of the longest, and a last one that fills the group up to its limit.
    let three = 3 * frame::frame_bytes(BODY_BYTES_MAX);
    let rest = GROUP_BYTES_MAX - three - frame::FRAME_HEADER_BYTES;
    let lengths = |rest| [BODY_BYTES_MAX, BODY_BYTES_MAX, BODY_BYTES_MAX, rest];
    assert_eq!(of(&lengths(rest)), Ok(()));
    assert_eq!(of(&lengths(rest + 1)), too_long(GROUP_BYTES_MAX, GROUP_BYTES_MAX + 8));
    // A segment is filled to its last byte before the next one begins.
    let bytes = |n| frame::frame_bytes(record(n).body.len());
    for (spare, segments) in [(0, 1), (1, 2)] {
        let segment_bytes = (SEGMENT_HEADER_BYTES + bytes(0) + bytes(1) - spare) as u64;
        let disk = MemoryDisk::default();
        let (mut log, _) = Log::open(disk.clone(), Options { segment_bytes, ..options() }).unwrap();
        for n in 0..2 {
            assert!(log.write(vec![group(n, 1)]).failed.is_none());
            log.sync().unwrap();
        }
        assert_eq!(firsts(&disk).len(), segments);
    }
}
