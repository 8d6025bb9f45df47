//! The index over all platforms, which apko writes for one platform too.
//!
//! Invariant: entries in the order of their architecture's name. Its annotations are those of the
//! configuration before locking, so what is attested for a platform does not give them all.

use super::{annotations::annotations, image::descriptor};
use crate::{
    apko::{
        behaviour::{Behaviour, Capability},
        config::{ImageConfiguration, architecture},
        error::AssembleError,
    },
    go::json::Object,
};
use attest::Digest;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// One platform of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// Architecture with variant: `amd64`, `arm/v7`.
    pub architecture: String,
    /// The manifest's digest.
    pub manifest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
    /// When that platform counts as created, seconds since 1970.
    pub created: i64,
}

/// The index. `config` is the one before locking; `epoch_option` as in the build's times.
pub fn index(
    config: &ImageConfiguration,
    entries: &[IndexEntry],
    behaviour: &Behaviour,
    epoch_option: i64,
) -> Result<Vec<u8>, AssembleError> {
    let created = entries.iter().map(|entry| entry.created).fold(epoch_option, i64::max);
    let annotations = annotations(config, behaviour, created, true)?;
    let mut entries: Vec<&IndexEntry> = entries.iter().collect();
    entries.sort_by(|a, b| a.architecture.cmp(&b.architecture));
    let mut out = Vec::new();
    let mut json = Object::new(&mut out);
    json.integer("schemaVersion", 2);
    json.string("mediaType", INDEX_TYPE);
    json.array("manifests", |array| {
        for entry in entries {
            let (architecture, variant) = architecture::parts(&entry.architecture);
            array.object(|json| {
                descriptor(json, MANIFEST_TYPE, entry.size, entry.manifest);
                json.object("platform", |json| {
                    json.string("architecture", architecture);
                    json.string("os", "linux");
                    json.string_omitempty("variant", variant.unwrap_or_default());
                });
                if behaviour.has(Capability::ArtifactType) {
                    json.string("artifactType", CONFIG_TYPE);
                }
            });
        }
    });
    json.map_of_strings_omitempty("annotations", &annotations);
    json.end();
    Ok(out)
}
