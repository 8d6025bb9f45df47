//! Annotations: the configured ones, where the configuration comes from, when it was made.
//!
//! Invariant: a set value of apko wins over a configured one of the same name.

use crate::{
    apko::{
        behaviour::{Behaviour, Capability},
        config::ImageConfiguration,
    },
    go::time::{self, TimeError},
};
use std::collections::BTreeMap;

const CREATED: &str = "org.opencontainers.image.created";
const SOURCE: &str = "org.opencontainers.image.source";
const REVISION: &str = "org.opencontainers.image.revision";
pub(super) const TITLE: &str = "org.opencontainers.image.title";
pub(super) const VENDOR: &str = "org.opencontainers.image.vendor";

/// The annotations of a document; `vcs` if it names its source.
pub(super) fn annotations(
    config: &ImageConfiguration,
    behaviour: &Behaviour,
    created: i64,
    vcs: bool,
) -> Result<BTreeMap<String, String>, TimeError> {
    let mut annotations = config.annotations.clone();
    if vcs && let Some((source, revision)) = config.vcs_url.split_once('@') {
        annotations.insert(SOURCE.into(), source.into());
        annotations.insert(REVISION.into(), revision.into());
    }
    if behaviour.has(Capability::CreatedAnnotation) {
        annotations.insert(CREATED.into(), time::format(created)?);
    }
    Ok(annotations)
}
