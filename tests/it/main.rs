//! The one integration test binary of the workspace.
//!
//! `arrows` keeps the direction of dependencies, `tidy` the house style that a machine can check,
//! `logging` the page about logs; `operations` runs a coordinator and watches repositories; `skew`
//! lets peers of two versions work together.

mod arrows;
mod logging;
mod operations;
mod peers;
mod skew;
mod tidy;
