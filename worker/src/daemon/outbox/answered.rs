//! Leases that were answered and whose results are not kept any more: `<outbox>/answered`, 16 bytes
//! each, in no order.
//!
//! A coordinator that offers an old lease again would otherwise get a second answer for it, and the
//! worker would stand as one that contradicts itself.
//! Invariant: a lease is in the file, synced, before its result is removed. The file only grows: at
//! one job in 52 s ten years are 6 million leases, 97 MB; it is read piece by piece, never whole.

use super::error::{OutboxError, io_error};
use attest::id::LeaseId;
use std::{
    fs::{File, OpenOptions},
    io::{BufReader, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

const LEASE_BYTES: u64 = 16;
/// How much is read at a time.
const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Answered {
    path: PathBuf,
}

impl Answered {
    /// Opens the file, or makes it; cuts what an end in the middle of writing left.
    pub(super) fn open(folder: &Path) -> Result<Self, OutboxError> {
        let path = folder.join("answered");
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        let length = file.metadata().map_err(io_error("look at", &path))?.len();
        if length % LEASE_BYTES != 0 {
            let cut = file.set_len(length - length % LEASE_BYTES).and_then(|()| file.sync_all());
            cut.map_err(io_error("cut", &path))?;
        }
        Ok(Self { path })
    }

    pub(super) fn contains(&self, lease: &LeaseId) -> Result<bool, OutboxError> {
        let file = File::open(&self.path).map_err(io_error("open", &self.path))?;
        let mut reader = BufReader::with_capacity(PIECE_BYTES, file);
        let mut found = [0; LEASE_BYTES as usize];
        loop {
            match reader.read_exact(&mut found) {
                Ok(()) if found == lease.0 => return Ok(true),
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(io_error("read", &self.path)(error)),
            }
        }
    }

    pub(super) fn note(&self, leases: &[LeaseId]) -> Result<(), OutboxError> {
        let bytes: Vec<u8> = leases.iter().flat_map(|lease| lease.0).collect();
        let file = OpenOptions::new().append(true).open(&self.path);
        let written = file.and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.map_err(io_error("write", &self.path))
    }
}
