//! What the building process does with an order: the pipeline, said as plain facts.
//!
//! Invariant: the outcome is the pipeline's; "could not fetch" leaves `outcome` empty, so that the
//! lease is given back instead of an answer being signed.

use super::{
    child::Order,
    config::read_policy,
    observe::{Draft, DraftMaterial},
};
use crate::{
    material::ContentStore,
    pipeline::{
        Signers, Workshop,
        attempt::{Answer, Attempt, Built},
        clues::Clues,
        examine::{Examined, ExaminedPlatform, examine},
        progress::Silent,
        published::{self, Fetched},
        verify,
    },
};
use attest::{
    Digest,
    observation::{
        Builder, Compared, Durations, Hint, LayerHygieneFact, LayerOutput, Outcome, Output,
        Refusal, Searched, Source,
    },
    recipe::{Derivation, Recipe},
};
use oci::ImageReference;
use std::{sync::Arc, time::Instant};

/// Longest reason of one layer that is carried.
const WHY_CHARS_MAX: usize = 300;

/// Does what the order says.
pub async fn draft(order: &Order) -> Draft {
    match prepared(order).await {
        Ok((workshop, examined)) => judge(order, &workshop, &examined).await,
        Err(problem) => Draft::failed(None, Some(problem)),
    }
}

async fn prepared(order: &Order) -> Result<(Workshop, Examined), String> {
    let policy = read_policy(&order.policy).map_err(|e| e.to_string())?;
    let store = ContentStore::open(&order.store, order.store_mib_max << 20);
    let store = Arc::new(store.map_err(|e| e.to_string())?);
    store.evict().map_err(|e| e.to_string())?;
    let work = order.work.clone();
    let workshop = Workshop::new(Arc::new(policy), Signers::Policy, Vec::new(), store, work);
    let mut workshop = workshop.map_err(|e| e.to_string())?;
    workshop.threads = order.threads.max(1);
    workshop.alpine_releases.clone_from(&order.alpine_releases);
    let root = order.index.unwrap_or(order.subject.digest);
    let reference: ImageReference = format!("{}@{root}", order.subject.repository)
        .parse()
        .map_err(|e: oci::reference::ReferenceError| e.to_string())?;
    let examined = examine(&workshop, &reference).await.map_err(|e| e.to_string())?;
    Ok((workshop, examined))
}

async fn judge(order: &Order, workshop: &Workshop, examined: &Examined) -> Draft {
    let found = examined.platforms.iter().find(|p| p.subject == order.subject);
    let Some(platform) = found else {
        let detail = format!("the index does not list {} for judging", order.subject);
        return Draft::refused(detail);
    };
    let recipes = match &platform.derivation {
        Derivation::Recipes { recipes, .. } => recipes,
        Derivation::NotRebuildable(gaps) => {
            return Draft::failed(Some(Outcome::RecipeInvalid { gaps: gaps.clone() }), None);
        }
        Derivation::Untrusted { reason } => {
            let (reason, detail) = (Refusal::Untrusted, line(reason));
            return Draft::failed(Some(Outcome::Refused { reason, detail }), None);
        }
    };
    let started = Instant::now();
    let published = match published::fetch(workshop, examined, platform).await {
        Ok(published) => published,
        Err(problem) => return Draft::failed(None, Some(problem)),
    };
    let fetched = started.elapsed().as_millis() as u64;
    let best = verify::attempts(workshop, &published, recipes, None, &Silent).await;
    match best {
        Some(attempt) => said(&attempt, recipes, &published, platform, fetched),
        None => Draft::failed(None, Some("no recipe was tried".to_owned())),
    }
}

fn said(
    attempt: &Attempt,
    recipes: &[Recipe],
    published: &Fetched,
    _: &ExaminedPlatform,
    fetched_ms: u64,
) -> Draft {
    let digests: Vec<Digest> = {
        let mut digests: Vec<Digest> = recipes.iter().map(Recipe::digest).collect();
        digests.sort_unstable();
        digests
    };
    let (outcome, problem) = outcome_of(&attempt.answer);
    let mut draft = Draft::failed(outcome, problem);
    draft.recipe = Some(attempt.recipe.digest());
    draft.recipes_tried = tried(&digests, attempt);
    draft.recipes = digests;
    let version = attempt.recipe.version.clone();
    draft.builder = Some(Builder { name: attempt.recipe.builder.to_string(), version });
    draft.publisher = Some(attempt.recipe.signer.clone());
    draft.source = source(&attempt.recipe);
    draft.epoch = attempt.epoch;
    draft.published_at = Clues::read(&published.image, 0).created;
    draft.materials = materials(attempt);
    draft.inputs_missing = u32::from(matches!(attempt.answer, Answer::InputGone(_)));
    draft.hints = attempt
        .hints
        .iter()
        .map(|h| Hint { name: h.name.to_owned(), decided: h.decided.clone() })
        .collect();
    draft.searched = attempt
        .searched
        .iter()
        .map(|s| Searched { flag: s.flag.clone(), value: s.value.clone() })
        .collect();
    draft.warm = attempt.materials.iter().any(|m| m.from == "the content store");
    draft.durations = Durations {
        fetch_ms: fetched_ms + (attempt.spent.fetch * 1000.0) as u64,
        build_ms: (attempt.spent.build * 1000.0) as u64,
        compare_ms: (attempt.spent.compare * 1000.0) as u64,
        cpu_ms: cpu_ms(),
    };
    if let Answer::Built(built) = &attempt.answer {
        add_comparison(&mut draft, built, published);
    }
    draft
}

/// The recipes up to the one that speaks: all, where none rebuilt the image.
fn tried(digests: &[Digest], attempt: &Attempt) -> Vec<Digest> {
    if attempt.level().is_reproduced() {
        let own = attempt.recipe.digest();
        digests.iter().copied().filter(|d| *d <= own).collect()
    } else {
        digests.to_vec()
    }
}

fn outcome_of(answer: &Answer) -> (Option<Outcome>, Option<String>) {
    let outcome = match answer {
        Answer::Built(built) => Outcome::Output(output(built)),
        Answer::RecipeInvalid(gaps) => Outcome::RecipeInvalid { gaps: gaps.clone() },
        Answer::InputGone(gap) => {
            let uri = gap.detail.split(' ').next().unwrap_or_default().to_owned();
            Outcome::InputUnavailable { gap: gap.clone(), uri }
        }
        Answer::BuildFailed { class, detail } => {
            Outcome::BuildFailed { class: class.clone(), detail: line(detail) }
        }
        Answer::Limit { limit, detail } => {
            Outcome::LimitExceeded { limit: limit.clone(), detail: line(detail) }
        }
        Answer::Operational(problem) => return (None, Some(problem.clone())),
    };
    (Some(outcome), None)
}

fn output(built: &Built) -> Output {
    let layers = built.image.layers.iter().map(|layer| LayerOutput {
        blob: layer.blob.map(|(digest, _)| digest),
        diff_id: layer.diff_id,
        size: layer.blob.map_or(layer.size, |(_, size)| size),
    });
    Output {
        manifest: built.image.manifest_digest(),
        config: built.image.config_digest(),
        layers: layers.collect(),
        manifest_bytes: built.image.manifest.clone(),
        index: None,
    }
}

fn add_comparison(draft: &mut Draft, built: &Built, published: &Fetched) {
    let descriptors = published.image.layer_descriptors();
    draft.hygiene = if built.hygiene().is_empty() {
        // Equal manifests: the layers are ours, byte for byte, and ours are clean.
        descriptors.iter().map(|_| LayerHygieneFact { clean: true, why: Vec::new() }).collect()
    } else {
        built
            .hygiene()
            .iter()
            .map(|h| LayerHygieneFact {
                clean: h.clean,
                why: h.why.iter().map(|w| line(&w.to_string())).collect(),
            })
            .collect()
    };
    let equal = |ours: &dyn Fn(usize) -> bool| {
        u32::try_from((0..descriptors.len()).filter(|i| ours(*i)).count()).unwrap_or(u32::MAX)
    };
    let layers = &built.image.layers;
    let blob = |i: usize| layers.get(i).and_then(|l| l.blob).map(|(digest, _)| digest);
    let diff_id = |i: usize| built.comparison.published.layers.get(i).and_then(|l| l.diff_id);
    draft.compared = Some(Compared {
        level: built.level(),
        layers_equal: equal(&|i| blob(i) == Some(descriptors[i].digest)),
        diff_ids_equal: equal(&|i| {
            diff_id(i).is_some() && layers.get(i).map(|l| l.diff_id) == diff_id(i)
        }),
        differences: built.comparison.explanation.differences,
    });
    if built.comparison.explanation.differences > 0
        && let Ok(bytes) = built.comparison.explanation.to_bytes()
    {
        draft.explanation = String::from_utf8_lossy(&bytes).into_owned();
    }
}

fn materials(attempt: &Attempt) -> Vec<DraftMaterial> {
    let one = |m: &crate::material::Material| DraftMaterial {
        uri: m.uri.clone(),
        digest: m.digest,
        from: (m.from != m.uri).then(|| m.from.clone()),
        verified_by: line(&m.verified_by),
    };
    attempt.materials.iter().map(one).collect()
}

/// `vcs-url` of the configuration: where its source is kept.
fn source(recipe: &Recipe) -> Option<Source> {
    let url = recipe.config.get("vcs-url")?.as_str().filter(|u| !u.is_empty())?;
    let (repository, commit) = match url.split_once('@') {
        Some((repository, commit)) => (repository, Some(commit.to_owned())),
        None => (url, None),
    };
    Some(Source { repository: repository.to_owned(), commit })
}

fn cpu_ms() -> u64 {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return 0 };
    let ms = |t: nix::sys::time::TimeVal| t.tv_sec() * 1000 + t.tv_usec() / 1000;
    u64::try_from(ms(usage.user_time()) + ms(usage.system_time())).unwrap_or(0)
}

/// One line without control characters, bounded.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WHY_CHARS_MAX).collect()
}
