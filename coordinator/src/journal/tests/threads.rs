//! The journal at work: group commit, a full disk, a failing sync.

use super::{faulty::Faulty, *};
use crate::journal::{FileJournal, NoFollower, Ticket};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

fn start(disk: &Faulty, options: Options) -> (FileJournal<Faulty>, Arc<AtomicU64>) {
    let (log, _) = Log::open(disk.clone(), options).unwrap();
    let fatal = Arc::new(AtomicU64::new(0));
    let count = fatal.clone();
    let on_fatal = Box::new(move |_: &JournalError| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    (FileJournal::start(log, NoFollower, on_fatal).unwrap(), fatal)
}

#[test]
fn many_callers_share_syncs_and_each_is_answered_with_its_place() {
    let disk = Faulty::default();
    let (journal, fatal) = start(&disk, Options { segment_bytes: 1 << 20, ..options() });
    let before = disk.syncs.load(Ordering::SeqCst);
    let held = disk.gate.lock().unwrap();
    let tickets: Vec<_> = (0..500).map(|n| journal.append(group(n, 1), 0)).collect();
    drop(held);
    let mut places: Vec<_> = tickets.into_iter().map(|t| t.wait().unwrap().first.0).collect();
    places.dedup();
    assert_eq!(places, (0..500).collect::<Vec<_>>());
    // The one that was under way when the gate closed, one for all who waited, one for the floor.
    let syncs = disk.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs <= 4, "{syncs} syncs for 500 callers");
    journal.close();
    assert_eq!(fatal.load(Ordering::SeqCst), 0);
    assert!(journal.append(group(0, 1), 0).wait().is_err(), "closed");
    drop(journal);
    let (log, _) = open(&disk.disk).unwrap();
    assert_eq!(bodies(&log).len(), 500);
}

#[test]
fn a_full_disk_refuses_and_the_journal_goes_on_when_there_is_room() {
    let disk = Faulty::default();
    let (journal, fatal) = start(&disk, options());
    journal.append(group(0, 2), 0).wait().unwrap();
    *disk.writes_fail.lock().unwrap() = Some(io::ErrorKind::StorageFull);
    let refused = journal.append(group(9, 3), 0).wait().unwrap_err();
    assert!(matches!(refused, JournalError::NoSpace), "{refused}");
    // What was decided before its caller could know is refused as well.
    let stale = journal.append(group(9, 1), 0).wait().unwrap_err();
    assert!(matches!(stale, JournalError::Superseded | JournalError::NoSpace), "{stale}");
    *disk.writes_fail.lock().unwrap() = None;
    let place = journal.append(group(2, 2), journal.epoch()).wait().unwrap();
    assert_eq!(place.first.0, 2);
    drop(journal);
    assert_eq!(fatal.load(Ordering::SeqCst), 0);
    let (log, _) = open(&disk.disk).unwrap();
    let expected: Vec<_> = (0..4).map(|n| record(n).body).collect();
    assert_eq!(bodies(&log), expected);
}

#[test]
fn a_failed_sync_ends_the_journal_and_nothing_is_acknowledged_after_it() {
    let disk = Faulty::default();
    let (journal, fatal) = start(&disk, options());
    journal.append(group(0, 1), 0).wait().unwrap();
    disk.syncs_fail.store(true, Ordering::SeqCst);
    let failed = journal.append(group(1, 1), 0).wait().unwrap_err();
    assert!(matches!(failed, JournalError::Fatal(_)), "{failed}");
    assert_eq!(fatal.load(Ordering::SeqCst), 1, "the process is told to end, once");
    disk.syncs_fail.store(false, Ordering::SeqCst);
    let after = journal.append(group(1, 1), journal.epoch()).wait().unwrap_err();
    assert!(matches!(after, JournalError::Fatal(_)), "no retry: {after}");
    assert_eq!(journal.ready().unwrap_err(), after, "asked before anything is decided");
    let syncs = disk.syncs.load(Ordering::SeqCst);
    drop(journal);
    assert_eq!(disk.syncs.load(Ordering::SeqCst), syncs, "no sync after a failed one");
    assert_eq!(fatal.load(Ordering::SeqCst), 1);
}

#[test]
fn what_recovery_keeps_is_written_again_before_it_is_synced() {
    // After a failed sync the kernel may call pages clean that never reached the disk.
    let disk = Faulty::default();
    let (mut log, _) = Log::open(disk.clone(), options()).unwrap();
    assert!(log.write(vec![group(0, 2)]).failed.is_none());
    log.sync().unwrap();
    assert!(log.write(vec![group(2, 2)]).failed.is_none());
    drop(log);
    // A write at recovery is seen by its failure.
    *disk.writes_fail.lock().unwrap() = Some(io::ErrorKind::Other);
    let Err(error) = Log::open(disk.clone(), options()) else {
        panic!("expected the last batch to be written again")
    };
    assert!(error.to_string().contains("write again"), "{error}");
}

#[test]
fn a_group_that_is_too_long_is_refused_alone_and_what_followed_is_not_made() {
    use crate::journal::frame::BODY_BYTES_MAX;
    let disk = Faulty::default();
    let (journal, fatal) = start(&disk, options());
    let held = disk.gate.lock().unwrap();
    let mut long = group(1, 1);
    long.records[0].body = vec![0; BODY_BYTES_MAX + 1];
    let tickets = [group(0, 1), long, group(1, 2)].map(|group| journal.append(group, 0));
    drop(held);
    let [first, long, after] = tickets.map(Ticket::wait);
    assert_eq!(first.unwrap().first.0, 0);
    let (limit, found) = (BODY_BYTES_MAX, BODY_BYTES_MAX + 1);
    assert_eq!(long.unwrap_err(), JournalError::TooLong { limit, found });
    assert_eq!(after.unwrap_err(), JournalError::Superseded);
    let again = journal.append(group(1, 2), journal.epoch()).wait().unwrap();
    assert_eq!((again.first.0, fatal.load(Ordering::SeqCst)), (1, 0));
    drop(journal);
    // What was acknowledged is on record as the floor when the journal ends.
    assert_eq!(floor::read(&disk.disk).unwrap().unwrap().position.0, 3);
}

#[test]
fn what_waits_for_a_slow_disk_is_bounded() {
    let disk = Faulty::default();
    let (journal, _) = start(&disk, Options::new([7; 16]));
    let held = disk.gate.lock().unwrap();
    let large = || {
        let mut group = group(0, 4);
        group.records.iter_mut().for_each(|record| record.body = vec![0; (4 << 20) - 4096]);
        group
    };
    // At most two groups are on their way to the disk, of which the first is not counted any more.
    let tickets: Vec<_> = (0..6).map(|_| journal.append(large(), 0)).collect();
    match journal.ready() {
        Err(JournalError::Overloaded { limit, found }) => {
            assert_eq!(limit, 48 << 20);
            assert!(found > limit, "{found}");
        }
        other => panic!("{other:?}"),
    }
    drop(held);
    let refused = tickets.into_iter().filter_map(|ticket| ticket.wait().err());
    assert!(refused.into_iter().all(|error| matches!(error, JournalError::Overloaded { .. })));
    assert_eq!(journal.ready(), Ok(()));
}
