//! The verdict under friends, strangers and liars. Every key, record and statement is real; only
//! the image is small.

mod attacks;
pub(crate) mod fleet;
mod levels;
mod needs;
mod properties;
mod rule;
