//! A dishonest worker's build: claims the published digests without building anything.
//!
//! It is what a lazy operator would run in place of `worker execute`; everything around it (lease,
//! signature, outbox) is the real worker's. That the fleet finds out is the point.

use crate::exit::Outcome as Exit;
use attest::{
    Digest,
    observation::{Builder, LayerHygieneFact, LayerOutput, Outcome, Output},
    recipe::Derivation,
};
use oci::ImageReference;
use std::io::Read;
use worker::{
    daemon::{child::Order, config::read_policy, observe::Draft},
    material::ContentStore,
    pipeline::{Signers, Workshop, examine::examine, published::fetch},
};

/// Reads an order, prints a draft that claims what is published.
pub async fn lie() -> Exit {
    let mut input = String::new();
    std::io::stdin().take(1 << 20).read_to_string(&mut input)?;
    let order: Order = serde_json::from_str(&input)?;
    let policy = std::sync::Arc::new(read_policy(&order.policy)?);
    let store = std::sync::Arc::new(ContentStore::open(&order.store, 1 << 30)?);
    let workshop = Workshop::new(policy, Signers::Policy, Vec::new(), store, order.work.clone())?;
    let root = order.index.unwrap_or(order.subject.digest);
    let reference: ImageReference = format!("{}@{root}", order.subject.repository).parse()?;
    let examined = examine(&workshop, &reference).await?;
    let mut draft = Draft::refused("not in the index");
    for platform in &examined.platforms {
        if platform.subject != order.subject {
            continue;
        }
        draft = match &platform.derivation {
            Derivation::Recipes { recipes, .. } => {
                let published = fetch(&workshop, &examined, platform)
                    .await
                    .map_err(|e| crate::exit::Failure::Operation(anyhow::anyhow!(e)))?;
                let digests: Vec<Digest> = recipes.iter().map(|r| r.digest()).collect();
                let mut draft = Draft::failed(Some(claim(&published.image)), None);
                draft.recipe = digests.first().copied();
                draft.recipes_tried.clone_from(&digests);
                draft.recipes = digests;
                let version = recipes.first().and_then(|r| r.version.clone());
                draft.builder = Some(Builder { name: "apko".to_owned(), version });
                let layers = published.image.layer_descriptors().iter();
                draft.hygiene =
                    layers.map(|_| LayerHygieneFact { clean: true, why: Vec::new() }).collect();
                draft
            }
            Derivation::NotRebuildable(gaps) => {
                Draft::failed(Some(Outcome::RecipeInvalid { gaps: gaps.clone() }), None)
            }
            Derivation::Untrusted { reason } => Draft::refused(reason.clone()),
        };
    }
    crate::output::json(&draft)?;
    Ok(0)
}

fn claim(image: &worker::pipeline::published::PublishedImage) -> Outcome {
    let config: serde_json::Value = serde_json::from_slice(&image.config_bytes).unwrap_or_default();
    let diff_id = |i: usize| {
        let text = config.pointer(&format!("/rootfs/diff_ids/{i}"))?.as_str()?;
        text.parse::<Digest>().ok()
    };
    let layers = image.layer_descriptors().iter().enumerate().map(|(i, layer)| LayerOutput {
        blob: Some(layer.digest),
        diff_id: diff_id(i).unwrap_or(layer.digest),
        size: layer.size,
    });
    Outcome::Output(Output {
        manifest: image.subject.digest,
        config: image.config_digest(),
        layers: layers.collect(),
        manifest_bytes: image.manifest_bytes.clone(),
        index: None,
    })
}
