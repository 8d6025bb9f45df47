//! Whether this coordinator can do its work now: what `/readyz` answers.
//!
//! Invariant: ready means that a record would be made durable now: the journal took a sync, its
//! disk has room, the index has followed, and nobody told the process to end. Each check says what
//! it found.

use super::Core;
use serde_json::{Value, json};
use std::time::Duration;

/// A journal that does not answer within this time is not ready: 5 s, longer than any good sync.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// Room below which the journal will soon refuse: a segment's preallocation and some batches.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// What was found.
pub struct Readiness {
    /// True when every check is good.
    pub ready: bool,
    /// `assay/ready/v1`.
    pub report: Value,
}

/// Looks.
pub async fn look(core: &Core) -> Readiness {
    let before = core.store.end();
    let settled = tokio::time::timeout(SETTLE_MAX, core.store.settle()).await;
    let journal = match settled {
        Ok(Ok(())) => Ok(format!("{} records are durable", core.store.end())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no sync within {} s", SETTLE_MAX.as_secs())),
    };
    // What was durable before the look must be followed now; others append meanwhile.
    let indexed = core.store.disk_figures().indexed;
    let said = format!("it has followed {indexed} records, of {before} that it must");
    let index = if indexed >= before { Ok(said) } else { Err(said) };
    let running = match core.stopping.is_cancelled() {
        false => Ok("taking calls".to_owned()),
        true => Err("the process is ending".to_owned()),
    };
    let checks =
        [("journal", journal), ("disk", disk(core)), ("index", index), ("running", running)];
    let ready = checks.iter().all(|(_, result)| result.is_ok());
    let list: Vec<Value> = checks
        .into_iter()
        .map(|(name, result)| {
            let good = result.is_ok();
            json!({"name": name, "good": good, "found": result.unwrap_or_else(|found| found)})
        })
        .collect();
    let report = json!({"schema": "assay/ready/v1", "ready": ready, "checks": list});
    Readiness { ready, report }
}

fn disk(core: &Core) -> Result<String, String> {
    let stat = nix::sys::statvfs::statvfs(&core.loaded.data_folder()).map_err(|e| e.to_string())?;
    let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
    let said = format!("{} MiB free for the journal", free >> 20);
    match free >= FREE_BYTES_MIN {
        true => Ok(said),
        false => Err(format!("{said}; expected at least {} MiB", FREE_BYTES_MIN >> 20)),
    }
}
