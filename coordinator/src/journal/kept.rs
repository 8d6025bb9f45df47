//! Closed segments that readers keep open: opening two files costs more than reading a record.
//!
//! Invariant: at most [`OPEN_MAX`] segments are open here, the last used; nothing that is read
//! through a kept file is believed more than anything else ([`super::read`] checks every record).
//! Whoever finds something wrong forgets the segment and opens its files anew, so that what was
//! written again or put back in its place is seen. It must never hold up a reader while files are
//! opened, and never keep a segment that is still written.

use super::{disk::Disk, segment};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Segments that are open at a time, two files each: 16 of 64 MiB are 1 GiB of journal, and 32 of
/// the 256 descriptors that `check-config` leaves beside connections.
pub(super) const OPEN_MAX: usize = 16;

/// The files of one closed segment.
pub(super) struct Files<D: Disk> {
    first: u64,
    /// The records.
    pub(super) segment: Arc<D::File>,
    /// Where they lie, a hint; none if there was no such file.
    pub(super) offsets: Option<D::File>,
}

/// See the module's head. The last used stands at the end.
pub(super) struct Kept<D: Disk>(Mutex<VecDeque<Arc<Files<D>>>>);

impl<D: Disk> Default for Kept<D> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<D: Disk> Kept<D> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Files<D>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files of the closed segment that begins with this record.
    pub(super) fn files(&self, disk: &D, first: u64) -> io::Result<Arc<Files<D>>> {
        let kept = {
            let mut all = self.lock();
            let at = all.iter().position(|files| files.first == first);
            at.and_then(|at| all.remove(at)).inspect(|files| all.push_back(Arc::clone(files)))
        };
        if let Some(files) = kept {
            return Ok(files);
        }
        let segment = Arc::new(disk.open(&segment::name(first))?);
        let offsets = disk.open(&segment::offsets_name(first)).ok();
        let files = Arc::new(Files { first, segment, offsets });
        let mut all = self.lock();
        // Another reader may have opened it meanwhile.
        all.retain(|files| files.first != first);
        all.push_back(Arc::clone(&files));
        while all.len() > OPEN_MAX {
            all.pop_front();
        }
        Ok(files)
    }

    /// The files of this segment are opened anew by whoever asks next.
    pub(super) fn forget(&self, first: u64) {
        self.lock().retain(|files| files.first != first);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }
}
