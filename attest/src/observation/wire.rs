//! The bytes of an observation, both ways.
//!
//! ```text
//! OUTPUT: payloadType application/vnd.in-toto+json, a Statement v1 with SLSA provenance v1
//!  subject[0]             name = repository, digest = the manifest that was BUILT
//!  buildDefinition        buildType urn:assay:rebuild:v1
//!    externalParameters   target oci://<repository>@<published digest>, platform, recipe
//!    internalParameters   everything else that the worker knows (struct Facts)
//!    resolvedDependencies the materials
//!  runDetails             builder.id = the operator's URI, version; invocationId = the lease
//!  assay_output           struct Output: digests, layers, the rebuilt manifest's bytes
//! else: payloadType application/vnd.assay.outcome+json
//!  {"schema":"assay/outcome/v1","target","platform","recipe","operator_uri","materials",
//!   "facts","result":{"outcome":"BUILD_FAILED",…}}
//! ```
//! Formats: in-toto Statement v1, SLSA provenance v1.2. Both are canonical JSON. Invariant: every
//! struct refuses unknown fields, and what is derived (subject, `invocationId`, `finishedOn`,
//! `version`) is compared by the caller, which encodes again what was decoded.

use super::{
    BUILD_TYPE, Builder, CacheState, Compared, Durations, Environment, Hint, LayerHygieneFact,
    Material, OUTCOME_SCHEMA, OUTCOME_TYPE, Observation, ObservationError, Outcome, Output,
    PROVENANCE_V1, Searched, Source,
};
use crate::{
    Digest, Platform, Subject, canonical,
    dsse::IN_TOTO,
    id::{Attempt, Fence, JobId, LeaseId, OperatorId, WorkerId},
    name::NameError,
    record::Random32,
    statement::{STATEMENT_V1, Statement, StatementSubject},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// [`Statement`] with this predicate, so that neither way goes through a tree.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Built {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<StatementSubject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    #[serde(rename = "buildDefinition")]
    build_definition: BuildDefinition,
    #[serde(rename = "runDetails")]
    run_details: RunDetails,
    assay_output: Output,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuildDefinition {
    #[serde(rename = "buildType")]
    build_type: String,
    #[serde(rename = "externalParameters")]
    external_parameters: ExternalParameters,
    #[serde(rename = "internalParameters")]
    internal_parameters: Facts,
    #[serde(rename = "resolvedDependencies")]
    resolved_dependencies: Vec<WireMaterial>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExternalParameters {
    target: String,
    platform: Platform,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipe: Option<Digest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunDetails {
    builder: RunBuilder,
    metadata: Metadata,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunBuilder {
    id: String,
    version: BuilderVersion,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuilderVersion {
    #[serde(rename = "assay-worker")]
    worker: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    #[serde(rename = "invocationId")]
    invocation_id: String,
    #[serde(rename = "finishedOn")]
    finished_on: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireMaterial {
    uri: String,
    digest: Sha256,
    annotations: MaterialAnnotations,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sha256 {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MaterialAnnotations {
    #[serde(default, rename = "assay_from", skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(rename = "assay_verified_by")]
    verified_by: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireOutcome {
    schema: String,
    target: String,
    platform: Platform,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipe: Option<Digest>,
    operator_uri: String,
    materials: Vec<WireMaterial>,
    facts: Facts,
    result: Outcome,
}

/// What both forms hold under the same names.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    job: JobId,
    attempt: Attempt,
    lease: LeaseId,
    fence: Fence,
    operator: OperatorId,
    worker: WorkerId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    recipes_tried: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    builder: Option<Builder>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    publisher: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    published_at: Option<Timestamp>,
    environment: Environment,
    inputs_missing: u32,
    hints: Vec<Hint>,
    searched: Vec<Searched>,
    hygiene: Vec<LayerHygieneFact>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compared: Option<Compared>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    explanation: Option<Digest>,
    cache: CacheState,
    durations: Durations,
    observed_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_mac: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r32: Option<Random32>,
}

/// The published image as a URI, the one form everywhere: `oci://<repository>@sha256:<hex>`.
pub(crate) fn target(subject: &Subject) -> String {
    format!("oci://{}@{}", subject.repository, subject.digest)
}

fn subject(target: &str, platform: Platform) -> Result<Subject, ObservationError> {
    let bad = || NameError {
        expected: "a target like oci://registry.example/team/app@sha256:<hex>",
        found: target.chars().take(200).collect(),
    };
    let (repository, digest) =
        target.strip_prefix("oci://").and_then(|rest| rest.split_once('@')).ok_or_else(bad)?;
    Ok(Subject { repository: repository.parse()?, digest: digest.parse()?, platform })
}

fn facts(observation: &Observation) -> Facts {
    let o = observation.clone();
    Facts {
        job: o.job,
        attempt: o.attempt,
        lease: o.lease,
        fence: o.fence,
        operator: o.operator,
        worker: o.worker,
        index: o.index,
        tag: o.tag,
        recipes_tried: o.recipes_tried,
        builder: o.builder,
        publisher: o.publisher,
        source: o.source,
        epoch: o.epoch,
        published_at: o.published_at,
        environment: o.environment,
        inputs_missing: o.inputs_missing,
        hints: o.hints,
        searched: o.searched,
        hygiene: o.hygiene,
        compared: o.compared,
        explanation: o.explanation,
        cache: o.cache,
        durations: o.durations,
        observed_at: o.observed_at,
        input_mac: o.input_mac,
        r32: o.r32,
    }
}

fn materials(materials: &[Material]) -> Vec<WireMaterial> {
    let wire = |material: &Material| WireMaterial {
        uri: material.uri.clone(),
        digest: Sha256 { sha256: material.digest.hex() },
        annotations: MaterialAnnotations {
            from: material.from.clone(),
            verified_by: material.verified_by.clone(),
        },
    };
    materials.iter().map(wire).collect()
}

/// The payload type and the canonical payload.
pub(super) fn encode(o: &Observation) -> Result<(&'static str, Vec<u8>), ObservationError> {
    let Outcome::Output(output) = &o.outcome else {
        let wire = WireOutcome {
            schema: OUTCOME_SCHEMA.to_owned(),
            target: target(&o.subject),
            platform: o.subject.platform.clone(),
            recipe: o.recipe,
            operator_uri: o.operator_uri.clone(),
            materials: materials(&o.materials),
            facts: facts(o),
            result: o.outcome.clone(),
        };
        return Ok((OUTCOME_TYPE, canonical::to_vec(&wire)?));
    };
    let predicate = Predicate {
        build_definition: BuildDefinition {
            build_type: BUILD_TYPE.to_owned(),
            external_parameters: ExternalParameters {
                target: target(&o.subject),
                platform: o.subject.platform.clone(),
                recipe: o.recipe,
            },
            internal_parameters: facts(o),
            resolved_dependencies: materials(&o.materials),
        },
        run_details: RunDetails {
            builder: RunBuilder {
                id: o.operator_uri.clone(),
                version: BuilderVersion { worker: o.environment.worker_version.clone() },
            },
            metadata: Metadata {
                invocation_id: format!("urn:assay:lease:{}", o.lease),
                finished_on: o.observed_at,
            },
        },
        assay_output: output.clone(),
    };
    let subject = StatementSubject::new(o.subject.repository.as_str(), &output.manifest);
    let built = Built {
        statement_type: STATEMENT_V1.to_owned(),
        subject: vec![subject],
        predicate_type: PROVENANCE_V1.to_owned(),
        predicate,
    };
    Ok((IN_TOTO, canonical::to_vec(&built)?))
}

fn fixed(field: &'static str, expected: &str, found: &str) -> Result<(), ObservationError> {
    if expected == found {
        return Ok(());
    }
    let found = found.chars().take(200).collect();
    Err(ObservationError::Fixed { field, expected: expected.to_owned(), found })
}

/// `observed_at` of either form, the rest skipped.
pub(super) fn observed_at(payload: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Times {
        observed_at: Timestamp,
    }
    #[derive(Deserialize)]
    struct Definition {
        #[serde(rename = "internalParameters")]
        facts: Times,
    }
    #[derive(Deserialize)]
    struct Predicate {
        #[serde(rename = "buildDefinition")]
        definition: Definition,
    }
    #[derive(Deserialize)]
    struct Either {
        predicate: Option<Predicate>,
        facts: Option<Times>,
    }
    let Either { predicate, facts } = serde_json::from_slice(payload).ok()?;
    Some(predicate.map(|p| p.definition.facts).or(facts)?.observed_at)
}

/// What the payload says. The caller compares it with its encoding.
pub(super) fn decode(payload_type: &str, payload: &[u8]) -> Result<Observation, ObservationError> {
    match payload_type {
        IN_TOTO => {
            // What is not exactly an observation is read once more, to say what it is instead.
            let predicate = match serde_json::from_slice::<Built>(payload) {
                Ok(built)
                    if built.predicate_type == PROVENANCE_V1
                        && built.predicate.build_definition.build_type == BUILD_TYPE =>
                {
                    built.predicate
                }
                _ => by_statement(payload)?,
            };
            let definition = predicate.build_definition;
            let parameters = definition.external_parameters;
            let target = subject(&parameters.target, parameters.platform)?;
            assemble(Parts {
                subject: target,
                recipe: parameters.recipe,
                operator_uri: predicate.run_details.builder.id,
                materials: definition.resolved_dependencies,
                facts: definition.internal_parameters,
                outcome: Outcome::Output(predicate.assay_output),
            })
        }
        OUTCOME_TYPE => {
            let wire: WireOutcome = serde_json::from_slice(payload)?;
            fixed("schema", OUTCOME_SCHEMA, &wire.schema)?;
            if matches!(wire.result, Outcome::Output(_)) {
                fixed("payloadType", IN_TOTO, payload_type)?;
            }
            assemble(Parts {
                subject: subject(&wire.target, wire.platform)?,
                recipe: wire.recipe,
                operator_uri: wire.operator_uri,
                materials: wire.materials,
                facts: wire.facts,
                outcome: wire.result,
            })
        }
        other => Err(ObservationError::PayloadType(other.chars().take(200).collect())),
    }
}

/// The same step by step, with an error for each.
fn by_statement(payload: &[u8]) -> Result<Predicate, ObservationError> {
    let statement = Statement::parse(payload)?;
    fixed("predicateType", PROVENANCE_V1, &statement.predicate_type)?;
    let definition = statement.predicate.get("buildDefinition");
    let build_type = definition.and_then(|d| d.get("buildType")?.as_str());
    fixed("buildType", BUILD_TYPE, build_type.unwrap_or_default())?;
    Ok(serde_json::from_value(statement.predicate)?)
}

struct Parts {
    subject: Subject,
    recipe: Option<Digest>,
    operator_uri: String,
    materials: Vec<WireMaterial>,
    facts: Facts,
    outcome: Outcome,
}

fn assemble(parts: Parts) -> Result<Observation, ObservationError> {
    let f = parts.facts;
    let material = |wire: WireMaterial| {
        Ok(Material {
            uri: wire.uri,
            digest: Digest::from_hex(&wire.digest.sha256)?,
            from: wire.annotations.from,
            verified_by: wire.annotations.verified_by,
        })
    };
    let materials = parts.materials.into_iter().map(material);
    Ok(Observation {
        subject: parts.subject,
        index: f.index,
        tag: f.tag,
        job: f.job,
        attempt: f.attempt,
        lease: f.lease,
        fence: f.fence,
        operator: f.operator,
        operator_uri: parts.operator_uri,
        worker: f.worker,
        recipe: parts.recipe,
        recipes_tried: f.recipes_tried,
        builder: f.builder,
        publisher: f.publisher,
        source: f.source,
        epoch: f.epoch,
        published_at: f.published_at,
        outcome: parts.outcome,
        environment: f.environment,
        materials: materials.collect::<Result<_, ObservationError>>()?,
        inputs_missing: f.inputs_missing,
        hints: f.hints,
        searched: f.searched,
        hygiene: f.hygiene,
        compared: f.compared,
        explanation: f.explanation,
        cache: f.cache,
        durations: f.durations,
        observed_at: f.observed_at,
        input_mac: f.input_mac,
        r32: f.r32,
    })
}
