//! Whose word on a digest counts, where several jobs are about it (the image's evidence changed,
//! or an index names it for two platforms).
//!
//! Invariant: of the jobs for one platform the one that was submitted last speaks, as soon as it
//! has published something; between platforms a denial counts before an attestation, because who
//! verifies an attestation compares digests only. The registry, HTTP and indexes ask here, so that
//! they say the same.

use super::attestation::attestation;
use crate::{
    daemon::{Core, evidence},
    journal::{Kind, Stored},
    store::StoreError,
};
use attest::{Digest, Repository, id::JournalPosition};
use std::collections::BTreeMap;

/// The publication that counts for a manifest of a repository; none if there is none at all.
pub fn about(
    core: &Core,
    repository: &Repository,
    manifest: &Digest,
) -> Result<Option<Stored>, StoreError> {
    let mut found = Vec::new();
    for job in core.store.jobs_of(repository, manifest)? {
        if let Some(publication) = core.store.newest_about(Kind::PUBLICATION, &job.0)? {
            found.push((job, publication));
        }
    }
    if found.len() < 2 {
        return Ok(found.pop().map(|(_, publication)| publication));
    }
    let mut newest: BTreeMap<String, (JournalPosition, Stored)> = BTreeMap::new();
    for (job, publication) in found {
        let Some(known) = core.store.job(&job)? else { continue };
        let at = evidence::submitted_at(core.store.as_ref(), &job)?;
        let platform = known.spec.subject.platform.to_string();
        if newest.get(&platform).is_none_or(|(before, _)| *before < at) {
            newest.insert(platform, (at, publication));
        }
    }
    // A denial before an attestation, then the newest.
    let rank = |stored: &Stored| (attestation(&stored.body).is_none(), stored.position);
    Ok(newest.into_values().map(|(_, stored)| stored).max_by_key(rank))
}
