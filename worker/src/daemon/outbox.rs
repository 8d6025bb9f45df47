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
    id::{Fence, JournalPosition, LeaseId},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
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

/// The outbox on disk.
#[derive(Debug)]
pub struct Outbox {
    pending: PathBuf,
    receipted: PathBuf,
}

impl Outbox {
    /// Opens the outbox, making its folders.
    pub fn open(folder: &Path) -> Result<Self, OutboxError> {
        let (pending, receipted) = (folder.join("pending"), folder.join("receipted"));
        for path in [&pending, &receipted] {
            fs::create_dir_all(path).map_err(io_error("make the folder", path))?;
        }
        Ok(Self { pending, receipted })
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
        let path = self.pending.join(&name);
        match fs::remove_file(&path) {
            // It was confirmed before: a coordinator that lost it has asked again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("remove", &path)(error)),
            Ok(()) => sync_folder(&self.pending),
        }
    }

    /// The newest journal position that a receipt names.
    pub fn newest_receipt(&self) -> Result<Option<JournalPosition>, OutboxError> {
        let mut newest = None;
        for name in names(&self.receipted)? {
            newest = newest.max(read(&self.receipted.join(name))?.1);
        }
        Ok(newest)
    }

    /// Receipted results from a journal position on: for a coordinator that lost them.
    pub fn receipted_from(&self, from: JournalPosition) -> Result<Vec<PendingResult>, OutboxError> {
        let mut found = Vec::new();
        for name in names(&self.receipted)? {
            let (result, position) = read(&self.receipted.join(name))?;
            if position.is_some_and(|p| p >= from) {
                found.push(result);
            }
        }
        Ok(found)
    }
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
        assert_eq!(outbox.newest_receipt().unwrap(), Some(JournalPosition(41)));
        // Confirmed again, by a coordinator that had lost it: the newer receipt is the one to keep.
        outbox.confirm(&first, &first.envelope, JournalPosition(41)).unwrap();
        assert_eq!(outbox.receipted_from(JournalPosition(41)).unwrap(), [first]);
        assert!(outbox.receipted_from(JournalPosition(42)).unwrap().is_empty());
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
