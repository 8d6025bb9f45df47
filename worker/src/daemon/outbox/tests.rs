//! What an outbox keeps, over restarts and ends in the middle.

use super::*;
use attest::key::SigningKey;
use std::time::{Duration, SystemTime};

fn result(key: &SigningKey, lease: u8, fence: u64) -> PendingResult {
    let envelope = Envelope::sign(key, "text/plain", vec![lease]).unwrap();
    let lease = LeaseId([lease; 16]);
    PendingResult { lease, fence: Fence(fence), envelope, explanation: b"{}".to_vec() }
}

#[test]
fn one_result_per_lease_ever_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let first = result(&key, 1, 7);
    Outbox::open(dir.path()).unwrap().put(&first).unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    assert_eq!(pending(&outbox), std::slice::from_ref(&first));
    assert!(matches!(outbox.put(&result(&key, 1, 8)), Err(OutboxError::Answered(_))));
    outbox.confirm(&first, &first.envelope, JournalPosition(41)).unwrap();
    assert!(pending(&outbox).is_empty());
    assert!(matches!(outbox.put(&result(&key, 1, 9)), Err(OutboxError::Answered(_))));
    // Confirmed again: nothing changes.
    outbox.confirm(&first, &first.envelope, JournalPosition(41)).unwrap();
    let newest = |outbox: &Outbox| outbox.newest_receipt().map(|n| n.position);
    assert_eq!(newest(&outbox), Some(JournalPosition(41)));
    let outbox = Outbox::open(dir.path()).unwrap();
    let held = outbox.newest_receipt().unwrap();
    assert_eq!(held.position, JournalPosition(41));
    assert_eq!(held.observation, first.envelope.observation_id());
}

#[test]
fn what_the_coordinator_lost_waits_again() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let results: Vec<_> = (1..=4).map(|n| result(&key, n, u64::from(n))).collect();
    for (n, result) in results.iter().enumerate() {
        outbox.put(result).unwrap();
        outbox.confirm(result, &result.envelope, JournalPosition(10 * n as u64)).unwrap();
    }
    assert_eq!(outbox.reopen_from(JournalPosition(40)).unwrap(), 0);
    assert_eq!(outbox.reopen_from(JournalPosition(15)).unwrap(), 2);
    assert_eq!(pending(&outbox), results[2..]);
    assert_eq!(outbox.newest_receipt().unwrap().position, JournalPosition(10));
    assert!(matches!(outbox.put(&results[3]), Err(OutboxError::Answered(_))));
    let outbox = Outbox::open(dir.path()).unwrap();
    assert_eq!(pending(&outbox), results[2..]);
    for result in &results[2..] {
        outbox.confirm(result, &result.envelope, JournalPosition(50)).unwrap();
    }
    assert!(pending(&outbox).is_empty());
    assert_eq!(outbox.newest_receipt().unwrap().position, JournalPosition(50));
}

#[test]
fn an_end_in_the_middle_of_anything_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let first = result(&key, 1, 7);
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.put(&first).unwrap();
    let name = file_name(first.fence, &first.lease);
    let kept = fs::read(dir.path().join("pending").join(&name)).unwrap();
    outbox.confirm(&first, &first.envelope, JournalPosition(3)).unwrap();
    // Killed between the receipt and the removal; and while another result was being written.
    fs::write(dir.path().join("pending").join(&name), kept).unwrap();
    fs::write(dir.path().join("pending/half.json.new"), b"{").unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    assert_eq!(pending(&outbox), std::slice::from_ref(&first));
    assert_eq!(outbox.newest_receipt(), None);
    assert!(!dir.path().join("pending/half.json.new").exists());
}

#[test]
fn a_damaged_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    fs::write(dir.path().join("pending/x.json"), b"{").unwrap();
    let error = outbox.result("x.json").unwrap_err().to_string();
    assert!(error.contains("x.json"), "{error}");
}

fn pending(outbox: &Outbox) -> Vec<PendingResult> {
    outbox.waiting().unwrap().iter().map(|name| outbox.result(name).unwrap()).collect()
}

/// A result with a receipt for this position, filed so many seconds after 1970.
fn receipted(outbox: &Outbox, result: &PendingResult, position: u64, filed: u64) -> PathBuf {
    outbox.put(result).unwrap();
    outbox.confirm(result, &result.envelope, JournalPosition(position)).unwrap();
    let path = outbox.receipted.join(file_name(result.fence, &result.lease));
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(filed)).unwrap();
    path
}

#[test]
fn receipted_results_are_bounded_and_their_leases_stay_answered() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let results: Vec<_> = (1..=6).map(|n| result(&key, n, u64::from(n))).collect();
    let paths: Vec<_> = results
        .iter()
        .enumerate()
        // The first has the newest receipt: positions began again after a restore.
        .map(|(n, result)| {
            receipted(&outbox, result, if n == 0 { 99 } else { n as u64 }, 100 * n as u64)
        })
        .collect();
    let waits = result(&key, 7, 7);
    outbox.put(&waits).unwrap();
    // A file without a receipt is not dropped, however old: something else put it there.
    let strange = outbox.receipted.join(file_name(Fence(8), &LeaseId([8; 16])));
    let unreceipted = StoredResult::new(&result(&key, 8, 8));
    fs::write(&strange, serde_json::to_vec(&unreceipted).unwrap()).unwrap();
    let file = File::options().write(true).open(&strange).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let there = || paths.iter().map(|path| path.exists()).collect::<Vec<_>>();
    let bound = |results, seconds| bound::Bound { results, age: Duration::from_secs(seconds) };
    assert_eq!(outbox.drop_surplus(bound(7, 1000)).unwrap(), 0);
    // By age: the two that are older than the newest by more than 300 s, but not the first.
    assert_eq!(outbox.drop_surplus(bound(7, 300)).unwrap(), 1);
    assert_eq!(there(), [true, false, true, true, true, true]);
    // By number: the newest stay.
    assert_eq!(outbox.drop_surplus(bound(2, 1000)).unwrap(), 2);
    assert_eq!(there(), [true, false, false, false, true, true]);
    assert_eq!(outbox.drop_surplus(bound(0, 0)).unwrap(), 1);
    assert_eq!(there(), [true, false, false, false, false, true]);
    assert!(strange.exists());
    assert_eq!(pending(&outbox), [waits]);
    // Dropped, waiting or kept: no lease is answered twice, also after a restart.
    for outbox in [outbox, Outbox::open(dir.path()).unwrap()] {
        for result in &results {
            assert!(matches!(outbox.put(result), Err(OutboxError::Answered(_))));
        }
        assert!(!outbox.answered(&LeaseId([9; 16])).unwrap());
        assert_eq!(outbox.newest_receipt().unwrap().position, JournalPosition(99));
    }
}

#[test]
fn half_a_note_of_an_answered_lease_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.answered.note(&[LeaseId([1; 16]), LeaseId([2; 16])]).unwrap();
    let mut file = File::options().append(true).open(dir.path().join("answered")).unwrap();
    file.write_all(&[3; 7]).unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.answered.note(&[LeaseId([4; 16])]).unwrap();
    let known: Vec<bool> = (1..=5).map(|n| outbox.answered(&LeaseId([n; 16])).unwrap()).collect();
    assert_eq!(known, [true, true, false, true, false]);
}

#[test]
fn what_was_refused_for_good_is_kept_and_can_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let refused = result(&key, 1, 7);
    outbox.put(&refused).unwrap();
    let name = file_name(refused.fence, &refused.lease);
    let kept = fs::read(dir.path().join("pending").join(&name)).unwrap();
    outbox.set_aside(&refused, "another subject than the job's").unwrap();
    assert!(pending(&outbox).is_empty());
    assert_eq!(outbox.refused().unwrap(), 1);
    let text = fs::read_to_string(outbox.refused_folder().join(&name)).unwrap();
    assert!(text.contains("another subject than the job's"), "{text}");
    assert!(matches!(outbox.put(&result(&key, 1, 8)), Err(OutboxError::Answered(_))));
    // The end came between the two folders: it is sent once more.
    fs::write(dir.path().join("pending").join(&name), kept).unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    assert_eq!((pending(&outbox), outbox.refused().unwrap()), (vec![refused.clone()], 0));
    // A person moves it back.
    outbox.set_aside(&refused, "not now").unwrap();
    fs::rename(outbox.refused_folder().join(&name), dir.path().join("pending").join(&name))
        .unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    assert_eq!((pending(&outbox), outbox.refused().unwrap()), (vec![refused], 0));
}
