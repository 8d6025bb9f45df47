//! An image: an index with its entries, or one bare manifest (docs: command line, "Platforms").
//!
//! Invariant: every entry of an index is judged, the same platform twice included. One is left out
//! only if its platform is unknown/unknown, it is annotated as an attestation manifest, and every
//! one of its layers was fetched and is an in-toto Statement: annotations alone would let a
//! publisher hide an image that runtimes still run.

use crate::{
    error::Error,
    manifest::{self, Descriptor, Document, Index, Manifest},
    media,
    reference::ImageReference,
    resolved::Resolved,
    source::ImageSource,
};
use attest::{Digest, Platform, Repository, Subject};

/// BuildKit's annotation for what an entry is.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// BuildKit's annotation for the manifest that an attestation manifest is about.
pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// A published image, before anything is judged.
#[derive(Debug, Clone)]
pub struct Image {
    /// What the reference named: an index or a manifest.
    pub root: Resolved,
    /// The parsed index; none for a bare manifest.
    pub index: Option<Index>,
    /// The platforms to judge, in the order of the index.
    pub entries: Vec<IndexEntry>,
    /// The entries that were left out.
    pub attestations: Vec<AttestationManifest>,
}

/// One platform of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// Which entry of the index, counted from 0. 0 for a bare manifest.
    pub position: usize,
    /// The entry's descriptor.
    pub descriptor: Descriptor,
    /// The platform that the index says; where it says none, the one of the image's config;
    /// `unknown/unknown` where neither does.
    pub platform: Platform,
}

/// A BuildKit attestation manifest inside an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationManifest {
    /// Which entry of the index, counted from 0.
    pub position: usize,
    /// The entry's descriptor.
    pub descriptor: Descriptor,
    /// The manifest that it says it is about.
    pub about: Option<Digest>,
    /// The manifest, exactly.
    pub manifest: Vec<u8>,
    /// Its layers: in-toto Statements without signatures.
    pub statements: Vec<Vec<u8>>,
}

impl Image {
    /// Resolves a reference and reads the image.
    pub async fn read(source: &ImageSource, reference: &ImageReference) -> Result<Self, Error> {
        let root = source.resolve(reference).await?;
        Self::from_root(source, root).await
    }

    /// Reads the image whose index or manifest is already there.
    pub async fn from_root(source: &ImageSource, root: Resolved) -> Result<Self, Error> {
        let what = format!("{}@{}", root.repository, root.digest);
        let (_, document) = manifest::read(&root.bytes, Some(&root.media_type), &what)?;
        match document {
            Document::Manifest(manifest) => {
                let platform = platform_of(source, &root.repository, &manifest).await?;
                let descriptor = root.descriptor();
                let entries = vec![IndexEntry { position: 0, descriptor, platform }];
                Ok(Self { root, index: None, entries, attestations: Vec::new() })
            }
            Document::Index(index) => {
                let mut image =
                    Self { root, index: None, entries: Vec::new(), attestations: Vec::new() };
                for (position, descriptor) in index.entries.iter().enumerate() {
                    image.add(source, position, descriptor).await?;
                }
                image.index = Some(*index);
                Ok(image)
            }
        }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.root.repository
    }

    /// The digest of the index or bare manifest.
    pub fn digest(&self) -> Digest {
        self.root.digest
    }

    /// The subject that an entry is.
    pub fn subject(&self, entry: &IndexEntry) -> Subject {
        Subject {
            repository: self.root.repository.clone(),
            digest: entry.descriptor.digest,
            platform: entry.platform.clone(),
        }
    }

    /// True if another entry has the same platform.
    pub fn is_repeated(&self, entry: &IndexEntry) -> bool {
        self.entries.iter().filter(|other| other.platform == entry.platform).count() > 1
    }

    async fn add(
        &mut self,
        source: &ImageSource,
        position: usize,
        descriptor: &Descriptor,
    ) -> Result<(), Error> {
        if media::is_index(&descriptor.media_type) {
            return Err(Error::IndexInIndex { index: self.root.digest, position });
        }
        let what = format!("entry {position} of index {}", self.root.digest);
        if !media::is_manifest(&descriptor.media_type) {
            let expected = "the media type of an OCI or Docker (schema 2) image manifest";
            return Err(Error::malformed(what, expected, &descriptor.media_type));
        }
        if let Some(platform) = descriptor.platform.as_ref().filter(|p| !is_unknown(p)) {
            let platform = platform.clone();
            self.entries.push(IndexEntry { position, descriptor: descriptor.clone(), platform });
            return Ok(());
        }
        // No platform, or unknown/unknown: what the entry is has to be looked up.
        let repository = self.root.repository.clone();
        let resolved = source.manifest(&repository, &descriptor.digest).await?;
        let manifest =
            manifest::read_image_manifest(&resolved.bytes, Some(&descriptor.media_type), &what)?;
        if is_marked(descriptor)
            && let Some(statements) = statements_of(source, &repository, &manifest).await?
        {
            let about = descriptor.annotations.get(REFERENCE_DIGEST).and_then(|d| d.parse().ok());
            let descriptor = descriptor.clone();
            let manifest = resolved.bytes;
            let left_out =
                AttestationManifest { position, descriptor, about, manifest, statements };
            self.attestations.push(left_out);
            return Ok(());
        }
        let platform = platform_of(source, &repository, &manifest).await?;
        self.entries.push(IndexEntry { position, descriptor: descriptor.clone(), platform });
        Ok(())
    }
}

fn unknown() -> Platform {
    Platform { os: "unknown".into(), architecture: "unknown".into(), variant: None }
}

fn is_unknown(platform: &Platform) -> bool {
    platform.os == "unknown" && platform.architecture == "unknown"
}

/// Explicitly unknown/unknown, and annotated as an attestation manifest.
pub fn is_marked(descriptor: &Descriptor) -> bool {
    descriptor.platform.as_ref().is_some_and(is_unknown)
        && descriptor.annotations.get(REFERENCE_TYPE).is_some_and(|t| t == "attestation-manifest")
}

/// The layers, if there are any and each is an in-toto Statement by media type and by content.
async fn statements_of(
    source: &ImageSource,
    repository: &Repository,
    manifest: &Manifest,
) -> Result<Option<Vec<Vec<u8>>>, Error> {
    let all_named = manifest.layers.iter().all(|layer| layer.media_type == media::IN_TOTO);
    if manifest.layers.is_empty() || !all_named {
        return Ok(None);
    }
    let mut statements = Vec::new();
    let mut left = media::EVIDENCE_TOTAL_BYTES_MAX;
    for layer in &manifest.layers {
        let bytes_max = media::EVIDENCE_BYTES_MAX.min(left);
        let bytes = source.blob(repository, layer, bytes_max).await?;
        if !is_statement(&bytes) {
            return Ok(None);
        }
        left = left.saturating_sub(bytes.len() as u64);
        statements.push(bytes);
    }
    Ok(Some(statements))
}

/// True for a JSON object whose `_type`, written once, is an in-toto Statement.
fn is_statement(bytes: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Statement {
        #[serde(rename = "_type")]
        kind: String,
    }
    // Everything else is skipped, not kept: an SBOM of 20 MB would take ten times that as values.
    let statement = serde_json::from_slice::<Statement>(bytes);
    statement.is_ok_and(|s| s.kind.starts_with("https://in-toto.io/Statement/"))
}

/// The platform that the manifest's config names; unknown if it is no image config.
async fn platform_of(
    source: &ImageSource,
    repository: &Repository,
    manifest: &Manifest,
) -> Result<Platform, Error> {
    const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    if !matches!(manifest.config.media_type.as_str(), media::IMAGE_CONFIG | DOCKER_CONFIG) {
        return Ok(unknown());
    }
    let bytes = source.blob(repository, &manifest.config, media::CONFIG_BYTES_MAX).await?;
    let what = format!("image config {}", manifest.config.digest);
    Ok(manifest::platform_of_config(&bytes, &what)?.unwrap_or_else(unknown))
}
