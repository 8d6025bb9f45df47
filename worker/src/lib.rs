//! The worker: from published evidence to a rebuilt image to a signed observation.
//!
//! The way of one job: [`pipeline`] fetches the evidence, lets `attest` judge it under the worker's
//! own policy and derive the recipe, gets the inputs through [`material`], builds and compares with
//! `rebuild`; [`daemon`] does that for a coordinator's leases, each in a process of its own, signs
//! what came out and keeps it in the outbox until it is confirmed. `assay verify` is the same
//! pipeline without a coordinator; [`assemble`] builds alone, from a configuration on this machine.
//! Invariant: the worker trusts no coordinator: it derives the recipe again and refuses a lease or a
//! job that does not fit. It says what was built, never "match". The key never enters the process
//! that builds.

pub mod assemble;
pub mod daemon;
pub mod material;
pub mod pipeline;
pub mod report;
