//! One publication: what goes where, and the way there.
//!
//! Invariant: what does not count any more (another job about the digest was submitted later, and
//! published) changes no attestation. Pushing the same publication again changes nothing (its bytes
//! and its time are those of the journal's record), so a crash between the push and the record of it
//! does no harm. What gives way is what our own key signed about this repository, nothing else.
//! Evidence is attached to repositories of ours only, never beside the publisher's image.

use super::{
    attestation::{attestation, statement, submitted},
    error::PublishError,
    indexes, speaks,
    target::{self, Target, TargetError},
};
use crate::{
    daemon::{Core, evidence, signers::Signers},
    journal::{Kind, NewRecord, Stored},
    setup::config::PublishTarget,
    store::{Pushed, StoreError},
};
use attest::{
    Digest, Platform, Repository,
    bundle::Bundle,
    evidence_set::EvidenceSet,
    id::{JobId, JournalPosition},
    time::Timestamp,
    vsa::VSA_V1,
};
use oci::{BundlePush, Descriptor, ErrorKind, Place, attached, push_bundle, withdraw_bundles};

/// Why a publication did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// What is to be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Where it goes.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The registry or the folder.
    #[error("{0}; {hint}", hint = .0.hint())]
    Oci(#[from] oci::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing is known of what it is about.
    #[error("expected a job or an image's index behind the publication at {0}, found neither")]
    Unknown(u64),
}

impl DeliveryError {
    /// True if the other side did not answer, so that nothing else goes there now either.
    pub fn host_is_away(&self) -> bool {
        let kind = match self {
            Self::Oci(error) => error.kind(),
            _ => return false,
        };
        matches!(kind, ErrorKind::Unavailable | ErrorKind::Truncated)
    }
}

/// What is to be published, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the publication is about, as the journal names it.
    pub about: Digest,
    /// The publication's record.
    pub position: JournalPosition,
    /// When it was made.
    pub made: Timestamp,
    /// The image's repository.
    pub repository: Repository,
    /// The image or the index.
    pub subject: Descriptor,
    /// Its platform; none for an index.
    pub platform: Option<Platform>,
    /// Where it goes.
    pub target: Target,
    /// The attestation; none where none stands.
    pub attestation: Option<Vec<u8>>,
    /// The evidence that is attached with it.
    pub evidence: Option<EvidenceSet>,
}

impl Plan {
    /// Evidence goes to repositories of ours only.
    pub fn attaches_evidence(&self) -> bool {
        self.evidence.is_some() && self.target.place == Place::Sidecar
    }
}

/// Reads what a publication is about.
pub fn plan(core: &Core, target: &PublishTarget, stored: &Stored) -> Result<Plan, DeliveryError> {
    let about = stored.about;
    let body = attestation(&stored.body).map(<[u8]>::to_vec);
    let plan = |repository: Repository,
                subject: Descriptor,
                platform: Option<Platform>,
                evidence: Option<EvidenceSet>|
     -> Result<Plan, DeliveryError> {
        let target = Target::of(target, &repository)?;
        let (position, made) = (stored.position, stored.time);
        let attestation = body.clone();
        let plan = Plan {
            about,
            position,
            made,
            repository,
            subject,
            platform,
            target,
            attestation,
            evidence,
        };
        Ok(plan)
    };
    let unknown = || DeliveryError::Unknown(stored.position.0);
    if core.store.job(&JobId(about))?.is_some() {
        let set = evidence::set_of(core, &JobId(about)).map_err(PublishError::from)?;
        let set = set.ok_or_else(unknown)?;
        let subject = Descriptor::of(&media_type(&set.manifest), &set.manifest);
        let (repository, platform) = (set.subject.repository.clone(), set.subject.platform.clone());
        return plan(repository, subject, Some(platform), Some(set));
    }
    let (_, image) = submitted(core, &about)?.ok_or_else(unknown)?;
    let bytes = indexes::bytes_of(core, &image)?.ok_or_else(unknown)?;
    let subject = Descriptor::of(&media_type(&bytes), &bytes);
    plan(image.repository, subject, None, None)
}

/// Whether this publication is the word that counts on its digest. Of several jobs about one digest
/// only that of the one that was submitted last attests, and withdraws.
fn counts(core: &Core, plan: &Plan) -> Result<bool, StoreError> {
    if plan.platform.is_none() {
        return Ok(true);
    }
    let spoken = speaks::about(core, &plan.repository, &plan.subject.digest)?;
    Ok(spoken.is_none_or(|spoken| spoken.position == plan.position))
}

/// Brings one publication where it goes, and keeps a record of it.
pub async fn deliver(
    core: &Core,
    target: &PublishTarget,
    plan: &Plan,
) -> Result<Pushed, DeliveryError> {
    let destination = target::destination(core, target)?;
    let (repository, subject) = (&plan.target.repository, &plan.subject);
    let ours = |bundle: &[u8]| is_ours(bundle, &core.signers, &plan.repository);
    let (attested, gone) = match &plan.attestation {
        _ if !counts(core, plan)? => (None, 0),
        Some(bundle) => {
            let push = BundlePush {
                repository,
                place: plan.target.place,
                subject,
                bundle,
                predicate_type: VSA_V1,
                created: plan.made,
            };
            let pushed = push_bundle(&destination, &push, &ours).await?;
            warn_of_what_is_left(plan, &pushed.left);
            (Some(pushed.manifest), pushed.removed.len())
        }
        None => {
            let gone = withdraw_bundles(&destination, repository, &subject.digest, &ours).await?;
            warn_of_what_is_left(plan, &gone.left);
            (None, gone.removed.len())
        }
    };
    let evidence = match &plan.evidence {
        Some(set) if plan.attaches_evidence() => {
            Some(attached::attach(&destination, repository, subject, set.clone()).await?)
        }
        _ => None,
    };
    let pushed = Pushed::new(plan.position, repository.clone(), attested, evidence);
    let record = NewRecord::new(Kind::PUSHED, plan.about, pushed.to_json());
    core.store.append(vec![record]).await?;
    core.metrics.published("ok");
    tracing::info!(
        image.repository = %plan.repository,
        image.digest = %subject.digest,
        attestation.repository = %plan.target,
        attestation.manifest = %attested.map_or_else(|| "none".to_owned(), |d| d.to_string()),
        attestation.superseded = gone,
        "published"
    );
    Ok(pushed)
}

/// Our own attestation about this repository, also by a key that we had before.
fn is_ours(bundle: &[u8], signers: &Signers, repository: &Repository) -> bool {
    let signed = Bundle::parse(bundle).is_ok_and(|bundle| signers.signed(&bundle.envelope));
    signed
        && statement(bundle).is_some_and(|statement| {
            statement.predicate_type == VSA_V1
                && statement.subject.iter().all(|subject| subject.name == repository.as_str())
        })
}

fn warn_of_what_is_left(plan: &Plan, left: &[Digest]) {
    for manifest in left {
        tracing::error!(
            image.repository = %plan.repository,
            image.digest = %plan.subject.digest,
            attestation.repository = %plan.target,
            attestation.manifest = %manifest,
            "an attestation that does not hold any more could not be deleted: allow deletion in \
             that registry, or delete it there; until then verifiers may still accept it"
        );
    }
}

/// The manifest's own media type; OCI's where it names none.
fn media_type(manifest: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(manifest).ok();
    let named = value.as_ref().and_then(|v| v.get("mediaType")).and_then(|v| v.as_str());
    let is_index = value.as_ref().is_some_and(|v| v.get("manifests").is_some());
    let default = if is_index { oci::media::OCI_INDEX } else { oci::media::OCI_MANIFEST };
    named.unwrap_or(default).to_owned()
}
