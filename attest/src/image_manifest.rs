//! An image manifest (OCI image-spec, "Image Manifest"; Docker's schema 2 has the same members),
//! read strictly: for the digests in it, and for comparing two of them.
//!
//! Invariant: a key that stands twice in one object is refused, because two readers may then see
//! two manifests; everything else is kept as it came, so that [`ImageManifest::value`] can be
//! compared whole. It must never be used to decide what a registry serves: only what was hashed.

use crate::Digest;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};
use std::fmt;

/// Largest manifest that is read (protocol: "manifests 4 MiB").
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most layers that are looked at: runtimes stop at 127.
pub const MANIFEST_LAYERS_MAX: usize = 1024;

/// What can be wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MANIFEST_BYTES_MAX`].
    #[error("expected a manifest of at most {MANIFEST_BYTES_MAX} bytes, found {0}")]
    TooLarge(usize),
    /// Not JSON, or a key stands twice.
    #[error("expected the JSON of an image manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// A member that must be there is missing or has another type.
    #[error("expected an image manifest with {0}")]
    Member(&'static str),
}

/// A descriptor, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestDescriptor {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageManifest {
    /// The image configuration.
    pub config: ManifestDescriptor,
    /// The layers, in order.
    pub layers: Vec<ManifestDescriptor>,
    /// All of it.
    pub value: Value,
}

impl ImageManifest {
    /// Reads a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let value = parse_strict(bytes)?;
        let config = value.get("config").ok_or(ManifestError::Member("config"))?;
        let config = descriptor(config)?;
        let layers = value.get("layers").and_then(Value::as_array);
        let layers = layers.ok_or(ManifestError::Member("layers"))?;
        if layers.len() > MANIFEST_LAYERS_MAX {
            return Err(ManifestError::Member("at most 1024 layers"));
        }
        let layers = layers.iter().map(descriptor).collect::<Result<_, _>>()?;
        Ok(Self { config, layers, value })
    }
}

fn descriptor(value: &Value) -> Result<ManifestDescriptor, ManifestError> {
    let text = |key| value.get(key).and_then(Value::as_str);
    let digest = text("digest").and_then(|text| text.parse().ok());
    Ok(ManifestDescriptor {
        digest: digest.ok_or(ManifestError::Member("a SHA-256 digest in each descriptor"))?,
        size: value
            .get("size")
            .and_then(Value::as_u64)
            .ok_or(ManifestError::Member("a size in each descriptor"))?,
        media_type: text("mediaType")
            .ok_or(ManifestError::Member("a mediaType in each descriptor"))?
            .to_owned(),
    })
}

/// JSON in which no object has a key twice. The depth is bounded by serde_json (128).
pub(crate) fn parse_strict(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Strict>(bytes).map(|strict| strict.0)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> de::Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated keys")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if object.contains_key(&key) {
                return Err(de::Error::custom(format!("the key {key:?} stands twice")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_refuses() {
        let digest = Digest::of(b"x");
        let layer = format!(r#"{{"mediaType":"l","digest":"{digest}","size":3}}"#);
        let good = format!(r#"{{"config":{layer},"layers":[{layer},{layer}]}}"#);
        let manifest = ImageManifest::parse(good.as_bytes()).unwrap();
        assert_eq!((manifest.layers.len(), manifest.config.size), (2, 3));
        for bad in [
            good.replace("\"size\":3", "\"size\":-3"),
            good.replace("\"size\":3", "\"size\":3,\"size\":3"),
            good.replace("sha256", "sha512"),
            good.replace("layers", "layer"),
            good.replacen('{', r#"{"layers":[],"#, 1),
            "[".repeat(100_000),
        ] {
            assert!(ImageManifest::parse(bad.as_bytes()).is_err(), "{}", bad.len());
        }
    }
}
