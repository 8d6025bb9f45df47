//! The published images and what workers build instead.
//!
//! Invariant: the same in every process: digests follow from an image's number, never from a key.

use crate::queue::JobSpec;
use attest::{Digest, Platform, Subject};
use std::sync::OnceLock;

/// Images that there can be.
pub(super) const IMAGES_MAX: usize = 8;
/// The published one.
pub(super) const PUBLISHED: u32 = 0;
/// The one that honest workers build of a tampered image.
pub(super) const REBUILT: u32 = 1;
/// What colluding workers agree on.
pub(super) const AGREED: u32 = 2;
/// From here on: each one of its own.
pub(super) const OWN: u32 = 16;

/// The manifest of a variant of an image.
pub(super) fn manifest(image: u8, variant: u32) -> Vec<u8> {
    let config = Digest::of(format!("config {image} {variant}").as_bytes());
    let layer = Digest::of(b"layer");
    let kind = "application/vnd.oci.image";
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}.manifest.v1+json","config":{{"mediaType":"{kind}.config.v1+json","digest":"{config}","size":7}},"layers":[{{"mediaType":"{kind}.layer.v1.tar+gzip","digest":"{layer}","size":10}}]}}"#
    )
    .into_bytes()
}

/// The digest of a variant of an image.
pub(super) fn digest(image: u8, variant: u32) -> Digest {
    static KNOWN: OnceLock<Vec<Digest>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let variants = |image| (0..OWN).map(move |variant| Digest::of(&manifest(image, variant)));
        (0..IMAGES_MAX as u8).flat_map(variants).collect()
    });
    let at = usize::from(image) * OWN as usize + variant as usize;
    match known.get(at).filter(|_| variant < OWN) {
        Some(digest) => *digest,
        None => Digest::of(&manifest(image, variant)),
    }
}

/// The image.
pub(super) fn subject(image: u8) -> Subject {
    Subject {
        repository: "registry.example/demo/hello".parse().expect("a repository"),
        digest: digest(image, PUBLISHED),
        platform: Platform::linux("amd64"),
    }
}

/// The job for an image: wants so many observations, for a rebuilder that there is or not.
pub(super) fn spec(image: u8, wanted: u32, routable: bool, recipes: Vec<Digest>) -> JobSpec {
    let rebuilder = if routable { "apko" } else { "buildkit" };
    let hour = 3_600_000;
    JobSpec::new(subject(image), recipes, rebuilder, 0, wanted, hour).expect("a job")
}
