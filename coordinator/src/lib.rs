//! The coordinator: hands out published images, keeps the journal, judges and publishes.
//!
//! Invariant: no answer is given from state that is not on disk: the journal is synced, then the
//! index follows, then the caller hears of it. The queue and the journal's recovery do no IO and
//! read no clock.

pub mod daemon;
pub mod journal;
pub mod queue;
pub mod setup;
#[cfg(test)]
mod simulation;
pub mod store;
pub mod tls;
pub mod upkeep;
