//! The simulator: the real queue, journal, engine, index and verdict in a world that follows from a
//! seed: clock, network, disk, workers and their lies.
//!
//! | module | what it is |
//! |---|---|
//! | [`plan`], [`random`] | what happens in one schedule, from its seed |
//! | [`world`], [`talk`], [`faults`], [`court`] | clock, network, workers' calls, faults, judging |
//! | [`site`], [`brain`] | the coordinator's process around the real parts |
//! | [`disk`], [`tables`] | a disk and an index that fail |
//! | [`fleet`], [`images`], [`signed`], [`judge`] | what workers do and sign, how it is judged |
//! | [`checks`] | the invariants, watched from outside |
//! | [`shrink`] | a failing schedule, made small |
//!
//! `ASSAY_SEEDS=1000000 cargo test --release -p assay-coordinator --lib simulation::tests::schedules`
//! runs more schedules, `ASSAY_SEED=42` one, with what happened in it. Of 64 schedules one is
//! really signed and judged by `attest::verdict`, four more run on engine and index; the others on
//! queue and journal alone, judged by the same rule without signatures.
//!
//! Invariant: nothing here reads a clock, a file or randomness: a seed is a schedule, for ever.

mod brain;
mod checks;
mod court;
mod disk;
mod faults;
mod fleet;
mod images;
mod judge;
mod plan;
mod random;
mod shrink;
pub(crate) mod signed;
mod site;
mod tables;
mod talk;
mod tests;
mod world;
