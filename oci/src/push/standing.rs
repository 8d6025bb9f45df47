//! What is said to be attached to an image, in both places where readers look for it.
//!
//! The referrers API where there is one, and the tag `sha256-<hex>` always (distribution-spec 1.1,
//! "Referrers Tag Schema"): a registry that got the API later, or lost it for a day, has bundles
//! under the tag that its API need not list, and clients of before the API read the tag alone.
//! Invariant: a place that cannot be read is an error, never "nothing stands there": whoever
//! withdraws must know. It must never be taken for evidence: each manifest has yet to be read.

use crate::{error::Error, manifest::Descriptor, source::ImageSource};
use attest::{Digest, Repository};
use std::collections::BTreeSet;

/// The repository that is written to, and the image or index that it is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) repository: &'a Repository,
    pub(super) subject: &'a Digest,
}

/// What stands where.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// What the API lists; none without one.
    pub(super) by_api: Option<Vec<Descriptor>>,
    /// What the tag names; in a layout also what its own index lists.
    by_tag: Vec<Descriptor>,
}

impl Standing {
    /// Asks both places.
    pub(super) async fn read(source: &ImageSource, about: About<'_>) -> Result<Self, Error> {
        let About { repository, subject } = about;
        let ImageSource::Registry(registry) = source else {
            let by_tag = source.referrers(repository, subject).await?;
            return Ok(Self { by_api: None, by_tag });
        };
        let by_api = registry.referrers_api(repository, subject).await?;
        let by_tag = registry.referrers_by_tag(repository, subject).await?;
        Ok(Self { by_api, by_tag })
    }

    /// Everything, each once.
    pub(super) fn all(&self) -> Vec<Descriptor> {
        let mut seen = BTreeSet::new();
        let both = self.by_api.iter().flatten().chain(&self.by_tag);
        both.filter(|listed| seen.insert(listed.digest)).cloned().collect()
    }

    /// Whether the tag names one of these.
    pub(super) fn tag_names(&self, manifests: &[Digest]) -> bool {
        self.by_tag.iter().any(|listed| manifests.contains(&listed.digest))
    }
}
