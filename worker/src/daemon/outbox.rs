//! The durable outbox: signed results that the coordinator has not confirmed yet.
//!
//! `<folder>/pending/<fence>-<lease>.json` is written and synced before a result is first sent, and
//! moved to `<folder>/receipted/` with its receipt when one comes back. There is one result per
//! lease, ever: a second one for the same lease is refused here, so that a restart never makes a
//! worker contradict itself. What the coordinator refuses for good lies in `<folder>/refused/`, with
//! the reason; moved back to `pending` it is sent again.
//! Invariant: a result that was signed is never lost because the coordinator was away, and never
//! replaced. Receipted results are kept, so that a coordinator that lost its disk can be told again:
//! the newest of them ([`bound`]); a lease whose result was dropped stays answered ([`answered`]).
//! What has no receipt is never dropped.

mod answered;
mod bound;
mod error;
#[cfg(test)]
mod tests;

pub use error::OutboxError;

use answered::Answered;
use attest::{
    dsse::Envelope,
    id::{Fence, JournalPosition, LeaseId, ObservationId},
};
use error::io_error;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Receipts after which the bound is looked at again: listing what is kept takes a tenth of a
/// second, and so many results more are a hundredth of it.
const SWEEP_EVERY: usize = 500;

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

impl StoredResult {
    fn new(result: &PendingResult) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            lease: result.lease,
            fence: result.fence,
            envelope: result.envelope.to_value(),
            explanation: String::from_utf8_lossy(&result.explanation).into_owned(),
            receipt: None,
            position: None,
            refused: None,
        }
    }
}

const SCHEMA: &str = "assay/outbox/v1";
/// How much of a refusal's reason is kept.
const REASON_CHARS_MAX: usize = 500;

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
    refused: PathBuf,
    answered: Answered,
    /// As the folder `receipted` says: read once, it may hold many results.
    newest: Mutex<Option<NewestReceipt>>,
    /// Receipts since the bound was looked at.
    unswept: AtomicUsize,
}

impl Outbox {
    /// Opens the outbox, making its folders; sweeps files whose writing did not end.
    pub fn open(folder: &Path) -> Result<Self, OutboxError> {
        let [pending, receipted, refused] =
            ["pending", "receipted", "refused"].map(|name| folder.join(name));
        for path in [&pending, &receipted, &refused] {
            fs::create_dir_all(path).map_err(io_error("make the folder", path))?;
            sweep(path)?;
        }
        let answered = Answered::open(folder)?;
        sync_folder(folder)?;
        let (newest, unswept) = (Mutex::new(None), AtomicUsize::new(0));
        let outbox = Self { pending, receipted, refused, answered, newest, unswept };
        outbox.settle()?;
        outbox.remember(outbox.read_newest()?);
        outbox.drop_surplus(bound::RECEIPTED)?;
        Ok(outbox)
    }

    /// A result in two folders: the end came between its receipt, or its refusal, and its removal.
    fn settle(&self) -> Result<(), OutboxError> {
        for name in names(&self.pending)? {
            for folder in [&self.receipted, &self.refused] {
                let path = folder.join(&name);
                if path.exists() {
                    // It is sent once more, and gets the answer that it had, or a new one.
                    fs::remove_file(&path).map_err(io_error("remove", &path))?;
                }
            }
        }
        sync_folder(&self.receipted)?;
        sync_folder(&self.refused)
    }

    /// Puts a result in, durably. Only then may it be sent.
    pub fn put(&self, result: &PendingResult) -> Result<(), OutboxError> {
        let name = file_name(result.fence, &result.lease);
        if self.answered(&result.lease)? {
            return Err(OutboxError::Answered(result.lease));
        }
        write_durably(&self.pending, &name, &StoredResult::new(result))
    }

    /// True when this lease has a result, confirmed or not, or had one.
    pub fn answered(&self, lease: &LeaseId) -> Result<bool, OutboxError> {
        let suffix = format!("-{lease}.json");
        for folder in [&self.pending, &self.receipted, &self.refused] {
            if names(folder)?.iter().any(|name| name.ends_with(&suffix)) {
                return Ok(true);
            }
        }
        self.answered.contains(lease)
    }

    /// The names of what has not been confirmed, the oldest fence first. After a coordinator's
    /// restore that may be all results of a month: they are read one by one.
    pub fn waiting(&self) -> Result<Vec<String>, OutboxError> {
        names(&self.pending)
    }

    /// One of [`Self::waiting`].
    pub fn result(&self, name: &str) -> Result<PendingResult, OutboxError> {
        Ok(read(&self.pending.join(name))?.0)
    }

    /// Puts aside what the coordinator refuses for good, with its reason.
    pub fn set_aside(&self, result: &PendingResult, reason: &str) -> Result<(), OutboxError> {
        let name = file_name(result.fence, &result.lease);
        let reason = reason.chars().take(REASON_CHARS_MAX).collect();
        let stored = StoredResult { refused: Some(reason), ..StoredResult::new(result) };
        write_durably(&self.refused, &name, &stored)?;
        self.remove_pending(&name)
    }

    /// How many results lie aside.
    pub fn refused(&self) -> Result<usize, OutboxError> {
        Ok(names(&self.refused)?.len())
    }

    /// Where they lie.
    pub fn refused_folder(&self) -> &Path {
        &self.refused
    }

    fn remove_pending(&self, name: &str) -> Result<(), OutboxError> {
        let path = self.pending.join(name);
        match fs::remove_file(&path) {
            // It was confirmed before: a coordinator that lost it has asked again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("remove", &path)(error)),
            Ok(()) => sync_folder(&self.pending),
        }
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
            receipt: Some(receipt.to_value()),
            position: Some(position),
            ..StoredResult::new(result)
        };
        write_durably(&self.receipted, &name, &stored)?;
        let observation = result.envelope.observation_id();
        self.remember(self.newest_receipt().max(Some(NewestReceipt { position, observation })));
        self.remove_pending(&name)?;
        if self.unswept.fetch_add(1, Ordering::Relaxed) + 1 >= SWEEP_EVERY {
            self.unswept.store(0, Ordering::Relaxed);
            self.drop_surplus(bound::RECEIPTED)?;
        }
        Ok(())
    }

    /// Drops receipted results beyond the bound, after their leases were noted as answered. Gives
    /// how many. Neither one without a receipt, nor the one whose receipt the coordinator is asked
    /// to compare, is ever dropped.
    fn drop_surplus(&self, most: bound::Bound) -> Result<usize, OutboxError> {
        let mut held = Vec::new();
        for name in names(&self.receipted)? {
            let path = self.receipted.join(&name);
            let filed = fs::metadata(&path).and_then(|meta| meta.modified());
            held.push(bound::Held { filed: filed.map_err(io_error("look at", &path))?, name });
        }
        let newest = self.newest_receipt().map(|newest| newest.position);
        let mut dropped = Vec::new();
        for name in bound::surplus(held, most) {
            let path = self.receipted.join(name);
            let (result, position) = read(&path)?;
            if position.is_some() && position != newest {
                dropped.push((path, result.lease));
            }
        }
        if dropped.is_empty() {
            return Ok(0);
        }
        let leases: Vec<LeaseId> = dropped.iter().map(|(_, lease)| *lease).collect();
        self.answered.note(&leases)?;
        for (path, _) in &dropped {
            fs::remove_file(path).map_err(io_error("remove", path))?;
        }
        sync_folder(&self.receipted)?;
        tracing::info!(outbox.dropped = dropped.len(), "old results with receipts were dropped");
        Ok(dropped.len())
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
