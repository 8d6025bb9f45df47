//! The assembler against images that the real apko made: published images with their attestations,
//! every configuration feature, and 83 results of versions from 0.13.0 on.
//!
//! Invariant: expectations come from the fixtures only; a case that cannot be run is a failure.

#[path = "apko_vectors/golden.rs"]
mod golden;
#[path = "apko_vectors/published.rs"]
mod published;
#[path = "apko_vectors/support.rs"]
mod support;
#[path = "apko_vectors/versions.rs"]
mod versions;
