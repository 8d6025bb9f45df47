//! Which jobs the tables may have, in 4 MiB of memory: a Bloom filter over their identities.
//!
//! Every job that is announced is looked for first, and nearly always it is new. sled lets readers wait
//! while it commits, 50 ms and more, and whoever decides lets all others wait.
//! Invariant: a job that the tables have is never said to be absent (it has a row of its image, written
//! with its first state); one that they lack may be said to
//! be there, and is looked for. Before all jobs of an index that was opened were learned, all may be
//! there. It must never answer anything but where to look.

use super::{
    Index,
    error::{IndexError, doubt},
};
use crate::store::{
    rows::{after, key, tail_digest},
    tables::Tables,
};
use attest::id::JobId;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bits, a power of two: of a million jobs one in 6,000 is looked for in vain, of ten million one in 4.
const BITS: usize = 1 << 25;
/// A letter, a repository, a digest, a job.
const IMAGE_ROW_BYTES: usize = 1 + 16 + 32 + 32;
/// Jobs that are learned at a time.
const PAGE: usize = 1000;

/// The filter.
#[derive(Debug)]
pub(super) struct Known(Mutex<Filter>);

#[derive(Debug)]
struct Filter {
    words: Vec<u64>,
    /// Every job of the tables is in it.
    whole: bool,
}

impl Known {
    /// Knows no job; whether that is all there are.
    pub(super) fn new(whole: bool) -> Self {
        Self(Mutex::new(Filter { words: vec![0; BITS / 64], whole }))
    }

    pub(super) fn add(&self, id: &JobId) {
        let mut filter = self.lock();
        for bit in bits(id) {
            filter.words[bit / 64] |= 1 << (bit % 64);
        }
    }

    pub(super) fn may_have(&self, id: &JobId) -> bool {
        let filter = self.lock();
        !filter.whole || bits(id).all(|bit| filter.words[bit / 64] & (1 << (bit % 64)) != 0)
    }

    fn lock(&self) -> MutexGuard<'_, Filter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Four bits of the filter. An identity is a SHA-256 of its own: its words are as good as any hash.
fn bits(id: &JobId) -> impl Iterator<Item = usize> {
    let raw = *id.0.raw();
    (0..4).map(move |word| {
        let at = word * 8;
        let low = u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        low as usize % BITS
    })
}

impl<T: Tables> Index<T> {
    /// Learns the next jobs that the tables had when it was opened, after the row with this key. None
    /// when there are no more: from now on it knows what is new.
    pub(crate) fn learn_jobs(&self, behind: Option<&[u8]>) -> Result<Option<Vec<u8>>, IndexError> {
        let start = behind.map_or(key(b'i', &[]), |row| [row, &[0]].concat());
        let rows = self.tables.range(&start, &after(b"i"), PAGE)?;
        for (key, _) in &rows {
            let id = tail_digest(key).filter(|_| key.len() == IMAGE_ROW_BYTES);
            self.known.add(&JobId(id.ok_or_else(|| doubt("expected a job of an image"))?));
        }
        match rows.last() {
            Some((key, _)) if rows.len() == PAGE => Ok(Some(key.clone())),
            _ => {
                self.known.lock().whole = true;
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::Digest;

    #[test]
    fn what_was_added_is_never_absent_and_little_else_is_there() {
        let id = |n: u32| JobId(Digest::of(&n.to_be_bytes()));
        let known = Known::new(true);
        assert!(!known.may_have(&id(0)));
        for n in 0..100_000 {
            known.add(&id(n));
        }
        assert!((0..100_000).all(|n| known.may_have(&id(n))));
        let in_vain = (100_000..200_000).filter(|n| known.may_have(&id(*n))).count();
        assert!(in_vain < 50, "{in_vain}");
    }

    #[test]
    fn before_all_was_learned_every_job_may_be_there() {
        let known = Known::new(false);
        assert!(known.may_have(&JobId(Digest::of(b"job"))));
    }
}
