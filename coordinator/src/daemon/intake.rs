//! From a reference to jobs: resolve once, fetch the evidence, derive the recipes, announce.
//!
//! Invariant: a tag is resolved to a digest once, and from there on only digests count; what could
//! not be fetched is an error and announces nothing. Everything that a later judgement rests on is
//! in the journal before the job is.

use super::{
    Core,
    evidence::{self, SubmittedImage, SubmittedPlatform},
    notary::{self, AnnouncedFacts},
    publish::indexes,
    resources,
};
use crate::{
    journal::{GROUP_BYTES_MAX, Kind, NewRecord},
    queue::{Class, Event, JobSpec, Reply, SpecError, Tenant, registry_of},
    store::{StoreError, nothing},
};
use attest::{
    Digest, Subject,
    evidence_set::{EvidenceSet, EvidenceSetError},
    id::JobId,
    policy::Source,
    recipe::{Derivation, Recipe, derive},
    trust::{self, judge_evidence},
};
use oci::{
    Discovery, HostException, Image, ImageReference, ImageSource, NetworkPolicy, SourceOptions,
    Target, discover_image,
};
use std::{sync::Arc, time::Duration};

/// Largest image configuration that is kept with the evidence.
const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Most bytes of one platform's evidence: an announcement is one group of the journal, with room for
/// its signed record and the offers that follow at once.
const EVIDENCE_BYTES_MAX: usize = GROUP_BYTES_MAX - (1 << 20);
/// How long a submission waits for the judgement of what cannot be rebuilt.
const JUDGEMENT_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a registry gets no offers after it refused for too many requests, when it did not say
/// for how long: a minute.
const THROTTLED_MS: u64 = 60_000;

/// Why an image was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The registry, or the image.
    #[error(transparent)]
    Image(#[from] oci::Error),
    /// An index of nothing, or of attestations alone.
    #[error(
        "expected an image of at least one platform, found none in {0}: nothing can be rebuilt"
    )]
    NoPlatform(String),
    /// Only registries can be fetched by workers elsewhere.
    #[error("expected an image in a registry, found {0:?}: workers elsewhere cannot read a folder")]
    Layout(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceSetError),
    /// More than one group of the journal holds.
    #[error(
        "expected at most {EVIDENCE_BYTES_MAX} bytes of evidence for one platform, found {found}"
    )]
    TooMuchEvidence {
        /// How much there is.
        found: usize,
    },
    /// The policy asks for what this version cannot check.
    #[error(transparent)]
    Policy(#[from] attest::policy::PolicyError),
}

/// The exceptions of the policy's `[[registry]]` tables.
pub fn network(core: &Core) -> NetworkPolicy {
    let hosts = core.loaded.policy.registries.iter().map(|registry| HostException {
        host: registry.host.clone(),
        plain_http: registry.plain_http,
        ca_pem: registry.ca.as_ref().map(|pem| String::from_utf8_lossy(pem).into_owned()),
    });
    NetworkPolicy { hosts: hosts.collect() }
}

/// An image that was taken in.
#[derive(Debug)]
pub struct Taken {
    /// The image, and its jobs.
    pub image: SubmittedImage,
    /// Those of them that can be judged at once, by the publisher's evidence alone.
    pub due: Vec<JobId>,
}

/// Takes an image in, and gives its jobs. A registry that says "too many requests" even after the
/// waits that it asked for is left alone by the whole fleet for a while.
pub async fn submit(
    core: &Arc<Core>,
    reference: &ImageReference,
    tenant: Tenant,
    class: Class,
) -> Result<Taken, IntakeError> {
    let tag = match reference {
        ImageReference::Registry { target: Target::Tag(tag), .. } => Some(tag.to_string()),
        _ => None,
    };
    submit_as(core, reference, tag, tenant, class).await
}

/// The same for a caller who knows under which tag it saw the image.
pub async fn submit_as(
    core: &Arc<Core>,
    reference: &ImageReference,
    tag: Option<String>,
    tenant: Tenant,
    class: Class,
) -> Result<Taken, IntakeError> {
    let taken = take_in(core, reference, tag, tenant, class).await;
    if let Err(IntakeError::Image(error)) = &taken
        && let oci::Error::Unavailable { status: Some(429), retry_after, .. } = error
        && let ImageReference::Registry { repository, .. } = reference
    {
        let asked = retry_after.map(|asked| u64::try_from(asked.as_millis()).unwrap_or(u64::MAX));
        let retry_after_ms = asked.unwrap_or(THROTTLED_MS);
        let registry = registry_of(repository).to_owned();
        core.store.act(Event::Throttled { registry, retry_after_ms }, nothing()).await?;
    }
    taken
}

async fn take_in(
    core: &Arc<Core>,
    reference: &ImageReference,
    tag: Option<String>,
    tenant: Tenant,
    class: Class,
) -> Result<Taken, IntakeError> {
    if matches!(reference, ImageReference::Layout { .. }) {
        return Err(IntakeError::Layout(reference.to_string()));
    }
    let options = SourceOptions { network: network(core), ..SourceOptions::default() };
    let place = ImageSource::open(reference, &options)?;
    let image = Image::read(&place, reference).await?;
    let repository = image.repository().clone();
    if image.entries.is_empty() {
        return Err(IntakeError::NoPlatform(format!("{repository}@{}", image.digest())));
    }
    core.loaded.policy.refuse_unsupported(Source::Registry, &repository)?;
    let discovery = discover_image(&place, &image).await?;
    let (mut jobs, mut judged_next) = (Vec::new(), Vec::new());
    for entry in &image.entries {
        let subject = image.subject(entry);
        let set = base_set(&place, &image, &subject, &discovery).await?;
        let (job, due) = announce(core, &image, subject, set, &tenant, class).await?;
        judged_next.extend(due.then_some(job));
        jobs.push(SubmittedPlatform { entry: u32::try_from(entry.position).unwrap_or(0), job });
    }
    let submitted = keep(core, &image, jobs, tag).await?;
    if image.index.is_some() {
        // Its platforms may have been judged in another index of the repository already.
        indexes::consider(core, &submitted.repository, &submitted.digest).await;
    }
    core.announce_change();
    Ok(Taken { image: submitted, due: judged_next })
}

/// Keeps what was submitted: the image, the way to it from its jobs, and the index as published.
async fn keep(
    core: &Arc<Core>,
    image: &Image,
    jobs: Vec<SubmittedPlatform>,
    tag: Option<String>,
) -> Result<SubmittedImage, IntakeError> {
    let store = core.store.as_ref();
    let (repository, digest) = (image.repository().clone(), image.digest());
    let about = evidence::about_image(&repository, &digest);
    let newest = store.newest_about(Kind::EVIDENCE, &about)?;
    // Asked for by digest, it keeps the tag that was known.
    let known = newest.as_ref().and_then(|n| serde_json::from_slice(&n.body).ok());
    let tag = tag.or_else(|| known.and_then(|known: SubmittedImage| known.tag));
    let submitted = SubmittedImage { repository, digest, jobs, tag };
    let body = serde_json::to_vec(&submitted).unwrap_or_default();
    let mut reached = true;
    for platform in &submitted.jobs {
        let of = evidence::about_submissions(&platform.job);
        reached &= store.newest_about(Kind::EVIDENCE, &of)?.is_some();
    }
    let mut records = evidence::documents(store, image)?;
    if !reached || newest.is_none_or(|stored| stored.body != body) {
        records.push(NewRecord::new(Kind::EVIDENCE, about, body));
        records.extend(evidence::submissions(&submitted, image.index.is_some()));
        for platform in &submitted.jobs {
            records.extend(said_again(core, &platform.job)?);
        }
    }
    if !records.is_empty() {
        store.append(records).await?;
        core.publishing.wake.notify_one();
    }
    Ok(submitted)
}

/// What a job published, once more: it speaks for its digest again (the evidence is what it was
/// before), and another job published something after it.
fn said_again(core: &Core, job: &JobId) -> Result<Option<NewRecord>, StoreError> {
    let store = core.store.as_ref();
    let Some(said) = store.newest_about(Kind::PUBLICATION, &job.0)? else { return Ok(None) };
    let Some(known) = store.job(job)? else { return Ok(None) };
    let subject = &known.spec.subject;
    for other in store.jobs_of(&subject.repository, &subject.digest)? {
        let newest = store.newest_about(Kind::PUBLICATION, &other.0)?;
        if newest.is_some_and(|newest| newest.position > said.position) {
            return Ok(Some(NewRecord::new(Kind::PUBLICATION, job.0, said.body)));
        }
    }
    Ok(None)
}

/// The published image and what the publisher attached to it.
async fn base_set(
    place: &ImageSource,
    image: &Image,
    subject: &Subject,
    discovery: &Discovery,
) -> Result<EvidenceSet, IntakeError> {
    let manifest = place.manifest(&subject.repository, &subject.digest).await?;
    let what = format!("manifest {subject}");
    let parsed =
        oci::manifest::read_image_manifest(&manifest.bytes, Some(&manifest.media_type), &what)?;
    let config = place.blob(&subject.repository, &parsed.config, CONFIG_BYTES_MAX).await?;
    let mut set = EvidenceSet::new(Source::Registry, subject.clone(), manifest.bytes);
    set.index = image.index.as_ref().map(|_| image.root.bytes.clone());
    set.config = Some(config);
    let about = [subject.digest, image.digest()];
    set.publisher =
        discovery.evidence.iter().filter(|e| about.contains(&e.attached_to)).cloned().collect();
    set.sort();
    Ok(set)
}

/// The job, and whether it is due for judgement at once.
async fn announce(
    core: &Arc<Core>,
    image: &Image,
    subject: Subject,
    set: EvidenceSet,
    tenant: &Tenant,
    class: Class,
) -> Result<(JobId, bool), IntakeError> {
    let index = image.index.as_ref().map(|_| image.digest());
    let policy = &core.loaded.policy;
    let signers = trust::Signers::Policy(policy, Source::Registry);
    let trust = judge_evidence(signers, &subject.repository, &set.publisher);
    let recipes: Vec<Digest> = match derive(&subject, index.as_ref(), &trust) {
        Derivation::Recipes { recipes, .. } => recipes.iter().map(Recipe::digest).collect(),
        Derivation::NotRebuildable(_) | Derivation::Untrusted { .. } => Vec::new(),
    };
    let config = &core.loaded.config;
    let cap = config.limits.execution_seconds_max * 1000;
    let memory = resources::memory_mib(&set.manifest);
    let spec = JobSpec::new(subject, recipes, "apko", memory, config.observations_wanted, cap)?;
    let (id, settled) = (spec.id, spec.recipes.is_empty());
    let facts = AnnouncedFacts {
        index,
        evidence: set.publisher.iter().map(|e| e.digest).collect(),
        reopened_by: Vec::new(),
    };
    let pieces = evidence::pieces(&id, &set)?;
    let found = pieces.iter().map(|piece| piece.body.len()).sum::<usize>();
    if found > EVIDENCE_BYTES_MAX {
        return Err(IntakeError::TooMuchEvidence { found });
    }
    let shared = Arc::clone(core);
    let attach = Box::new(move |job: &crate::queue::Job| {
        let announce =
            notary::announcement(job, &facts, &shared.loaded.verdict_key, super::wall::now());
        let announce = announce.map(|body| NewRecord::new(Kind::ANNOUNCE, job.spec.id.0, body));
        pieces.into_iter().chain(announce).collect()
    });
    let event = Event::Announce { spec, tenant: tenant.clone(), class };
    let reply = core.store.act(event, attach).await?;
    // Nothing can be rebuilt: the judgement follows from the publisher's evidence alone
    // (`Due::NoRecipe`), and whoever submits should find it.
    Ok((id, settled && matches!(reply, Reply::Announced { opened: true, .. })))
}

/// Waits until jobs are judged, a little, however many there are: judging is the judge's, and once
/// for each time that it is due.
pub async fn await_judgements(core: &Core, jobs: &[JobId]) {
    let mut changes = core.changed.subscribe();
    let judged = async {
        for id in jobs {
            while matches!(core.store.job(id), Ok(Some(job)) if job.unfinished()) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }
    };
    // Too late for this answer: who asks again finds it.
    let _ = tokio::time::timeout(JUDGEMENT_WAIT_MAX, judged).await;
}
