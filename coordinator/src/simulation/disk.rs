//! A disk that loses power, tears writes, fails, fills up and flips bits, on command.
//!
//! Invariant: what was written is in `now` and is durable only after `sync` of the file; a name is
//! durable only after `sync_directory`. After [`SimDisk::cut_power`] a synced byte is as it was
//! synced, and of what was not synced each sector is there or not, by chance. Names are ordered as
//! a journaling file system orders them: of the changes that were not synced a beginning is kept.
//! A disk that was told to stop fails every operation until it is started again: nothing of a dead
//! process reaches it.

use super::random::Chance;
use crate::journal::{Disk, DiskFile};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Whether pages are gone after a failed sync although they can still be read, as on Linux: not
/// before recovery writes the last batch again.
const FAILED_SYNC_LOSES_PAGES: bool = true;
/// Disks write sectors whole, or not at all.
const SECTOR: usize = 512;

/// What the next operations do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The process dies before this many more operations are over.
    Stop { after: u32 },
    /// After so many more operations one fails with an I/O error.
    Fail { after: u32 },
    /// After so many more operations, so many writes find the disk full.
    Full { after: u32, writes: u32 },
}

/// What was on the disk.
#[derive(Debug)]
pub(super) struct Copied {
    contents: Vec<Content>,
    names: BTreeMap<String, Id>,
    durable_names: BTreeMap<String, Id>,
    changes: Vec<NameChange>,
}

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Ranges written since the last sync.
    dirty: Vec<(usize, usize)>,
}

type Id = usize;

#[derive(Debug, Clone)]
enum NameChange {
    Create(String, Id),
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Id>) {
        match self {
            Self::Create(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    contents: Vec<Content>,
    names: BTreeMap<String, Id>,
    durable_names: BTreeMap<String, Id>,
    changes: Vec<NameChange>,
    troubles: Vec<Trouble>,
    stopped: bool,
    /// It says that it synced, and did not: only sabotage does that.
    lies: bool,
}

/// The disk; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct SimDisk {
    state: Arc<Mutex<State>>,
    locked: Arc<AtomicBool>,
}

/// An open file.
#[derive(Debug)]
pub(super) struct SimFile {
    disk: SimDisk,
    id: Id,
}

/// Held while a process works here.
#[derive(Debug)]
pub(super) struct SimLock(Arc<AtomicBool>);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn stopped() -> io::Error {
    io::Error::other("the process is dead")
}

impl State {
    /// One more operation; `writes` tells those that need room.
    fn operate(&mut self, writes: bool) -> io::Result<()> {
        if self.stopped {
            return Err(stopped());
        }
        let mut result = Ok(());
        let mut i = 0;
        while i < self.troubles.len() {
            let over = match &mut self.troubles[i] {
                Trouble::Stop { after } | Trouble::Fail { after } if *after > 0 => {
                    *after -= 1;
                    false
                }
                Trouble::Stop { .. } => {
                    self.stopped = true;
                    result = Err(stopped());
                    true
                }
                Trouble::Fail { .. } => {
                    result = Err(io::Error::other("input/output error"));
                    true
                }
                Trouble::Full { after, .. } if *after > 0 => {
                    *after -= 1;
                    false
                }
                Trouble::Full { writes: left, .. } => {
                    if writes && *left > 0 {
                        *left -= 1;
                        result = result.and(Err(io::ErrorKind::StorageFull.into()));
                    }
                    *left == 0
                }
            };
            if over {
                self.troubles.remove(i);
            } else {
                i += 1;
            }
        }
        result
    }
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something will go wrong.
    pub(super) fn plan(&self, trouble: Trouble) {
        self.state().troubles.push(trouble);
    }

    /// From now on it only says that it synced.
    pub(super) fn lie(&self) {
        self.state().lies = true;
    }

    /// Nothing goes wrong any more, and the process may live again.
    pub(super) fn calm(&self) {
        let mut state = self.state();
        state.troubles.clear();
        state.stopped = false;
    }

    /// The process died: its operations no longer happen.
    pub(super) fn stop(&self) {
        self.state().stopped = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// The power goes: what was not synced is there or not, sector by sector.
    pub(super) fn cut_power(&self, chance: &mut Chance) {
        let mut state = self.state();
        let kept = chance.below(state.changes.len() as u64 + 1) as usize;
        let mut names = std::mem::take(&mut state.durable_names);
        for change in state.changes.drain(..).take(kept) {
            change.apply(&mut names);
        }
        state.durable_names = names.clone();
        state.names = names;
        let keep = chance.below(101);
        for content in &mut state.contents {
            let grown = content.now.len() > content.durable.len();
            if grown && chance.percent(50) {
                content.durable.resize(content.now.len(), 0);
            }
            for (from, to) in std::mem::take(&mut content.dirty) {
                let mut at = from;
                while at < to {
                    let end = (at / SECTOR + 1).saturating_mul(SECTOR).min(to);
                    let end = end.min(content.now.len()).min(content.durable.len());
                    if at < end && chance.percent(keep) {
                        content.durable[at..end].copy_from_slice(&content.now[at..end]);
                    }
                    at = (at / SECTOR + 1) * SECTOR;
                }
            }
            content.now.clone_from(&content.durable);
        }
    }

    /// Everything as it is now: a backup.
    pub(super) fn copy(&self) -> Copied {
        let state = self.state();
        Copied {
            contents: state.contents.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            changes: state.changes.clone(),
        }
    }

    /// Everything as it was when it was copied.
    pub(super) fn put_back(&self, copy: Copied) {
        let mut state = self.state();
        let Copied { contents, names, durable_names, changes } = copy;
        (state.contents, state.names) = (contents, names);
        (state.durable_names, state.changes) = (durable_names, changes);
    }

    /// Flips a bit of what lies on the disk; false if there is none.
    pub(super) fn flip(&self, chance: &mut Chance) -> bool {
        let mut state = self.state();
        let ids: Vec<Id> = state.names.values().copied().collect();
        let id = ids.get(chance.below(ids.len() as u64) as usize).copied();
        let content = id.and_then(|id| state.contents.get_mut(id));
        let Some(content) = content.filter(|content| !content.now.is_empty()) else {
            return false;
        };
        let bit = chance.below(content.now.len() as u64 * 8) as usize;
        for bytes in [&mut content.now, &mut content.durable] {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
        true
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn names(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.operate(false)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let mut state = self.state();
        state.operate(false)?;
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(SimFile { disk: self.clone(), id })
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut state = self.state();
        state.operate(true)?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.contents.len();
        state.contents.push(Content::default());
        let change = NameChange::Create(name.to_owned(), id);
        change.apply(&mut state.names);
        state.changes.push(change);
        Ok(SimFile { disk: self.clone(), id })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operate(false)?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        change.apply(&mut state.names);
        state.changes.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operate(false)?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Remove(name.to_owned());
        change.apply(&mut state.names);
        state.changes.push(change);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operate(false)?;
        state.durable_names = state.names.clone();
        state.changes.clear();
        Ok(())
    }

    fn lock(&self) -> io::Result<SimLock> {
        self.state().operate(false)?;
        if self.locked.swap(true, Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock(self.locked.clone()))
    }

    fn describe(&self) -> String {
        "the simulated disk".into()
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.operate(false)?;
        let now = &state.contents[self.id].now;
        let rest = now.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let dead = state.stopped;
        let result = state.operate(true);
        // A write that fails may have written a part; a dead process writes nothing.
        let part = match &result {
            Ok(()) => bytes.len(),
            Err(_) if dead => 0,
            Err(_) => bytes.len() / 2,
        };
        let content = &mut state.contents[self.id];
        let (from, to) = (offset as usize, offset as usize + part);
        if part > 0 {
            if content.now.len() < to {
                content.now.resize(to, 0);
            }
            content.now[from..to].copy_from_slice(&bytes[..part]);
            content.dirty.push((from, to));
        }
        result
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let (dead, result) = (state.stopped, state.operate(false));
        if state.lies && result.is_ok() {
            return Ok(());
        }
        let stopped = state.stopped;
        let content = &mut state.contents[self.id];
        if let Err(error) = result {
            if !dead && !stopped && FAILED_SYNC_LOSES_PAGES {
                // The kernel marks the pages clean: they can be read, and are never written.
                content.dirty.clear();
            }
            return Err(error);
        }
        let size = content.now.len();
        content.durable.resize(size, 0);
        for (from, to) in std::mem::take(&mut content.dirty) {
            let to = to.min(size);
            if from < to {
                content.durable[from..to].copy_from_slice(&content.now[from..to]);
            }
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.operate(false)?;
        Ok(state.contents[self.id].now.len() as u64)
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate(false)?;
        let content = &mut state.contents[self.id];
        let before = content.now.len();
        content.now.resize(bytes as usize, 0);
        if content.now.len() > before {
            content.dirty.push((before, bytes as usize));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_a_cut_and_the_rest_by_chance() {
        let (mut kept, mut lost) = (0, 0);
        for seed in 0..64 {
            let disk = SimDisk::default();
            let file = disk.create("a").unwrap();
            file.write_at(&[1; 1000], 0).unwrap();
            file.sync().unwrap();
            disk.sync_directory().unwrap();
            file.write_at(&[2; 2000], 1000).unwrap();
            disk.create("b").unwrap();
            disk.cut_power(&mut Chance::of(seed, 0));
            let mut bytes = vec![0; 3000];
            let file = disk.open("a").unwrap();
            let size = file.read_at(&mut bytes, 0).unwrap();
            assert!(size == 1000 || size == 3000);
            assert!(bytes[..1000].iter().all(|byte| *byte == 1));
            let there = bytes[1000..].iter().filter(|byte| **byte == 2).count();
            kept += there;
            lost += 2000 - there;
            let names = disk.names().unwrap().len();
            assert!(names == 1 || names == 2);
        }
        assert!(kept > 10_000 && lost > 10_000, "{kept} kept, {lost} lost");
    }

    #[test]
    fn troubles_come_when_they_are_planned() {
        let disk = SimDisk::default();
        let file = disk.create("a").unwrap();
        disk.plan(Trouble::Full { after: 1, writes: 1 });
        file.write_at(b"x", 0).unwrap();
        let full = file.write_at(b"y", 1).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        file.write_at(b"z", 1).unwrap();
        disk.plan(Trouble::Fail { after: 0 });
        assert!(file.sync().is_err() && file.sync().is_ok());
        disk.plan(Trouble::Stop { after: 1 });
        assert!(file.sync().is_ok() && file.sync().is_err() && disk.names().is_err());
        disk.calm();
        assert!(file.sync().is_ok());
    }
}
