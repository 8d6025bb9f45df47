//! Random cuts, flips and lost writes: recovery never loses what was acknowledged, never doubles
//! it, and never calls damage a torn tail.

use super::*;
use crate::journal::snapshot;
use proptest::prelude::*;

/// The bytes of a file.
fn bytes_of(disk: &MemoryDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn replace(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    disk.remove(name).unwrap();
    disk.create(name).unwrap().write_at(bytes, 0).unwrap();
}

fn last_segment(disk: &MemoryDisk) -> String {
    segment::name(*segment::firsts(&disk.names().unwrap()).last().unwrap())
}

/// A batch of groups that was written and not synced: nobody was told.
fn unsynced(disk: &MemoryDisk, sizes: &[u64]) -> (usize, usize) {
    let (log, _) = open(disk).unwrap();
    let name = last_segment(disk);
    let before = seen(disk).0.segments.last().unwrap().bytes as usize;
    let mut next = log.next().0;
    let groups = sizes.iter().map(|size| {
        let made = group(next, *size);
        next += size;
        made
    });
    // A write that rotates syncs first, so only what stays in one segment is unsynced.
    let fits = Options { segment_bytes: 1 << 20, ..options() };
    drop(log);
    let (mut log, _) = Log::open(disk.clone(), fits).unwrap();
    assert!(log.write(groups.collect()).failed.is_none());
    drop(log);
    assert_eq!(last_segment(disk), name);
    (before, seen(disk).0.segments.last().unwrap().bytes as usize)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The file ends anywhere in the batch that nobody was told about.
    #[test]
    fn a_cut_in_the_last_batch_keeps_every_acknowledged_record(
        sizes in proptest::collection::vec(1u64..6, 1..12),
        batch in proptest::collection::vec(1u64..5, 1..6),
        at in 0.0f64..1.0, ahead in 0usize..2000,
    ) {
        let (disk, ends) = journal(&sizes);
        let acknowledged = *ends.last().unwrap();
        let (from, to) = unsynced(&disk, &batch);
        let name = last_segment(&disk);
        let cut = from + ((to - from) as f64 * at) as usize;
        let mut bytes = bytes_of(&disk, &name);
        bytes.truncate(cut);
        bytes.resize(cut + ahead, 0);
        replace(&disk, &name, &bytes);
        let (log, recovery) = open(&disk).unwrap();
        prop_assert!(recovery.end.0 >= acknowledged);
        // Whole groups only.
        let mut boundary = acknowledged;
        let mut boundaries = vec![boundary];
        for size in &batch {
            boundary += size;
            boundaries.push(boundary);
        }
        prop_assert!(boundaries.contains(&recovery.end.0), "{} of {boundaries:?}", recovery.end);
        let expected: Vec<_> = (0..recovery.end.0).map(|n| record(n).body).collect();
        prop_assert_eq!(bodies(&log), expected);
        // And the journal goes on.
        drop(log);
        let (mut log, again) = open(&disk).unwrap();
        prop_assert_eq!((again.end, again.cut), (recovery.end, None));
        prop_assert!(log.write(vec![group(log.next().0, 2)]).failed.is_none());
        log.sync().unwrap();
    }

    /// Any subset of the pages of that batch reached the disk.
    #[test]
    fn lost_pages_in_the_last_batch_are_a_torn_tail(
        sizes in proptest::collection::vec(1u64..6, 1..12),
        batch in proptest::collection::vec(1u64..9, 1..8),
        kept in proptest::collection::vec(any::<bool>(), 64), page in 6u32..10,
    ) {
        let (disk, ends) = journal(&sizes);
        let acknowledged = *ends.last().unwrap();
        let (from, to) = unsynced(&disk, &batch);
        let name = last_segment(&disk);
        let mut bytes = bytes_of(&disk, &name);
        let page = 1usize << page;
        for (i, start) in (from..to).step_by(page).enumerate() {
            if !kept[i % kept.len()] {
                bytes[start..(start + page).min(to)].fill(0);
            }
        }
        replace(&disk, &name, &bytes);
        let (log, recovery) = open(&disk).unwrap();
        prop_assert!(recovery.end.0 >= acknowledged);
        let expected: Vec<_> = (0..recovery.end.0).map(|n| record(n).body).collect();
        prop_assert_eq!(bodies(&log), expected);
    }

    /// A bit turns anywhere: either everything that was acknowledged is there, or the start is
    /// refused with a position at or below the damage; never a shorter journal.
    #[test]
    fn a_flipped_bit_is_never_a_shorter_journal(
        sizes in proptest::collection::vec(1u64..6, 2..14), file in any::<u16>(),
        at in any::<u32>(), bit in 0u8..8,
    ) {
        let (disk, ends) = journal(&sizes);
        let acknowledged = *ends.last().unwrap();
        let (mut log, _) = open(&disk).unwrap();
        log.raise_floor().unwrap();
        drop(log);
        let mut names: Vec<_> = disk.names().unwrap();
        names.retain(|name| name.ends_with(".journal") || name == "FLOOR");
        names.sort();
        let name = &names[file as usize % names.len()];
        let mut bytes = bytes_of(&disk, name);
        let at = at as usize % bytes.len();
        bytes[at] ^= 1 << bit;
        replace(&disk, name, &bytes);
        let examined = seen(&disk).0;
        match open(&disk) {
            Ok((log, recovery)) => {
                prop_assert_eq!(recovery.end.0, acknowledged);
                let expected: Vec<_> = (0..acknowledged).map(|n| record(n).body).collect();
                prop_assert_eq!(bodies(&log), expected);
                prop_assert!(examined.fault.is_none());
            }
            Err(error) => {
                let fault = examined.fault.expect("fsck must see what a start refuses");
                prop_assert!(error.hint().is_some(), "{error}");
                prop_assert!(examined.end.0 <= acknowledged);
                if let JournalError::Damaged { position, .. } = &error {
                    prop_assert!(*position <= acknowledged);
                    let JournalError::Damaged { position: seen, .. } = &fault else {
                        return Err(TestCaseError::fail(format!("{error} and {fault}")));
                    };
                    prop_assert_eq!(seen, position);
                }
            }
        }
    }

    /// A copy of a journal that is being written holds a prefix of whole groups.
    #[test]
    fn a_snapshot_is_a_journal(
        sizes in proptest::collection::vec(1u64..8, 1..16), batch in 1u64..9,
    ) {
        let (disk, ends) = journal(&sizes);
        let (from, to) = unsynced(&disk, &[batch]);
        // The last group is half written.
        let name = last_segment(&disk);
        let mut bytes = bytes_of(&disk, &name);
        bytes[(from + to) / 2..].fill(0);
        replace(&disk, &name, &bytes);
        let target = MemoryDisk::default();
        let taken = snapshot(&disk, |name, bytes| {
            let file = target.create(name).unwrap();
            file.write_at(bytes, 0).unwrap();
            Ok::<(), JournalError>(())
        }).unwrap();
        prop_assert_eq!(taken.end.0, *ends.last().unwrap());
        let (log, recovery) = open(&target).unwrap();
        prop_assert_eq!((recovery.end, recovery.chain), (taken.end, taken.chain));
        prop_assert_eq!(recovery.cut, None);
        prop_assert_eq!(bodies(&log).len() as u64, taken.end.0);
    }
}
