//! How equal two images are, and what makes them differ: the ladder, the hygiene of published
//! layers, and explanations (design: architecture, "The ladder of equality"; rebuilding, 5 and 6).
//!
//! One call does it all: [`compare`] takes the bytes of the published and of the rebuilt image
//! and returns a [`Comparison`]. Both sides come through [`ImageBytes`], so the rebuilt image may
//! be given as uncompressed tars and nothing needs compressing to reach level `config`.
//!
//! Invariant: a level is reached by positive checks on bytes that were read and hashed here, never
//! by the absence of a difference found. The same two images give the same [`Explanation`] bytes on
//! any machine and with any number of threads. It must never trust a digest, a size or a media type
//! that the published image states about itself, and never turn a limit into a divergence.

mod capture;
mod cause;
mod compression;
mod content;
mod documents;
mod entries;
mod error;
mod event;
mod explain;
mod gzip;
mod hygiene;
mod image;
mod json;
mod ladder;
mod layer;
mod listing;
mod manifest;
mod packages;
mod paths;
mod tap;
mod tar;
mod text;
mod tree;
mod unclean;
mod zstandard;

pub use attest::Level;
pub use cause::{CAUSES_VERSION, Cause, CauseCode, Class, Confidence};
pub use compression::{Compression, GzipHeader};
pub use error::{CompareError, Side};
pub use event::{Bytes, Event, Kind, Scope};
pub use explain::{DETECTOR, Explanation, ExplanationError, FirstEntry, LayerDifference};
pub use hygiene::{LayerHygiene, inspect_layer};
pub use image::{ImageBytes, LayerForm, Limits, MemoryImage};
pub use ladder::{Comparison, ExplanationSummary, ImageIds, LayerIds, Options, Searched, compare};
pub use listing::{ListedEntry, Listing, list_layer};
pub use text::{render_text, render_text_of};
pub use unclean::{Unclean, UncleanCode};
