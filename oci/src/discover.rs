//! Everything that is attached to an image: where publishers put evidence, looked at in all places.
//!
//! Order (docs: evidence formats, "Where provenance lives"): attestation manifests inside the
//! index; referrers by the registry's API or the `sha256-<hex>` tag; the legacy `.att` tag; for
//! the index and for each platform.
//! Invariant: what could not be fetched is an error, never "there is none"; what was fetched and
//! cannot be read is a [`Problem`], never dropped in silence. Nothing here is judged: a referrer
//! is evidence only because its manifest names the digest as its subject.
//! It must never decide by the artifact type of a listing, which old clients wrote wrongly.

use crate::{
    error::{Error, ErrorKind},
    image::Image,
    manifest::{self, Descriptor, Manifest},
    media,
    reference::Tag,
    source::ImageSource,
};
use attest::{
    Digest, Repository,
    evidence::{EvidenceKind, RawEvidence},
};
use serde::Serialize;
use std::collections::BTreeSet;

/// Layers of one `.att` manifest; cosign itself stops at 1000.
const LEGACY_LAYERS_MAX: usize = 1000;

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// The evidence, in the order of discovery, without repetitions.
    pub evidence: Vec<RawEvidence>,
    /// What is attached and cannot be read.
    pub problems: Vec<Problem>,
}

/// Something attached that is not usable as evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The manifest or index that it is attached to.
    pub attached_to: Digest,
    /// Where it is: `oci://<repository>@<digest>`.
    pub uri: String,
    /// What was expected and what was found.
    pub message: String,
}

/// Evidence of an image: of its index and of each of its platforms.
pub async fn discover_image(source: &ImageSource, image: &Image) -> Result<Discovery, Error> {
    let mut search = Search::new(source, image.repository());
    search.in_index(image)?;
    search.attached(&image.digest()).await?;
    for entry in &image.entries {
        if entry.descriptor.digest != image.digest() {
            search.attached(&entry.descriptor.digest).await?;
        }
    }
    Ok(search.found)
}

/// Evidence attached to one digest in one repository. The digest itself need not be there, as in
/// a sidecar repository.
pub async fn discover(
    source: &ImageSource,
    repository: &Repository,
    digest: &Digest,
) -> Result<Discovery, Error> {
    let mut search = Search::new(source, repository);
    search.attached(digest).await?;
    Ok(search.found)
}

/// One search, and how many bytes it may still read.
struct Search<'a> {
    source: &'a ImageSource,
    repository: &'a Repository,
    found: Discovery,
    seen: BTreeSet<(Digest, Digest, EvidenceKind)>,
    /// Digests whose attachments were looked for.
    subjects: BTreeSet<Digest>,
    /// Manifests that were read as being about a subject: (manifest, subject).
    holders: BTreeSet<(Digest, Digest)>,
    bytes_left: u64,
}

impl<'a> Search<'a> {
    fn new(source: &'a ImageSource, repository: &'a Repository) -> Self {
        Self {
            source,
            repository,
            found: Discovery::default(),
            seen: BTreeSet::new(),
            subjects: BTreeSet::new(),
            holders: BTreeSet::new(),
            bytes_left: media::EVIDENCE_TOTAL_BYTES_MAX,
        }
    }

    fn uri(&self, digest: &Digest) -> String {
        format!("oci://{}@{digest}", self.repository)
    }

    fn keep(&mut self, kind: EvidenceKind, bytes: Vec<u8>, holder: &Digest, attached_to: Digest) {
        let evidence = RawEvidence::new(kind, bytes, self.uri(holder), attached_to);
        if self.seen.insert((evidence.digest, attached_to, kind)) {
            self.found.evidence.push(evidence);
        }
    }

    fn problem(&mut self, holder: &Digest, attached_to: Digest, message: impl Into<String>) {
        let uri = self.uri(holder);
        self.found.problems.push(Problem { attached_to, uri, message: message.into() });
    }

    fn spend(&mut self, bytes: u64) -> Result<(), Error> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(|| {
            let what = format!("the evidence in {}", self.repository);
            Error::too_large(what, media::EVIDENCE_TOTAL_BYTES_MAX, "bytes", "more")
        })?;
        Ok(())
    }

    fn in_index(&mut self, image: &Image) -> Result<(), Error> {
        for found in &image.attestations {
            let holder = found.descriptor.digest;
            let known = found
                .about
                .filter(|about| image.entries.iter().any(|e| e.descriptor.digest == *about));
            let Some(about) = known else {
                let message = "expected the annotation vnd.docker.reference.digest to name a \
                               platform of this index, found another digest or none";
                self.problem(&holder, image.digest(), message);
                continue;
            };
            for bytes in &found.statements {
                self.spend(bytes.len() as u64)?;
                self.keep(EvidenceKind::UnsignedStatement, bytes.clone(), &holder, about);
            }
            // Newer BuildKit also lists it as a referrer of the platform: read it once.
            self.holders.insert((holder, about));
        }
        Ok(())
    }

    /// Everything attached to `digest`.
    async fn attached(&mut self, digest: &Digest) -> Result<(), Error> {
        if !self.subjects.insert(*digest) {
            return Ok(()); // the same manifest twice in one index
        }
        match self.source.referrers(self.repository, digest).await {
            Ok(referrers) => {
                for descriptor in referrers {
                    if may_be_evidence(&descriptor) {
                        self.referrer(&descriptor, digest).await?;
                    }
                }
            }
            // The list came whole and right by its digest, and it is no list: nothing to wait for.
            Err(error) if error.kind() == ErrorKind::Malformed => {
                self.problem(digest, *digest, format!("referrers: {error}"));
            }
            Err(error) => return Err(error),
        }
        self.legacy(digest).await
    }

    async fn referrer(&mut self, listed: &Descriptor, subject: &Digest) -> Result<(), Error> {
        if !self.holders.insert((listed.digest, *subject)) {
            return Ok(());
        }
        let Some(manifest) = self.manifest(&listed.digest, subject).await? else { return Ok(()) };
        let named = manifest.subject.as_ref().map(|s| s.digest);
        if named != Some(*subject) {
            let found = named.map_or("none".to_owned(), |d| d.to_string());
            let message = format!("expected a manifest with subject {subject}, found {found}");
            self.problem(&listed.digest, *subject, message);
            return Ok(());
        }
        let is_bundle = |media_type: &str| media_type.starts_with(media::BUNDLE_PREFIX);
        let claims =
            is_bundle(manifest.kind()) || listed.artifact_type.as_deref().is_some_and(is_bundle);
        let holds = manifest.layers.iter().any(|layer| is_bundle(&layer.media_type));
        if (claims || holds) && manifest.layers.len() != 1 {
            // cosign ignores such a manifest, others read its first layer.
            let message = format!(
                "expected exactly one layer beside a bundle, found {}",
                manifest.layers.len()
            );
            self.problem(&listed.digest, *subject, message);
            return Ok(());
        }
        for layer in &manifest.layers {
            let kind = match layer.media_type.as_str() {
                media_type if is_bundle(media_type) => EvidenceKind::SigstoreBundle,
                media::DSSE => EvidenceKind::DsseEnvelope,
                media::IN_TOTO => EvidenceKind::UnsignedStatement,
                other if claims => {
                    let message = format!("expected a layer that is a bundle, found {other:?}");
                    self.problem(&listed.digest, *subject, message);
                    continue;
                }
                _ => continue, // an SBOM, a signature, something else's artifact
            };
            self.layer(kind, layer, &listed.digest, subject).await?;
        }
        Ok(())
    }

    async fn legacy(&mut self, subject: &Digest) -> Result<(), Error> {
        let tag = Tag::legacy_attestations_of(subject);
        let Some(holder) = self.source.tag(self.repository, &tag).await? else { return Ok(()) };
        let Some(manifest) = self.manifest(&holder, subject).await? else { return Ok(()) };
        if manifest.layers.len() > LEGACY_LAYERS_MAX {
            let (what, found) = (format!("{}:{tag}", self.repository), manifest.layers.len());
            return Err(Error::too_large(what, LEGACY_LAYERS_MAX as u64, "layers", found));
        }
        for layer in &manifest.layers {
            if layer.media_type == media::DSSE {
                self.layer(EvidenceKind::DsseEnvelope, layer, &holder, subject).await?;
            } else {
                let message = format!(
                    "expected a layer of type {}, found {:?}",
                    media::DSSE,
                    layer.media_type
                );
                self.problem(&holder, *subject, message);
            }
        }
        Ok(())
    }

    /// The manifest that holds evidence; none, and a problem, if it is gone or no manifest.
    async fn manifest(
        &mut self,
        holder: &Digest,
        subject: &Digest,
    ) -> Result<Option<Manifest>, Error> {
        let resolved = match self.source.manifest(self.repository, holder).await {
            Ok(resolved) => resolved,
            // Deleted while a list still names it, or stored as what it is not.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Malformed) => {
                self.problem(holder, *subject, error.to_string());
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.spend(resolved.bytes.len() as u64)?;
        let what = format!("manifest {holder}");
        match manifest::read_image_manifest(&resolved.bytes, Some(&resolved.media_type), &what) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) => {
                self.problem(holder, *subject, error.to_string());
                Ok(None)
            }
        }
    }

    async fn layer(
        &mut self,
        kind: EvidenceKind,
        layer: &Descriptor,
        holder: &Digest,
        subject: &Digest,
    ) -> Result<(), Error> {
        if layer.size > media::EVIDENCE_BYTES_MAX {
            let max = media::EVIDENCE_BYTES_MAX;
            let message = format!("expected at most {max} bytes of evidence, found {}", layer.size);
            self.problem(holder, *subject, message);
            return Ok(());
        }
        self.spend(layer.size)?;
        match self.source.blob(self.repository, layer, media::EVIDENCE_BYTES_MAX).await {
            Ok(bytes) => self.keep(kind, bytes, holder, *subject),
            Err(error) if error.is_not_found() => {
                self.problem(holder, *subject, error.to_string());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// False only for artifact types that are certainly something else. Listings by old clients carry
/// the config's type, the empty type or none for what is a bundle.
fn may_be_evidence(listed: &Descriptor) -> bool {
    if !media::is_manifest(&listed.media_type) {
        return media::is_index(&listed.media_type); // reading it reports the problem
    }
    match listed.artifact_type.as_deref() {
        None | Some(media::EMPTY | media::IMAGE_CONFIG | media::IN_TOTO | media::DSSE) => true,
        Some(media::BUILDKIT_ATTESTATION) => true,
        Some(other) => other.starts_with(media::BUNDLE_PREFIX),
    }
}
