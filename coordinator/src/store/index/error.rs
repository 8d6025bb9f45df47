//! The index cannot be used.
//!
//! Invariant: what does not fit is a doubt, never repaired: a doubted index is made again.

use super::super::tables::TableError;

/// The index cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IndexError {
    /// The tables failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// It does not fit the journal, or itself.
    #[error("the index is in doubt: {0}")]
    Doubt(String),
}

pub(super) fn doubt(why: impl ToString) -> IndexError {
    IndexError::Doubt(why.to_string())
}
