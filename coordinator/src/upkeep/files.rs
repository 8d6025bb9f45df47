//! Small files of a backup or a cut, read within a bound and written so that they stay.
//!
//! Invariant: what was written is on the disk when the call returns; the folder's names are once it
//! was synced, too. It must never overwrite what somebody else put there under a name of its own
//! choice.

use super::UpkeepError;
use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
};

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), UpkeepError> {
    let mut file = File::create(path).map_err(UpkeepError::io("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(UpkeepError::io("write", path))
}

pub(super) fn sync_folder(path: &Path) -> Result<(), UpkeepError> {
    File::open(path).and_then(|d| d.sync_all()).map_err(UpkeepError::io("sync the folder", path))
}

/// Reads a small file whole; an error above the limit.
pub(super) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, UpkeepError> {
    let file = File::open(path).map_err(UpkeepError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(UpkeepError::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(UpkeepError::Backup {
            expected: format!("{} of at most {limit} bytes", path.display()),
            found: "more".into(),
        });
    }
    Ok(bytes)
}
