//! What was assembled: the JSON of `assay assemble`.
//!
//! Invariant: `index` and `platforms` with their digests are a contract; fields may be added.

use super::choose::{Chosen, OrderSource};
use crate::report::MaterialReport;
use attest::{Digest, Platform};
use rebuild::apko::Assembly;
use serde::Serialize;

/// The schema's name.
pub const SCHEMA: &str = "assay/assemble/v1";

/// An assembled image.
#[derive(Debug, Clone, Serialize)]
pub struct AssembledImage {
    /// The schema's name.
    pub schema: &'static str,
    /// The image index.
    pub index: Digest,
    /// The version of apko whose behaviour it has.
    pub apko: String,
    /// Its platforms, in the order of the index.
    pub platforms: Vec<AssembledPlatform>,
}

/// One platform.
#[derive(Debug, Clone, Serialize)]
pub struct AssembledPlatform {
    /// Which one.
    pub platform: Platform,
    /// The manifest.
    pub manifest: Digest,
    /// The image configuration.
    pub config: Digest,
    /// The layers, top last.
    pub layers: Vec<AssembledLayer>,
    /// Where the order of installation is from.
    pub order: OrderSource,
    /// Packages in the order of installation, `name=version`.
    pub packages: Vec<String>,
    /// What apko would leave to chance.
    pub ambiguous: Vec<String>,
    /// Paths whose winner another order could change.
    pub decided_by_order: Vec<String>,
    /// Every file that was read, and what vouches for it.
    pub materials: Vec<MaterialReport>,
}

/// One layer.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct AssembledLayer {
    /// The compressed layer.
    pub blob: Digest,
    /// The uncompressed one.
    pub diff_id: Digest,
    /// Bytes of the compressed one.
    pub size: u64,
}

impl AssembledPlatform {
    pub(super) fn new(platform: Platform, assembly: &Assembly, chosen: &Chosen) -> Self {
        let layers = assembly.layers.iter().filter_map(|layer| {
            let blob = layer.written.blob?;
            let diff_id = layer.written.diff_id;
            Some(AssembledLayer { blob: blob.digest, diff_id, size: blob.size })
        });
        let mut decided: Vec<String> = assembly
            .order_decided()
            .map(|conflict| String::from_utf8_lossy(&conflict.path).into_owned())
            .collect();
        decided.sort();
        decided.dedup();
        let materials = chosen.materials.iter().map(|material| MaterialReport {
            uri: material.uri.clone(),
            sha256: material.digest,
            from: material.from.clone(),
            verified_by: material.verified_by.clone(),
        });
        let packages = chosen.packages.iter();
        let packages = packages.map(|p| format!("{}={}", p.info.name, p.info.version));
        Self {
            platform,
            manifest: Digest::of(assembly.manifest.as_deref().unwrap_or_default()),
            config: Digest::of(&assembly.config),
            layers: layers.collect(),
            order: chosen.order,
            packages: packages.collect(),
            ambiguous: chosen.ambiguous.clone(),
            decided_by_order: decided,
            materials: materials.collect(),
        }
    }
}
