//! Evidence attached to an image's digest, in its own repository or in a sidecar.
//!
//! ```text
//! {"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
//!  "artifactType":"application/vnd.assay.evidence.v1+json",
//!  "config":{empty},"subject":{the image},
//!  "layers":[{"mediaType":"application/vnd.assay.evidence.v1+json",…}]}
//! ```
//! The one layer is the set (`assay/evidence/v1`). Such a manifest is found as a referrer of the
//! image's manifest, and by the tag `sha256-<hex>.evidence`, which registries without the referrers
//! API have too. (OCI image-spec 1.1, manifest.md, "Guidelines for Artifact Usage".)
//! Invariant: what is listed as evidence and cannot be read is an error. A tag or a listing only
//! says where to look: the manifest must name the image as its subject. Whoever may write there can
//! add such a manifest, so nothing is believed for being there.

use crate::{
    destination::Destination,
    error::Error,
    manifest::{self, Descriptor},
    media,
    reference::Tag,
    source::ImageSource,
};
use attest::{
    Digest, Repository,
    evidence_set::{EVIDENCE_SET_BYTES_MAX, EvidenceSet, EvidenceSetError},
};
use bytes::Bytes;
use std::collections::BTreeSet;

/// The artifact type of a set, and the media type of its layer.
pub const EVIDENCE_TYPE: &str = "application/vnd.assay.evidence.v1+json";
/// Most attached sets of one image: each coordinator leaves one, and old ones where a registry does
/// not delete.
pub const ATTACHED_MAX: usize = 64;
/// Most bytes of them together: eight of the largest sets.
const ATTACHED_BYTES_MAX: u64 = 8 * EVIDENCE_SET_BYTES_MAX as u64;

/// The tag under which the newest set about `digest` lies.
pub fn tag_of(digest: &Digest) -> Result<Tag, Error> {
    Ok(format!("{}.evidence", digest.fallback_tag()).parse::<Tag>()?)
}

fn wrong_set(uri: &str, error: &EvidenceSetError) -> Error {
    Error::malformed(uri, "a set of evidence about the image", error.to_string())
}

/// The sets attached to `digest` in this repository.
pub async fn find(
    source: &ImageSource,
    repository: &Repository,
    digest: &Digest,
) -> Result<Vec<(String, EvidenceSet)>, Error> {
    let found = holders(source, repository, digest).await?;
    Ok(found.into_iter().map(|(_, uri, set)| (uri, set)).collect())
}

async fn holders(
    source: &ImageSource,
    repository: &Repository,
    digest: &Digest,
) -> Result<Vec<(Digest, String, EvidenceSet)>, Error> {
    let mut holders: BTreeSet<Digest> = BTreeSet::new();
    for listed in source.referrers(repository, digest).await? {
        if listed.artifact_type.as_deref() == Some(EVIDENCE_TYPE) {
            holders.insert(listed.digest);
        }
    }
    if let Some(tagged) = source.tag(repository, &tag_of(digest)?).await? {
        holders.insert(tagged);
    }
    if holders.len() > ATTACHED_MAX {
        let uri = format!("oci://{repository}@{digest}");
        return Err(Error::too_large(uri, ATTACHED_MAX as u64, "attached sets", holders.len()));
    }
    let (mut found, mut left) = (Vec::new(), ATTACHED_BYTES_MAX);
    for holder in holders {
        let (uri, set) = read(source, repository, digest, &holder, &mut left).await?;
        found.push((holder, uri, set));
    }
    Ok(found)
}

async fn read(
    source: &ImageSource,
    repository: &Repository,
    subject: &Digest,
    holder: &Digest,
    left: &mut u64,
) -> Result<(String, EvidenceSet), Error> {
    let uri = format!("oci://{repository}@{holder}");
    let resolved = source.manifest(repository, holder).await?;
    let document =
        manifest::read_image_manifest(&resolved.bytes, Some(&resolved.media_type), &uri)?;
    let wrong = |expected: &str, found: String| Error::malformed(uri.clone(), expected, found);
    let about = document.subject.as_ref().map(|subject| subject.digest);
    if about != Some(*subject) {
        let found = about.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        return Err(wrong("a manifest whose subject is the image", found));
    }
    let [layer] = document.layers.as_slice() else {
        let found = format!("{} layers", document.layers.len());
        return Err(wrong("one layer with a set of evidence", found));
    };
    if document.kind() != EVIDENCE_TYPE || layer.media_type != EVIDENCE_TYPE {
        let found = format!("{:?} with a layer {:?}", document.kind(), layer.media_type);
        return Err(wrong(
            "artifact and layer of type application/vnd.assay.evidence.v1+json",
            found,
        ));
    }
    let bytes_max = (EVIDENCE_SET_BYTES_MAX as u64).min(*left);
    let bytes = source.blob(repository, layer, bytes_max).await?;
    *left = left.saturating_sub(bytes.len() as u64);
    match EvidenceSet::parse(&bytes) {
        Ok(set) => Ok((uri, set)),
        Err(error) => Err(wrong_set(&uri, &error)),
    }
}

/// Attaches a set to the image that it is about, together with what is attached there already:
/// evidence only grows. `subject` describes the image's manifest. The caller decides on a repository
/// of its own, not the publisher's.
pub async fn attach(
    destination: &Destination,
    repository: &Repository,
    subject: &Descriptor,
    mut set: EvidenceSet,
) -> Result<Digest, Error> {
    let failed = |error| wrong_set(&format!("oci://{repository}"), &error);
    let source = destination.source()?;
    let old = holders(&source, repository, &subject.digest).await?;
    let replaced: Vec<Digest> = old.iter().map(|(holder, ..)| *holder).collect();
    for (_, _, before) in old {
        set.merge(before).map_err(failed)?;
    }
    let bytes = set.to_canonical_json().map_err(failed)?;
    let subject = Descriptor { platform: None, annotations: Default::default(), ..subject.clone() };
    let document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "artifactType": EVIDENCE_TYPE,
        "config": Descriptor::of(media::EMPTY, b"{}").to_json(),
        "layers": [Descriptor::of(EVIDENCE_TYPE, &bytes).to_json()],
        "subject": subject.to_json(),
    });
    destination.put_blob(repository, Bytes::from_static(b"{}")).await?;
    destination.put_blob(repository, Bytes::from(bytes)).await?;
    let document = Bytes::from(document.to_string());
    let tag = tag_of(&subject.digest)?;
    let put = destination.put_manifest(repository, media::OCI_MANIFEST, document, Some(&tag), None);
    let new = put.await?.digest;
    for digest in replaced.iter().filter(|digest| **digest != new) {
        // What it said is in the new one. A registry that deletes nothing keeps it listed.
        destination.delete(repository, digest).await?;
    }
    Ok(new)
}
