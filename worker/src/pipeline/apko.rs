//! Rebuilds one platform under an apko recipe, and compares.
//!
//! The order of installation is the resolver's; the creation time is the packages'; the keys are the
//! discovered ones. Where the published image shows that its build chose otherwise among what the
//! recipe allows, that choice is followed as a hint and is on record; what matches only by a hint
//! that the policy does not allow is a gap.
//! Invariant: a hint permutes the attested packages, picks among proven keys or sets the time; it
//! can never bring in a byte. Where the provenance names no version, versions are tried, and none
//! that fits is a gap. What is built is written to files of this attempt and to nothing else.

mod answers;
mod build;
mod inputs;

use super::{
    Workshop,
    attempt::{Answer, Attempt, Built, FoundFlag},
    clues::Clues,
    hints::{self, Allowed},
    keep::{self, BuiltFiles},
    progress::Progress,
    published::Fetched,
};
use attest::recipe::Recipe;
use build::Job;
use inputs::{configuration, gather};
use rebuild::{
    apko::Behaviour,
    compare::{Comparison, Options, Searched, compare},
};
use std::{path::Path, sync::Arc, time::Instant};

/// What a panic says where the system gave no thread (EAGAIN).
pub(crate) const NO_THREAD: &str = "Resource temporarily unavailable";

/// Rebuilds under one recipe and compares; what was built stays in `keep`. Never fails: what went
/// wrong is the answer.
pub async fn attempt(
    workshop: &Workshop,
    published: &Fetched,
    recipe: &Recipe,
    keep: Option<&Path>,
    progress: &dyn Progress,
) -> Attempt {
    let mut attempt = Attempt::ended(recipe.clone(), Answer::RecipeInvalid(Vec::new()));
    if let Err(answer) = fill(workshop, published, &mut attempt, keep, progress).await {
        attempt.answer = answer;
    }
    attempt
}

async fn fill(
    workshop: &Workshop,
    published: &Fetched,
    attempt: &mut Attempt,
    keep: Option<&Path>,
    progress: &dyn Progress,
) -> Result<(), Answer> {
    let recipe = attempt.recipe.clone();
    let config = configuration(&recipe)?;
    let version = recipe.version.as_deref().map(Behaviour::of).transpose();
    let behaviour = version.map_err(|gap| Answer::RecipeInvalid(vec![gap]))?;
    let started = Instant::now();
    let gathered = gather(workshop, published, &config, &recipe.platform).await;
    attempt.spent.fetch = started.elapsed().as_secs_f64();
    let (keys, gathered) = gathered.map_err(answers::of_material)?;
    attempt.materials = gathered.materials.clone();
    let unread = Arc::clone(&gathered.unread);
    progress.phase(&recipe.platform, "building");
    let clues = Clues::read(&published.image, published.image.layer_descriptors().len());
    let job = Job {
        config,
        behaviour,
        platform: recipe.platform.clone(),
        keys,
        gathered,
        clues: clues.clone(),
        threads: workshop.threads,
        folder: published.folder.path().join("rebuilt"),
        published_config: published.image.config_digest(),
    };
    std::fs::create_dir_all(&job.folder).map_err(|e| Answer::Operational(e.to_string()))?;
    rebuild::threads::start(workshop.threads)
        .map_err(|e| Answer::Operational(format!("expected threads to build with: {e}")))?;
    let started = Instant::now();
    let made = tokio::task::spawn_blocking(move || job.run()).await;
    let made = made.map_err(|e| panicked(&e))??;
    attempt.spent.build = started.elapsed().as_secs_f64();
    progress.phase(&recipe.platform, "comparing");
    let started = Instant::now();
    attempt.version = Some(made.behaviour.version().to_string());
    if let Some(version) = &recipe.version {
        attempt.version = Some(version.clone());
    }
    attempt.hints = made.hints;
    attempt.searched = made.searched;
    attempt.epoch = made.epoch;
    attempt.materials.extend(made.key_materials);
    attempt.materials.sort();
    attempt.materials.dedup();
    attempt.index_part = Some(made.index_part);
    let comparison = compared(published, made.files.clone(), &attempt.searched).await?;
    attempt.spent.compare = started.elapsed().as_secs_f64();
    if let Some(folder) = keep {
        keep::layout(folder, &published.image.subject, &made.files).map_err(Answer::Operational)?;
    }
    let built = Box::new(Built { image: made.image, comparison });
    let gaps = if built.level().is_reproduced() {
        let lacking = Allowed::by(&workshop.policy).lacking(&attempt.hints);
        // With that index the order might have been apko's own, and no hint.
        if let Some(error) = unread.first().filter(|_| !lacking.is_empty()) {
            return Err(answers::of_index(error));
        }
        lacking
    } else {
        let explanation = &built.comparison.explanation;
        let gap = hints::only_unknown_keys(explanation, &clues, &made.other_keys);
        gap.or(made.other_file).into_iter().collect()
    };
    if !gaps.is_empty() {
        attempt.set_aside = Some(built);
        return Err(Answer::RecipeInvalid(gaps));
    }
    attempt.answer = Answer::Built(built);
    Ok(())
}

/// The published image and what was made, difference by difference.
async fn compared(
    published: &Fetched,
    files: BuiltFiles,
    searched: &[FoundFlag],
) -> Result<Comparison, Answer> {
    // As the judge has it: what was found by search is reproduced, at a level of its own.
    let searched = searched
        .iter()
        .map(|found| Searched { flag: found.flag.clone(), value: found.value.clone() })
        .collect();
    let options = Options { searched, ..Options::default() };
    let image = published.image.clone();
    let comparing = tokio::task::spawn_blocking(move || compare(&image, &files, &options)).await;
    let compared = comparing.map_err(|e| Answer::Operational(e.to_string()))?;
    compared.map_err(|error| answers::of_comparison(&error))
}

/// A panic of the build; one for want of threads is about this machine alone.
fn panicked(error: &tokio::task::JoinError) -> Answer {
    let detail = error.to_string();
    if detail.contains(NO_THREAD) {
        return Answer::Operational(detail);
    }
    Answer::BuildFailed { class: "panic".to_owned(), detail }
}
