//! The one integration test binary of the workspace.
//!
//! `arrows` keeps the direction of dependencies, `tidy` the house style that a machine can check,
//! `deploy` what lies in deploy/, `logging` the page about logs, `threats` the names of tests in the
//! threat model; `operations` runs a coordinator and watches repositories; `faults` puts real
//! processes under real faults; `skew` lets peers of two versions work together;
//! `generated_indexes` looks for images that an altered index would hide.

mod arrows;
// The generator of the tests of `rebuild`: fresh repositories and configurations from a seed.
#[path = "../../rebuild/tests/apk_support/build.rs"]
mod build;
mod deploy;
mod faults;
mod generated_indexes;
mod logging;
mod operations;
#[path = "../../rebuild/tests/generated/repository.rs"]
#[allow(dead_code)]
mod repository;
mod skew;
mod threats;
mod tidy;
