//! A job's folder: it names the fence of its lease, for the next process.
//!
//! Invariant: what cannot be read in it names nothing; a lease is known by the folder's own name.
//! It must never be taken for an answer.

use attest::id::{Fence, LeaseId};
use std::{fs, io, path::Path};

/// The file in a job's folder that names the lease's fence, for the next process.
const FENCE_FILE: &str = ".fence";
/// Folders of earlier jobs that are looked at: a worker holds at most 256 leases.
const LEFT_MAX: usize = 1024;

/// Makes the folder of a job.
pub(super) fn make(folder: &Path, fence: Fence) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(FENCE_FILE), fence.0.to_string())
}

/// The leases whose folders are there, with their fences.
pub(super) fn left_in(work: &Path) -> Vec<(LeaseId, Fence)> {
    let Ok(entries) = fs::read_dir(work) else { return Vec::new() };
    let read = |entry: fs::DirEntry| {
        let lease = entry.file_name().to_str()?.parse().ok()?;
        let fence = fs::read_to_string(entry.path().join(FENCE_FILE)).ok()?;
        Some((lease, Fence(fence.parse().ok()?)))
    };
    entries.flatten().take(LEFT_MAX).filter_map(read).collect()
}
