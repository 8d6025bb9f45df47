//! SLSA provenance, read: v0.1, v0.2 and v1 mapped onto one shape, v1's.
//!
//! The mapping from v0.2 is the specification's ("Migrating from 0.2" of SLSA v1.0), the one from
//! v0.1 goes through v0.2's words. Fields that a version does not have stay empty.
//! Invariant: reading decides nothing: an unknown build type is read as well as a known one, and
//! what is not understood stays in the JSON values. Only what every version calls mandatory (build
//! type, builder's identity) must be there.

mod v01;
mod v02;
mod v1;

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Predicate type of v0.1.
pub const PROVENANCE_V01: &str = "https://slsa.dev/provenance/v0.1";
/// Predicate type of v0.2.
pub const PROVENANCE_V02: &str = "https://slsa.dev/provenance/v0.2";
/// Predicate type of v1 (1.0, 1.1 and 1.2 alike).
pub const PROVENANCE_V1: &str = "https://slsa.dev/provenance/v1";
/// Most materials of one statement: a build with 10,000 packages, and room.
pub const MATERIALS_MAX: usize = 16_384;
/// Longest build type, builder or invocation identity: they are URIs.
pub const IDENTITY_BYTES_MAX: usize = 2048;

/// What can be wrong with a provenance predicate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvenanceError {
    /// Another predicate type.
    #[error("expected predicate type {PROVENANCE_V1} (or v0.2, v0.1), found {0:?}")]
    PredicateType(String),
    /// Not the JSON of this version.
    #[error("expected SLSA provenance {version}: {reason}")]
    Json {
        /// `v1`, `v0.2` or `v0.1`.
        version: &'static str,
        /// What the parser expected and found.
        reason: String,
    },
    /// A mandatory identity is empty or too long.
    #[error("expected {field} of 1 to {IDENTITY_BYTES_MAX} bytes, found {found}")]
    Identity {
        /// Which field.
        field: &'static str,
        /// How many bytes it has.
        found: usize,
    },
    /// More than [`MATERIALS_MAX`].
    #[error("expected at most {MATERIALS_MAX} materials, found {0}")]
    Materials(usize),
}

/// Which version a provenance was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProvenanceVersion {
    /// v0.1
    V01,
    /// v0.2
    V02,
    /// v1
    V1,
}

/// Something that went into the build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Where it comes from; empty where only a name is given.
    pub uri: String,
    /// Its digests by algorithm, as written.
    pub digest: BTreeMap<String, String>,
}

/// A provenance predicate of any version, in the words of v1.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// The version it was written in.
    pub version: ProvenanceVersion,
    /// `buildDefinition.buildType`; v0.1: `recipe.type`.
    pub build_type: String,
    /// `externalParameters`; v0.2: `invocation.parameters`; v0.1: `recipe.arguments`. Null if
    /// absent.
    pub external_parameters: Value,
    /// `internalParameters`; v0.2: `invocation.environment`; v0.1: `recipe.environment`.
    pub internal_parameters: Value,
    /// `resolvedDependencies`; before v1: `materials`, with the configuration's source.
    pub materials: Vec<Material>,
    /// `runDetails.builder.id`.
    pub builder_id: String,
    /// `runDetails.builder.version`: versions of the builder's parts. Only v1 has it.
    pub builder_version: BTreeMap<String, Value>,
    /// `runDetails.metadata.invocationId`; before v1: `metadata.buildInvocationId`.
    pub invocation_id: Option<String>,
}

/// True for a predicate type that [`Provenance::parse`] reads.
pub fn is_provenance(predicate_type: &str) -> bool {
    [PROVENANCE_V01, PROVENANCE_V02, PROVENANCE_V1].contains(&predicate_type)
}

impl Provenance {
    /// Reads a predicate of one of the three versions.
    pub fn parse(predicate_type: &str, predicate: &Value) -> Result<Self, ProvenanceError> {
        let read = match predicate_type {
            PROVENANCE_V1 => v1::read(predicate)?,
            PROVENANCE_V02 => v02::read(predicate)?,
            PROVENANCE_V01 => v01::read(predicate)?,
            other => {
                return Err(ProvenanceError::PredicateType(other.chars().take(200).collect()));
            }
        };
        for (field, text) in [("buildType", &read.build_type), ("builder.id", &read.builder_id)] {
            if !(1..=IDENTITY_BYTES_MAX).contains(&text.len()) {
                return Err(ProvenanceError::Identity { field, found: text.len() });
            }
        }
        if let Some(id) = read.invocation_id.as_ref().filter(|id| id.len() > IDENTITY_BYTES_MAX) {
            return Err(ProvenanceError::Identity { field: "invocationId", found: id.len() });
        }
        if read.materials.len() > MATERIALS_MAX {
            return Err(ProvenanceError::Materials(read.materials.len()));
        }
        Ok(read)
    }
}

/// A material as every version writes it; v1 has more fields, which name no content.
#[derive(Deserialize)]
struct WireMaterial {
    #[serde(default)]
    uri: Option<String>,
    #[serde(default)]
    digest: Option<BTreeMap<String, String>>,
}

impl From<WireMaterial> for Material {
    fn from(wire: WireMaterial) -> Self {
        Self { uri: wire.uri.unwrap_or_default(), digest: wire.digest.unwrap_or_default() }
    }
}

#[derive(Deserialize)]
struct WireBuilder {
    id: String,
    #[serde(default)]
    version: Option<BTreeMap<String, Value>>,
}

fn decode<T: serde::de::DeserializeOwned>(
    version: &'static str,
    predicate: &Value,
) -> Result<T, ProvenanceError> {
    T::deserialize(predicate).map_err(|error| {
        let reason = error.to_string().chars().take(200).collect();
        ProvenanceError::Json { version, reason }
    })
}

fn materials(wire: Option<Vec<WireMaterial>>) -> Vec<Material> {
    wire.unwrap_or_default().into_iter().map(Material::from).collect()
}

#[cfg(test)]
mod tests;
