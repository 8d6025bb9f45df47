//! The daemon: leases in, signed observations out.
//!
//! Invariant: one result per lease, ever, and it is on disk before it is sent; a lease, job or offer
//! that the configured coordinator key did not sign is refused; a job that crashes, runs too long or
//! takes too much memory is an outcome that is signed, never a dead worker; a job that this machine
//! did not let run is given back, never signed.

pub mod cage;
pub mod child;
pub mod config;
pub mod connect;
pub mod doctor;
pub mod draft;
pub mod environment;
pub mod fitness;
pub mod identity;
pub mod observe;
pub mod offer;
pub mod outbox;
pub mod run;
