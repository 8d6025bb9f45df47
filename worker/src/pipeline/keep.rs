//! The files of a rebuilt image: layers while they are compared, and an OCI layout for `--keep`.
//!
//! Invariant: written only below the folder that was given, under names of our own. A kept layout
//! holds what was rebuilt, in a repository named `rebuilt/<name>`, so that nobody takes it for what
//! was published.

use attest::{Digest, Subject};
use oci::{layout::writer::LayoutWriter, media};
use rebuild::{
    apko::LayerSink,
    compare::{ImageBytes, LayerForm},
};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// Writes compressed layers to files.
#[derive(Debug, Clone)]
pub struct LayerFiles {
    folder: PathBuf,
}

impl LayerFiles {
    /// The folder must exist.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
}

fn layer_path(folder: &Path, layer: usize) -> PathBuf {
    folder.join(format!("layer-{layer}"))
}

impl LayerSink for LayerFiles {
    fn compressed(&self, layer: usize) -> io::Result<Box<dyn Write + Send + '_>> {
        let file = File::create(layer_path(&self.folder, layer))?;
        Ok(Box::new(BufWriter::with_capacity(256 * 1024, file)))
    }
}

/// A rebuilt image on disk.
#[derive(Debug, Clone)]
pub struct BuiltFiles {
    folder: PathBuf,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layers: usize,
}

impl BuiltFiles {
    /// The image whose layers were written by [`LayerFiles`].
    pub fn new(folder: PathBuf, manifest: Vec<u8>, config: Vec<u8>, layers: usize) -> Self {
        Self { folder, manifest, config, layers }
    }
}

impl ImageBytes for BuiltFiles {
    fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn layer(&self, index: usize) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(layer_path(&self.folder, index))?))
    }

    fn layer_form(&self) -> LayerForm {
        LayerForm::Blob
    }
}

/// Adds a rebuilt image to the OCI layout `<keep>/rebuilt`.
pub fn layout(keep: &Path, subject: &Subject, image: &BuiltFiles) -> Result<(), String> {
    write(keep, subject, image).map_err(|error| {
        format!("expected to keep the rebuilt image in {}: {error}", keep.display())
    })
}

fn write(
    keep: &Path,
    subject: &Subject,
    image: &BuiltFiles,
) -> Result<(), Box<dyn std::error::Error>> {
    let writer = LayoutWriter::create(keep.join("rebuilt"))?;
    for layer in 0..image.layers {
        let path = layer_path(&image.folder, layer);
        let digest = digest_of(&path)?;
        let place = writer.path().join("blobs").join("sha256").join(digest.hex());
        copy_whole(&path, &place)?;
    }
    writer.put_blob(&image.config)?;
    let platform = subject.platform.to_string().replace('/', "-");
    let repository = format!("rebuilt/{}", subject.repository.base()).parse()?;
    let descriptor = writer.put_manifest(media::OCI_MANIFEST, &image.manifest)?;
    writer.tag(&repository, &platform.parse()?, &descriptor)?;
    Ok(())
}

/// Copies a file under a name that says its digest: whole, or not at all. What is there already
/// under that name stays only if its bytes are those.
fn copy_whole(path: &Path, place: &Path) -> io::Result<()> {
    let there = fs::symlink_metadata(place).is_ok_and(|meta| meta.is_file());
    if there && digest_of(place)? == digest_of(path)? {
        return Ok(());
    }
    let staging = place.with_extension("new");
    let copied = fs::copy(path, &staging)
        .and_then(|_| File::open(&staging)?.sync_all())
        .and_then(|()| fs::rename(&staging, place));
    copied.inspect_err(|_| {
        let _ = fs::remove_file(&staging);
    })
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    Ok(Digest::from_raw(hash.finalize().into()))
}
