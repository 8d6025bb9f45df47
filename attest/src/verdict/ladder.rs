//! How much of the published image an output gave back (design: architecture, "The ladder of
//! equality"), decided from digests and bytes, never from the level that a worker states.
//!
//! Invariant: `config` holds only if the published manifest becomes the rebuilt one by exchanging
//! digest, size and compression suffix of its layers, and nothing else. `rootfs` cannot be decided
//! here, because the trees are not evidence: such an output is "another".

use crate::{
    Digest, Level,
    image_manifest::{ImageManifest, parse_strict},
    observation::{Observation, Output},
};
use serde_json::Value;

/// Media types of layers without their compression: OCI image-spec "Layer media types", and
/// Docker's schema 2. The suffixes are those that only name a compression.
const LAYER_TYPES: [(&str, [&str; 3]); 4] = [
    ("application/vnd.oci.image.layer.v1.tar", ["", "+gzip", "+zstd"]),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar", ["", "+gzip", "+zstd"]),
    ("application/vnd.docker.image.rootfs.diff.tar", ["", ".gzip", ".zstd"]),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar", ["", ".gzip", ".zstd"]),
];

/// The published image, as far as outputs are compared with it.
#[derive(Debug)]
pub(super) struct Published {
    digest: Digest,
    manifest: Option<ImageManifest>,
    diff_ids: Option<Vec<Digest>>,
}

impl Published {
    /// From bytes that were checked against their digests. A manifest that cannot be read strictly
    /// leaves only the level of equal digests.
    pub(super) fn new(digest: Digest, manifest: &[u8], config: Option<&[u8]>) -> Self {
        Self {
            digest,
            manifest: ImageManifest::parse(manifest).ok(),
            diff_ids: config.and_then(diff_ids),
        }
    }

    /// The level of an output, and what stands against a better one.
    pub(super) fn level(&self, observation: &Observation, output: &Output) -> (Level, String) {
        if output.manifest == self.digest {
            if observation.searched.is_empty() {
                return (Level::Manifest, String::new());
            }
            let flags: Vec<String> =
                observation.searched.iter().map(|s| format!("{}={}", s.flag, s.value)).collect();
            return (Level::ManifestRecompressed, format!("found by search: {}", flags.join(", ")));
        }
        match self.config_level(observation, output) {
            Ok(()) => (Level::Config, "the layers are compressed otherwise".to_owned()),
            Err(why) => (Level::None, why),
        }
    }

    fn config_level(&self, observation: &Observation, output: &Output) -> Result<(), String> {
        let published = self.manifest.as_ref();
        let published =
            published.ok_or_else(|| "the published manifest cannot be read strictly".to_owned())?;
        if output.config != published.config.digest {
            return Err("another configuration (image ID)".to_owned());
        }
        let rebuilt = ImageManifest::parse(&output.manifest_bytes).map_err(|e| e.to_string())?;
        if let Some(diff_ids) = &self.diff_ids
            && !diff_ids.iter().eq(output.layers.iter().map(|layer| &layer.diff_id))
        {
            return Err("other diffIDs than the configuration has".to_owned());
        }
        let facts = &observation.hygiene;
        if facts.len() != published.layers.len() {
            return Err(format!(
                "hygiene of {} layers, the image has {}",
                facts.len(),
                published.layers.len()
            ));
        }
        if let Some((number, fact)) = facts.iter().enumerate().find(|(_, fact)| !fact.clean) {
            return Err(format!("layer {} is not clean: {}", number + 1, fact.why.join("; ")));
        }
        same_but_compression(published, &rebuilt)
    }
}

fn diff_ids(config: &[u8]) -> Option<Vec<Digest>> {
    let config = parse_strict(config).ok()?;
    let list = config.get("rootfs")?.get("diff_ids")?.as_array()?;
    list.iter().map(|id| id.as_str()?.parse().ok()).collect()
}

fn without_compression(media_type: &str) -> Option<&'static str> {
    LAYER_TYPES.iter().find_map(|(base, suffixes)| {
        let suffix = media_type.strip_prefix(base)?;
        suffixes.contains(&suffix).then_some(*base)
    })
}

/// The published manifest with the rebuilt layers' digest, size and compression put in is the
/// rebuilt manifest.
fn same_but_compression(published: &ImageManifest, rebuilt: &ImageManifest) -> Result<(), String> {
    if published.layers.len() != rebuilt.layers.len() {
        return Err("another number of layers".to_owned());
    }
    let mut expected = published.value.clone();
    let layers = expected.get_mut("layers").and_then(Value::as_array_mut);
    let layers = layers.ok_or_else(|| "a manifest without layers".to_owned())?;
    let pairs = published.layers.iter().zip(&rebuilt.layers);
    for (number, (layer, (ours, built))) in layers.iter_mut().zip(pairs).enumerate() {
        let base = without_compression(&ours.media_type);
        if base.is_none() || base != without_compression(&built.media_type) {
            return Err(format!(
                "layer {} has media type {:?}, rebuilt {:?}",
                number + 1,
                ours.media_type,
                built.media_type
            ));
        }
        if let Some(fields) = layer.as_object_mut() {
            fields.insert("digest".into(), built.digest.to_string().into());
            fields.insert("size".into(), built.size.into());
            fields.insert("mediaType".into(), built.media_type.clone().into());
        }
    }
    if expected == rebuilt.value {
        Ok(())
    } else {
        Err("the manifests differ in more than the layers' compression".to_owned())
    }
}
