//! The journal: the append-only file of every record, and the truth of the coordinator.
//!
//! | module | what it is |
//! |---|---|
//! | [`record`] | kinds, records on their way in, records that lie there |
//! | [`frame`] | the bytes, version 1 (docs/JOURNAL.md) |
//! | `recover` | pure: a segment's bytes in, what is good, torn or damaged out |
//! | [`log`] | the writing end without threads: open, write groups, sync |
//! | [`writer`] | [`FileJournal`]: group commit with one `fdatasync` for many callers |
//! | [`read`] | [`Reader`]: one record by position, or all from a position |
//! | [`examine`](mod@examine) | reads a whole journal and changes nothing |
//! | [`snapshot`](mod@snapshot) | copies the durable part of a journal that is being written |
//! | [`disk`], [`memory`] | the file operations as a trait: the real ones, and memory |
//!
//! Invariant: what was acknowledged is on disk and stays; positions are numbers from 0 without
//! holes; every record fixes all before it by a chain of SHA-256. It must never acknowledge before
//! `fdatasync`, and never start on a journal that ends before what others were promised.

pub mod disk;
pub mod error;
pub mod examine;
pub mod figures;
mod floor;
pub mod frame;
mod kept;
pub mod log;
pub mod memory;
mod open;
pub mod read;
pub mod record;
mod recover;
mod segment;
pub mod snapshot;
pub mod writer;

#[cfg(test)]
mod tests;

pub use disk::{Disk, DiskFile, RealDisk};
pub use error::{Floor, JournalError};
pub use examine::{Examination, Examined, examine};
pub use figures::{Spread, SyncFigures};
pub(crate) use floor::{FLOOR_NAME, write as write_floor};
pub use frame::BODY_BYTES_MAX;
pub use log::{GROUP_BYTES_MAX, Group, Log};
pub use memory::MemoryDisk;
pub(crate) use open::lock;
pub use open::{Options, Recovery};
pub use read::{Reader, Records};
pub use record::{Kind, NewRecord, Stored};
pub use recover::Cut;
pub use snapshot::{Snapshot, snapshot};
pub use writer::{Appended, FileJournal, Follower, NoFollower, OnFatal, SyncTotals, Ticket};
