//! The durable outbox: signed results that the coordinator has not confirmed yet.
//!
//! `<folder>/pending/<fence>-<lease>.json` is written and synced before a result is first sent, and
//! moved to `<folder>/receipted/` with its receipt when one comes back. There is one result per
//! lease, ever: a second one for the same lease is refused here, so that a restart never makes a
//! worker contradict itself.
//! Invariant: a result that was signed is never lost because the coordinator was away, and never
//! replaced. Receipted results are kept, so that a coordinator that lost its disk can be told again.

use attest::{
    dsse::Envelope,
    id::{Fence, JournalPosition, LeaseId, ObservationId},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// What can go wrong with the outbox.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The disk refused.
    #[error("expected to {action} {path}: {error}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There is a result for this lease already.
    #[error("expected no result for lease {0} yet, found one: a lease has one result, ever")]
    Answered(LeaseId),
    /// A file that this program did not write.
    #[error("expected a result in {path}: {problem}; move the file away to go on without it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OutboxError {
    let path = path.to_owned();
    move |error| OutboxError::Io { action, path, error }
}

/// A signed result on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingResult {
    /// The lease that it answers.
    pub lease: LeaseId,
    /// The lease's fence.
    pub fence: Fence,
    /// The observation, signed.
    pub envelope: Envelope,
    /// The explanation's canonical JSON, or nothing.
    pub explanation: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct StoredResult {
    schema: String,
    lease: LeaseId,
    fence: Fence,
    envelope: serde_json::Value,
    #[serde(default)]
    explanation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<JournalPosition>,
}

const SCHEMA: &str = "assay/outbox/v1";

/// The newest receipt that is held: where its observation lies in the coordinator's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewestReceipt {
    /// The position that the receipt names.
    pub position: JournalPosition,
    /// What was receipted.
    pub observation: ObservationId,
}

/// The outbox on disk.
#[derive(Debug)]
pub struct Outbox {
    pending: PathBuf,
    receipted: PathBuf,
    /// As the folder `receipted` says: read once, it may hold years of results.
    newest: Mutex<Option<NewestReceipt>>,
}

impl Outbox {
    /// Opens the outbox, making its folders; sweeps files whose writing did not end.
    pub fn open(folder: &Path) -> Result<Self, OutboxError> {
        let (pending, receipted) = (folder.join("pending"), folder.join("receipted"));
        for path in [&pending, &receipted] {
            fs::create_dir_all(path).map_err(io_error("make the folder", path))?;
            sweep(path)?;
        }
        sync_folder(folder)?;
        let outbox = Self { pending, receipted, newest: Mutex::new(None) };
        outbox.settle()?;
        outbox.remember(outbox.read_newest()?);
        Ok(outbox)
    }

    /// A result in both folders: the end came between its receipt and its removal.
    fn settle(&self) -> Result<(), OutboxError> {
        for name in names(&self.pending)? {
            if self.receipted.join(&name).exists() {
                // It is sent once more, and gets the receipt that it has, or a new one.
                let path = self.receipted.join(&name);
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        sync_folder(&self.receipted)
    }

    /// Puts a result in, durably. Only then may it be sent.
    pub fn put(&self, result: &PendingResult) -> Result<(), OutboxError> {
        let name = file_name(result.fence, &result.lease);
        if self.answered(&result.lease)? {
            return Err(OutboxError::Answered(result.lease));
        }
        let stored = StoredResult {
            schema: SCHEMA.to_owned(),
            lease: result.lease,
            fence: result.fence,
            envelope: result.envelope.to_value(),
            explanation: String::from_utf8_lossy(&result.explanation).into_owned(),
            receipt: None,
            position: None,
        };
        write_durably(&self.pending, &name, &stored)
    }

    /// True when this lease has a result, confirmed or not.
    pub fn answered(&self, lease: &LeaseId) -> Result<bool, OutboxError> {
        let suffix = format!("-{lease}.json");
        for folder in [&self.pending, &self.receipted] {
            if names(folder)?.iter().any(|name| name.ends_with(&suffix)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What has not been confirmed, the oldest fence first.
    pub fn pending(&self) -> Result<Vec<PendingResult>, OutboxError> {
        names(&self.pending)?.iter().map(|name| Ok(read(&self.pending.join(name))?.0)).collect()
    }

    /// Notes the receipt: the result is on the coordinator's disk.
    pub fn confirm(
        &self,
        result: &PendingResult,
        receipt: &Envelope,
        position: JournalPosition,
    ) -> Result<(), OutboxError> {
        let name = file_name(result.fence, &result.lease);
        let stored = StoredResult {
            schema: SCHEMA.to_owned(),
            lease: result.lease,
            fence: result.fence,
            envelope: result.envelope.to_value(),
            explanation: String::from_utf8_lossy(&result.explanation).into_owned(),
            receipt: Some(receipt.to_value()),
            position: Some(position),
        };
        write_durably(&self.receipted, &name, &stored)?;
        let observation = result.envelope.observation_id();
        self.remember(self.newest_receipt().max(Some(NewestReceipt { position, observation })));
        let path = self.pending.join(&name);
        match fs::remove_file(&path) {
            // It was confirmed before: a coordinator that lost it has asked again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("remove", &path)(error)),
            Ok(()) => sync_folder(&self.pending),
        }
    }

    /// The newest receipt.
    pub fn newest_receipt(&self) -> Option<NewestReceipt> {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, newest: Option<NewestReceipt>) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = newest;
    }

    fn read_newest(&self) -> Result<Option<NewestReceipt>, OutboxError> {
        let mut newest = None;
        for name in names(&self.receipted)? {
            let (result, position) = read(&self.receipted.join(name))?;
            let observation = result.envelope.observation_id();
            newest = newest.max(position.map(|position| NewestReceipt { position, observation }));
        }
        Ok(newest)
    }

    /// The coordinator lost what it receipted from a position on: those results wait again, and
    /// are sent until they are receipted once more. Gives how many.
    ///
    /// The newest goes last: if this ends in the middle, the coordinator asks again.
    pub fn reopen_from(&self, from: JournalPosition) -> Result<usize, OutboxError> {
        let mut lost = Vec::new();
        for name in names(&self.receipted)? {
            let (_, position) = read(&self.receipted.join(&name))?;
            if let Some(position) = position.filter(|position| *position >= from) {
                lost.push((position, name));
            }
        }
        lost.sort();
        for (_, name) in &lost {
            let (held, path) = (self.receipted.join(name), self.pending.join(name));
            fs::rename(&held, &path).map_err(io_error("rename into", &path))?;
        }
        sync_folder(&self.pending)?;
        sync_folder(&self.receipted)?;
        self.remember(self.read_newest()?);
        Ok(lost.len())
    }
}

/// Files whose writing did not end: their results were never sent.
fn sweep(folder: &Path) -> Result<(), OutboxError> {
    let entries = fs::read_dir(folder).map_err(io_error("list", folder))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "new") {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

/// Fences come first, so that names sort by age within one job.
fn file_name(fence: Fence, lease: &LeaseId) -> String {
    format!("{:020}-{lease}.json", fence.0)
}

fn names(folder: &Path) -> Result<Vec<String>, OutboxError> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .map_err(io_error("list", folder))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".json"))
        .collect();
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<(PendingResult, Option<JournalPosition>), OutboxError> {
    let damaged = |problem: String| OutboxError::Damaged { path: path.to_owned(), problem };
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    let stored: StoredResult =
        serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if stored.schema != SCHEMA {
        return Err(damaged(format!("expected schema {SCHEMA}, found {:?}", stored.schema)));
    }
    let envelope = Envelope::from_value(stored.envelope).map_err(|e| damaged(e.to_string()))?;
    let result = PendingResult {
        lease: stored.lease,
        fence: stored.fence,
        envelope,
        explanation: stored.explanation.into_bytes(),
    };
    Ok((result, stored.position))
}

fn write_durably(folder: &Path, name: &str, stored: &StoredResult) -> Result<(), OutboxError> {
    let json = serde_json::to_vec(stored)
        .map_err(|e| OutboxError::Damaged { path: folder.join(name), problem: e.to_string() })?;
    let (staging, path) = (folder.join(format!("{name}.new")), folder.join(name));
    let mut file = File::create(&staging).map_err(io_error("create", &staging))?;
    let written = file.write_all(&json).and_then(|()| file.sync_all());
    let written = written.map_err(io_error("write", &staging));
    let kept =
        written.and_then(|()| fs::rename(&staging, &path).map_err(io_error("rename into", &path)));
    kept.inspect_err(|_| {
        let _ = fs::remove_file(&staging);
    })?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> Result<(), OutboxError> {
    let synced = File::open(folder).and_then(|f| f.sync_all());
    synced.map_err(io_error("sync the folder", folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::key::SigningKey;

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
        assert_eq!(outbox.pending().unwrap(), std::slice::from_ref(&first));
        assert!(matches!(outbox.put(&result(&key, 1, 8)), Err(OutboxError::Answered(_))));
        outbox.confirm(&first, &first.envelope, JournalPosition(41)).unwrap();
        assert!(outbox.pending().unwrap().is_empty());
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
        assert_eq!(outbox.pending().unwrap(), results[2..]);
        assert_eq!(outbox.newest_receipt().unwrap().position, JournalPosition(10));
        assert!(matches!(outbox.put(&results[3]), Err(OutboxError::Answered(_))));
        let outbox = Outbox::open(dir.path()).unwrap();
        assert_eq!(outbox.pending().unwrap(), results[2..]);
        for result in &results[2..] {
            outbox.confirm(result, &result.envelope, JournalPosition(50)).unwrap();
        }
        assert!(outbox.pending().unwrap().is_empty());
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
        assert_eq!(outbox.pending().unwrap(), std::slice::from_ref(&first));
        assert_eq!(outbox.newest_receipt(), None);
        assert!(!dir.path().join("pending/half.json.new").exists());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        fs::write(dir.path().join("pending/x.json"), b"{").unwrap();
        let error = outbox.pending().unwrap_err().to_string();
        assert!(error.contains("x.json"), "{error}");
    }
}
