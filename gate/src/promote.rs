//! Moves a tag to a digest that was admitted: verify before tag.
//!
//! Invariant: what the tag names afterwards are the bytes whose digest was judged, put as they were
//! read. Nothing is written unless the report admits the image, and a registry in which somebody
//! else moved the tag at the same moment is an error, not a success.

use crate::{check::Checked, error::GateError, image::source_of};
use attest::Digest;
use bytes::Bytes;
use oci::{Destination, ImageReference, LayoutWriter, Registry, SourceOptions, Tag};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted {
    /// Repository and tag.
    pub name: String,
    /// What it names now.
    pub digest: Digest,
    /// What it named before.
    pub before: Option<Digest>,
}

/// Makes `tag` name the image that was checked, in its own repository.
pub async fn promote(
    reference: &ImageReference,
    checked: &Checked,
    tag: &Tag,
    options: &SourceOptions,
) -> Result<Promoted, GateError> {
    let refused = |found: &str| GateError::Image {
        image: reference.to_string(),
        expected: "an image that was read and admitted, to move a tag to it",
        found: found.to_owned(),
    };
    if !checked.report.admits() {
        return Err(refused("one that is denied"));
    }
    let asked = checked.asked.as_ref().ok_or_else(|| refused("none"))?;
    let root = asked.root.as_ref().ok_or_else(|| refused("one whose evidence alone was read"))?;
    let same_place = source_of(reference) == asked.source && asked.image == reference.to_string();
    if !same_place || checked.report.digest != Some(root.digest) {
        return Err(refused("another"));
    }
    let destination = match reference {
        ImageReference::Layout { dir, .. } => Destination::Layout(LayoutWriter::create(dir)?),
        ImageReference::Registry { .. } => Destination::Registry(Registry::new(options)),
    };
    let repository = &asked.repository;
    let before = destination.source()?.tag(repository, tag).await?;
    let name = format!("{repository}:{tag}");
    if before == Some(root.digest) {
        return Ok(Promoted { name, digest: root.digest, before });
    }
    let bytes = Bytes::from(root.bytes.clone());
    destination.put_manifest(repository, &root.media_type, bytes, Some(tag), before).await?;
    // A registry that does not compare lets the last writer win: see who that was.
    match destination.source()?.tag(repository, tag).await? {
        Some(found) if found == root.digest => Ok(Promoted { name, digest: root.digest, before }),
        Some(found) => {
            let moved = oci::Error::TagMoved { tag: name, expected: root.digest, found };
            Err(GateError::Oci(moved))
        }
        None => Err(refused("a registry that does not keep the tag")),
    }
}
