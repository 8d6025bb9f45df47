//! Up to where records were followed: REVIEWED records, one kind for each thing that follows.
//!
//! Invariant: what is on record as followed was followed in full; where nothing can be read,
//! nothing was. It must never say that a record was followed which came later.

use crate::{
    journal::{Kind, NewRecord},
    store::{Store, StoreError},
};
use attest::{Digest, id::JournalPosition};
use serde::{Deserialize, Serialize};

const SCHEMA: &str = "assay/reviewed/v1";

/// Up to where records were followed. Unknown fields are for later versions.
#[derive(Debug, Serialize, Deserialize)]
struct Reviewed {
    schema: String,
    /// Every record before this position.
    before: JournalPosition,
}

/// Up to where everything was followed that a kind of review follows; the start where none was.
pub(super) fn reviewed(store: &dyn Store, about: &Digest) -> Result<JournalPosition, StoreError> {
    let newest = store.newest_about(Kind::REVIEWED, about)?;
    let read = newest.and_then(|stored| serde_json::from_slice::<Reviewed>(&stored.body).ok());
    Ok(read.filter(|r| r.schema == SCHEMA).map_or(JournalPosition(0), |r| r.before))
}

/// The record that everything before a position was followed.
pub(super) fn was_reviewed(about: Digest, before: JournalPosition) -> NewRecord {
    let reviewed = Reviewed { schema: SCHEMA.to_owned(), before };
    // Text and a number: writing them as JSON cannot fail.
    let body = serde_json::to_vec(&reviewed).unwrap_or_default();
    NewRecord::new(Kind::REVIEWED, about, body)
}
