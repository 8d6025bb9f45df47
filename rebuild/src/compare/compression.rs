//! How a layer's blob is compressed, and what of it an encoder chooses freely.
//!
//! Invariant: read from the bytes, never from the media type, as container runtimes do (gzip: RFC
//! 1952; Zstandard: RFC 8878); anything else is taken for the tar itself.

use serde::Serialize;

/// How a layer's blob is compressed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// The tar itself.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// The word as it is written in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The fields of a gzip member's header that do not change what the layer holds (RFC 1952, 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GzipHeader {
    /// FLG as it stands.
    pub flags: u8,
    /// MTIME in seconds, 0 when not set.
    pub mtime: u32,
    /// XFL: 2 and 4 are the slowest and the fastest level of most encoders.
    pub extra_flags: u8,
    /// OS: 255 is Go's, 3 is Unix.
    pub os: u8,
}

pub(super) fn detect(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame before the data: still Zstandard to a decoder.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}
