//! The test harness: what tests need to run the real parts against each other on one machine.
//!
//! Invariant: nothing here is a part of Assay or stands in for one; a registry with faults is a
//! real registry with faults, and everything listens on loopback only.

pub mod peer;
pub mod registry;
