//! Signatures that verified in this process, so that one is computed once.
//!
//! A coordinator meets the same record of an operator, and the same observation, in a submission
//! and in each judgement: the curve's arithmetic was a seventh of its work. Invariant: an entry names
//! key, signature and message by SHA-256, and stands here only after the library accepted exactly
//! these, so no answer changes. It must never hold a refusal, or what was signed but not verified.

use sha2::{Digest as _, Sha256};
use std::{
    collections::{HashSet, VecDeque},
    sync::{LazyLock, Mutex, PoisonError},
};

/// Entries: those of a few thousand jobs, in about 1.5 MiB. The oldest goes first.
const ENTRIES_MAX: usize = 16_384;

/// SHA-256 of key, signature and message, each with its length.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name([u8; 32]);

#[derive(Default)]
struct Verified {
    names: HashSet<Name>,
    order: VecDeque<Name>,
}

static VERIFIED: LazyLock<Mutex<Verified>> = LazyLock::new(Mutex::default);

/// What the three together are called here.
pub(crate) fn name(spki: &[u8], signature: &[u8], message: &[u8]) -> Name {
    let mut hash = Sha256::new();
    for part in [spki, signature, message] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Name(hash.finalize().into())
}

/// True if the library accepted it before.
pub(crate) fn holds(name: &Name) -> bool {
    VERIFIED.lock().unwrap_or_else(PoisonError::into_inner).names.contains(name)
}

/// The library accepted it.
pub(crate) fn keep(name: Name) {
    VERIFIED.lock().unwrap_or_else(PoisonError::into_inner).keep(name);
}

impl Verified {
    fn keep(&mut self, name: Name) {
        if !self.names.insert(name) {
            return;
        }
        self.order.push_back(name);
        if self.order.len() > ENTRIES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    #[test]
    fn only_what_verified_is_remembered_and_only_as_it_was() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signature = key.sign(b"message").unwrap();
        let of =
            |key: &SigningKey, message: &[u8]| name(key.public().spki_der(), &signature, message);
        assert!(!holds(&of(&key, b"message")));
        assert!(key.public().verify(b"messagE", &signature).is_err());
        assert!(other.public().verify(b"message", &signature).is_err());
        assert!(!holds(&of(&key, b"messagE")) && !holds(&of(&other, b"message")));
        for _ in 0..2 {
            key.public().verify(b"message", &signature).unwrap();
            assert!(holds(&of(&key, b"message")));
            assert!(key.public().verify(b"messagE", &signature).is_err());
            assert!(other.public().verify(b"message", &signature).is_err());
        }
        // Bytes that move from one part to the next make another name.
        assert!(name(b"ab", b"c", b"d") != name(b"a", b"bc", b"d"));
    }

    #[test]
    fn the_oldest_goes_first() {
        let names: Vec<Name> =
            (0..=ENTRIES_MAX as u64).map(|n| name(b"", b"", &n.to_le_bytes())).collect();
        let mut verified = Verified::default();
        for name in names.iter().chain(&names[ENTRIES_MAX..]) {
            verified.keep(*name);
        }
        assert!(!verified.names.contains(&names[0]) && verified.names.contains(&names[1]));
        assert_eq!(verified.names.len(), ENTRIES_MAX);
    }
}
