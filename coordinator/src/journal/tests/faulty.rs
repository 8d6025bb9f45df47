//! A disk in memory that counts what is asked of it, fails when it is told to, and can hold up syncs.
//!
//! Invariant: told nothing, it is the disk in memory.

use super::*;
use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// The disk.
#[derive(Clone, Default)]
pub(super) struct Faulty {
    pub(super) disk: MemoryDisk,
    /// Syncs so far.
    pub(super) syncs: Arc<AtomicU64>,
    pub(super) writes_fail: Arc<Mutex<Option<io::ErrorKind>>>,
    pub(super) syncs_fail: Arc<AtomicBool>,
    /// Whoever holds it keeps every sync from ending.
    pub(super) gate: Arc<Mutex<()>>,
    /// Bytes that were read so far.
    pub(super) read: Arc<AtomicU64>,
    /// How often whoever reads a segment in whole still gets a wrong byte.
    pub(super) wrong: Arc<AtomicU64>,
}

pub(super) struct FaultyFile {
    file: <MemoryDisk as Disk>::File,
    disk: Faulty,
}

impl Disk for Faulty {
    type File = FaultyFile;
    type Lock = <MemoryDisk as Disk>::Lock;

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }
    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        Ok(FaultyFile { file: self.disk.open(name)?, disk: self.clone() })
    }
    fn create(&self, name: &str) -> io::Result<FaultyFile> {
        Ok(FaultyFile { file: self.disk.create(name)?, disk: self.clone() })
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }
    fn lock(&self) -> io::Result<Self::Lock> {
        self.disk.lock()
    }
    fn describe(&self) -> String {
        self.disk.describe()
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, offset)?;
        self.disk.read.fetch_add(read as u64, Ordering::SeqCst);
        let less = |left: u64| left.checked_sub(1);
        let (order, whole) = (Ordering::SeqCst, offset == 0 && read > 256);
        if whole && self.disk.wrong.fetch_update(order, order, less).is_ok() {
            // The checksum of the first record.
            buffer[100] ^= 1;
        }
        Ok(read)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match *self.disk.writes_fail.lock().unwrap() {
            Some(kind) => {
                // A part of it is in the file, as a real disk does it.
                self.file.write_at(&bytes[..bytes.len() / 2], offset)?;
                Err(kind.into())
            }
            None => self.file.write_at(bytes, offset),
        }
    }
    fn sync(&self) -> io::Result<()> {
        let _passed = self.disk.gate.lock().unwrap();
        self.disk.syncs.fetch_add(1, Ordering::SeqCst);
        match self.disk.syncs_fail.load(Ordering::SeqCst) {
            true => Err(io::Error::from_raw_os_error(5)),
            false => self.file.sync(),
        }
    }
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.file.set_size(bytes)
    }
}
