//! The one integration test binary of the workspace.
//!
//! `arrows` keeps the direction of dependencies, `tidy` the house style that a machine can check,
//! `logging` the page about logs, `deploy` what lies in that folder; `operations` runs a coordinator and
//! watches repositories.

mod arrows;
mod deploy;
mod logging;
mod operations;
mod peers;
mod tidy;
