//! The byte habits of Go's libraries: tar, JSON, times, sorting with ties, deflate and gzip.
//!
//! Invariant: for one input there is one output, and it equals what the Go program would write.
//! Nothing here knows about images, packages or apko; nothing reads a clock or a file.

pub mod deflate;
pub mod gzip;
pub mod json;
pub mod pdqsort;
pub mod tar;
pub mod time;
