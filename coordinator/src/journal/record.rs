//! What the journal keeps: a kind, what the record is about, and bytes nobody writes again.
//!
//! Invariant: the journal never looks into a body; a signed envelope goes in and comes out as the
//! same bytes. A kind that this version does not know is kept and passed on, never dropped. It must
//! never guess what a record is about: `about` is given by whoever appends.

use attest::{Digest, id::JournalPosition, time::Timestamp};
use std::fmt;

/// What a record is. A number, so that kinds of a later version can be read and passed on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $public:literal;)+) => {
        impl Kind {
            $($(#[$doc])* pub const $name: Self = Self($code);)+

            /// Every kind of this version, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The kind's name, or none for one of a later version.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($code => Some($text),)+ _ => None }
            }

            /// Whether records of this kind are leaves of the public log.
            pub const fn public(self) -> bool {
                match self.0 { $($code => $public,)+ _ => false }
            }
        }
    };
}

kinds! {
    /// An operator and its root key; about SHA-256 of the operator's name.
    OPERATOR = 1, "operator-record", true;
    /// A worker vouched for by its operator; about the worker.
    WORKER = 2, "worker-record", true;
    /// A job is open for rebuilding; about the job.
    ANNOUNCE = 3, "job-announce", true;
    /// Permission to execute, signed by the coordinator; about the job.
    LEASE = 4, "lease", false;
    /// Second stage: hash of an observation before it is shown; about the job.
    COMMIT = 5, "commit", true;
    /// What the coordinator gave back for a commit or an observation; about the job.
    RECEIPT = 6, "receipt", true;
    /// What a worker built, as the worker signed it; about the job.
    OBSERVATION = 7, "observation", true;
    /// An offer that nobody took; about the job.
    SKIP = 8, "skip", false;
    /// A worker's complaint about a draw; about the job.
    PROTEST = 9, "protest", true;
    /// A question to a worker about its work; about the job.
    CHALLENGE = 10, "challenge", true;
    /// A key that must not count any more; about the key.
    REVOCATION = 11, "key-revocation", true;
    /// What the coordinator concluded; about the job.
    VERDICT = 12, "verdict", true;
    /// A tag of a watched repository and what it named; about SHA-256 of the repository's name.
    TAG_SEEN = 13, "tag-seen", false;
    /// A step of the queue's state machine (JSON, see `queue::transition`); about the job.
    TRANSITION = 14, "queue-transition", false;
    /// What is to be published: an attestation, or that none stands; about the job, or about an
    /// image's index (`daemon::evidence::about_image`).
    PUBLICATION = 15, "publication", false;
    /// Evidence of the publisher, as it was found; about the subject's digest.
    EVIDENCE = 16, "publisher-evidence", false;
    /// A repository that is watched, or is not any more; about SHA-256 of what identifies the watch.
    WATCH = 17, "watch", false;
    /// Whether an administrator wants a worker to get nothing new (JSON, `daemon::drains`); about
    /// the worker.
    DRAIN = 18, "worker-drain", false;
    /// How a look at a watched repository went (JSON, `daemon::watch`); about the watch.
    LOOK = 19, "watch-look", false;
    /// That a publication arrived where it goes (JSON, `store::Pushed`); about what
    /// the publication is about.
    PUSHED = 20, "pushed", false;
    /// Up to which position something was followed to its end: revocations, what indexes rest on
    /// (JSON, `daemon::review`).
    REVIEWED = 21, "reviewed", false;
    /// A key that the coordinator signs verdicts with, from here on (JSON, `daemon::signers`).
    VERDICT_KEY = 22, "verdict-key", false;
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "kind-{}", self.0),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A record on its way into the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// What it is.
    pub kind: Kind,
    /// Whether it becomes a leaf of the public log.
    pub public: bool,
    /// What it is about: a job, a worker, a hash of a name. The index finds it by this.
    pub about: Digest,
    /// The bytes, as they were signed or sent.
    pub body: Vec<u8>,
}

impl NewRecord {
    /// A record with the kind's usual visibility.
    pub fn new(kind: Kind, about: Digest, body: impl Into<Vec<u8>>) -> Self {
        Self { kind, public: kind.public(), about, body: body.into() }
    }
}

/// A record that lies in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number, from 0, without holes.
    pub position: JournalPosition,
    /// The wall clock of whoever appended it. Informative: nothing is ordered by it.
    pub time: Timestamp,
    /// What it is.
    pub kind: Kind,
    /// Whether it is a leaf of the public log.
    pub public: bool,
    /// Whether the next record belongs to the same all-or-nothing group.
    pub continued: bool,
    /// What it is about.
    pub about: Digest,
    /// The bytes.
    pub body: Vec<u8>,
    /// The chain's value after this record: it fixes everything up to here.
    pub chain: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_distinct_and_private_where_the_protocol_says_so() {
        let mut numbers: Vec<u16> = Kind::ALL.iter().map(|kind| kind.0).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), Kind::ALL.len());
        for private in [Kind::LEASE, Kind::SKIP, Kind::TRANSITION, Kind(999)] {
            assert!(!private.public(), "{private}");
        }
        assert_eq!(Kind(999).to_string(), "kind-999");
        assert_eq!(format!("{:?}", [Kind(999), Kind::OBSERVATION]), "[kind-999, observation]");
    }
}
