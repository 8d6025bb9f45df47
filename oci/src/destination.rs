//! Where we write: one enum over layouts and registries.
//!
//! Invariant: what a manifest names is written before the manifest, and a tag last, so that an
//! interruption leaves nothing that points at nothing.

use crate::{
    error::Error,
    layout::{Layout, writer::LayoutWriter},
    manifest::Descriptor,
    reference::{Tag, Target},
    registry::{Deleted, Registry},
    source::ImageSource,
};
use attest::{Digest, Repository};
use bytes::Bytes;

/// A place that can be written to.
#[derive(Debug, Clone)]
pub enum Destination {
    /// An OCI layout folder.
    Layout(LayoutWriter),
    /// A registry.
    Registry(Registry),
}

impl Destination {
    /// The same place for reading, as it is now.
    pub fn source(&self) -> Result<ImageSource, Error> {
        Ok(match self {
            Self::Layout(writer) => ImageSource::Layout(Layout::open(writer.path())?),
            Self::Registry(registry) => ImageSource::Registry(registry.clone()),
        })
    }

    /// Writes a blob.
    pub async fn put_blob(&self, repository: &Repository, bytes: Bytes) -> Result<Digest, Error> {
        match self {
            Self::Layout(writer) => {
                let writer = writer.clone();
                blocking(move || writer.put_blob(&bytes)).await
            }
            Self::Registry(registry) => registry.push_blob(repository, bytes).await,
        }
    }

    /// Writes a manifest or index, and lets `tag` name it. `replaces` is what the tag named when
    /// it was read, for registries that can compare.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        media_type: &str,
        bytes: Bytes,
        tag: Option<&Tag>,
        replaces: Option<Digest>,
    ) -> Result<Descriptor, Error> {
        match self {
            Self::Layout(writer) => {
                let (writer, repository) = (writer.clone(), repository.clone());
                let (media_type, tag) = (media_type.to_owned(), tag.cloned());
                blocking(move || {
                    let descriptor = writer.put_manifest(&media_type, &bytes)?;
                    if let Some(tag) = tag {
                        writer.tag(&repository, &tag, &descriptor)?;
                    }
                    Ok(descriptor)
                })
                .await
            }
            Self::Registry(registry) => {
                let descriptor = Descriptor::of(media_type, &bytes);
                let target = match tag {
                    Some(tag) => Target::Tag(tag.clone()),
                    None => Target::Digest(descriptor.digest),
                };
                registry.push_manifest(repository, &target, media_type, bytes, replaces).await?;
                Ok(descriptor)
            }
        }
    }

    /// Deletes a manifest by digest. In a layout its entries go, its bytes stay.
    pub async fn delete(&self, repository: &Repository, digest: &Digest) -> Result<Deleted, Error> {
        match self {
            Self::Layout(writer) => {
                let (writer, repository, digest) = (writer.clone(), repository.clone(), *digest);
                blocking(move || writer.remove(&repository, &digest)).await?;
                Ok(Deleted::Done)
            }
            Self::Registry(registry) => registry.delete_manifest(repository, digest).await,
        }
    }
}

/// Runs file work (which syncs) away from the threads that serve connections.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let source = std::io::Error::other(error.to_string());
        Err(Error::Io { action: "write", path: "the layout".into(), source })
    })
}
