//! The policy file as TOML has it, before anything is understood.
//!
//! Invariant: one struct a table, unknown keys refused everywhere; every value that is read
//! further keeps its place in the text, so that errors name the line.

use serde::Deserialize;
use toml::Spanned;

pub(super) type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WirePolicy {
    #[serde(default)]
    pub(super) publisher: Vec<Spanned<WirePublisher>>,
    #[serde(default)]
    pub(super) package_repository: Vec<Spanned<WirePackageRepository>>,
    #[serde(default)]
    pub(super) registry: Vec<WireRegistry>,
    #[serde(default)]
    pub(super) mirror: Vec<WireMirror>,
    #[serde(default)]
    pub(super) operator: Vec<WireOperator>,
    pub(super) quorum: Option<Spanned<WireQuorum>>,
    pub(super) coordinator: Option<WireCoordinator>,
    pub(super) log: Option<Spanned<WireLog>>,
    pub(super) gate: Option<Spanned<WireGate>>,
    #[serde(default, rename = "override")]
    pub(super) overrides: Vec<WireOverride>,
    #[serde(default)]
    pub(super) waiver: Vec<WireWaiver>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WirePublisher {
    pub(super) repositories: Spanned<Vec<Text>>,
    pub(super) key: Option<Text>,
    pub(super) identity: Option<Text>,
    pub(super) issuer: Option<Text>,
    pub(super) transparency: Option<Text>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum WireKeys {
    Word(String),
    Files(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WirePackageRepository {
    pub(super) url: Text,
    pub(super) keys: Option<Spanned<WireKeys>>,
    #[serde(default)]
    pub(super) pins: Vec<Text>,
    #[serde(default)]
    pub(super) complete: bool,
    #[serde(default)]
    pub(super) jwks_hosts: Vec<Text>,
    #[serde(default)]
    pub(super) archived: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireRegistry {
    pub(super) host: Text,
    #[serde(default)]
    pub(super) plain_http: bool,
    pub(super) ca: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireMirror {
    pub(super) prefix: Text,
    pub(super) url: Text,
    #[serde(default)]
    pub(super) complete: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireOperator {
    pub(super) name: Text,
    pub(super) root_key: Text,
    #[serde(default)]
    pub(super) affiliations: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireQuorum {
    pub(super) operators: Spanned<Vec<Text>>,
    pub(super) reproduced: Spanned<u32>,
    pub(super) level: Option<Text>,
    pub(super) tier: Option<Text>,
    #[serde(default)]
    pub(super) hints: Vec<Text>,
    #[serde(default)]
    pub(super) dissent_sources: Vec<Text>,
    #[serde(default)]
    pub(super) diversity: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireCoordinator {
    pub(super) key: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireLog {
    pub(super) origin: Option<Text>,
    pub(super) key: Option<Text>,
    pub(super) inclusion: Option<Text>,
    pub(super) witnesses: Option<Text>,
    pub(super) full_scan: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireGate {
    pub(super) mode: Option<Text>,
    pub(super) unknown: Option<Text>,
    pub(super) max_age: Option<Text>,
    pub(super) delay_until: Option<Text>,
    #[serde(default)]
    pub(super) regressions_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireOverride {
    pub(super) repositories: Spanned<Vec<Text>>,
    #[serde(default)]
    pub(super) platforms: Vec<Text>,
    pub(super) mode: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireWaiver {
    pub(super) image: Text,
    pub(super) outcomes: Spanned<Vec<Text>>,
    pub(super) reason: Text,
    pub(super) owner: Text,
    pub(super) expires: Text,
}
