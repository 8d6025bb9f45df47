//! The kinds of records, each with who signs it.
//!
//! Invariant: fields are checked for size only; whether a record is *true* is decided by which key
//! signed it. A time in a record is its signer's word and orders nothing by itself.

use super::{RECORD_LIST_MAX, RECORD_TEXT_BYTES_MAX, Random32, Record, RecordError};
use super::{key_from_text, key_to_text};
use crate::{
    Digest, Subject,
    id::{Attempt, Fence, JobId, JournalPosition, LeaseId, ObservationId, OperatorId, WorkerId},
    key::PublicKey,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Most pieces of evidence that an announcement names.
pub const ANNOUNCED_EVIDENCE_MAX: usize = 1024;

/// From when to when a record holds, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    /// The first moment.
    pub from: Timestamp,
    /// The last moment.
    pub until: Timestamp,
}

impl Validity {
    /// True when the moment lies within.
    pub fn contains(&self, moment: Timestamp) -> bool {
        self.from <= moment && moment <= self.until
    }
}

/// An operator about itself. Signed by its root key. The policy alone binds the name to the key;
/// the affiliations and the validity can only take something away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorRecord {
    /// The name.
    pub operator: OperatorId,
    /// The root key; base64 of SPKI DER in JSON.
    #[serde(serialize_with = "key_to_text", deserialize_with = "key_from_text")]
    pub root_key: PublicKey,
    /// The organisation's name.
    pub organisation: String,
    /// Publishers to which it is not independent.
    pub affiliations: Vec<String>,
    /// How to reach it.
    pub contact: String,
    /// When it operates under this key.
    pub valid: Validity,
}

/// What a worker can do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Architectures whose images it rebuilds, in Go's words.
    pub architectures: Vec<String>,
    /// Rebuilders: `apko`.
    pub rebuilders: Vec<String>,
    /// Isolation of what runs code: `none`, `landlock`, `bubblewrap`.
    pub isolation: Vec<String>,
}

/// The class of environment in which a worker runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentClass {
    /// The CPU.
    pub cpu: String,
    /// The kernel.
    pub kernel: String,
    /// The file system.
    pub filesystem: String,
}

/// An operator vouches for a worker's key. Signed by the operator's root key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerRecord {
    /// The operator.
    pub operator: OperatorId,
    /// The worker's key; base64 of SPKI DER in JSON.
    #[serde(serialize_with = "key_to_text", deserialize_with = "key_from_text")]
    pub key: PublicKey,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Where it runs.
    pub environment: EnvironmentClass,
    /// When the operator stands for it.
    pub valid: Validity,
}

impl WorkerRecord {
    /// The worker: its key's identity.
    pub fn worker(&self) -> WorkerId {
        WorkerId(self.key.id())
    }
}

/// A job is opened, or opened again. Signed by the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobAnnounce {
    /// The job.
    pub job: JobId,
    /// The published image.
    pub subject: Subject,
    /// The index in which it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
    /// The recipes that the coordinator derived, ascending.
    pub recipes: Vec<Digest>,
    /// The evidence that it knew.
    pub evidence: Vec<Digest>,
    /// The rebuilder that is needed: `apko`.
    pub rebuilder: String,
    /// m: how many observations of distinct operators are wanted.
    pub observations_wanted: u32,
    /// The class: `gate`, `push`, `recheck`, `backfill`.
    pub class: String,
    /// Which opening of the job.
    pub attempt: Attempt,
    /// The dissents because of which it was opened again: they came before this attempt.
    pub reopened_by: Vec<ObservationId>,
    /// The coordinator's clock.
    pub announced_at: Timestamp,
    /// Second stage: the checkpoint whose workers are eligible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eligible_checkpoint: Option<Digest>,
    /// Second stage: the round of the beacon that draws them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beacon_round: Option<u64>,
}

/// Permission for one worker to execute one job once. Signed by the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// Which opening of it.
    pub attempt: Attempt,
    /// Which of the wanted observations.
    pub slot: u32,
    /// The worker.
    pub worker: WorkerId,
    /// The permission's identity.
    pub lease: LeaseId,
    /// Strictly increasing per job: a lease of the same slot with a higher fence replaces this one.
    pub fence: Fence,
    /// The coordinator's clock when it was granted.
    pub issued_at: Timestamp,
    /// Until when the result is expected.
    pub not_after: Timestamp,
    /// Second stage: the salt of the input MAC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Random32>,
}

/// The coordinator has this observation on disk. Signed by the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The observation: SHA-256 of what was signed.
    pub observation: ObservationId,
    /// The job.
    pub job: JobId,
    /// The lease.
    pub lease: LeaseId,
    /// Where it stands in the journal.
    pub position: JournalPosition,
    /// The coordinator's clock.
    pub received_at: Timestamp,
    /// Where it will stand in the log, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_index: Option<u64>,
}

/// A key must not be believed any more. Signed by the operator's root key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRevocation {
    /// The operator whose key it is.
    pub operator: OperatorId,
    /// SHA-256 of the key's SPKI DER: a worker's key, or the root key itself.
    pub key: Digest,
    /// Since when it may have been in other hands. None: nothing that it signed is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised_since: Option<Timestamp>,
    /// Why, for people.
    pub reason: String,
    /// The operator's clock.
    pub revoked_at: Timestamp,
}

fn text(field: &'static str, value: &str) -> Result<(), RecordError> {
    if value.len() <= RECORD_TEXT_BYTES_MAX && !value.chars().any(char::is_control) {
        return Ok(());
    }
    Err(RecordError::Field { field, expected: "one line of at most 1024 bytes" })
}

fn texts(field: &'static str, values: &[String]) -> Result<(), RecordError> {
    if values.len() > RECORD_LIST_MAX {
        return Err(RecordError::Field { field, expected: "at most 256 entries" });
    }
    values.iter().try_for_each(|value| text(field, value))
}

fn valid(valid: &Validity) -> Result<(), RecordError> {
    if valid.from <= valid.until {
        return Ok(());
    }
    Err(RecordError::Field { field: "valid", expected: "a time that ends after it begins" })
}

impl Record for OperatorRecord {
    const KIND: &'static str = "operator";

    fn check(&self) -> Result<(), RecordError> {
        text("organisation", &self.organisation)?;
        text("contact", &self.contact)?;
        texts("affiliations", &self.affiliations)?;
        valid(&self.valid)
    }
}

impl Record for WorkerRecord {
    const KIND: &'static str = "worker";

    fn check(&self) -> Result<(), RecordError> {
        texts("capabilities.architectures", &self.capabilities.architectures)?;
        texts("capabilities.rebuilders", &self.capabilities.rebuilders)?;
        texts("capabilities.isolation", &self.capabilities.isolation)?;
        text("environment.cpu", &self.environment.cpu)?;
        text("environment.kernel", &self.environment.kernel)?;
        text("environment.filesystem", &self.environment.filesystem)?;
        if !self.key.is_p256() {
            return Err(RecordError::Field { field: "key", expected: "an ECDSA P-256 key" });
        }
        valid(&self.valid)
    }
}

impl Record for JobAnnounce {
    const KIND: &'static str = "announce";

    fn check(&self) -> Result<(), RecordError> {
        text("rebuilder", &self.rebuilder)?;
        text("class", &self.class)?;
        let ordered = self.recipes.windows(2).all(|pair| pair[0] < pair[1]);
        if self.recipes.len() > crate::recipe::RECIPES_MAX || !ordered {
            let expected = "at most 4 digests, ascending";
            return Err(RecordError::Field { field: "recipes", expected });
        }
        if self.evidence.len() > ANNOUNCED_EVIDENCE_MAX {
            return Err(RecordError::Field { field: "evidence", expected: "at most 1024 digests" });
        }
        if self.reopened_by.len() > RECORD_LIST_MAX {
            return Err(RecordError::Field { field: "reopened_by", expected: "at most 256" });
        }
        Ok(())
    }
}

impl Record for Lease {
    const KIND: &'static str = "lease";

    fn check(&self) -> Result<(), RecordError> {
        if self.issued_at <= self.not_after {
            return Ok(());
        }
        Err(RecordError::Field { field: "not_after", expected: "not before issued_at" })
    }
}

impl Record for Receipt {
    const KIND: &'static str = "receipt";

    fn check(&self) -> Result<(), RecordError> {
        Ok(())
    }
}

impl Record for KeyRevocation {
    const KIND: &'static str = "revocation";

    fn check(&self) -> Result<(), RecordError> {
        text("reason", &self.reason)
    }
}
