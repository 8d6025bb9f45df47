//! The OCI documents that apko writes: image configuration, manifest, index (OCI image-spec 1.1).
//!
//! Invariant: compact JSON with Go's escapes and field order, no newline at the end. The documents
//! are functions of the configuration and of digests that were computed, never copied.

mod annotations;
mod image;
mod index;
mod words;

pub use image::{ImageParts, config, manifest};
pub use index::{IndexEntry, index};
pub use words::{WordsError, split_words};
