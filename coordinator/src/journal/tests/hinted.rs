//! How much is read for one record: the hints beside a closed segment lead to it, and where they
//! are wrong the segment is read once and the hints are made again.

use super::{faulty::Faulty, *};
use std::sync::atomic::Ordering;

#[test]
fn a_record_of_a_closed_segment_is_read_by_its_hint_alone() {
    let (disk, _) = journal(&[6; 12]);
    let firsts = segment::firsts(&disk.names().unwrap());
    let counting = Faulty { disk: disk.clone(), ..Faulty::default() };
    let (log, _) = Log::open(counting.clone(), options()).unwrap();
    assert_eq!((log.reader().journal(), counting.describe()), ([7; 16], "memory".to_owned()));
    let cost = |position: u64| {
        let before = counting.read.load(Ordering::SeqCst);
        let read = log.reader().read(JournalPosition(position)).unwrap().unwrap();
        assert_eq!(read.body, record(position).body);
        counting.read.load(Ordering::SeqCst) - before
    };
    // The hint, the header twice, and the record.
    let least = |position: u64| {
        let body = record(position).body.len();
        4 + 104 + super::super::frame::frame_bytes(body) as u64
    };
    let closed = &firsts[..firsts.len() - 1];
    for (first, next) in closed.iter().zip(&firsts[1..]) {
        for position in *first..*next {
            assert_eq!(cost(position), least(position), "record {position}");
        }
    }
    // Hints that lead to another record, before the first one, or nowhere: read once in whole.
    let (first, position) = (firsts[1], firsts[1] + 2);
    let name = segment::offsets_name(first);
    let whole = disk.open(&segment::name(first)).unwrap().size().unwrap();
    for wrong in [96_u32, 0, 1, 3, u32::MAX] {
        disk.open(&name).unwrap().write_at(&wrong.to_le_bytes(), 8).unwrap();
        assert!(cost(position) > whole, "{wrong}");
        assert_eq!(cost(position), least(position), "made again");
    }
    disk.open(&name).unwrap().set_size(10).unwrap();
    assert!(cost(position) > whole);
    assert_eq!(cost(position), least(position));
}

#[test]
fn a_reader_says_where_it_is_and_where_it_stops() {
    let (disk, ends) = journal(&[6; 12]);
    let (log, _) = open(&disk).unwrap();
    let mut records = log.reader().from(JournalPosition(5));
    for at in 5..*ends.last().unwrap() {
        assert_eq!(records.position(), JournalPosition(at));
        assert_eq!(records.next().unwrap().unwrap().position.0, at);
    }
    assert!(records.next().is_none());
    // A record that goes bad under a reader is named with its byte.
    let second = segment::firsts(&disk.names().unwrap())[1];
    let offset = 96 + super::super::frame::frame_bytes(record(second).body.len()) as u64;
    let file = disk.open(&segment::name(second)).unwrap();
    file.write_at(&[0xff; 4], offset + 40).unwrap();
    let all: Vec<_> = log.reader().from(JournalPosition(second)).collect();
    assert_eq!(all.len(), 2, "it ends there");
    let error = all[1].as_ref().unwrap_err();
    let JournalError::Damaged { position, segment, offset: byte, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((*position, segment.as_str(), *byte), (second + 1, &*segment::name(second), offset));
}

#[test]
fn a_segment_that_is_longer_than_one_reading_is_read_to_its_end() {
    let options = || Options { segment_bytes: 8 << 20, ahead_bytes: 1 << 20, ..options() };
    let disk = MemoryDisk::default();
    let (mut log, _) = Log::open(disk.clone(), options()).unwrap();
    let body = |n: u8| vec![n; 90_000 + 977 * usize::from(n)];
    for n in 0..60 {
        let records = vec![NewRecord::new(Kind::TAG_SEEN, Digest::of(b"about"), body(n))];
        let time = Timestamp::from_unix(1_800_000_000).unwrap();
        assert!(log.write(vec![Group { records, time }]).failed.is_none());
    }
    log.sync().unwrap();
    assert_eq!(segment::firsts(&disk.names().unwrap()).len(), 1);
    for from in [0, 17, 59] {
        let all = log.reader().from(JournalPosition(from));
        let bodies: Vec<Vec<u8>> = all.map(|stored| stored.unwrap().body).collect();
        assert!(bodies.len() as u64 == 60 - from);
        for (n, found) in (from as u8..).zip(bodies) {
            assert!(found == body(n), "record {n}");
        }
    }
}

#[test]
fn a_backup_looks_again_at_what_is_being_written() {
    let (disk, ends) = journal(&[1; 5]);
    let counting = Faulty { disk, ..Faulty::default() };
    let backup = || super::super::snapshot(&counting, |_, _| Ok::<_, JournalError>(()));
    counting.wrong.store(2, Ordering::SeqCst);
    assert_eq!(backup().unwrap().end.0, *ends.last().unwrap());
    assert_eq!(counting.wrong.load(Ordering::SeqCst), 0, "twice wrong, then right");
    counting.wrong.store(1000, Ordering::SeqCst);
    assert!(matches!(backup(), Err(JournalError::Damaged { position: 0, .. })));
    assert!(counting.wrong.load(Ordering::SeqCst) > 900, "not for ever");
}
