//! The index's tables as sled keeps them: a commit is whole, and a crash takes back the newest.
//!
//! Invariant: what is there after [`SimTables::crash`] is what was there after some commit before.

use super::random::Chance;
use crate::store::{MemoryTables, Rows, TableError, Tables, Writes};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Commits that a crash can take back.
const KEPT: usize = 8;

#[derive(Debug, Default)]
struct State {
    rows: MemoryTables,
    /// What undoes the newest commits.
    undo: Vec<Writes>,
}

/// The tables; clones are the same ones.
#[derive(Debug, Clone, Default)]
pub(super) struct SimTables(Arc<Mutex<State>>);

impl SimTables {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some of the newest commits are lost.
    pub(super) fn crash(&self, chance: &mut Chance) {
        let mut state = self.state();
        for _ in 0..chance.below(state.undo.len() as u64 + 1) {
            if let Some(writes) = state.undo.pop() {
                let _ = state.rows.commit(&writes);
            }
        }
        state.undo.clear();
    }

    /// Everything is lost.
    pub(super) fn clear(&self) {
        *self.state() = State::default();
    }
}

impl Tables for SimTables {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.state().rows.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        self.state().rows.range(from, to, limit)
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, TableError> {
        self.state().rows.last(from, to)
    }

    fn commit(&self, writes: &Writes) -> Result<(), TableError> {
        let mut state = self.state();
        let mut undo = Writes::new();
        for key in writes.keys() {
            undo.insert(key.clone(), state.rows.get(key)?);
        }
        if state.undo.len() >= KEPT {
            state.undo.remove(0);
        }
        state.undo.push(undo);
        state.rows.commit(writes)
    }
}
