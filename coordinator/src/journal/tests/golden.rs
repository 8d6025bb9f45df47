//! Files that every earlier version wrote are read for ever.
//!
//! `tests/fixtures/journal-v1` was written by format version 1 and is never written again: a new
//! version adds a folder. `regenerate` (ignored) shows how it was made.

use super::*;
use std::{fs, path::PathBuf};

fn folder(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/journal-v{version}"))
}

/// What lies in the fixture: groups of several sizes, an empty body, a kind of a later version.
fn groups() -> Vec<Group> {
    let mut all: Vec<Group> = (0..12).map(|n| group(n * 3, 1 + n % 4)).collect();
    let time = Timestamp::from_unix(1_700_000_000).unwrap();
    let later = NewRecord { public: true, ..NewRecord::new(Kind(700), Digest::of(b"?"), *b"x") };
    let empty = NewRecord::new(Kind::OPERATOR, Digest::of(b"acme"), Vec::new());
    all.push(Group { records: vec![later, empty], time });
    all
}

fn fixture(version: u32) -> MemoryDisk {
    let disk = MemoryDisk::default();
    for entry in fs::read_dir(folder(version)).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        disk.create(&name).unwrap().write_at(&fs::read(entry.path()).unwrap(), 0).unwrap();
    }
    disk
}

#[test]
fn files_of_every_version_are_read() {
    for version in 1..=super::super::frame::VERSION {
        let disk = fixture(version);
        let (log, recovery) = open(&disk).unwrap();
        assert!(!recovery.created, "expected files in {}", folder(version).display());
        assert!(recovery.segments > 1 && recovery.cut.is_none());
        let mut stored = log.reader().from(JournalPosition(0)).map(Result::unwrap);
        for group in groups() {
            let last = group.records.len() - 1;
            for (i, record) in group.records.into_iter().enumerate() {
                let found = stored.next().unwrap();
                let continued = i < last;
                assert_eq!(
                    (found.kind, found.public, found.about, found.body, found.continued),
                    (record.kind, record.public, record.about, record.body, continued)
                );
                assert_eq!(found.time, group.time);
            }
        }
        assert!(stored.next().is_none());
        let (found, _) = seen(&disk);
        assert!(found.fault.is_none() && found.floor.is_some());
    }
}

#[test]
fn version_1_is_written_as_it_always_was() {
    let disk = MemoryDisk::default();
    write(&disk);
    let old = fixture(1);
    let mut names = old.names().unwrap();
    names.sort();
    for name in names {
        let bytes = |disk: &MemoryDisk| {
            let file = disk.open(&name).unwrap();
            let mut bytes = vec![0; file.size().unwrap() as usize];
            file.read_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert!(bytes(&disk) == bytes(&old), "{name} is not what version 1 wrote");
    }
}

fn write(disk: &MemoryDisk) {
    let (mut log, _) = open(disk).unwrap();
    for group in groups() {
        assert!(log.write(vec![group]).failed.is_none());
        log.sync().unwrap();
    }
    log.raise_floor().unwrap();
}

#[test]
#[ignore = "writes the fixture; only for a new version of the format"]
fn regenerate() {
    let disk = MemoryDisk::default();
    write(&disk);
    let to = folder(super::super::frame::VERSION);
    fs::create_dir_all(&to).unwrap();
    for name in disk.names().unwrap() {
        let file = disk.open(&name).unwrap();
        let mut bytes = vec![0; file.size().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        fs::write(to.join(name), bytes).unwrap();
    }
}
