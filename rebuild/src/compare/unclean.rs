//! What can be wrong with the way a layer is stored, by code.
//!
//! Invariant: a note is a defect; what an encoder may choose freely is none. It must never be taken
//! for a difference of what the layer holds.

use serde::Serialize;
use std::fmt;

macro_rules! unclean_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// What is wrong with the way a layer is stored.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum UncleanCode { $($(#[$doc])* $name,)+ }

        impl UncleanCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code as it is written in results.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

unclean_codes! {
    /// FEXTRA.
    ExtraField = "extra-field",
    /// FNAME.
    FileName = "file-name",
    /// FCOMMENT.
    Comment = "comment",
    /// FHCRC.
    HeaderChecksum = "header-checksum",
    /// A bit of FLG that RFC 1952 reserves.
    ReservedFlags = "reserved-flags",
    /// More than one gzip member or Zstandard frame.
    SeveralMembers = "several-members",
    /// Bytes after the compressed data.
    TrailingBytes = "trailing-bytes",
    /// CRC32 is not that of the content.
    WrongChecksum = "wrong-checksum",
    /// ISIZE is not that of the content.
    WrongSize = "wrong-size",
    /// The blob ends before its data does.
    Truncated = "truncated",
    /// The compressed data cannot be decoded.
    Malformed = "malformed",
    /// A Zstandard frame that decoders pass over.
    SkippableFrame = "skippable-frame",
    /// A Zstandard frame that names a dictionary.
    Dictionary = "dictionary",
    /// The descriptor's media type is not what the blob is.
    WrongMediaType = "wrong-media-type",
    /// The descriptor's size is not the blob's.
    WrongBlobSize = "wrong-blob-size",
    /// The blob does not unpack to the diffID that the configuration states.
    WrongDiffId = "wrong-diff-id",
}

impl fmt::Display for UncleanCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One defect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unclean {
    /// Which.
    pub code: UncleanCode,
    /// What exactly, in one line. May quote the blob.
    pub detail: String,
}

impl fmt::Display for Unclean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

/// Notes a defect, up to a number that no honest layer comes near.
pub(super) fn note(unclean: &mut Vec<Unclean>, code: UncleanCode, detail: impl Into<String>) {
    const NOTES_MAX: usize = 16;
    if unclean.len() < NOTES_MAX {
        unclean.push(Unclean { code, detail: detail.into() });
    }
}
