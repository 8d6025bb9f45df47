//! Attaches attestations to images (docs: evidence formats, "OCI attachment").
//!
//! A Sigstore bundle becomes an OCI 1.1 referrer, with the `sha256-<hex>` tag where the registry
//! has no referrers API; as an option, a DSSE envelope becomes a layer of the legacy `.att` tag.
//! Invariant: a new statement replaces our old one of the same kind instead of standing beside it
//! (verifiers differ on what two statements mean), and only ours: what is replaced is decided by
//! the caller from the bytes, which it verifies with its own key. The new one is there before the
//! old one goes. Nobody else's attachment is changed, moved or hidden.
//! It must never write into a publisher's repository without [`preflight`].

mod legacy;
mod standing;
mod withdraw;

pub use legacy::push_envelope;
pub use withdraw::{Withdrawn, withdraw_bundles};

use standing::{About, Standing};

use crate::{
    destination::Destination,
    discover::discover,
    error::{Error, ErrorKind},
    manifest::{self, Descriptor},
    media,
    reference::Tag,
    registry::Deleted,
    source::ImageSource,
};
use attest::{Digest, Repository, evidence::EvidenceKind, time::Timestamp};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The annotations of a bundle's manifest.
const CONTENT: &str = "dev.sigstore.bundle.content";
/// The predicate type of the bundle's statement.
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
/// When it was made.
const CREATED: &str = "org.opencontainers.image.created";
/// Rounds of reading, changing and writing the referrers tag before giving up to other writers.
const TAG_ROUNDS_MAX: usize = 5;

/// Whose repository is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A repository of our own: the default.
    Sidecar,
    /// The publisher's, after the pre-flight.
    Publisher,
    /// The publisher's, although its legacy signatures stop being read. A person decided so.
    PublisherForced,
}

/// One bundle to be attached.
#[derive(Debug, Clone)]
pub struct BundlePush<'a> {
    /// The repository to write to.
    pub repository: &'a Repository,
    /// Whose that is.
    pub place: Place,
    /// The image or index that the bundle is about. It need not be in that repository.
    pub subject: &'a Descriptor,
    /// The bundle, exactly.
    pub bundle: &'a [u8],
    /// The predicate type of its statement.
    pub predicate_type: &'a str,
    /// When it was made.
    pub created: Timestamp,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest that holds the bundle.
    pub manifest: Digest,
    /// True if the `sha256-<hex>` tag was written, because the API does not list the manifest.
    pub tagged: bool,
    /// Old manifests that are gone.
    pub removed: Vec<Digest>,
    /// Old manifests that the registry does not delete; with an API they are still listed.
    pub left: Vec<Digest>,
}

/// Says whether a bundle that is there already is replaced by the new one: the same predicate
/// type, and the signature verifies under our key.
pub type Supersedes<'a> = &'a (dyn Fn(&[u8]) -> bool + Send + Sync);

/// Attaches a bundle, and replaces those that it supersedes.
pub async fn push_bundle(
    destination: &Destination,
    push: &BundlePush<'_>,
    supersedes: Supersedes<'_>,
) -> Result<Pushed, Error> {
    let source = destination.source()?;
    if push.place == Place::Publisher {
        preflight(&source, push.repository, &push.subject.digest).await?;
    }
    let manifest = bundle_manifest(push);
    destination.put_blob(push.repository, Bytes::from_static(b"{}")).await?;
    destination.put_blob(push.repository, Bytes::copy_from_slice(push.bundle)).await?;
    let bytes = Bytes::from(serialised(&manifest)?);
    let mut listed =
        destination.put_manifest(push.repository, media::OCI_MANIFEST, bytes, None, None).await?;
    listed.artifact_type = Some(media::BUNDLE_V03.to_owned());
    listed.annotations = annotations(push);

    let about = About { repository: push.repository, subject: &push.subject.digest };
    let standing = Standing::read(&destination.source()?, about).await?;
    // Asked, not believed: a registry may name the subject in a header and list nothing.
    let listed_by_api = standing.by_api.iter().flatten().any(|d| d.digest == listed.digest);
    let known = standing.all();
    let old = superseded(&source, about, &known, Some(&listed.digest), supersedes).await?;
    if !listed_by_api {
        rewrite_tag(destination, about, Some(&listed), &old).await?;
    } else if standing.tag_names(&old) {
        rewrite_tag(destination, about, None, &old).await?;
    }
    let mut pushed =
        Pushed { manifest: listed.digest, tagged: !listed_by_api, removed: vec![], left: vec![] };
    for digest in old {
        match destination.delete(push.repository, &digest).await? {
            Deleted::Done | Deleted::Missing => pushed.removed.push(digest),
            Deleted::Unsupported => pushed.left.push(digest),
        }
    }
    Ok(pushed)
}

/// Refuses to attach the first bundle to an image whose publisher uses legacy signatures: cosign 3,
/// Kyverno and others stop reading those as soon as one bundle is there.
pub async fn preflight(
    source: &ImageSource,
    repository: &Repository,
    digest: &Digest,
) -> Result<(), Error> {
    let found = discover(source, repository, digest).await?;
    if found.evidence.iter().any(|e| e.kind == EvidenceKind::SigstoreBundle) {
        return Ok(());
    }
    let mut legacy = Vec::new();
    for tag in [Tag::legacy_signatures_of(digest), Tag::legacy_attestations_of(digest)] {
        if source.tag(repository, &tag).await?.is_some() {
            legacy.push(tag.to_string());
        }
    }
    if legacy.is_empty() {
        return Ok(());
    }
    let image = format!("{repository}@{digest}");
    Err(Error::WouldHideLegacy { image, found: legacy.join(" and ") })
}

fn annotations(push: &BundlePush<'_>) -> std::collections::BTreeMap<String, String> {
    [
        (CONTENT, "dsse-envelope".to_owned()),
        (PREDICATE_TYPE, push.predicate_type.to_owned()),
        (CREATED, push.created.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

fn bundle_manifest(push: &BundlePush<'_>) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "artifactType": media::BUNDLE_V03,
        "config": Descriptor::of(media::EMPTY, b"{}").to_json(),
        "layers": [Descriptor::of(media::BUNDLE_V03, push.bundle).to_json()],
        "subject": bare(push.subject).to_json(),
        "annotations": annotations(push),
    })
}

/// Media type, digest and size alone, as a `subject` is written.
fn bare(descriptor: &Descriptor) -> Descriptor {
    Descriptor {
        artifact_type: None,
        platform: None,
        annotations: Default::default(),
        ..descriptor.clone()
    }
}

fn serialised(value: &Value) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value)
        .map_err(|error| Error::malformed("the manifest to be written", "JSON", error.to_string()))
}

/// The manifests among `known` whose bundle the new one replaces, or that are to go.
async fn superseded(
    source: &ImageSource,
    about: About<'_>,
    known: &[Descriptor],
    new: Option<&Digest>,
    supersedes: Supersedes<'_>,
) -> Result<Vec<Digest>, Error> {
    let mut old = Vec::new();
    for listed in known.iter().filter(|listed| Some(&listed.digest) != new) {
        let resolved = match source.manifest(about.repository, &listed.digest).await {
            Ok(resolved) => resolved,
            // Not there, or not a manifest: not ours to replace.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Malformed) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        let what = format!("manifest {}", listed.digest);
        let Ok(manifest) =
            manifest::read_image_manifest(&resolved.bytes, Some(&resolved.media_type), &what)
        else {
            continue;
        };
        let subject = manifest.subject.as_ref().map(|subject| subject.digest);
        let [layer] = manifest.layers.as_slice() else { continue };
        let readable = layer.media_type.starts_with(media::BUNDLE_PREFIX)
            && layer.size <= media::EVIDENCE_BYTES_MAX;
        if subject.as_ref() != Some(about.subject) || !readable {
            continue;
        }
        let bytes = source.blob(about.repository, layer, media::EVIDENCE_BYTES_MAX).await?;
        if supersedes(&bytes) {
            old.push(listed.digest);
        }
    }
    Ok(old)
}

/// Writes the index under `sha256-<hex>`: the entries of others, the new one, not the old ones,
/// and none whose manifest is gone (registries refuse an index that names what they lack).
async fn rewrite_tag(
    destination: &Destination,
    about: About<'_>,
    new: Option<&Descriptor>,
    old: &[Digest],
) -> Result<(), Error> {
    let repository = about.repository;
    let tag = Tag::fallback_of(about.subject);
    let new_digest = new.map(|new| new.digest);
    for _ in 0..TAG_ROUNDS_MAX {
        let source = destination.source()?;
        let (mut index, replaces) = read_tag(&source, repository, &tag).await?;
        let mut kept = Vec::new();
        for (entry, digest) in entries(&index) {
            if Some(digest) == new_digest || old.contains(&digest) {
                continue;
            }
            match source.manifest(repository, &digest).await {
                Err(error) if error.is_not_found() => {}
                _ => kept.push(entry.clone()),
            }
        }
        kept.extend(new.map(Descriptor::to_json));
        if let Some(object) = index.as_object_mut() {
            object.insert("manifests".into(), Value::Array(kept));
        }
        let bytes = Bytes::from(serialised(&index)?);
        let written = destination
            .put_manifest(repository, media::OCI_INDEX, bytes, Some(&tag), replaces)
            .await;
        match written {
            Ok(_) => {}
            // Somebody else wrote in between: read again.
            Err(Error::Unavailable { status: Some(409 | 412), .. }) => continue,
            Err(error) => return Err(error),
        }
        // Registries without If-Match let the last writer win: look whether we are still there.
        let (now, _) = read_tag(&destination.source()?, repository, &tag).await?;
        let named = |digest: &Digest| entries(&now).any(|(_, entry)| entry == *digest);
        if new_digest.as_ref().is_none_or(named) && !old.iter().any(named) {
            return Ok(());
        }
    }
    let what = format!("{repository}:{tag}");
    Err(Error::unavailable(what, "other writers at every attempt"))
}

fn empty_index() -> Value {
    let mut index = Map::new();
    index.insert("schemaVersion".into(), 2.into());
    index.insert("mediaType".into(), media::OCI_INDEX.into());
    index.insert("manifests".into(), Value::Array(Vec::new()));
    Value::Object(index)
}

fn entries(index: &Value) -> impl Iterator<Item = (&Value, Digest)> {
    let all = index.get("manifests").and_then(Value::as_array).into_iter().flatten();
    // The index was read strictly before: every entry has a digest.
    all.filter_map(|entry| Some((entry, entry.get("digest")?.as_str()?.parse().ok()?)))
}

/// The index that the tag names, and its digest; an empty one if there is no such tag.
async fn read_tag(
    source: &ImageSource,
    repository: &Repository,
    tag: &Tag,
) -> Result<(Value, Option<Digest>), Error> {
    let Some(digest) = source.tag(repository, tag).await? else {
        return Ok((empty_index(), None));
    };
    let what = format!("{repository}:{tag}");
    let found = source.manifest(repository, &digest).await?;
    manifest::read_image_index(&found.bytes, Some(&found.media_type), &what)?;
    Ok((crate::json::read(&found.bytes, &what, media::MANIFEST_BYTES_MAX)?, Some(digest)))
}
