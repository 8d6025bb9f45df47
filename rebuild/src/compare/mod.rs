//! How equal two images are (being written).

mod error;
mod gzip;
mod hygiene;
mod image;
mod json;
mod layer;
mod manifest;
mod tar;
mod zstandard;

pub use error::{CompareError, Side};
pub use hygiene::{LayerHygiene, Unclean, UncleanCode, inspect_layer};
pub use image::{ImageBytes, LayerForm, Limits, MemoryImage};
pub use layer::{Compression, GzipHeader};
