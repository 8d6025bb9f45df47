//! The keys and rows of the index.
//!
//! | key | value |
//! |---|---|
//! | `m` | how far the journal was followed (JSON [`Reached`]) |
//! | `j` job piece | the job's state ([`job::encode`]), in pieces of 64,000 bytes |
//! | `w` route rank job, `d` moment job, `a` job | where unfinished jobs lie |
//! | `r` position | a row of history, at most 512 bytes (see [`HistoryRow::encode`]) |
//! | `h` repository digest position, `g` repository position | nothing: history |
//! | `i` repository digest job | nothing: jobs of an image |
//! | `o` observation | position of its envelope |
//! | `l` lease | position of the signed lease |
//! | `k` kind about position | nothing: records by what they are about |
//! | `t` tenant, `c` class | how many unfinished jobs |
//! | `u` about | position of the newest publication, while it is not where it goes |
//!
//! Numbers in keys, and positions, are big-endian, so that keys sort; a repository and a route are the first half of a
//! SHA-256.
//! Invariant: a row follows from journal records only, so an index that is made again is the same,
//! byte for byte. No observation takes more than [`ROW_BYTES_MAX`]. A row must never hold what the journal
//! lacks.

mod bytes;
pub(super) mod job;

use crate::journal::Kind;
use crate::queue::{Answer, Millis, Role, Route, Said};
use attest::{
    Digest, Repository,
    id::{Attempt, Fence, JobId, JournalPosition, LeaseId, ObservationId, OperatorId, WorkerId},
    time::Timestamp,
};
use bytes::{Reader, Writer};
use serde::{Deserialize, Serialize};

/// The layout of the rows; an index with another one is made again.
pub const SCHEMA: u32 = 5;
/// Longest row of history: sled was measured with rows of up to 512 bytes.
pub const ROW_BYTES_MAX: usize = 512;
/// Longest class or outcome that a row holds; the envelope has all of it.
const CLASS_BYTES_MAX: usize = 64;

/// How far an index followed which journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The journal's identity, in hex.
    pub journal: String,
    /// The position of the first record that was not followed.
    pub next: u64,
    /// The journal's chain there.
    pub chain: Digest,
    /// The coordinator's clock in the last transition.
    pub clock: Millis,
}

/// One line of an image's history: an observation, or a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryRow {
    /// The journal position of the envelope.
    pub position: JournalPosition,
    /// The coordinator's wall clock when it was written.
    pub time: Timestamp,
    /// The job.
    pub job: JobId,
    /// Which opening of the job.
    pub attempt: Attempt,
    /// What it is.
    pub event: HistoryEvent,
}

/// What a row of history tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryEvent {
    /// A worker observed something.
    Observation {
        /// The observation.
        observation: ObservationId,
        /// Whose.
        operator: OperatorId,
        /// Which worker's.
        worker: WorkerId,
        /// Under which lease.
        lease: LeaseId,
        /// With which fence.
        fence: Fence,
        /// How it was filed.
        role: Role,
        /// `OUTPUT`, `BUILD_FAILED`, …
        outcome: String,
        /// The class of the failure, cut at 64 bytes; empty for an output.
        class: String,
        /// The manifest that was built.
        manifest: Option<Digest>,
        /// How long it took.
        duration_ms: u64,
    },
    /// The coordinator judged.
    Verdict {
        /// `reproduced`, `diverged`, …; none if it did not settle the job: the record has it.
        outcome: Option<String>,
    },
}

impl HistoryRow {
    /// The row of an observation.
    pub(super) fn observed(
        position: JournalPosition,
        time: Timestamp,
        job: JobId,
        answer: &Answer,
    ) -> Self {
        let (class, manifest) = match &answer.said {
            Said::Output { manifest } => ("", Some(*manifest)),
            Said::BuildFailed { class }
            | Said::RecipeInvalid { class }
            | Said::LimitExceeded { class } => (class.as_str(), None),
            Said::InputUnavailable | Said::Timeout | Said::Refused => ("", None),
        };
        let event = HistoryEvent::Observation {
            observation: answer.observation,
            operator: answer.operator.clone(),
            worker: answer.worker,
            lease: answer.lease,
            fence: answer.fence,
            role: answer.role,
            outcome: answer.said.as_str().to_owned(),
            class: cut(class).to_owned(),
            manifest,
            duration_ms: answer.duration_ms,
        };
        Self { position, time, job, attempt: answer.attempt, event }
    }

    /// The row's bytes: a code for what it is, then the fields.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(320));
        out.code(match self.event {
            HistoryEvent::Observation { .. } => 1,
            HistoryEvent::Verdict { outcome: Some(_) } => 2,
            HistoryEvent::Verdict { outcome: None } => 3,
        });
        out.number(self.position.0);
        out.raw(&self.time.unix().to_be_bytes());
        out.raw(self.job.0.raw());
        out.number(self.attempt.0);
        match &self.event {
            HistoryEvent::Observation {
                observation,
                operator,
                worker,
                lease,
                fence,
                role,
                outcome,
                class,
                manifest,
                duration_ms,
            } => {
                out.raw(observation.0.raw());
                out.text(cut(operator.as_str()));
                out.raw(worker.0.raw());
                out.raw(&lease.0);
                out.number(fence.0);
                out.code(*role as u8);
                out.text(cut(outcome));
                out.text(cut(class));
                out.maybe(*manifest, |out, manifest| out.raw(manifest.raw()));
                out.number(*duration_ms);
            }
            HistoryEvent::Verdict { outcome: Some(outcome) } => out.text(cut(outcome)),
            HistoryEvent::Verdict { outcome: None } => {}
        }
        debug_assert!(out.0.len() <= ROW_BYTES_MAX);
        out.0
    }

    /// Reads a row; none if it is not one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut at = Reader(bytes);
        let code = at.code()?;
        let position = JournalPosition(at.number()?);
        let time = Timestamp::from_unix(i64::from_be_bytes(at.take()?)).ok()?;
        let job = JobId(at.digest()?);
        let attempt = Attempt(at.number()?);
        let event = match code {
            1 => HistoryEvent::Observation {
                observation: ObservationId(at.digest()?),
                operator: at.text()?.parse().ok()?,
                worker: WorkerId(at.digest()?),
                lease: LeaseId(at.take()?),
                fence: Fence(at.number()?),
                role: role(at.code()?)?,
                outcome: at.text()?,
                class: at.text()?,
                manifest: at.maybe(Reader::digest)?,
                duration_ms: at.number()?,
            },
            2 => HistoryEvent::Verdict { outcome: Some(at.text()?) },
            3 => HistoryEvent::Verdict { outcome: None },
            _ => return None,
        };
        at.0.is_empty().then_some(Self { position, time, job, attempt, event })
    }
}

fn role(number: u8) -> Option<Role> {
    [Role::Counted, Role::Noted, Role::Volunteer, Role::Equivocation].get(number as usize).copied()
}

/// At most 64 bytes of a text, whole characters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(CLASS_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A key: its table's letter and its parts.
pub(super) fn key(table: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![table];
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// The key after all keys that begin with this one.
pub(super) fn after(prefix: &[u8]) -> Vec<u8> {
    let mut out = prefix.to_vec();
    while let Some(last) = out.pop() {
        if let Some(next) = last.checked_add(1) {
            out.push(next);
            break;
        }
    }
    out
}

/// The first half of SHA-256 of a repository's name: 2^64 repositories before two are mixed up,
/// and then the row's job still says which is meant.
pub(super) fn repository_key(repository: &Repository) -> [u8; 16] {
    let digest = Digest::of(repository.as_str().as_bytes());
    let mut out = [0; 16];
    out.copy_from_slice(&digest.raw()[..16]);
    out
}

/// The first half of SHA-256 of a route's parts, each with its length before it. Two that were mixed
/// up would wait in one line, no more.
pub(super) fn route_key(route: &Route) -> [u8; 16] {
    let Route { architecture, rebuilder, memory_class, registry } = route;
    let mut parts = memory_class.to_be_bytes().to_vec();
    for text in [architecture, rebuilder, registry] {
        parts.extend((text.len() as u64).to_be_bytes());
        parts.extend(text.as_bytes());
    }
    let mut out = [0; 16];
    out.copy_from_slice(&Digest::of(&parts).raw()[..16]);
    out
}

pub(super) fn kind_key(kind: Kind, about: &Digest, position: u64) -> Vec<u8> {
    key(b'k', &[&kind.0.to_be_bytes(), about.raw(), &position.to_be_bytes()])
}

/// The number in the last eight bytes of a key.
pub(super) fn tail_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|eight| u64::from_be_bytes(*eight))
}

/// The digest in the last 32 bytes of a key.
pub(super) fn tail_digest(key: &[u8]) -> Option<Digest> {
    key.last_chunk().map(|raw| Digest::from_raw(*raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_longest_row_fits_and_rows_round_trip(
            operator in "[a-z][a-z0-9._-]{0,63}", class in "\\PC{0,200}", built: bool, n: u64,
        ) {
            let said = if built {
                Said::Output { manifest: Digest::of(b"m") }
            } else {
                Said::BuildFailed { class }
            };
            let answer = Answer {
                observation: ObservationId(Digest::of(b"o")),
                operator: operator.parse().unwrap(),
                worker: WorkerId(Digest::of(b"w")),
                attempt: Attempt(n),
                lease: LeaseId([7; 16]),
                fence: Fence(n),
                said,
                role: Role::Equivocation,
                duration_ms: n,
                bytes: n,
            };
            let time = Timestamp::from_unix(1_800_000_000).unwrap();
            let row =
                HistoryRow::observed(JournalPosition(n), time, JobId(Digest::of(b"j")), &answer);
            let bytes = row.encode();
            prop_assert!(bytes.len() <= ROW_BYTES_MAX);
            prop_assert_eq!(HistoryRow::decode(&bytes).unwrap(), row);
            prop_assert!(HistoryRow::decode(&bytes[..bytes.len() - 1]).is_none());
        }

        #[test]
        fn foreign_rows_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = HistoryRow::decode(&bytes);
        }
    }

    #[test]
    fn verdicts_round_trip_with_an_outcome_and_without() {
        for outcome in [Some("reproduced".to_owned()), Some(String::new()), None] {
            let event = HistoryEvent::Verdict { outcome };
            let (position, job) = (JournalPosition(7), JobId(Digest::of(b"j")));
            let row = HistoryRow {
                position,
                time: Timestamp::default(),
                job,
                attempt: Attempt(2),
                event,
            };
            assert_eq!(HistoryRow::decode(&row.encode()), Some(row));
        }
    }

    #[test]
    fn the_key_after_a_prefix() {
        assert_eq!(after(b"k"), b"l");
        assert_eq!(after(&[1, 255]), [2]);
        assert_eq!(after(&[255]), Vec::<u8>::new());
    }
}
