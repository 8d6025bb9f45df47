//! A copy of the journal, taken while the coordinator works or not, and back.
//!
//! A backup is a folder: `journal/` as in a data directory, and `backup.json`, which names every
//! file with its SHA-256 and is written last. It is a data directory by itself: `fsck` reads it.
//! Invariant: it holds whole groups that were durable before it was made, verified frame by frame;
//! its FLOOR is its own end. Restoring overwrites nothing and verifies everything before the data
//! directory changes. No key is ever copied. The index is not copied: it is made again.

use super::{
    UpkeepError,
    files::{read_bounded, sync_folder, write_synced},
    journal_disk,
};
use crate::{
    journal::{Disk, FLOOR_NAME, RealDisk, examine, snapshot, write_floor},
    store::JOURNAL_FOLDER,
};
use attest::{Digest, id::JournalPosition, time::Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

/// The list of a backup's files.
pub const LIST_NAME: &str = "backup.json";
const SCHEMA: &str = "assay/backup/v1";
/// Largest list: 100,000 segments of 64 MiB with 150 bytes each.
const LIST_BYTES_MAX: u64 = 16 << 20;
/// Copied at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupList {
    /// `assay/backup/v1`.
    pub schema: String,
    /// The journal's identity, in hex.
    pub journal: String,
    /// The position after its last record.
    pub end: JournalPosition,
    /// The chain's value there.
    pub chain: Digest,
    /// When it was made.
    pub made_at: Timestamp,
    /// Its files.
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupFile {
    /// Its name in `journal/`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// Copies the journal of a coordinator, running or not. `progress` hears how many bytes are done.
pub fn backup(
    data: &Path,
    target: &Path,
    made_at: Timestamp,
    mut progress: impl FnMut(u64),
) -> Result<BackupList, UpkeepError> {
    let disk = journal_disk(data)?;
    must_be_free(target)?;
    let folder = target.join(JOURNAL_FOLDER);
    let to = RealDisk::new(target)
        .and_then(|_| RealDisk::new(&folder))
        .map_err(UpkeepError::io("make the folder", &folder))?;
    let (mut files, mut done) = (Vec::new(), 0);
    let taken = snapshot(&disk, |name, bytes| {
        write_synced(&folder.join(name), bytes)?;
        let (digest, bytes) = (Digest::of(bytes), bytes.len() as u64);
        files.push(BackupFile { name: name.to_owned(), bytes, digest });
        done += bytes;
        progress(done);
        Ok::<(), UpkeepError>(())
    })?;
    write_floor(&to, taken.end, &taken.chain)?;
    let floor = read_bounded(&folder.join(FLOOR_NAME), 4096)?;
    let (bytes, digest) = (floor.len() as u64, Digest::of(&floor));
    files.push(BackupFile { name: FLOOR_NAME.to_owned(), bytes, digest });
    let list = BackupList {
        schema: SCHEMA.to_owned(),
        journal: hex::encode(taken.journal),
        end: taken.end,
        chain: taken.chain,
        made_at,
        files,
    };
    sync_folder(&folder)?;
    let json = serde_json::to_vec_pretty(&list).unwrap_or_default();
    let (staging, path) = (target.join("backup.json.new"), target.join(LIST_NAME));
    write_synced(&staging, &json)?;
    fs::rename(&staging, &path).map_err(UpkeepError::io("name", &path))?;
    sync_folder(target)?;
    Ok(list)
}

/// Reads the list of a backup.
pub fn read_list(backup: &Path) -> Result<BackupList, UpkeepError> {
    let path = backup.join(LIST_NAME);
    if !path.exists() {
        return Err(UpkeepError::Backup {
            expected: format!("{LIST_NAME} in {}", backup.display()),
            found: "none: it is no backup, or one that was not finished".into(),
        });
    }
    let list: BackupList = serde_json::from_slice(&read_bounded(&path, LIST_BYTES_MAX)?)
        .map_err(|error| wrong(format!("a list {LIST_NAME}"), error.to_string()))?;
    if list.schema != SCHEMA {
        return Err(wrong(format!("schema {SCHEMA}"), list.schema));
    }
    let plain = |name: &str| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    match list.files.iter().find(|file| !plain(&file.name)) {
        Some(file) => Err(wrong("plain file names".into(), file.name.clone())),
        None => Ok(list),
    }
}

/// Holds every file of a backup against its list.
pub fn verify_files(backup: &Path) -> Result<BackupList, UpkeepError> {
    let list = read_list(backup)?;
    for file in &list.files {
        let path = backup.join(JOURNAL_FOLDER).join(&file.name);
        copy_checked(&path, file, &mut io::sink())?;
    }
    Ok(list)
}

/// Puts a backup into the data directory of a coordinator that has no journal yet.
pub fn restore(
    backup: &Path,
    data: &Path,
    mut progress: impl FnMut(u64),
) -> Result<BackupList, UpkeepError> {
    let list = read_list(backup)?;
    let journal = data.join(JOURNAL_FOLDER);
    if let Some(found) = first_but_lock(&journal)? {
        return Err(UpkeepError::Occupied { path: journal, found });
    }
    let staging = data.join("journal.restoring");
    match fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(UpkeepError::io("remove", &staging)(error));
        }
        _ => {}
    }
    let disk = RealDisk::new(data)
        .and_then(|_| RealDisk::new(&staging))
        .map_err(UpkeepError::io("make the folder", &staging))?;
    let mut done = 0;
    for file in &list.files {
        let mut to = disk.create(&file.name).map_err(UpkeepError::io("create", &staging))?;
        copy_checked(&backup.join(JOURNAL_FOLDER).join(&file.name), file, &mut to)?;
        to.sync_all().map_err(UpkeepError::io("sync", &staging))?;
        done += file.bytes;
        progress(done);
    }
    sync_folder(&staging)?;
    let found = examine(&disk, |_| {})?;
    if let Some(fault) = found.fault {
        return Err(fault.into());
    }
    if (found.end, found.chain) != (list.end, Some(list.chain)) {
        let expected = format!("records up to {} with chain {}", list.end, list.chain);
        return Err(wrong(expected, format!("records up to {}", found.end)));
    }
    // An empty folder, or one with a lock file that nobody holds. A coordinator that was started
    // meanwhile has made a journal of its own: that one is never removed.
    if let Some(found) = first_but_lock(&journal)? {
        return Err(UpkeepError::Occupied { path: journal, found });
    }
    if journal.exists() {
        let _ = fs::remove_file(journal.join(crate::journal::disk::LOCK_NAME));
        fs::remove_dir(&journal).map_err(UpkeepError::io("replace", &journal))?;
    }
    fs::rename(&staging, &journal).map_err(UpkeepError::io("name", &journal))?;
    sync_folder(data)?;
    Ok(list)
}

fn wrong(expected: String, found: String) -> UpkeepError {
    UpkeepError::Backup { expected, found }
}

fn must_be_free(target: &Path) -> Result<(), UpkeepError> {
    let Ok(mut entries) = fs::read_dir(target) else {
        return match target.exists() {
            true => Err(UpkeepError::Occupied { path: target.into(), found: "a file".into() }),
            false => Ok(()),
        };
    };
    match entries.next() {
        None => Ok(()),
        Some(Ok(entry)) => {
            let found = entry.file_name().to_string_lossy().into_owned();
            Err(UpkeepError::Occupied { path: target.to_owned(), found })
        }
        Some(Err(error)) => Err(UpkeepError::io("list", target)(error)),
    }
}

/// What is in a journal's folder beside its lock file.
fn first_but_lock(folder: &Path) -> Result<Option<String>, UpkeepError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(UpkeepError::io("list", folder)(error)),
    };
    let names = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    Ok(names.into_iter().find(|name| name != crate::journal::disk::LOCK_NAME))
}

fn copy_checked(
    path: &Path,
    expected: &BackupFile,
    to: &mut impl Write,
) -> Result<(), UpkeepError> {
    let mut from = File::open(path).map_err(UpkeepError::io("open", path))?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).map_err(UpkeepError::io("read", path))?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        if bytes > expected.bytes {
            let more = format!("at least {bytes}");
            return Err(wrong(format!("{} bytes in {}", expected.bytes, path.display()), more));
        }
        hash.update(&chunk[..read]);
        to.write_all(&chunk[..read]).map_err(UpkeepError::io("copy", path))?;
    }
    let digest = Digest::from_raw(hash.finalize().into());
    if (bytes, digest) != (expected.bytes, expected.digest) {
        return Err(wrong(
            format!("{} with {} bytes, {}", path.display(), expected.bytes, expected.digest),
            format!("{bytes} bytes, {digest}"),
        ));
    }
    Ok(())
}
