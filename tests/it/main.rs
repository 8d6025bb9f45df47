//! The one integration test binary of the workspace.
//!
//! `arrows` keeps the direction of dependencies, `tidy` the house style that a machine can check,
//! `logging` the page about logs, `threats` the names of tests in the threat model; `operations`
//! runs a coordinator and watches repositories.

mod arrows;
mod logging;
mod operations;
mod peers;
mod threats;
mod tidy;
