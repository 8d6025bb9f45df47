//! SLSA provenance v1 (slsa.dev/spec/v1.0/provenance, the same predicate in 1.1 and 1.2).
//!
//! ```text
//! {"buildDefinition":{"buildType":…,"externalParameters":{…},"internalParameters":{…},
//!                     "resolvedDependencies":[{"uri":…,"digest":{…}}]},
//!  "runDetails":{"builder":{"id":…,"version":{…}},"metadata":{"invocationId":…}}}
//! ```
//! Invariant: unknown fields are passed over, as the specification asks of readers.

use super::{Provenance, ProvenanceError, ProvenanceVersion, WireBuilder, WireMaterial};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    build_definition: BuildDefinition,
    run_details: RunDetails,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    build_type: String,
    #[serde(default)]
    external_parameters: Value,
    #[serde(default)]
    internal_parameters: Value,
    #[serde(default)]
    resolved_dependencies: Option<Vec<WireMaterial>>,
}

#[derive(Deserialize)]
struct RunDetails {
    builder: WireBuilder,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    invocation_id: Option<String>,
}

pub(super) fn read(predicate: &Value) -> Result<Provenance, ProvenanceError> {
    let wire: Wire = super::decode("v1", predicate)?;
    let definition = wire.build_definition;
    Ok(Provenance {
        version: ProvenanceVersion::V1,
        build_type: definition.build_type,
        external_parameters: definition.external_parameters,
        internal_parameters: definition.internal_parameters,
        materials: super::materials(definition.resolved_dependencies),
        builder_id: wire.run_details.builder.id,
        builder_version: wire.run_details.builder.version.unwrap_or_default(),
        invocation_id: wire.run_details.metadata.and_then(|metadata| metadata.invocation_id),
    })
}
