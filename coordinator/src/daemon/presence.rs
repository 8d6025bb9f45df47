//! When each worker was heard last, and what it said of itself: for who looks after a fleet.
//!
//! Invariant: soft state that decides nothing: a start begins with nothing, and nothing that is not
//! known is made up. Only enrolled workers are noted, so there are never more rows than records.

use attest::{id::WorkerId, time::Timestamp};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Longest version that is kept, characters.
const VERSION_CHARS_MAX: usize = 64;
/// A worker that was not heard for so long is away: its calls are held 30 s, and come every 15 s
/// while it works.
const AWAY_SECONDS: i64 = 120;

/// What a worker said with its last call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: Timestamp,
    /// The version of its program.
    pub version: String,
}

impl Heard {
    /// True if it is silent for longer than a worker at work ever is.
    pub fn is_away(&self, now: Timestamp) -> bool {
        now.unix() - self.at.unix() > AWAY_SECONDS
    }
}

/// The workers that were heard since the start.
#[derive(Debug, Default)]
pub struct Presence(Mutex<BTreeMap<WorkerId, Heard>>);

impl Presence {
    /// An enrolled worker called.
    pub fn heard(&self, worker: WorkerId, version: &str, at: Timestamp) {
        let version = version.chars().filter(|c| !c.is_control()).take(VERSION_CHARS_MAX).collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(worker, Heard { at, version });
    }

    /// The last call of a worker, if there was one since the start.
    pub fn of(&self, worker: &WorkerId) -> Option<Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(worker).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::Digest;

    #[test]
    fn the_last_word_counts_and_who_was_not_heard_has_none() {
        let (presence, worker) = (Presence::default(), WorkerId(Digest::of(b"w")));
        let at = |seconds| Timestamp::from_unix(seconds).unwrap();
        assert_eq!(presence.of(&worker), None);
        presence.heard(worker, "0.1.0", at(1000));
        presence.heard(worker, &format!("0.2\u{1b}{}", "x".repeat(100)), at(2000));
        let heard = presence.of(&worker).unwrap();
        assert_eq!((heard.at, heard.version.chars().count()), (at(2000), VERSION_CHARS_MAX));
        assert!(!heard.is_away(at(2120)) && heard.is_away(at(2121)));
    }
}
