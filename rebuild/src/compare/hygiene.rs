//! The hygiene of a published layer: whether its blob holds its tar and nothing else (design:
//! architecture, "The ladder of equality", level `config`).
//!
//! A gzip layer is clean when it is one member without extra field, name, comment, header checksum
//! or reserved flag, its CRC32 and ISIZE are right and nothing comes after it; a Zstandard layer
//! when it is one frame without dictionary, no skippable frame, nothing after it. An uncompressed
//! tar is clean. The media type must say which of them it is.
//!
//! Invariant: `clean` is exactly "`why` is empty". What an encoder may choose freely (MTIME, XFL,
//! OS, FTEXT) is listed and never a defect.

use super::{
    compression::{Compression, GzipHeader},
    error::{CompareError, Side},
    image::{ImageBytes, Limits},
    layer::{Budget, LayerFacts, LayerStream},
    manifest::Descriptor,
    tap::LayerName,
    unclean::{Unclean, UncleanCode, note},
};
use attest::Digest;
use serde::Serialize;

/// How one published layer is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerHygiene {
    /// True when the blob holds its tar and nothing else.
    pub clean: bool,
    /// What it holds beside it, or what is wrong.
    pub why: Vec<Unclean>,
    /// By the blob's first bytes.
    pub compression: Compression,
    /// The header's free fields, for gzip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gzip: Option<GzipHeader>,
    /// Digest of the blob as it was read.
    pub blob: Digest,
    /// Its bytes.
    pub blob_size: u64,
    /// Digest of what it unpacked to, computed here.
    pub diff_id: Digest,
    /// Bytes of what it unpacked to.
    pub uncompressed_size: u64,
}

impl LayerHygiene {
    pub(super) fn judge(
        facts: LayerFacts,
        descriptor: &Descriptor,
        diff_id: Option<&Digest>,
    ) -> Self {
        let mut why = facts.unclean;
        if descriptor.compression() != Some(facts.compression) {
            let media_type: String = descriptor.media_type.chars().take(128).collect();
            let found = facts.compression.as_str();
            let detail = format!("media type {media_type:?}, compression of the blob: {found}");
            note(&mut why, UncleanCode::WrongMediaType, detail);
        }
        if descriptor.size != facts.blob_size {
            let detail = format!("expected {} bytes, found {}", descriptor.size, facts.blob_size);
            note(&mut why, UncleanCode::WrongBlobSize, detail);
        }
        if diff_id != Some(&facts.diff_id) {
            let stated = diff_id.map_or("no diffID".to_owned(), Digest::to_string);
            let detail = format!("expected {stated}, found {}", facts.diff_id);
            note(&mut why, UncleanCode::WrongDiffId, detail);
        }
        Self {
            clean: why.is_empty(),
            why,
            compression: facts.compression,
            gzip: facts.gzip,
            blob: facts.blob,
            blob_size: facts.blob_size,
            diff_id: facts.diff_id,
            uncompressed_size: facts.size,
        }
    }
}

/// Reads layer `index` of the published image and judges how it is stored.
///
/// `diff_id` is what the image's configuration states for it. An error is an error of reading, a
/// limit, or a blob that is not the one that the descriptor names.
pub(super) fn inspect(
    image: &dyn ImageBytes,
    index: usize,
    descriptor: &Descriptor,
    diff_id: Option<&Digest>,
    budget: &Budget,
    limits: &Limits,
) -> Result<LayerHygiene, CompareError> {
    let name = LayerName { side: Side::Published, index };
    let source = image.layer(index).map_err(|e| name.read_error(e))?;
    let stream = LayerStream::open(&name, source, image.layer_form(), budget, limits)?;
    let facts = stream.finish()?;
    if facts.blob != descriptor.digest {
        return Err(CompareError::WrongBytes {
            side: Side::Published,
            what: format!("layer {index}"),
            expected: descriptor.digest.to_string(),
            found: facts.blob.to_string(),
        });
    }
    Ok(LayerHygiene::judge(facts, descriptor, diff_id))
}

/// Judges a single blob by itself: what a layer of this media type, size and diffID would be.
pub fn inspect_layer(
    blob: &mut dyn std::io::Read,
    media_type: &str,
    size: u64,
    diff_id: &Digest,
    limits: &Limits,
) -> Result<LayerHygiene, CompareError> {
    let name = LayerName { side: Side::Published, index: 0 };
    let budget = Budget::default();
    let form = super::image::LayerForm::Blob;
    let facts = LayerStream::open(&name, Box::new(blob), form, &budget, limits)?.finish()?;
    let descriptor = Descriptor { media_type: media_type.to_owned(), digest: facts.blob, size };
    Ok(LayerHygiene::judge(facts, &descriptor, Some(diff_id)))
}
