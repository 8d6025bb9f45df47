//! Publishes what was reproduced: a VSA in a Sigstore bundle, as an OCI referrer.
//!
//! Invariant: only a judgement that is `reproduced` can become an attestation (by type); everything
//! else is a signed record in the journal and the API and is never attached to an image. The target
//! is a repository or folder of ours unless the configuration says otherwise, and the publisher's
//! own attestations are never hidden. A registry that is away is tried again at the next judgement.

use super::Core;
use crate::{
    journal::{Kind, NewRecord},
    setup::config::PublishTarget,
};
use attest::{
    bundle::Bundle,
    bundle_write::key_bundle,
    evidence_set::EvidenceSet,
    id::JobId,
    verdict::Judgement,
    vsa::{VSA_V1, Verifier, Vsa},
};
use oci::{
    LayoutWriter, SourceOptions,
    destination::Destination,
    manifest::Descriptor,
    push::{BundlePush, Place, push_bundle},
    registry::Registry,
};
use std::sync::Arc;

/// Makes, keeps and pushes the attestation of a judged job.
pub async fn publish(core: &Arc<Core>, id: JobId, set: &EvidenceSet, judgement: &Judgement) {
    if let Err(problem) = attest_and_push(core, id, set, judgement).await {
        core.metrics.published("failed");
        tracing::error!(job.id = %id, %problem, "the attestation could not be published");
    }
}

async fn attest_and_push(
    core: &Arc<Core>,
    id: JobId,
    set: &EvidenceSet,
    judgement: &Judgement,
) -> Result<(), String> {
    let Some(reproduced) = judgement.reproduced() else { return Ok(()) };
    let config = &core.loaded.config;
    let verifier = Verifier {
        id: config.verifier_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        policy_uri: format!("{}/policy", config.verifier_id.trim_end_matches('/')),
    };
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let vsa = Vsa::of_image(&reproduced, &verifier, super::judge::now()).map_err(|e| text(&e))?;
    let key = &core.loaded.verdict_key;
    let envelope = vsa.sign(key).map_err(|e| text(&e))?;
    let bundle = key_bundle(&envelope, key.public()).map_err(|e| text(&e))?;
    let record = NewRecord::new(Kind::PUBLICATION, id.0, bundle.clone());
    core.store.append(vec![record]).await.map_err(|e| text(&e))?;
    match &config.publish {
        Some(target) => push(core, target, set, &bundle).await.map_err(|e| text(&e)),
        None => Ok(()),
    }
}

async fn push(
    core: &Core,
    target: &PublishTarget,
    set: &EvidenceSet,
    bundle: &[u8],
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let own = &set.subject.repository;
    let (repository, place, destination) = match target {
        PublishTarget::Sidecar { repository } => {
            let path = own.as_str().split_once('/').map_or(own.as_str(), |(_, path)| path);
            let repository = repository.replace("{repository}", path).parse()?;
            (repository, Place::Sidecar, registry(core))
        }
        PublishTarget::Beside => (own.clone(), Place::Publisher, registry(core)),
        PublishTarget::Folder { path } => {
            let writer = LayoutWriter::create(core.loaded.folder.join(path))?;
            let path = own.as_str().split_once('/').map_or(own.as_str(), |(_, path)| path);
            (path.parse()?, Place::Sidecar, Destination::Layout(writer))
        }
    };
    let media_type = media_type(&set.manifest);
    let subject = Descriptor::of(&media_type, &set.manifest);
    let request = BundlePush {
        repository: &repository,
        place,
        subject: &subject,
        bundle,
        predicate_type: VSA_V1,
        created: super::judge::now(),
    };
    let key = core.loaded.verdict_key.public().clone();
    // Only what our own key signed gives way to the new one.
    let ours = move |bundle: &[u8]| {
        Bundle::parse(bundle).is_ok_and(|bundle| bundle.envelope.verify(&key).is_ok())
    };
    let pushed = push_bundle(&destination, &request, &ours).await?;
    core.metrics.published("ok");
    tracing::info!(
        attestation.repository = %repository,
        attestation.manifest = %pushed.manifest,
        attestation.superseded = pushed.removed.len(),
        "attestation published"
    );
    Ok(())
}

fn registry(core: &Core) -> Destination {
    let network = super::intake::network(core);
    Destination::Registry(Registry::new(&SourceOptions { network, ..SourceOptions::default() }))
}

/// The manifest's own media type; OCI's where it names none.
fn media_type(manifest: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(manifest).ok();
    let named = value.as_ref().and_then(|v| v.get("mediaType")).and_then(|v| v.as_str());
    named.unwrap_or(oci::media::OCI_MANIFEST).to_owned()
}
