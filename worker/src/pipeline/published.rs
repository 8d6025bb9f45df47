//! A published image for one platform, as files in a folder that goes away.
//!
//! Invariant: every byte was compared with the digest in the manifest that names it, and the
//! manifest with the subject's digest. Nothing here is an input of a build; it is what a build is
//! compared with, and what hints are read from.

use super::{
    Workshop,
    examine::{Examined, ExaminedPlatform},
};
use attest::{Digest, Subject};
use oci::{
    Error, ImageSource, Manifest,
    manifest::{self, Descriptor},
};
use rebuild::compare::{ImageBytes, LayerForm};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Largest image configuration: the distribution specification asks for 4 MiB of manifest; configs
/// with long histories stay below that as well.
const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Largest layer blob that is fetched.
const LAYER_BYTES_MAX: u64 = 16 << 30;

/// The published image.
#[derive(Debug, Clone)]
pub struct PublishedImage {
    /// What it is.
    pub subject: Subject,
    /// The manifest's bytes.
    pub manifest_bytes: Vec<u8>,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration's bytes.
    pub config_bytes: Vec<u8>,
    layers: Vec<PathBuf>,
}

impl PublishedImage {
    /// Fetches manifest, configuration and layers into `folder`.
    pub async fn fetch(
        source: &ImageSource,
        subject: &Subject,
        folder: &Path,
    ) -> Result<Self, Error> {
        let found = source.manifest(&subject.repository, &subject.digest).await?;
        let what = format!("manifest {}@{}", subject.repository, subject.digest);
        let manifest = manifest::read_image_manifest(&found.bytes, Some(&found.media_type), &what)?;
        let repository = &subject.repository;
        let config_bytes = source.blob(repository, &manifest.config, CONFIG_BYTES_MAX).await?;
        let mut layers = Vec::with_capacity(manifest.layers.len());
        for (i, layer) in manifest.layers.iter().enumerate() {
            let path = folder.join(format!("layer-{i}"));
            source.blob_to_file(repository, layer, LAYER_BYTES_MAX, &path).await?;
            layers.push(path);
        }
        let subject = subject.clone();
        Ok(Self { subject, manifest_bytes: found.bytes, manifest, config_bytes, layers })
    }

    /// The layers' descriptors.
    pub fn layer_descriptors(&self) -> &[Descriptor] {
        &self.manifest.layers
    }

    /// The configuration's digest as the manifest has it.
    pub fn config_digest(&self) -> Digest {
        self.manifest.config.digest
    }
}

impl ImageBytes for PublishedImage {
    fn manifest(&self) -> &[u8] {
        &self.manifest_bytes
    }

    fn config(&self) -> &[u8] {
        &self.config_bytes
    }

    fn layer(&self, index: usize) -> io::Result<Box<dyn Read + '_>> {
        let path = self.layers.get(index).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(File::open(path)?))
    }

    fn layer_form(&self) -> LayerForm {
        LayerForm::Blob
    }
}

/// The published image, and the folder that holds it as long as it is looked at.
pub struct Fetched {
    /// The image.
    pub image: PublishedImage,
    /// For this platform's temporary files.
    pub folder: tempfile::TempDir,
}

/// Fetches a platform's published image into a folder of its own.
pub async fn fetch(
    workshop: &Workshop,
    examined: &Examined,
    platform: &ExaminedPlatform,
) -> Result<Fetched, String> {
    let folder = tempfile::tempdir_in(&workshop.work)
        .map_err(|e| format!("expected to make a folder in {}: {e}", workshop.work.display()))?;
    let image = PublishedImage::fetch(&examined.place, &platform.subject, folder.path()).await;
    Ok(Fetched { image: image.map_err(|e| e.to_string())?, folder })
}
