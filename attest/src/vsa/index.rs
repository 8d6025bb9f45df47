//! Whether an index may be attested: each of its entries was reproduced, or is an attestation
//! manifest beyond doubt (design: command line, "Platforms").
//!
//! Invariant: an entry is left out only if its platform is unknown/unknown **and** it is annotated
//! as an attestation manifest **and** all its layers are in-toto statements; a runtime would run
//! anything else. Format: OCI image-spec, "Image Index".

use crate::{
    Digest, Platform, Repository,
    image_manifest::{ImageManifest, MANIFEST_BYTES_MAX, parse_strict},
    verdict::Reproduced,
};
use serde_json::Value;

/// Most entries of an index that are looked at: more than any platform list, 1,024 of 300 bytes.
const INDEX_ENTRIES_MAX: usize = 1024;
/// How BuildKit marks its attestation manifests.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const ATTESTATION_MANIFEST: &str = "attestation-manifest";
const IN_TOTO_LAYER: &str = "application/vnd.in-toto+json";

/// Why an index is not attested.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Larger than a manifest may be.
    #[error("expected an index of at most {MANIFEST_BYTES_MAX} bytes, found {0}")]
    TooLarge(usize),
    /// Not the JSON of an index.
    #[error("expected an image index: {0}")]
    Json(#[from] serde_json::Error),
    /// Something of it is missing or has another type.
    #[error("expected an image index with {0}")]
    Member(&'static str),
    /// No image, so nothing was reproduced.
    #[error("expected an index with at least one image that was reproduced")]
    Empty,
    /// Images of different repositories, or judged under different policies.
    #[error("expected images of one repository judged under one policy")]
    Mixed,
    /// An entry that was not reproduced, and that is not left out beyond doubt.
    #[error("entry {digest} of the index was not reproduced")]
    Uncovered {
        /// The entry.
        digest: Digest,
    },
    /// A judgement about an image that the index does not list, or for another platform.
    #[error("image {digest} is not listed in the index for its platform")]
    Unlisted {
        /// The image.
        digest: Digest,
    },
}

/// An index with what was judged of it.
#[derive(Debug, Clone, Copy)]
pub struct IndexImage<'a> {
    /// The index as published.
    pub bytes: &'a [u8],
    /// Its images, each reproduced.
    pub reproduced: &'a [Reproduced<'a>],
    /// The manifests of entries that are left out, as published.
    pub attestation_manifests: &'a [Vec<u8>],
}

impl<'a> IndexImage<'a> {
    /// The repository and the policy, if every entry is covered.
    pub(super) fn check(&self) -> Result<(&'a Repository, Digest), IndexError> {
        let first = self.reproduced.first().ok_or(IndexError::Empty)?.finding();
        let (repository, policy) = (&first.subject.repository, first.policy);
        let same = |image: &Reproduced<'_>| {
            let finding = image.finding();
            finding.subject.repository == *repository
                && finding.policy == policy
                && finding.source == first.source
        };
        if !self.reproduced.iter().all(same) {
            return Err(IndexError::Mixed);
        }
        if self.bytes.len() > MANIFEST_BYTES_MAX {
            return Err(IndexError::TooLarge(self.bytes.len()));
        }
        let index = parse_strict(self.bytes)?;
        let entries = index.get("manifests").and_then(Value::as_array);
        let entries = entries.ok_or(IndexError::Member("manifests"))?;
        if entries.len() > INDEX_ENTRIES_MAX {
            return Err(IndexError::Member("at most 1024 entries"));
        }
        let mut covered = vec![false; self.reproduced.len()];
        for entry in entries {
            let digest = entry.get("digest").and_then(Value::as_str);
            let digest: Digest = digest
                .and_then(|text| text.parse().ok())
                .ok_or(IndexError::Member("a SHA-256 digest in each entry"))?;
            let platform = platform(entry);
            let judged = self.reproduced.iter().position(|image| {
                let subject = &image.finding().subject;
                subject.digest == digest
                    && platform.as_ref().is_none_or(|platform| *platform == subject.platform)
            });
            match judged.and_then(|at| covered.get_mut(at)) {
                Some(covered) => *covered = true,
                None if self.is_attestation_manifest(entry, &digest) => {}
                None => return Err(IndexError::Uncovered { digest }),
            }
        }
        let unlisted = self.reproduced.iter().zip(&covered).find(|(_, covered)| !**covered);
        match unlisted {
            Some((image, _)) => {
                Err(IndexError::Unlisted { digest: image.finding().subject.digest })
            }
            None => Ok((repository, policy)),
        }
    }

    fn is_attestation_manifest(&self, entry: &Value, digest: &Digest) -> bool {
        let platform = entry.get("platform");
        let unknown = |key: &str| {
            platform.and_then(|p| p.get(key)).and_then(Value::as_str) == Some("unknown")
        };
        let annotation = entry.get("annotations").and_then(|a| a.get(REFERENCE_TYPE));
        let bytes = self.attestation_manifests.iter().find(|bytes| Digest::of(bytes) == *digest);
        let manifest = bytes.and_then(|bytes| ImageManifest::parse(bytes).ok());
        unknown("os")
            && unknown("architecture")
            && annotation.and_then(Value::as_str) == Some(ATTESTATION_MANIFEST)
            && manifest.is_some_and(|manifest| {
                !manifest.layers.is_empty()
                    && manifest.layers.iter().all(|layer| layer.media_type == IN_TOTO_LAYER)
            })
    }
}

/// The platform that an entry states; none where it states nothing that a runtime could match.
fn platform(entry: &Value) -> Option<Platform> {
    let platform = entry.get("platform")?;
    let text = |key: &str| platform.get(key).and_then(Value::as_str);
    let (os, architecture) = (text("os")?, text("architecture")?);
    if os == "unknown" && architecture == "unknown" {
        return None;
    }
    let variant = text("variant").filter(|variant| !variant.is_empty()).map(str::to_owned);
    Some(Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant })
}
