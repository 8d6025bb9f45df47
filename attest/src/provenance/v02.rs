//! SLSA provenance v0.2 (slsa.dev/provenance/v0.2).
//!
//! ```text
//! {"builder":{"id":…},"buildType":…,
//!  "invocation":{"configSource":{"uri":…,"digest":{…},"entryPoint":…},
//!                "parameters":…,"environment":…},
//!  "buildConfig":…,"metadata":{"buildInvocationId":…},"materials":[{"uri":…,"digest":{…}}]}
//! ```
//! Invariant: the source of the configuration becomes a material, as v1's migration notes say; it
//! is never lost.

use super::{Material, Provenance, ProvenanceError, ProvenanceVersion, WireBuilder, WireMaterial};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    builder: WireBuilder,
    build_type: String,
    #[serde(default)]
    invocation: Option<Invocation>,
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    materials: Option<Vec<WireMaterial>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    #[serde(default)]
    config_source: Option<WireMaterial>,
    #[serde(default)]
    parameters: Value,
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
    let wire: Wire = super::decode("v0.2", predicate)?;
    let mut materials = super::materials(wire.materials);
    let (mut external, mut internal) = (Value::Null, Value::Null);
    if let Some(invocation) = wire.invocation {
        external = invocation.parameters;
        internal = invocation.environment;
        let source = invocation.config_source.map(Material::from);
        let said = |m: &Material| !m.uri.is_empty() || !m.digest.is_empty();
        if let Some(source) = source.filter(|s| said(s) && !materials.contains(s)) {
            materials.push(source);
        }
    }
    Ok(Provenance {
        version: ProvenanceVersion::V02,
        build_type: wire.build_type,
        external_parameters: external,
        internal_parameters: internal,
        materials,
        builder_id: wire.builder.id,
        builder_version: BTreeMap::new(),
        invocation_id: wire.metadata.and_then(|metadata| metadata.build_invocation_id),
    })
}
