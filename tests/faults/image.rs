//! What a disk may hold after the power went: made from the log of `powercut.c`.
//!
//! Invariant: content that a finished sync of the file covers is there; a name that a finished sync
//! of its folder covers is there (or gone, if that was what was synced). Of everything later any
//! part may be there, drawn from a seed: nothing, all, a prefix whose last write is torn, or any
//! pages; names: nothing, all, or a prefix.

use rand::{Rng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
};

const MAGIC: u32 = 0x7063_7574;
const ENTRY_BYTES: usize = 40;
/// What a disk writes at once.
const PAGE: usize = 4096;

/// What was left out of an image, for the figures.
#[derive(Debug, Default, Clone, Copy)]
pub struct Lost {
    /// Writes and truncations after the last sync of their file.
    pub unsynced: u64,
    /// Of those, how many are missing in part or whole.
    pub lost: u64,
    /// Creations, renames and removals after the last sync of their folder.
    pub names_unsynced: u64,
    /// Of those, how many did not happen.
    pub names_lost: u64,
}

impl std::ops::AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.unsynced += other.unsynced;
        self.lost += other.lost;
        self.names_unsynced += other.names_unsynced;
        self.names_lost += other.names_lost;
    }
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

#[derive(Debug, Clone)]
enum Name {
    Create(String, usize),
    Folder(String),
    Rename(String, String),
    Remove(String),
}

impl Name {
    fn folder(&self) -> &str {
        let (Self::Create(path, _)
        | Self::Folder(path)
        | Self::Rename(_, path)
        | Self::Remove(path)) = self;
        path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }
}

#[derive(Default)]
struct File {
    /// Where its content before the log is; none for a file that was created since.
    before: Option<PathBuf>,
    changes: Vec<(u64, Change)>,
    /// Changes before this moment are durable.
    durable: u64,
}

#[derive(Default)]
struct Disk {
    files: Vec<File>,
    /// Names at the beginning.
    names: BTreeMap<String, usize>,
    folders: BTreeSet<String>,
    steps: Vec<(u64, Name)>,
    synced_folders: HashMap<String, u64>,
}

/// Writes into `to` what may be on the disk that held `before` and then saw the log.
pub fn after(before: &Path, log: &Path, to: &Path, random: &mut StdRng) -> io::Result<Lost> {
    let mut disk = Disk::default();
    disk.load(before, before)?;
    disk.replay(&fs::read(log).unwrap_or_default());
    let (names, folders, mut lost) = disk.names_left(random);
    fs::create_dir_all(to)?;
    for folder in &folders {
        fs::create_dir_all(to.join(folder))?;
    }
    for (name, file) in &names {
        let target = to.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = &disk.files[*file];
        match &file.before {
            Some(same) if file.changes.is_empty() => {
                fs::hard_link(same, &target)?;
            }
            _ => fs::write(&target, content(file, random, &mut lost)?)?,
        }
    }
    Ok(lost)
}

/// A copy to work on. Closed segments are never written again, so they may be the same file.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries: Vec<_> = fs::read_dir(from)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let is_segment = |path: &Path| path.extension().is_some_and(|e| e == "journal");
    let last = entries.iter().map(fs::DirEntry::path).rfind(|path| is_segment(path));
    for entry in &entries {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&path, &target)?;
        } else if is_segment(&path) && Some(&path) != last.as_ref() {
            fs::hard_link(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

impl Disk {
    fn load(&mut self, root: &Path, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                self.folders.insert(name);
                self.load(root, &path)?;
            } else {
                self.names.insert(name, self.files.len());
                self.files.push(File { before: Some(path), ..File::default() });
            }
        }
        Ok(())
    }

    /// The log may end in the middle of an entry: that operation did not happen.
    fn replay(&mut self, log: &[u8]) {
        let mut live = self.names.clone();
        let mut inodes: HashMap<u64, usize> = HashMap::new();
        let mut folder_inodes: HashMap<u64, String> = HashMap::new();
        let mut began: HashMap<u64, u64> = HashMap::new();
        let (mut at, mut moment) = (0, 0u64);
        while let Some(entry) = Entry::read(log, at) {
            at += entry.bytes;
            moment += 1;
            let (name, second) = (entry.name.clone(), entry.second.clone());
            match entry.kind {
                1 => match live.get(&name) {
                    Some(file) => {
                        inodes.insert(entry.inode, *file);
                    }
                    None => {
                        folder_inodes.insert(entry.inode, name);
                    }
                },
                2 => {
                    let file = self.files.len();
                    self.files.push(File::default());
                    inodes.insert(entry.inode, file);
                    live.insert(name.clone(), file);
                    self.steps.push((moment, Name::Create(name, file)));
                }
                3 | 4 => {
                    if let Some(file) = inodes.get(&entry.inode) {
                        let change = match entry.kind {
                            3 => Change::Write(entry.number, entry.data.to_vec()),
                            _ => Change::Cut(entry.number),
                        };
                        self.files[*file].changes.push((moment, change));
                    }
                }
                5 => {
                    began.insert(entry.number, moment);
                }
                6 => {
                    let since = began.get(&entry.number).copied().unwrap_or(0);
                    if let Some(folder) = folder_inodes.get(&entry.inode) {
                        let known = self.synced_folders.entry(folder.clone()).or_default();
                        *known = since.max(*known);
                    } else if let Some(file) = inodes.get(&entry.inode) {
                        let file = &mut self.files[*file];
                        file.durable = file.durable.max(since);
                    }
                }
                7 => {
                    rename_in(&mut live, &name, &second);
                    self.steps.push((moment, Name::Rename(name, second)));
                }
                8 | 10 => {
                    live.remove(&name);
                    self.steps.push((moment, Name::Remove(name)));
                }
                _ => self.steps.push((moment, Name::Folder(name))),
            }
        }
    }

    fn names_left(&self, random: &mut StdRng) -> (BTreeMap<String, usize>, BTreeSet<String>, Lost) {
        let (mut names, mut folders) = (self.names.clone(), self.folders.clone());
        let mut lost = Lost::default();
        let durable = |moment: u64, step: &Name| {
            self.synced_folders.get(step.folder()).is_some_and(|synced| moment < *synced)
        };
        let open = self.steps.iter().filter(|(moment, step)| !durable(*moment, step)).count();
        let mut left = match random.random_range(0..3) {
            0 => 0,
            1 => open,
            _ => random.random_range(0..=open),
        };
        for (moment, step) in &self.steps {
            if !durable(*moment, step) {
                lost.names_unsynced += 1;
                if left == 0 {
                    lost.names_lost += 1;
                    continue;
                }
                left -= 1;
            }
            match step {
                Name::Create(path, file) => {
                    names.insert(path.clone(), *file);
                }
                Name::Folder(path) => {
                    folders.insert(path.clone());
                }
                Name::Rename(from, to) => {
                    rename_in(&mut names, from, to);
                    let moved: Vec<String> = below(&folders, from);
                    for old in moved {
                        folders.remove(&old);
                        folders.insert(format!("{to}{}", &old[from.len()..]));
                    }
                }
                Name::Remove(path) => {
                    names.remove(path);
                    folders.remove(path);
                }
            }
        }
        (names, folders, lost)
    }
}

fn below(names: &BTreeSet<String>, folder: &str) -> Vec<String> {
    let inside = |name: &&String| **name == folder || name.starts_with(&format!("{folder}/"));
    names.iter().filter(inside).cloned().collect()
}

/// A file, or a folder with everything in it.
fn rename_in(names: &mut BTreeMap<String, usize>, from: &str, to: &str) {
    let inside = format!("{from}/");
    let moved: Vec<String> =
        names.keys().filter(|n| *n == from || n.starts_with(&inside)).cloned().collect();
    for old in moved {
        if let Some(file) = names.remove(&old) {
            names.insert(format!("{to}{}", &old[from.len()..]), file);
        }
    }
}

fn content(file: &File, random: &mut StdRng, lost: &mut Lost) -> io::Result<Vec<u8>> {
    let mut bytes = file.before.as_ref().map_or(Ok(Vec::new()), fs::read)?;
    let open = file.changes.iter().filter(|(moment, _)| *moment >= file.durable).count();
    lost.unsynced += open as u64;
    let how = random.random_range(0..4);
    let mut left = match how {
        0 => 0,
        1 | 3 => open,
        _ => random.random_range(0..=open),
    };
    for (moment, change) in &file.changes {
        if *moment < file.durable {
            apply(&mut bytes, change);
            continue;
        }
        if left == 0 {
            lost.lost += 1;
            continue;
        }
        left -= 1;
        match change {
            // The last write that began: any prefix of it.
            Change::Write(at, data) if how == 2 && left == 0 => {
                let part = random.random_range(0..=data.len());
                lost.lost += u64::from(part < data.len());
                apply(&mut bytes, &Change::Write(*at, data[..part].to_vec()));
            }
            // Any pages of any writes.
            Change::Write(at, data) if how == 3 => {
                let mut whole = true;
                let mut done = 0;
                while done < data.len() {
                    let here = *at as usize + done;
                    let part = (PAGE - here % PAGE).min(data.len() - done);
                    if random.random_bool(0.5) {
                        let piece = data[done..done + part].to_vec();
                        apply(&mut bytes, &Change::Write(here as u64, piece));
                    } else {
                        whole = false;
                    }
                    done += part;
                }
                lost.lost += u64::from(!whole);
            }
            change => apply(&mut bytes, change),
        }
    }
    Ok(bytes)
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Cut(size) => bytes.resize(*size as usize, 0),
        Change::Write(at, data) => {
            let (at, end) = (*at as usize, *at as usize + data.len());
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(data);
        }
    }
}

/// One entry of the log, as `powercut.c` writes it.
struct Entry<'a> {
    kind: u32,
    inode: u64,
    number: u64,
    name: String,
    second: String,
    data: &'a [u8],
    bytes: usize,
}

impl<'a> Entry<'a> {
    fn read(log: &'a [u8], at: usize) -> Option<Self> {
        let head = log.get(at..at + ENTRY_BYTES)?;
        let four = |i: usize| Some(u32::from_le_bytes(head.get(i..i + 4)?.try_into().ok()?));
        let eight = |i: usize| Some(u64::from_le_bytes(head.get(i..i + 8)?.try_into().ok()?));
        if four(0)? != MAGIC {
            return None;
        }
        let (first, second, data) = (four(24)? as usize, four(28)? as usize, eight(32)? as usize);
        let mut from = at + 40;
        let mut part = |bytes: usize| {
            let found = log.get(from..from + bytes);
            from += bytes;
            found
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (name, second, data) = (text(part(first)?), text(part(second)?), part(data)?);
        let bytes = from - at;
        Some(Self {
            kind: four(4)?,
            inode: eight(8)?,
            number: eight(16)?,
            name,
            second,
            data,
            bytes,
        })
    }
}
