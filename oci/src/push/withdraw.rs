//! Takes attestations of ours away again: what they said does not hold any more.
//!
//! Invariant: as in [`super`]: only ours go, as the caller decides from their bytes. The tag stops
//! naming them before they are deleted, so that nobody is led to what is gone. It must never leave
//! "could not be deleted" unsaid: a verifier that finds the bundle would still believe it.

use super::{About, Standing, Supersedes, rewrite_tag, superseded};
use crate::{destination::Destination, error::Error, registry::Deleted};
use attest::{Digest, Repository};

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Manifests that are gone.
    pub removed: Vec<Digest>,
    /// Manifests that the registry does not delete: it lists them still, where it has the API.
    pub left: Vec<Digest>,
}

/// Removes the bundles about `subject` of which `ours` says so.
pub async fn withdraw_bundles(
    destination: &Destination,
    repository: &Repository,
    subject: &Digest,
    ours: Supersedes<'_>,
) -> Result<Withdrawn, Error> {
    let about = About { repository, subject };
    let source = destination.source()?;
    let standing = Standing::read(&source, about).await?;
    let old = superseded(&source, about, &standing.all(), None, ours).await?;
    if old.is_empty() {
        return Ok(Withdrawn::default());
    }
    if standing.tag_names(&old) {
        rewrite_tag(destination, about, None, &old).await?;
    }
    let mut withdrawn = Withdrawn::default();
    for digest in old {
        match destination.delete(repository, &digest).await? {
            Deleted::Done | Deleted::Missing => withdrawn.removed.push(digest),
            Deleted::Unsupported => withdrawn.left.push(digest),
        }
    }
    Ok(withdrawn)
}
