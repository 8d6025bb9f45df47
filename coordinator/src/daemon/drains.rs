//! Workers that an administrator wants to get nothing new.
//!
//! A worker's own word on draining comes back with its next call; an administrator's would not, so
//! it is a record ([`Kind::DRAIN`]) before it holds, and holds until it is taken back.
//! Invariant: the newest record about a worker says what holds, also after a restart. It must never
//! end a lease: what the worker has, it finishes.

use super::Core;
use crate::{
    journal::{Kind, NewRecord},
    queue::Event,
    store::{Store, StoreError, nothing},
};
use attest::id::WorkerId;
use serde::{Deserialize, Serialize};

/// Records read at a time.
const PAGE: usize = 500;

const SCHEMA: &str = "assay/drain/v1";

/// One word of an administrator. Unknown fields are for later versions.
#[derive(Debug, Serialize, Deserialize)]
struct DrainRecord {
    schema: String,
    draining: bool,
}

/// Puts on record that a worker gets nothing new, or does again, and does it.
pub async fn set(core: &Core, worker: WorkerId, draining: bool) -> Result<(), StoreError> {
    let record = DrainRecord { schema: SCHEMA.to_owned(), draining };
    // Text and a truth value: writing them as JSON cannot fail.
    let body = serde_json::to_vec(&record).unwrap_or_default();
    core.store.append(vec![NewRecord::new(Kind::DRAIN, worker.0, body)]).await?;
    core.store.act(Event::Drain { worker, draining }, nothing()).await?;
    Ok(())
}

/// What is on record about a worker.
pub fn is_drained(store: &dyn Store, worker: &WorkerId) -> Result<bool, StoreError> {
    let newest = store.newest_about(Kind::DRAIN, &worker.0)?;
    let record = newest.and_then(|stored| serde_json::from_slice(&stored.body).ok());
    Ok(record.is_some_and(|record: DrainRecord| record.schema == SCHEMA && record.draining))
}

/// Does again what is on record: the queue forgets it with the process.
pub async fn recall(store: &dyn Store) -> Result<(), StoreError> {
    let mut cursor = None;
    loop {
        let page = store.records_of_kind(Kind::DRAIN, cursor, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        cursor = Some((last.about, last.position));
        // In the order of a worker's records, so the newest is done last.
        for stored in &page {
            let record = serde_json::from_slice::<DrainRecord>(&stored.body);
            let Ok(record) = record else { continue };
            if record.schema == SCHEMA {
                let (worker, draining) = (WorkerId(stored.about), record.draining);
                store.act(Event::Drain { worker, draining }, nothing()).await?;
            }
        }
    }
}
