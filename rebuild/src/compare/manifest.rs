//! The parts of an image manifest and configuration that the ladder needs (OCI image-spec v1.1,
//! manifest and config; Docker image manifest V2, schema 2).
//!
//! Invariant: both documents pass [`json::parse`] first. Fields beyond those named here stay in
//! `value`, where the ladder compares them all; none is ever dropped before comparing.

use super::{
    compression::Compression,
    error::{CompareError, Side},
    image::Limits,
    json,
};
use attest::Digest;
use serde_json::Value;

const LAYER_BASES: [&str; 3] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
];
const IMAGE_MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The three fields that every descriptor has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

impl Descriptor {
    /// The compression that the media type states; none for a media type that is no layer.
    pub(super) fn compression(&self) -> Option<Compression> {
        split_layer_type(&self.media_type).map(|(_, compression)| compression)
    }

    /// Reads a descriptor. The inner error is the reason why it is none.
    fn read(value: Option<&Value>) -> Result<Result<Self, String>, CompareError> {
        let text = |key: &str| value.and_then(|v| v.get(key)).and_then(Value::as_str);
        let (Some(media_type), Some(digest)) = (text("mediaType"), text("digest")) else {
            return Ok(Err("a descriptor without mediaType or digest".into()));
        };
        let Some(size) = value.and_then(|v| v.get("size")).and_then(Value::as_u64) else {
            return Ok(Err("a descriptor without a size in bytes".into()));
        };
        let Ok(digest) = digest.parse::<Digest>() else {
            // Image-spec: another registered algorithm is legal, we cannot compute it.
            if digest.starts_with("sha512:") {
                let (expected, found) = ("sha256 digests", digest.chars().take(100).collect());
                return Err(CompareError::Unsupported { expected, found });
            }
            return Ok(Err("a descriptor whose digest is none".into()));
        };
        Ok(Ok(Self { media_type: media_type.to_owned(), digest, size }))
    }
}

/// `…tar`, `…tar+gzip`, `…tar.gzip`, `…tar+zstd`: what comes before the compression, and which.
pub(super) fn split_layer_type(media_type: &str) -> Option<(&'static str, Compression)> {
    LAYER_BASES.iter().find_map(|base| {
        let suffix = media_type.strip_prefix(base)?;
        let docker = base.starts_with("application/vnd.docker.");
        let compression = match suffix {
            "" => Compression::None,
            "+gzip" if !docker => Compression::Gzip,
            "+zstd" if !docker => Compression::Zstd,
            ".gzip" if docker => Compression::Gzip,
            ".zstd" if docker => Compression::Zstd,
            _ => return None,
        };
        Some((*base, compression))
    })
}

/// A manifest that could be read.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub value: Value,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// Reads a manifest. The inner error is the reason why it is not one that can be run.
    pub(super) fn read(
        bytes: &[u8],
        side: Side,
        limits: &Limits,
    ) -> Result<Result<Self, String>, CompareError> {
        check_size(bytes, side, limits)?;
        let value = match json::parse(bytes) {
            Ok(value) => value,
            Err(e) => return Ok(Err(e.to_string())),
        };
        if value.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
            return Ok(Err("expected schemaVersion 2".into()));
        }
        let config = match Descriptor::read(value.get("config"))? {
            Ok(config) => config,
            Err(why) => return Ok(Err(format!("config: {why}"))),
        };
        let Some(items) = value.get("layers").and_then(Value::as_array) else {
            return Ok(Err("expected an array of layers".into()));
        };
        if items.len() as u64 > limits.layers_max {
            let limit = limits.layers_max;
            return Err(CompareError::Limit { side, what: "layers", limit });
        }
        let mut layers = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match Descriptor::read(Some(item))? {
                Ok(layer) => layers.push(layer),
                Err(why) => return Ok(Err(format!("layer {index}: {why}"))),
            }
        }
        Ok(Ok(Self { value, config, layers }))
    }

    /// True when this manifest says what `ours` says but for the blob digest, the size and the
    /// compression suffix of layers. Every other field counts, known or not.
    pub(super) fn differs_only_in_compression(&self, ours: &Self) -> bool {
        let mut value = self.value.clone();
        let (Some(items), Some(our_items)) = (
            value.get_mut("layers").and_then(Value::as_array_mut),
            ours.value.get("layers").and_then(Value::as_array),
        ) else {
            return false;
        };
        if items.len() != our_items.len() {
            return false;
        }
        for (item, our_item) in items.iter_mut().zip(our_items) {
            let (Some(object), Some(our_object)) = (item.as_object_mut(), our_item.as_object())
            else {
                return false;
            };
            for key in ["digest", "size"] {
                object.insert(key.into(), our_object.get(key).cloned().unwrap_or_default());
            }
            let base = |v: Option<&Value>| {
                v.and_then(Value::as_str).and_then(split_layer_type).map(|(base, _)| base)
            };
            let our_type = our_object.get("mediaType");
            if base(our_type).is_some() && base(object.get("mediaType")) == base(our_type) {
                object.insert("mediaType".into(), our_type.cloned().unwrap_or_default());
            }
        }
        value == ours.value
    }

    /// True when nothing in this manifest can make a runtime run something else than the layers
    /// and the configuration that were compared: known media types, known fields, no inlined
    /// data. Annotations, `subject`, `artifactType` and `urls` may be there.
    pub(super) fn runs_what_it_lists(&self) -> bool {
        let keys_within = |value: &Value, known: &[&str]| {
            value.as_object().is_some_and(|o| o.keys().all(|k| known.contains(&k.as_str())))
        };
        let descriptor = ["mediaType", "digest", "size", "urls", "annotations", "artifactType"];
        let top = [
            "schemaVersion",
            "mediaType",
            "config",
            "layers",
            "annotations",
            "subject",
            "artifactType",
        ];
        let layers = self.value.get("layers").and_then(Value::as_array);
        keys_within(&self.value, &top)
            && self.value.get("mediaType").is_none_or(|v| known_text(v, &IMAGE_MANIFESTS))
            && self.value.get("config").is_some_and(|v| keys_within(v, &descriptor))
            && IMAGE_CONFIGS.contains(&self.config.media_type.as_str())
            && layers.is_some_and(|l| l.iter().all(|v| keys_within(v, &descriptor)))
    }
}

fn known_text(value: &Value, known: &[&str]) -> bool {
    value.as_str().is_some_and(|text| known.contains(&text))
}

fn check_size(bytes: &[u8], side: Side, limits: &Limits) -> Result<(), CompareError> {
    let limit = limits.document_bytes_max;
    if bytes.len() as u64 > limit {
        let what = "bytes in a manifest or configuration";
        return Err(CompareError::Limit { side, what, limit });
    }
    Ok(())
}

/// A configuration that could be read.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub value: Value,
    pub diff_ids: Vec<Digest>,
}

impl Config {
    /// Reads a configuration. The inner error is the reason why it is none.
    pub(super) fn read(
        bytes: &[u8],
        side: Side,
        limits: &Limits,
    ) -> Result<Result<Self, String>, CompareError> {
        check_size(bytes, side, limits)?;
        let value = match json::parse(bytes) {
            Ok(value) => value,
            Err(e) => return Ok(Err(e.to_string())),
        };
        let Some(items) = value.pointer("/rootfs/diff_ids").and_then(Value::as_array) else {
            return Ok(Err("expected an array rootfs.diff_ids".into()));
        };
        let mut diff_ids = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item.as_str().and_then(|text| text.parse().ok()) {
                Some(digest) => diff_ids.push(digest),
                None => return Ok(Err(format!("expected a digest at rootfs.diff_ids/{index}"))),
            }
        }
        Ok(Ok(Self { value, diff_ids }))
    }

    /// True when the two differ in nothing but `created`, `history`, `author` and `diff_ids`.
    pub(super) fn runs_alike(&self, other: &Self) -> bool {
        let stripped = |value: &Value| {
            let mut value = value.clone();
            if let Some(object) = value.as_object_mut() {
                for key in ["created", "history", "author"] {
                    object.remove(key);
                }
                if let Some(rootfs) = object.get_mut("rootfs").and_then(Value::as_object_mut) {
                    rootfs.remove("diff_ids");
                }
            }
            value
        };
        stripped(&self.value) == stripped(&other.value)
    }
}
