//! The `.att` tag of cosign before version 3: one manifest, one DSSE envelope a layer.
//!
//! Invariant: the layers of others stay as they are, in their order. The config is a valid image
//! config whose diff IDs are the layers, because registries and clients parse it.

use super::{Place, Supersedes, preflight, serialised};
use crate::{
    destination::Destination,
    error::Error,
    manifest::{self, Descriptor},
    media,
    reference::Tag,
};
use attest::{Digest, Repository};
use bytes::Bytes;
use serde_json::{Value, json};

/// Layers of one manifest; cosign reads no more than this.
const LAYERS_MAX: usize = 1000;

/// Adds an envelope to the `.att` tag of `subject`, in place of those that it supersedes.
/// Returns the digest of the tag's new manifest.
///
/// Read, changed and written again: two writers at once may lose one of the two envelopes.
pub async fn push_envelope(
    destination: &Destination,
    repository: &Repository,
    place: Place,
    subject: &Digest,
    envelope: &[u8],
    predicate_type: &str,
    supersedes: Supersedes<'_>,
) -> Result<Digest, Error> {
    let source = destination.source()?;
    let tag = Tag::legacy_attestations_of(subject);
    if place == Place::Publisher {
        // Rewriting the publisher's tag could lose what it writes at the same moment.
        preflight(&source, repository, subject).await?;
    }
    let mut layers: Vec<Value> = Vec::new();
    let previous = source.tag(repository, &tag).await?;
    if let Some(digest) = previous {
        let found = source.manifest(repository, &digest).await?;
        let what = format!("{repository}:{tag}");
        let manifest = manifest::read_image_manifest(&found.bytes, Some(&found.media_type), &what)?;
        let raw = crate::json::read(&found.bytes, &what, media::MANIFEST_BYTES_MAX)?;
        let raw = raw.get("layers").and_then(Value::as_array).cloned().unwrap_or_default();
        for (layer, raw) in manifest.layers.iter().zip(raw) {
            let readable =
                layer.media_type == media::DSSE && layer.size <= media::EVIDENCE_BYTES_MAX;
            let replaced = readable && {
                let bytes = source.blob(repository, layer, media::EVIDENCE_BYTES_MAX).await?;
                supersedes(&bytes)
            };
            if !replaced {
                layers.push(raw);
            }
        }
    }
    let mut layer = Descriptor::of(media::DSSE, envelope);
    layer.annotations.insert("dev.cosignproject.cosign/signature".into(), String::new());
    layer.annotations.insert("predicateType".into(), predicate_type.into());
    layers.push(layer.to_json());
    if layers.len() > LAYERS_MAX {
        let what = format!("{repository}:{tag}");
        return Err(Error::too_large(what, LAYERS_MAX as u64, "layers", layers.len()));
    }
    let config = serialised(&config(&layers))?;
    let manifest = serialised(&json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": Descriptor::of(media::IMAGE_CONFIG, &config).to_json(),
        "layers": layers,
    }))?;
    destination.put_blob(repository, Bytes::copy_from_slice(envelope)).await?;
    destination.put_blob(repository, Bytes::from(config)).await?;
    let written = destination
        .put_manifest(repository, media::OCI_MANIFEST, manifest.into(), Some(&tag), previous)
        .await?;
    Ok(written.digest)
}

fn config(layers: &[Value]) -> Value {
    const NEVER: &str = "0001-01-01T00:00:00Z";
    let ids: Vec<&Value> = layers.iter().filter_map(|layer| layer.get("digest")).collect();
    let history: Vec<Value> = layers.iter().map(|_| json!({ "created": NEVER })).collect();
    json!({
        "architecture": "", "os": "", "created": NEVER, "config": {},
        "history": history, "rootfs": { "type": "layers", "diff_ids": ids },
    })
}
