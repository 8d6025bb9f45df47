//! Media types, and the sizes up to which each kind of document is read.
//!
//! Sources: OCI image-spec 1.1 (media-types.md), Docker's image manifest v2 schema 2, the Sigstore
//! bundle and in-toto specifications. Invariant: a limit stands here once, with its reason.

pub use oci_distribution::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE as IMAGE_CONFIG, IMAGE_MANIFEST_LIST_MEDIA_TYPE as DOCKER_INDEX,
    IMAGE_MANIFEST_MEDIA_TYPE as DOCKER_MANIFEST, OCI_IMAGE_INDEX_MEDIA_TYPE as OCI_INDEX,
    OCI_IMAGE_MEDIA_TYPE as OCI_MANIFEST,
};

/// The config of an artifact that needs none: the two bytes `{}`.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The Sigstore bundle that we write.
pub const BUNDLE_V03: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// How every Sigstore bundle's media type begins, old (`+json;version=0.1`) and new.
pub const BUNDLE_PREFIX: &str = "application/vnd.dev.sigstore.bundle";
/// An in-toto Statement without a signature, as BuildKit writes it.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// A DSSE envelope, the layers of a `.att` manifest.
pub const DSSE: &str = "application/vnd.dsse.envelope.v1+json";
/// BuildKit's attestation manifest in its newer, artifact form.
pub const BUILDKIT_ATTESTATION: &str = "application/vnd.docker.attestation.manifest.v1+json";

/// Manifests and indexes: 4 MiB, what the distribution specification asks registries to accept.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// `index.json` of a layout: a list of descriptors as an index is, so the same 4 MiB; at about
/// 300 bytes an entry that is more than 10,000 entries.
pub const INDEX_JSON_BYTES_MAX: u64 = MANIFEST_BYTES_MAX;
/// Entries of one index, layers of one manifest: images in the wild stay below 130 of either.
pub const ENTRIES_MAX: usize = 1024;
/// Entries of a layout's `index.json`, which holds many images: 4 MiB / 300 bytes, rounded up.
pub const LAYOUT_ENTRIES_MAX: usize = 16_384;
/// An image config: 4 MiB; it holds the history, and labels.
pub const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// One piece of evidence: SBOMs of large images reach 20 MB as JSON, and base64 adds a third.
pub const EVIDENCE_BYTES_MAX: u64 = 32 << 20;
/// All evidence of one discovery: room for four of the largest.
pub const EVIDENCE_TOTAL_BYTES_MAX: u64 = 128 << 20;
/// Referrers of one digest that are looked at. Stock verifiers give up at 50.
pub const REFERRERS_MAX: usize = 256;
/// One layer blob that is taken at all: 16 GiB. Callers give smaller limits.
pub const BLOB_BYTES_MAX: u64 = 16 << 30;

/// True for the media types of an index, OCI's and Docker's.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

/// True for the media types of an image manifest, OCI's and Docker's.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}
