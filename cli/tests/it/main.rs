//! Tests of the built binary from outside: every role a process of its own.
//!
//! They are here and not among the tests of the whole house (`tests/it`), because cargo builds the
//! binary for the tests of its own package alone and says where it is (`CARGO_BIN_EXE_assay`).

mod demo;
mod former_policy;
#[path = "../../../tests/src/peer.rs"]
#[allow(dead_code)]
mod peer;
mod publishing;
mod stage;
mod walkthrough;
mod withdrawal;
