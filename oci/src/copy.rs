//! Copies manifests with everything they name from one place to another.
//!
//! Invariant: bytes are copied as they are, checked by digest on the way, children before parents
//! and a tag last. Evidence goes along only if its tag or digest is copied, too.

use crate::{
    destination::Destination,
    error::Error,
    manifest::{self, Descriptor, Document},
    media,
    reference::Tag,
    resolved::Resolved,
    source::ImageSource,
};
use attest::{Digest, Repository};
use bytes::Bytes;

/// Blobs go through memory on their way into a registry: 1 GiB each at most.
const COPIED_BLOB_BYTES_MAX: u64 = 1 << 30;

/// One copy: from where to where.
#[derive(Debug, Clone, Copy)]
pub struct Copy<'a> {
    /// Where the bytes are.
    pub source: &'a ImageSource,
    /// The repository there.
    pub from: &'a Repository,
    /// Where they go.
    pub destination: &'a Destination,
    /// The repository there.
    pub to: &'a Repository,
}

impl Copy<'_> {
    /// Copies a manifest or index with its children, configs and layers, and tags it.
    pub async fn manifest(&self, digest: &Digest, tag: Option<&Tag>) -> Result<Descriptor, Error> {
        let root = self.source.manifest(self.from, digest).await?;
        let what = format!("{}@{digest}", self.from);
        match manifest::read(&root.bytes, Some(&root.media_type), &what)?.1 {
            Document::Manifest(manifest) => self.blobs(&manifest).await?,
            Document::Index(index) => {
                for entry in &index.entries {
                    self.child(entry).await?;
                }
            }
        }
        self.put(root, tag).await
    }

    async fn child(&self, entry: &Descriptor) -> Result<(), Error> {
        let child = self.source.manifest(self.from, &entry.digest).await?;
        let what = format!("{}@{}", self.from, entry.digest);
        let manifest = manifest::read_image_manifest(&child.bytes, Some(&child.media_type), &what)?;
        self.blobs(&manifest).await?;
        self.put(child, None).await?;
        Ok(())
    }

    async fn blobs(&self, manifest: &manifest::Manifest) -> Result<(), Error> {
        for descriptor in std::iter::once(&manifest.config).chain(&manifest.layers) {
            match self.destination {
                Destination::Layout(writer) => {
                    if let Some(path) = writer.missing_blob(descriptor)? {
                        let max = media::BLOB_BYTES_MAX;
                        self.source.blob_to_file(self.from, descriptor, max, &path).await?;
                    }
                }
                Destination::Registry(_) => {
                    let max = COPIED_BLOB_BYTES_MAX;
                    let bytes = self.source.blob(self.from, descriptor, max).await?;
                    self.destination.put_blob(self.to, Bytes::from(bytes)).await?;
                }
            }
        }
        Ok(())
    }

    async fn put(&self, document: Resolved, tag: Option<&Tag>) -> Result<Descriptor, Error> {
        let bytes = Bytes::from(document.bytes);
        self.destination.put_manifest(self.to, &document.media_type, bytes, tag, None).await
    }
}
