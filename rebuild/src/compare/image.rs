//! Where the bytes of the two images come from, and the bounds on reading them.
//!
//! Invariant: the comparison sees an image only through [`ImageBytes`]; whether a layer lies in a
//! registry, in a layout, on disk or in memory is the caller's business. Every bound is in
//! [`Limits`], with the reason beside it.

use std::io::{self, Read};

/// What [`ImageBytes::layer`] yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerForm {
    /// The blob that the manifest's descriptor names, compressed or not.
    Blob,
    /// The uncompressed tar, whatever the manifest's descriptor names. Only for our own image.
    Tar,
}

/// The bytes of one image manifest and everything it names.
pub trait ImageBytes: Sync {
    /// The manifest, byte for byte. For an image that was not compressed: the manifest with the
    /// uncompressed tars as its layers (`…layer.v1.tar`, digest = diffID).
    fn manifest(&self) -> &[u8];

    /// The image configuration, byte for byte.
    fn config(&self) -> &[u8];

    /// A fresh reader of layer `index`, counted as in the manifest. May be called several times.
    fn layer(&self, index: usize) -> io::Result<Box<dyn Read + '_>>;

    /// What [`Self::layer`] yields.
    fn layer_form(&self) -> LayerForm {
        LayerForm::Blob
    }
}

/// An image that is in memory.
#[derive(Debug, Clone)]
pub struct MemoryImage {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// The layers, as `form` says.
    pub layers: Vec<Vec<u8>>,
    /// What `layers` holds.
    pub form: LayerForm,
}

impl ImageBytes for MemoryImage {
    fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn layer(&self, index: usize) -> io::Result<Box<dyn Read + '_>> {
        let bytes = self.layers.get(index).ok_or_else(|| {
            let found = self.layers.len();
            let text = format!("expected a layer {index}, found {found} layers");
            io::Error::new(io::ErrorKind::NotFound, text)
        })?;
        Ok(Box::new(bytes.as_slice()))
    }

    fn layer_form(&self) -> LayerForm {
        self.form
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bounds on what a comparison reads and keeps, each for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Manifest and configuration, each. The distribution specification asks registries for 4 MiB.
    pub document_bytes_max: u64,
    /// Layers. Container runtimes stop at 127.
    pub layers_max: u64,
    /// One layer's blob as stored.
    pub blob_bytes_max: u64,
    /// All layers together, uncompressed.
    pub image_bytes_max: u64,
    /// Uncompressed bytes for one byte of blob, once `ratio_from_bytes` are exceeded. Deflate
    /// cannot pass 1032; Zstandard can, and then costs time out of proportion to the download.
    pub ratio_max: u64,
    /// Layers that unpack to less than this are never refused for their ratio.
    pub ratio_from_bytes: u64,
    /// Window of a Zstandard frame: what its decoder must keep in memory.
    pub zstd_window_bytes_max: u64,
    /// Tar entries in all layers.
    pub entries_max: u64,
    /// Names, links, PAX records and extended attributes in all layers: what trees keep in memory.
    pub metadata_bytes_max: u64,
    /// One extension header (PAX records, GNU long name).
    pub extension_bytes_max: u64,
    /// Events in an explanation; the others are only counted.
    pub events_max: usize,
    /// File contents kept to say where they differ, each file.
    pub capture_file_bytes_max: u64,
    /// The same, all files.
    pub capture_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes_max: 4 * MIB,
            layers_max: 512,
            blob_bytes_max: 16 * GIB,
            image_bytes_max: 64 * GIB,
            ratio_max: 1100,
            ratio_from_bytes: GIB,
            zstd_window_bytes_max: 128 * MIB,
            // About 300 bytes each beside their names: 300 MB at the most.
            entries_max: 1_000_000,
            metadata_bytes_max: 256 * MIB,
            extension_bytes_max: MIB,
            events_max: 1000,
            capture_file_bytes_max: 16 * MIB,
            capture_bytes_max: 64 * MIB,
        }
    }
}

/// How much is read from a layer at a time.
pub(super) const BUFFER_BYTES: usize = 128 * KIB as usize;
