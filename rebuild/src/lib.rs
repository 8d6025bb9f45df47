//! How images are made and compared: the apko assembler, the ladder of equality, explanations.
//!
//! Invariant: pure. Bytes come in and go out through the traits of [`source`]; nothing here talks
//! to a network, reads a clock, runs foreign code or unpacks anything to the host's file system.
//! It must never take a byte of the published image as an input of a build.

pub mod apk;
pub mod apko;
pub mod compare;
pub mod go;
pub mod source;
pub mod threads;
