//! Where images come from: one enum over layouts and registries, with the same answers.
//!
//! Invariant: whatever comes out of here was compared with the digest that was asked for, and its
//! length is bounded. A tag is turned into a digest once, by [`ImageSource::resolve`]; everything
//! after that goes by digest.

use crate::{
    blob::BlobReader,
    error::Error,
    layout::Layout,
    manifest::Descriptor,
    media,
    reference::{ImageReference, Tag},
    registry::{Registry, SourceOptions},
    resolved::Resolved,
};
use attest::{Digest, Repository};
use std::path::Path;

/// A place that holds images.
#[derive(Debug, Clone)]
pub enum ImageSource {
    /// An OCI layout folder.
    Layout(Layout),
    /// Registries; the host is the first part of each repository.
    Registry(Registry),
}

impl ImageSource {
    /// Opens the place that the reference is in. A registry is not spoken to yet.
    pub fn open(reference: &ImageReference, options: &SourceOptions) -> Result<Self, Error> {
        match reference {
            ImageReference::Layout { dir, .. } => Ok(Self::Layout(Layout::open(dir)?)),
            ImageReference::Registry { .. } => Ok(Self::Registry(Registry::new(options))),
        }
    }

    /// Turns a reference into bytes with their digest. The reference must be in this source.
    pub async fn resolve(&self, reference: &ImageReference) -> Result<Resolved, Error> {
        match (self, reference) {
            (Self::Layout(layout), ImageReference::Layout { target, .. }) => layout.resolve(target),
            (Self::Registry(registry), ImageReference::Registry { repository, target }) => {
                registry.resolve(repository, target).await
            }
            _ => Err(Error::malformed("the reference", "a reference into this source", "another")),
        }
    }

    /// A manifest or index by digest.
    pub async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Resolved, Error> {
        match self {
            Self::Layout(layout) => layout.manifest(repository, digest),
            Self::Registry(registry) => registry.manifest(repository, digest).await,
        }
    }

    /// The digest that a tag names now; none only on a definite "there is no such tag".
    pub async fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, Error> {
        match self {
            Self::Layout(layout) => layout.tag(repository, tag),
            Self::Registry(registry) => registry.tag(repository, tag).await,
        }
    }

    /// The descriptors of what is attached to `digest`. Untrusted: each manifest has to be read
    /// and must name `digest` as its subject.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let found = match self {
            Self::Layout(layout) => layout.referrers(repository, digest)?,
            Self::Registry(registry) => registry.referrers(repository, digest).await?,
        };
        if found.len() > media::REFERRERS_MAX {
            let what = format!("the referrers of {repository}@{digest}");
            return Err(Error::too_large(
                what,
                media::REFERRERS_MAX as u64,
                "entries",
                found.len(),
            ));
        }
        Ok(found)
    }

    /// An error unless the reference still names `digest`. References by digest always do.
    pub async fn still_names(
        &self,
        reference: &ImageReference,
        digest: &Digest,
    ) -> Result<(), Error> {
        if reference.digest().is_some() {
            return Ok(());
        }
        let found = self.resolve(reference).await?.digest;
        if found == *digest {
            return Ok(());
        }
        Err(Error::TagMoved { tag: reference.to_string(), expected: *digest, found })
    }

    /// A blob's bytes, in memory, at most `bytes_max`.
    pub async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        bytes_max: u64,
    ) -> Result<Vec<u8>, Error> {
        let reader = self.blob_reader(repository, descriptor, bytes_max).await?;
        reader.into_bytes().await
    }

    /// A blob as a stream. The last read fails if the bytes were others than the descriptor says:
    /// nothing may be done with them before the end was reached.
    pub async fn blob_reader(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        bytes_max: u64,
    ) -> Result<BlobReader, Error> {
        let what = format!("blob {repository}@{}", descriptor.digest);
        if descriptor.size > bytes_max {
            return Err(Error::too_large(what, bytes_max, "bytes", descriptor.size));
        }
        match self {
            Self::Layout(layout) => {
                let file = layout.open_blob(descriptor, &what)?;
                Ok(BlobReader::new(tokio::fs::File::from_std(file), descriptor, what))
            }
            Self::Registry(registry) => registry.blob_reader(repository, descriptor).await,
        }
    }

    /// A blob into a new file. The file appears under its name only when it is whole and right.
    pub async fn blob_to_file(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        bytes_max: u64,
        path: &Path,
    ) -> Result<(), Error> {
        let reader = self.blob_reader(repository, descriptor, bytes_max).await?;
        reader.into_file(path).await
    }
}
