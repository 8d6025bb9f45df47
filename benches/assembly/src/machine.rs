//! The machine that is measured on.
//!
//! Invariant: it is asked, never assumed.

/// Threads of this machine.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
