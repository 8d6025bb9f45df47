//! The assembler against what the real apko made (published images with their attestations, every
//! configuration feature, 83 results of versions from 0.13.0 on), and against hostile packages.
//!
//! Invariant: expectations come from the fixtures only; a case that cannot be run is a failure.

#[path = "apko_vectors/conflicts.rs"]
mod conflicts;
#[path = "apko_vectors/golden.rs"]
mod golden;
#[path = "apko_vectors/hostile.rs"]
mod hostile;
#[path = "apko_vectors/make.rs"]
mod make;
#[path = "apko_vectors/page.rs"]
mod page;
#[path = "apko_vectors/published.rs"]
mod published;
#[path = "apko_vectors/random.rs"]
mod random;
#[path = "apko_vectors/same_bytes.rs"]
mod same_bytes;
#[path = "apko_vectors/support.rs"]
mod support;
#[path = "apko_vectors/versions.rs"]
mod versions;
