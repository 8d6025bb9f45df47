//! What users and registries say: references, manifests, indexes.

use attest::image_manifest::ImageManifest;
use oci::{
    ImageReference,
    manifest::{self, Document},
};

/// A reference: written again, it is the same.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = text.parse::<ImageReference>() {
        let written = reference.to_string();
        assert_eq!(written.parse::<ImageReference>().ok().as_ref(), Some(&reference), "{written}");
    }
}

/// A manifest or an index. Where both of our readers accept a manifest, they see the same blobs.
pub fn manifest(bytes: &[u8]) {
    let Ok((_, document)) = manifest::read(bytes, None, "fuzz") else { return };
    let Document::Manifest(found) = document else { return };
    if let Ok(other) = ImageManifest::parse(bytes) {
        assert_eq!(found.config.digest, other.config.digest);
        assert!(found.layers.iter().map(|l| l.digest).eq(other.layers.iter().map(|l| l.digest)));
    }
}
