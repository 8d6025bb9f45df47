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
    fs::{self, File, Permissions},
    io::{self, BufWriter, Read, Write},
    os::unix::fs::PermissionsExt as _,
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
    // A name of its own: others may copy the same layer to the same place at the same time.
    let folder = place.parent().unwrap_or(Path::new("."));
    let mut staging = tempfile::Builder::new();
    let staging = staging.prefix(".").suffix(".new").permissions(Permissions::from_mode(0o666));
    let mut staging = staging.tempfile_in(folder)?;
    io::copy(&mut File::open(path)?, staging.as_file_mut())?;
    staging.as_file().sync_all()?;
    staging.persist(place).map_err(|error| error.error)?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn many_that_copy_to_one_place_all_succeed_and_leave_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("layer-0");
        let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
        fs::write(&source, &bytes).unwrap();
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).unwrap();
        let place = kept.join(Digest::of(&bytes).hex());
        let (calls, barrier) = (8, Barrier::new(8));
        for _ in 0..8 {
            std::thread::scope(|scope| {
                for _ in 0..calls {
                    scope.spawn(|| {
                        barrier.wait();
                        copy_whole(&source, &place).unwrap();
                    });
                }
            });
            assert_eq!(fs::read(&place).unwrap(), bytes);
            assert_eq!(fs::read_dir(&kept).unwrap().count(), 1, "nothing lies beside it");
            let mode = fs::metadata(&place).unwrap().permissions().mode();
            assert_eq!(mode, fs::metadata(&source).unwrap().permissions().mode());
            fs::remove_file(&place).unwrap();
        }
    }
}
