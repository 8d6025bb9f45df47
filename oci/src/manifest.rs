//! Image manifests, indexes and descriptors as they are read.
//!
//! Sources: OCI image-spec 1.1 (descriptor.md, manifest.md, image-index.md), Docker's schema 2.
//! Invariant: a document is an index or a manifest and never both; every descriptor has a SHA-256
//! digest and a size; counts are bounded. `urls` and `data` of a descriptor are seen but never
//! followed or used: what a layer is, is decided by its digest alone.

use crate::{error::Error, json, media};
use attest::{Digest, Platform};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Longest media type (RFC 6838: 127 for type and 127 for subtype) with its parameters.
const MEDIA_TYPE_BYTES_MAX: usize = 512;

/// A pointer to bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// What the bytes are said to be.
    pub media_type: String,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
    /// The artifact type; a hint for choosing, never proof.
    pub artifact_type: Option<String>,
    /// The platform, in an index.
    pub platform: Option<Platform>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// True if the descriptor names other places (`urls`) or carries bytes (`data`).
    pub elsewhere: bool,
}

impl Descriptor {
    /// A descriptor of these bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            artifact_type: None,
            platform: None,
            annotations: BTreeMap::new(),
            elsewhere: false,
        }
    }

    /// The descriptor as JSON, in the order of the specification's examples.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("mediaType".into(), self.media_type.as_str().into());
        object.insert("digest".into(), self.digest.to_string().into());
        object.insert("size".into(), self.size.into());
        if let Some(artifact_type) = &self.artifact_type {
            object.insert("artifactType".into(), artifact_type.as_str().into());
        }
        if let Some(platform) = &self.platform {
            let mut inner = Map::new();
            inner.insert("architecture".into(), platform.architecture.as_str().into());
            inner.insert("os".into(), platform.os.as_str().into());
            if let Some(variant) = &platform.variant {
                inner.insert("variant".into(), variant.as_str().into());
            }
            object.insert("platform".into(), Value::Object(inner));
        }
        if !self.annotations.is_empty() {
            let map = self.annotations.iter().map(|(k, v)| (k.clone(), v.as_str().into()));
            object.insert("annotations".into(), Value::Object(map.collect()));
        }
        Value::Object(object)
    }
}

/// An image or artifact manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The config's descriptor.
    pub config: Descriptor,
    /// The layers' descriptors, in order.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    pub subject: Option<Descriptor>,
    /// The artifact type as written; see [`Manifest::kind`].
    pub artifact_type: Option<String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// The artifact type, or the config's media type where there is none (distribution-spec,
    /// "Listing Referrers").
    pub fn kind(&self) -> &str {
        self.artifact_type.as_deref().unwrap_or(&self.config.media_type)
    }
}

/// An image index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The entries' descriptors, in order.
    pub entries: Vec<Descriptor>,
    /// The manifest that this index is about.
    pub subject: Option<Descriptor>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What a manifest document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An index.
    Index(Box<Index>),
    /// A manifest.
    Manifest(Box<Manifest>),
}

/// Reads a manifest or an index. `declared` is the media type under which it came, from a
/// descriptor or a `Content-Type` header; it must agree with what the document says of itself.
/// Returns the media type that counts, too.
pub fn read(bytes: &[u8], declared: Option<&str>, what: &str) -> Result<(String, Document), Error> {
    let value = json::read(bytes, what, media::MANIFEST_BYTES_MAX)?;
    let object = Object::new(&value, what)?;
    let own = object.text("mediaType")?;
    if let (Some(own), Some(declared)) = (&own, declared)
        && own != declared
    {
        return Err(Error::malformed(what, format!("media type {declared}"), own));
    }
    let Some(media_type) = own.or_else(|| declared.map(str::to_owned)) else {
        return Err(Error::malformed(what, "a mediaType", "none"));
    };
    let version = object.map.get("schemaVersion");
    if version.and_then(Value::as_u64) != Some(2) {
        let found = version.map_or("none".to_owned(), Value::to_string);
        return Err(Error::malformed(what, "schemaVersion 2", found));
    }
    let document = if media::is_index(&media_type) {
        object.must_lack(&["config", "layers", "fsLayers", "blobs"])?;
        Document::Index(Box::new(read_index(&object)?))
    } else if media::is_manifest(&media_type) {
        object.must_lack(&["manifests", "fsLayers", "blobs"])?;
        Document::Manifest(Box::new(read_manifest(&object)?))
    } else {
        let expected = "the media type of an OCI or Docker (schema 2) manifest or index";
        return Err(Error::malformed(what, expected, media_type));
    };
    Ok((media_type, document))
}

/// Reads a manifest and refuses an index.
pub fn read_image_manifest(
    bytes: &[u8],
    declared: Option<&str>,
    what: &str,
) -> Result<Manifest, Error> {
    match read(bytes, declared, what)? {
        (_, Document::Manifest(manifest)) => Ok(*manifest),
        (_, Document::Index(_)) => Err(Error::malformed(what, "an image manifest", "an index")),
    }
}

/// Reads an index and refuses a manifest.
pub fn read_image_index(bytes: &[u8], declared: Option<&str>, what: &str) -> Result<Index, Error> {
    match read(bytes, declared, what)? {
        (_, Document::Index(index)) => Ok(*index),
        (_, Document::Manifest(_)) => Err(Error::malformed(what, "an index", "an image manifest")),
    }
}

/// Reads the entries of an index or of a layout's `index.json`, at most `entries_max`.
pub(crate) fn read_entries(
    bytes: &[u8],
    what: &str,
    bytes_max: u64,
    entries_max: usize,
) -> Result<Vec<Descriptor>, Error> {
    let value = json::read(bytes, what, bytes_max)?;
    let object = Object::new(&value, what)?;
    if object.map.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
        return Err(Error::malformed(what, "schemaVersion 2", "another or none"));
    }
    object.descriptors("manifests", entries_max)
}

fn read_index(object: &Object<'_>) -> Result<Index, Error> {
    Ok(Index {
        entries: object.descriptors("manifests", media::ENTRIES_MAX)?,
        subject: object.descriptor("subject")?,
        annotations: object.annotations()?,
    })
}

fn read_manifest(object: &Object<'_>) -> Result<Manifest, Error> {
    let Some(config) = object.descriptor("config")? else {
        return Err(Error::malformed(object.what, "a config", "none"));
    };
    Ok(Manifest {
        config,
        layers: object.descriptors("layers", media::ENTRIES_MAX)?,
        subject: object.descriptor("subject")?,
        artifact_type: object.text("artifactType")?,
        annotations: object.annotations()?,
    })
}

/// Every key that some reader gives a meaning to, in any of the objects read here.
const KNOWN: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "architecture",
    "os",
    "variant",
    "fsLayers",
    "blobs",
];

/// One JSON object whose fields are taken out with types. `null` is as if absent, as Go reads it.
struct Object<'a> {
    map: &'a Map<String, Value>,
    what: &'a str,
}

impl<'a> Object<'a> {
    fn new(value: &'a Value, what: &'a str) -> Result<Self, Error> {
        let Value::Object(map) = value else {
            return Err(Error::malformed(what, "a JSON object", kind_of(value)));
        };
        json::check_spelling(map, KNOWN, what)?;
        Ok(Self { map, what })
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn must_lack(&self, keys: &[&str]) -> Result<(), Error> {
        match keys.iter().find(|key| self.map.contains_key(**key)) {
            None => Ok(()),
            Some(key) => {
                let expected = "either a manifest or an index";
                Err(Error::malformed(self.what, expected, format!("both: it has {key:?}")))
            }
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text.len() <= MEDIA_TYPE_BYTES_MAX => {
                Ok(Some(text.clone()))
            }
            Some(Value::String(text)) => {
                Err(Error::malformed(self.what, format!("a short {key}"), text))
            }
            Some(other) => {
                Err(Error::malformed(self.what, format!("text in {key}"), kind_of(other)))
            }
        }
    }

    fn annotations(&self) -> Result<BTreeMap<String, String>, Error> {
        let expected = "annotations that are text";
        match self.get("annotations") {
            None => Ok(BTreeMap::new()),
            Some(Value::Object(map)) => map
                .iter()
                .map(|(key, value)| match value {
                    Value::String(text) => Ok((key.clone(), text.clone())),
                    other => Err(Error::malformed(self.what, expected, kind_of(other))),
                })
                .collect(),
            Some(other) => Err(Error::malformed(self.what, expected, kind_of(other))),
        }
    }

    fn descriptors(&self, key: &str, max: usize) -> Result<Vec<Descriptor>, Error> {
        match self.map.get(key) {
            // Go writes an empty list as null; a missing one is no document of its kind.
            Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) if items.len() > max => {
                let what = format!("{key} of {}", self.what);
                Err(Error::too_large(what, max as u64, "entries", items.len()))
            }
            Some(Value::Array(items)) => {
                items.iter().map(|item| read_descriptor(item, self.what)).collect()
            }
            Some(other) => {
                Err(Error::malformed(self.what, format!("a list in {key}"), kind_of(other)))
            }
            None => Err(Error::malformed(self.what, format!("the key {key:?}"), "none")),
        }
    }

    fn descriptor(&self, key: &str) -> Result<Option<Descriptor>, Error> {
        self.get(key).map(|value| read_descriptor(value, self.what)).transpose()
    }
}

fn read_descriptor(value: &Value, what: &str) -> Result<Descriptor, Error> {
    let object = Object::new(value, what)?;
    let Some(media_type) = object.text("mediaType")? else {
        return Err(Error::malformed(what, "a mediaType in every descriptor", "none"));
    };
    let digest = match object.get("digest") {
        Some(Value::String(text)) => text.parse().map_err(|_| {
            Error::malformed(what, "a digest like sha256:<64 lower-case hex digits>", text)
        })?,
        _ => return Err(Error::malformed(what, "a digest in every descriptor", "none")),
    };
    let Some(size) = object.get("size").and_then(Value::as_u64) else {
        let found = object.get("size").map_or("none".to_owned(), Value::to_string);
        return Err(Error::malformed(what, "a size in bytes in every descriptor", found));
    };
    let platform = match object.get("platform") {
        None => None,
        Some(value) => read_platform(&Object::new(value, what)?)?,
    };
    Ok(Descriptor {
        media_type,
        digest,
        size,
        artifact_type: object.text("artifactType")?,
        platform,
        annotations: object.annotations()?,
        elsewhere: object.get("urls").is_some() || object.get("data").is_some(),
    })
}

/// The platform of an index entry or of an image config; both have the same three fields.
fn read_platform(object: &Object<'_>) -> Result<Option<Platform>, Error> {
    let (os, architecture, variant) =
        (object.text("os")?, object.text("architecture")?, object.text("variant")?);
    let (os, architecture) = match (os, architecture) {
        (None, None) => return Ok(None),
        (Some(os), Some(architecture)) => (os, architecture),
        (os, architecture) => {
            let found = format!("os {os:?}, architecture {architecture:?}");
            return Err(Error::malformed(object.what, "a platform with both parts", found));
        }
    };
    let platform = Platform { os, architecture, variant };
    // Reading the text again refuses slashes and control characters inside the parts.
    match platform.to_string().parse::<Platform>() {
        Ok(same) if same == platform => Ok(Some(platform)),
        _ => Err(Error::malformed(
            object.what,
            "a platform like linux/amd64",
            format!("{:?}", platform.to_string()),
        )),
    }
}

/// The platform that an image config names.
pub fn platform_of_config(bytes: &[u8], what: &str) -> Result<Option<Platform>, Error> {
    let value = json::read(bytes, what, media::CONFIG_BYTES_MAX)?;
    read_platform(&Object::new(&value, what)?)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
