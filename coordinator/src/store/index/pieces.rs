//! A job in its rows: one for all but very few.
//!
//! Invariant: rows of a job are whole pieces but the last one; what is written takes the place of
//! all rows in which it lay before. It must never leave a row of an earlier, longer state behind.

use super::super::rows::{job, key};
use super::super::tables::{Tables, Writes};
use super::error::{IndexError, doubt};
use crate::queue::Job;
use attest::id::JobId;

/// Bytes of a job in one row: sled keeps rows of up to 100 KB well.
pub(in crate::store) const PIECE_BYTES: usize = 64_000;

/// A job, and in how many rows it lies.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) job: Job,
    pub(super) pieces: u8,
}

/// The job as its rows say.
pub(super) fn read_job<T: Tables>(tables: &T, id: &JobId) -> Result<Option<Kept>, IndexError> {
    let Some((bytes, pieces)) = read_pieces(tables, id)? else { return Ok(None) };
    let job = job::decode(&bytes).ok_or_else(|| doubt(format!("expected the state of {id}")))?;
    Ok(Some(Kept { job, pieces }))
}

/// A job that was checked again for years has hundreds of answers: more than one row may hold.
/// It takes the place of the `before` rows in which the job lay: one that is opened again and lets old
/// answers go may need two rows less.
pub(super) fn write_pieces(
    writes: &mut Writes,
    id: &JobId,
    bytes: &[u8],
    before: u8,
) -> Result<u8, IndexError> {
    let mut next = 0u8;
    for piece in bytes.chunks(PIECE_BYTES) {
        writes.insert(key(b'j', &[id.0.raw(), &[next]]), Some(piece.to_vec()));
        next = next.checked_add(1).ok_or_else(|| doubt("a job of more than 16 MB"))?;
    }
    for left_over in next..before {
        writes.insert(key(b'j', &[id.0.raw(), &[left_over]]), None);
    }
    Ok(next)
}

/// All but very few jobs lie in one row, which is shorter than a full piece.
pub(super) fn read_pieces<T: Tables>(
    tables: &T,
    id: &JobId,
) -> Result<Option<(Vec<u8>, u8)>, IndexError> {
    let mut all = Vec::new();
    for piece in 0..=u8::MAX {
        let Some(bytes) = tables.get(&key(b'j', &[id.0.raw(), &[piece]]))? else {
            return Ok((piece > 0).then_some((all, piece)));
        };
        let last = bytes.len() < PIECE_BYTES;
        all.extend_from_slice(&bytes);
        if last {
            return Ok(Some((all, piece + 1)));
        }
    }
    Err(doubt("a job of more than 16 MB"))
}
