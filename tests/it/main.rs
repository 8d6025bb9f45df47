//! The one integration test binary of the workspace.
//!
//! `arrows` keeps the direction of dependencies, `tidy` the house style that a machine can check,
//! `logging` the page about logs; `operations` runs a coordinator and watches repositories;
//! `generated_indexes` looks for images that an altered index would hide.

mod arrows;
// The generator of the tests of `rebuild`: fresh repositories and configurations from a seed.
#[path = "../../rebuild/tests/apk_support/build.rs"]
mod build;
mod generated_indexes;
mod logging;
mod operations;
mod peers;
#[path = "../../rebuild/tests/generated/repository.rs"]
#[allow(dead_code)]
mod repository;
mod tidy;
