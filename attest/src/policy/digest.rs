//! The identity of a policy: SHA-256 of its canonical form.
//!
//! Invariant: contents of key files are inlined and paths left out, so two files with the same
//! meaning have the same digest; whatever can change a decision changes it. It must gain a field
//! with every field of the policy (the tests change each one).

use super::{GatePolicy, KeySource, Policy, Quorum, SignerRule, WaiverTarget};
use crate::{Digest, canonical, key::PublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

pub(super) fn of(policy: &Policy) -> Digest {
    let value = json!({
        "schema": "assay/policy/v1",
        "publishers": sorted(policy.publishers.iter().map(publisher).collect()),
        // The first rule that matches a URL decides: their order is meaning.
        "package_repositories":
            policy.package_repositories.iter().map(package_repository).collect::<Vec<_>>(),
        "registries": sorted(policy.registries.iter().map(registry).collect()),
        "mirrors": policy.mirrors.iter().map(mirror).collect::<Vec<_>>(),
        "operators": sorted(policy.operators.iter().map(operator).collect()),
        "quorum": policy.quorum.as_ref().map(quorum),
        "coordinator": policy.coordinator.as_ref().map(key),
        "log": log(policy),
        "gate": gate(&policy.gate),
        "overrides": policy.overrides.iter().map(override_).collect::<Vec<_>>(),
        "waivers": sorted(policy.waivers.iter().map(waiver).collect()),
    });
    // Integers are bounded when the policy is read and every key is ASCII, so the canonical form
    // exists; were it not to, the same keys sorted by serde_json are as stable.
    let bytes = canonical::to_vec(&value).unwrap_or_else(|_| value.to_string().into_bytes());
    Digest::of(&bytes)
}

fn sorted(mut values: Vec<Value>) -> Value {
    values.sort_by_cached_key(Value::to_string);
    Value::Array(values)
}

fn key(key: &PublicKey) -> Value {
    STANDARD.encode(key.spki_der()).into()
}

fn publisher(publisher: &super::Publisher) -> Value {
    let signer = match &publisher.signer {
        SignerRule::Key(public) => json!({"key": key(public)}),
        SignerRule::Keyless { identity, issuer } => json!({"identity": identity, "issuer": issuer}),
    };
    let repositories = publisher.repositories.iter().map(|p| p.to_string().into()).collect();
    json!({
        "repositories": sorted(repositories),
        "signer": signer,
        "transparency": publisher.transparency,
    })
}

fn package_repository(repository: &super::PackageRepository) -> Value {
    let keys = match &repository.keys {
        KeySource::Discovery => json!("discovery"),
        KeySource::Files(files) => files
            .iter()
            .map(|(name, bytes)| json!({"name": name, "content": STANDARD.encode(bytes)}))
            .collect(),
    };
    let mut value = json!({
        "url": repository.url,
        "keys": keys,
        "pins": repository.pins,
        "complete": repository.complete,
    });
    // Younger fields are there only where they say something: policies without them keep the
    // identity that verdicts name already.
    if !repository.jwks_hosts.is_empty() {
        value["jwks_hosts"] = json!(repository.jwks_hosts);
    }
    if repository.archived {
        value["archived"] = true.into();
    }
    value
}

fn registry(registry: &super::RegistryException) -> Value {
    json!({
        "host": registry.host,
        "plain_http": registry.plain_http,
        "ca": registry.ca.as_ref().map(|pem| STANDARD.encode(pem)),
    })
}

fn mirror(mirror: &super::Mirror) -> Value {
    json!({"prefix": mirror.prefix, "url": mirror.url, "complete": mirror.complete})
}

fn operator(operator: &super::Operator) -> Value {
    let affiliations = operator.affiliations.iter().map(|a| a.as_str().into()).collect();
    json!({
        "name": operator.name,
        "root_key": key(&operator.root_key),
        "affiliations": sorted(affiliations),
    })
}

fn quorum(quorum: &Quorum) -> Value {
    let sources = quorum.dissent_sources.iter().map(|s| s.as_str().into()).collect();
    json!({
        "operators": quorum.operators,
        "reproduced": quorum.reproduced,
        "level": quorum.level,
        "tier": quorum.tier,
        "hints": quorum.hints,
        "dissent_sources": sorted(sources),
        "diversity": quorum.diversity,
    })
}

fn log(policy: &Policy) -> Value {
    let log = &policy.log;
    json!({
        "origin": log.origin,
        "key": log.key.as_ref().map(key),
        "inclusion": log.inclusion,
        "witnesses": log.witnesses,
        "full_scan": log.full_scan,
    })
}

fn gate(gate: &GatePolicy) -> Value {
    json!({
        "mode": gate.mode,
        "unknown": gate.unknown,
        "max_age_seconds": gate.max_age_seconds,
        "delay_until": gate.delay_until,
        "regressions_only": gate.regressions_only,
    })
}

fn override_(rule: &super::Override) -> Value {
    let repositories = rule.repositories.iter().map(|p| p.to_string().into()).collect();
    let platforms = rule.platforms.iter().map(|p| p.to_string().into()).collect();
    json!({
        "repositories": sorted(repositories),
        "platforms": sorted(platforms),
        "mode": rule.mode,
    })
}

fn waiver(waiver: &super::Waiver) -> Value {
    let image = match &waiver.target {
        WaiverTarget::Image { repository, digest } => format!("{repository}@{digest}"),
        WaiverTarget::Repositories(pattern) => pattern.to_string(),
    };
    json!({
        "image": image,
        "outcomes": waiver.outcomes,
        "reason": waiver.reason,
        "owner": waiver.owner,
        "expires": waiver.expires,
    })
}
