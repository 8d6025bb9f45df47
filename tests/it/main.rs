//! The one integration test binary of the workspace.
//!
//! `arrows` keeps the direction of dependencies, `tidy` the house style that a machine can check.

mod arrows;
mod tidy;
