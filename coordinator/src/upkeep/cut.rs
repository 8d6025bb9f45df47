//! Gives up what a start refuses: everything behind the good part of a damaged journal.
//!
//! Invariant: nothing is thrown away. What is cut lies in a folder of its own, synced and with a
//! report, before the first byte is changed; the cut is exactly where the good part ends, and only
//! if whoever asks says that position. It must never cut a journal that starts.

use super::{
    UpkeepError,
    files::{sync_folder, write_synced},
    journal_disk,
};
use crate::journal::{
    DiskFile, Examined, FLOOR_NAME, JournalError, RealDisk, examine, lock, write_floor,
};
use attest::{Digest, time::Timestamp};
use serde::Serialize;
use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Folders of earlier cuts at the same position: more than anybody makes.
const CUTS_MAX: u32 = 10_000;

/// What was cut, for people and for whoever has to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CutReport {
    /// `assay/cut/v1`.
    pub schema: &'static str,
    /// The data directory.
    pub place: String,
    /// Records from this position on are given up.
    pub position: u64,
    /// The chain's value there.
    pub chain: Option<Digest>,
    /// Why the journal did not start.
    pub fault: String,
    /// How far it had been promised to reach.
    pub promised: Option<u64>,
    /// Records behind the fault that can be read by themselves, in the folder `kept_in`.
    pub readable_behind: u64,
    /// Where everything lies that was cut.
    pub kept_in: PathBuf,
    /// What lies there: name and bytes.
    pub kept: Vec<(String, u64)>,
    /// When.
    pub made_at: Timestamp,
}

/// Cuts the journal of a stopped coordinator at `position`, which must be where its good part ends
/// (or the damaged record that the refusal named).
pub fn cut(data: &Path, position: u64, made_at: Timestamp) -> Result<CutReport, UpkeepError> {
    let disk = journal_disk(data)?;
    let _alone = lock(&disk)?;
    let found = examine(&disk, |_| {})?;
    let end = found.end.0;
    let fault = match &found.fault {
        None => return Err(UpkeepError::NothingToCut(end)),
        // Nothing is missing here: it is another journal. A cut would hide that.
        Some(fault @ JournalError::OtherHistory { .. }) => return Err(fault.clone().into()),
        Some(fault) => fault.clone(),
    };
    let named = match &fault {
        JournalError::Damaged { position, .. } => *position,
        _ => end,
    };
    if position != end && position != named {
        return Err(UpkeepError::NotTheEnd { expected: end, found: position });
    }
    let kept_in = fresh_folder(data, end)?;
    let kept = keep(disk.root(), &kept_in, &found)?;
    let report = CutReport {
        schema: "assay/cut/v1",
        place: data.display().to_string(),
        position: end,
        chain: found.chain,
        fault: fault.to_string(),
        promised: found.floor.as_ref().map(|floor| floor.position.0),
        readable_behind: found.readable_behind,
        kept_in: kept_in.clone(),
        kept,
        made_at,
    };
    let json = serde_json::to_vec_pretty(&report).unwrap_or_default();
    write_synced(&kept_in.join("report.json"), &json)?;
    sync_folder(&kept_in)?;
    sync_folder(data)?;
    apply(&disk, &found)?;
    Ok(report)
}

fn fresh_folder(data: &Path, end: u64) -> Result<PathBuf, UpkeepError> {
    for n in 1..CUTS_MAX {
        let folder = data.join(format!("cut-at-{end}-{n}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(UpkeepError::io("make the folder", &folder)(error)),
        }
    }
    Err(UpkeepError::Occupied { path: data.to_owned(), found: format!("{CUTS_MAX} cuts") })
}

/// Copies what will be cut.
fn keep(root: &Path, to: &Path, found: &Examined) -> Result<Vec<(String, u64)>, UpkeepError> {
    let mut kept = Vec::new();
    let mut copy = |name: &str, offset: u64, as_name: String| -> Result<(), UpkeepError> {
        let (from, target) = (root.join(name), to.join(&as_name));
        let mut source = File::open(&from).map_err(UpkeepError::io("open", &from))?;
        source.seek(SeekFrom::Start(offset)).map_err(UpkeepError::io("read", &from))?;
        let mut file = File::create_new(&target).map_err(UpkeepError::io("create", &target))?;
        let bytes = io::copy(&mut source, &mut file).map_err(UpkeepError::io("copy", &from))?;
        file.sync_all().map_err(UpkeepError::io("sync", &target))?;
        kept.push((as_name, bytes));
        Ok(())
    };
    if let Some(last) = found.segments.last().filter(|last| last.file_bytes > last.bytes) {
        copy(&last.name, last.bytes, format!("{}.from-byte-{}", last.name, last.bytes))?;
    }
    for name in &found.behind {
        copy(name, 0, name.clone())?;
    }
    if root.join(FLOOR_NAME).exists() {
        copy(FLOOR_NAME, 0, FLOOR_NAME.to_owned())?;
    }
    Ok(kept)
}

/// Until the last step a start refuses the journal as before; the same call goes on then.
fn apply(disk: &RealDisk, found: &Examined) -> Result<(), UpkeepError> {
    use crate::journal::Disk;
    let root = disk.root();
    for name in found.behind.iter().rev() {
        for path in [root.join(name), root.join(name).with_extension("offsets")] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(UpkeepError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
    }
    sync_folder(root)?;
    let Some(last) = found.segments.last() else {
        let path = root.join(FLOOR_NAME);
        let _ = fs::remove_file(&path);
        return sync_folder(root);
    };
    let path = root.join(&last.name);
    let file = disk.open(&last.name).map_err(UpkeepError::io("open", &path))?;
    file.set_size(last.bytes).map_err(UpkeepError::io("cut", &path))?;
    file.sync_all().map_err(UpkeepError::io("sync", &path))?;
    let _ = fs::remove_file(path.with_extension("offsets"));
    if let Some(chain) = &found.chain {
        write_floor(disk, found.end, chain)?;
    }
    Ok(())
}
