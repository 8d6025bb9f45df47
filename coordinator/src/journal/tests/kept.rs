//! Segments that readers keep open: few, and never in the way of what happens to their files.

use super::*;
use crate::journal::{kept::OPEN_MAX, segment};
use std::sync::atomic::{AtomicBool, Ordering};

/// Reads every record, those far from each other one after another.
fn read_all_over(log: &Log<MemoryDisk>) {
    let (reader, end) = (log.reader(), log.reader().end().0);
    for step in 0..end {
        let position = step * 7919 % end;
        let found = reader.read(JournalPosition(position)).unwrap().unwrap();
        assert_eq!(found.body, record(position).body);
    }
}

fn kept(log: &Log<MemoryDisk>) -> usize {
    log.reader().0.kept.count()
}

/// A file with other bytes in place of the one that is there: whoever has that open keeps it.
fn replace(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    disk.remove(name).unwrap();
    disk.create(name).unwrap().write_at(bytes, 0).unwrap();
}

#[test]
fn few_segments_are_open_however_many_are_read() {
    let (disk, _) = journal(&[4; 150]);
    let (log, recovery) = open(&disk).unwrap();
    assert!(recovery.segments > 2 * OPEN_MAX, "{} segments", recovery.segments);
    assert_eq!(kept(&log), 0);
    for _ in 0..2 {
        read_all_over(&log);
        assert_eq!(kept(&log), OPEN_MAX);
    }
}

#[test]
fn records_are_read_while_their_segments_are_closed() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for thread in 0..3_u64 {
            let (reader, over) = (log.reader(), &over);
            threads.spawn(move || {
                let mut step = thread;
                loop {
                    let last = over.load(Ordering::SeqCst);
                    let end = reader.end().0;
                    for _ in 0..50.min(end) {
                        step += 7919;
                        let position = step % end;
                        let found = reader.read(JournalPosition(position)).unwrap().unwrap();
                        assert_eq!(found.body, record(position).body);
                    }
                    if last {
                        return;
                    }
                }
            });
        }
        for _ in 0..300 {
            assert!(log.write(vec![group(log.next().0, 4)]).failed.is_none());
            log.sync().unwrap();
        }
        over.store(true, Ordering::SeqCst);
    });
    read_all_over(&log);
}

#[test]
fn what_is_damaged_or_put_back_behind_a_readers_back_is_seen() {
    let (disk, _) = journal(&[4; 12]);
    let (log, _) = open(&disk).unwrap();
    let read = |n| log.reader().read(JournalPosition(n));
    let (segment, hints) = (segment::name(0), segment::offsets_name(0));
    assert_eq!(read(1).unwrap().unwrap().body, record(1).body);
    assert_eq!(kept(&log), 1);
    let file = disk.open(&segment).unwrap();
    let mut good = vec![0; file.size().unwrap() as usize];
    file.read_at(&mut good, 0).unwrap();
    // Other hints, in the file that is open and in one that takes its place.
    disk.open(&hints).unwrap().write_at(&[0; 16], 0).unwrap();
    assert_eq!(read(1).unwrap().unwrap().body, record(1).body);
    replace(&disk, &hints, b"no hints");
    assert_eq!(read(1).unwrap().unwrap().body, record(1).body);
    disk.remove(&hints).unwrap();
    assert_eq!(read(1).unwrap().unwrap().body, record(1).body);
    // A record that is damaged is an error, and read again once the file is whole.
    read(1).unwrap();
    let zeros = vec![0; good.len()];
    disk.open(&segment).unwrap().write_at(&zeros, 0).unwrap();
    assert!(read(1).is_err());
    replace(&disk, &segment, &good);
    assert_eq!(read(1).unwrap().unwrap().body, record(1).body);
    // So where a whole segment is read on from a good record before it.
    let all = || log.reader().from(JournalPosition(0)).take_while(Result::is_ok).count();
    let whole = all();
    disk.open(&segment).unwrap().write_at(&[0xff; 8], good.len() as u64 / 2).unwrap();
    assert!(all() > 0 && all() < whole);
    replace(&disk, &segment, &good);
    assert_eq!(all(), whole);
    // A segment that is gone: a file that is open is as good as it was, another one is missed.
    disk.remove(&segment).unwrap();
    assert_eq!(read(1).unwrap().unwrap().body, record(1).body);
    log.reader().0.kept.forget(0);
    assert!(matches!(read(1), Err(JournalError::Io { .. })), "{:?}", read(1));
}
