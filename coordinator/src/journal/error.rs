//! What can go wrong with the journal, said so that a person can act.
//!
//! Invariant: "no room" is told apart from "the disk fails": the first is refused and survived, the
//! second ends the process. No message ever suggests to go on with a journal that may lie.

use attest::{Digest, id::JournalPosition};
use std::io;

/// An error of the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Another coordinator has the directory.
    #[error("expected to be alone in {place}, found another coordinator at work there")]
    Locked {
        /// The data directory.
        place: String,
    },
    /// The disk is full: nothing of this append was kept.
    #[error("expected room for the record, found the disk of the journal full")]
    NoSpace,
    /// An append before this one failed, and this one may depend on it.
    #[error("expected the append before to succeed; it failed, so this one was not made")]
    Superseded,
    /// A record is longer than the format allows.
    #[error("expected a record of at most {limit} bytes, found {found}")]
    TooLong {
        /// The limit.
        limit: usize,
        /// What was given.
        found: usize,
    },
    /// More is waiting for the disk than may wait.
    #[error("expected at most {limit} bytes waiting for the disk, found {found}")]
    Overloaded {
        /// The limit.
        limit: usize,
        /// What waits.
        found: usize,
    },
    /// A record in the middle is not what was written.
    #[error("journal damaged at position {position} ({segment}, byte {offset}): {why}")]
    Damaged {
        /// The first record that cannot be read.
        position: u64,
        /// The file.
        segment: String,
        /// The byte in it.
        offset: u64,
        /// What was expected and found.
        why: String,
    },
    /// The journal ends before something that was promised to others.
    #[error(
        "the journal ends at position {end}, but {promise} promised records up to {floor}: \
         acknowledged records are missing"
    )]
    BelowFloor {
        /// The position after the last record that can be read.
        end: u64,
        /// The position that was promised.
        floor: u64,
        /// What promised it.
        promise: String,
    },
    /// The journal is another one, or another history, than was promised to others.
    #[error("expected the chain {expected} at position {position}, found {found}")]
    OtherHistory {
        /// Where.
        position: u64,
        /// What was promised.
        expected: Digest,
        /// What is there.
        found: Digest,
    },
    /// A file of the journal is missing or does not belong to it.
    #[error("expected {expected}, found {found}")]
    Files {
        /// What should be there.
        expected: String,
        /// What is.
        found: String,
    },
    /// An operation of the file system failed.
    #[error("could not {action} {name}: {why}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        name: String,
        /// The system's word.
        why: String,
    },
    /// The disk failed where no retry is honest; the process is ending.
    #[error("the journal stopped: {0}")]
    Fatal(String),
    /// The journal was closed.
    #[error("expected an open journal, found it closed")]
    Closed,
}

impl JournalError {
    /// From a failed operation; a full disk becomes [`JournalError::NoSpace`].
    pub(crate) fn io(action: &'static str, name: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io { action, name: name.to_owned(), why: error.to_string() },
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Locked { .. } => "stop the other coordinator, or choose another data directory \
                                    (one directory belongs to one coordinator)"
                .into(),
            Self::NoSpace => "free space on the disk of the data directory; the coordinator goes \
                              on by itself as soon as there is room"
                .into(),
            Self::Damaged { position, .. } => format!(
                "`assay coordinator fsck DIR` shows the extent. Restore the newest backup with \
                 `assay coordinator restore`; or, accepting the loss of every record from \
                 {position} on, run `assay coordinator fsck DIR --cut-at {position} --accept-loss` \
                 (what is cut is kept aside, not deleted)"
            ),
            Self::BelowFloor { end, .. } => format!(
                "look for a newer copy of the data directory or a backup. Records that others hold \
                 receipts for are gone; to go on without them run \
                 `assay coordinator fsck DIR --cut-at {end} --accept-loss` and publish that you did"
            ),
            Self::OtherHistory { .. } => "this is not the journal that the published tree head or \
                                          the receipt belongs to: check which data directory is \
                                          configured"
                .into(),
            Self::Files { .. } => "restore the missing file from a backup; never rename segments \
                                   by hand. `assay coordinator fsck DIR` shows what can be read"
                .into(),
            Self::Fatal(_) => {
                "check the disk (dmesg, smartctl), then start the coordinator again: \
                               it recovers what was durable"
                    .into()
            }
            _ => return None,
        })
    }
}

/// A receipt, or a tree head, that shows how far the journal must reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// How many records must be there.
    pub position: JournalPosition,
    /// The chain's value at that position, where it is known.
    pub chain: Option<Digest>,
    /// What promised it: for messages.
    pub promise: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_can_do_something_is_told_what() {
        let digest = Digest::of(b"x");
        let (expected, found) = ("a".to_owned(), "b".to_owned());
        let (segment, why, promise) = ("s".to_owned(), "w".to_owned(), "p".to_owned());
        let told = [
            (JournalError::Locked { place: "here".into() }, "stop the other coordinator"),
            (JournalError::NoSpace, "free space"),
            (JournalError::Damaged { position: 7, segment, offset: 9, why }, "--cut-at 7"),
            (JournalError::BelowFloor { end: 3, floor: 5, promise }, "--cut-at 3"),
            (
                JournalError::OtherHistory { position: 1, expected: digest, found: digest },
                "which data directory",
            ),
            (JournalError::Files { expected, found }, "restore the missing file"),
            (JournalError::Fatal("a sync".into()), "check the disk"),
        ];
        for (error, part) in told {
            let hint = error.hint().unwrap_or_default();
            assert!(hint.contains(part), "{error}: {hint}");
        }
        assert_eq!(JournalError::Closed.hint(), None);
    }
}
