//! The layout on its way: a folder beside the one that was asked for, renamed when it is whole.
//!
//! Invariant: nothing is written below the output folder before everything is; a failed or killed
//! run leaves at most a folder named `.assay-…` beside it. A layer gets its digest as its name only
//! after its last byte was written and hashed.

use super::{AssembleFailure, AssembleProgress};
use oci::{layout::writer::LayoutWriter, media};
use rebuild::apko::{LayerSink, WrittenLayer};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The name under which the layout lists its image.
pub const REFERENCE: &str = "assembled:latest";
/// Its two parts.
const NAMES: (&str, &str) = ("assembled", "latest");
/// Room for compressed bytes between the encoder and the file.
const BUFFER_BYTES: usize = 256 << 10;

/// A layout being written.
#[derive(Debug, Clone)]
pub struct Staging {
    /// Goes away with the last handle; the layout inside was moved out by then, or is not wanted.
    folder: Arc<tempfile::TempDir>,
    writer: LayoutWriter,
    serial: Arc<AtomicU64>,
}

impl Staging {
    /// Makes a folder beside `output`, which must be new or empty.
    pub fn beside(output: &Path) -> Result<Self, AssembleFailure> {
        let shown = output.display();
        match fs::read_dir(output).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(false) => {
                let message = format!("expected {shown} to be new or empty, found files in it");
                return Err(AssembleFailure::Usage(message));
            }
            Err(error) => {
                let message = format!("expected {shown} to be a folder or nothing: {error}");
                return Err(AssembleFailure::Usage(message));
            }
        }
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let failed = |source| AssembleFailure::Io { doing: format!("writing {shown}"), source };
        fs::create_dir_all(parent).map_err(failed)?;
        let folder = tempfile::Builder::new().prefix(".assay-").tempdir_in(parent);
        let folder = folder.map_err(failed)?;
        let writer = LayoutWriter::create(folder.path().join("layout"))?;
        Ok(Self { folder: Arc::new(folder), writer, serial: Arc::default() })
    }

    /// Where everything is written until it is whole.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn blobs(&self) -> PathBuf {
        self.writer.path().join("blobs").join("sha256")
    }

    /// Writes a document.
    pub fn put(&self, bytes: &[u8]) -> Result<(), AssembleFailure> {
        self.writer.put_blob(bytes)?;
        Ok(())
    }

    /// Writes the index and moves the layout to its place.
    pub fn finish(&self, index: &[u8], output: &Path) -> Result<(), AssembleFailure> {
        let failed = |source| AssembleFailure::Io {
            doing: format!("moving the layout to {}", output.display()),
            source,
        };
        let repository = NAMES.0.parse().map_err(|error| failed(io::Error::other(error)))?;
        let tag = NAMES.1.parse().map_err(|error| failed(io::Error::other(error)))?;
        let descriptor = self.writer.put_manifest(media::OCI_INDEX, index)?;
        self.writer.tag(&repository, &tag, &descriptor)?;
        fs::rename(self.folder.path().join("layout"), output).map_err(failed)?;
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty());
        let synced = File::open(parent.unwrap_or(Path::new("."))).and_then(|f| f.sync_all());
        synced.map_err(failed)
    }
}

/// Takes the layers of one platform and says how far they are.
pub struct Counted<'a> {
    staging: &'a Staging,
    progress: &'a dyn AssembleProgress,
    /// Tells the layers of this platform from those of others.
    platform: u64,
}

impl<'a> Counted<'a> {
    /// For one platform.
    pub fn new(staging: &'a Staging, progress: &'a dyn AssembleProgress) -> Self {
        let platform = staging.serial.fetch_add(1, Ordering::Relaxed);
        Self { staging, progress, platform }
    }

    fn partial(&self, layer: usize) -> PathBuf {
        self.staging.folder.path().join(format!("layer-{}-{layer}", self.platform))
    }
}

impl LayerSink for Counted<'_> {
    fn compressed(&self, layer: usize) -> io::Result<Box<dyn Write + Send + '_>> {
        let file = File::create_new(self.partial(layer))?;
        Ok(Box::new(BufWriter::with_capacity(BUFFER_BYTES, file)))
    }

    fn uncompressed(&self, _: usize) -> io::Result<Option<Box<dyn Write + Send + '_>>> {
        Ok(Some(Box::new(Meter(self.progress))))
    }

    fn finished(&self, layer: usize, written: &WrittenLayer) -> io::Result<()> {
        let Some(blob) = written.blob else { return Ok(()) };
        let partial = self.partial(layer);
        File::open(&partial)?.sync_all()?;
        // Two platforms may share a layer: the same digest, the same bytes.
        fs::rename(&partial, self.staging.blobs().join(blob.digest.hex()))
    }
}

/// Counts what passes.
struct Meter<'a>(&'a dyn AssembleProgress);

impl Write for Meter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.advance(buf.len() as u64);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
