//! SLSA provenance v0.1 (slsa.dev/provenance/v0.1).
//!
//! ```text
//! {"builder":{"id":…},
//!  "recipe":{"type":…,"definedInMaterial":0,"entryPoint":…,"arguments":…,"environment":…},
//!  "metadata":{"buildInvocationId":…},"materials":[{"uri":…,"digest":{…}}]}
//! ```
//! Invariant: `definedInMaterial` is an index into `materials`, which are kept whole, so nothing
//! has to be resolved here.

use super::{Provenance, ProvenanceError, ProvenanceVersion, WireBuilder, WireMaterial};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Wire {
    builder: WireBuilder,
    recipe: Recipe,
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    materials: Option<Vec<WireMaterial>>,
}

#[derive(Deserialize)]
struct Recipe {
    #[serde(rename = "type")]
    build_type: String,
    #[serde(default)]
    arguments: Value,
    #[serde(default)]
    environment: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    build_invocation_id: Option<String>,
}

pub(super) fn read(predicate: &Value) -> Result<Provenance, ProvenanceError> {
    let wire: Wire = super::decode("v0.1", predicate)?;
    Ok(Provenance {
        version: ProvenanceVersion::V01,
        build_type: wire.recipe.build_type,
        external_parameters: wire.recipe.arguments,
        internal_parameters: wire.recipe.environment,
        materials: super::materials(wire.materials),
        builder_id: wire.builder.id,
        builder_version: BTreeMap::new(),
        invocation_id: wire.metadata.and_then(|metadata| metadata.build_invocation_id),
    })
}
