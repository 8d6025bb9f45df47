//! `assay verify`: every platform of an image, rebuilt here, said in one report.
//!
//! Invariant: the outcome of a platform follows from its attempts by the table of the command line
//! and from nothing else; the image's outcome is its worst platform's; an entry that was not judged
//! is listed, and the image is then at most `inconclusive`.

use super::{
    Workshop, apko,
    attempt::{Answer, Attempt, Built, IndexPart},
    examine::{Examined, ExaminedPlatform, examine},
    index::index_follows,
    progress::Progress,
    published::{Fetched, PublishedImage, fetch},
};
use crate::report::{
    ExplanationReport, HintReport, IgnoredReport, ImageDigests, LayerDigests, MaterialReport,
    PhaseSeconds, PlatformReport, RecipeReport, SearchReport, VERIFY_SCHEMA, VerifyOutcome,
    VerifyReport,
};
use attest::{
    Gap, GapCode, Level, Platform,
    recipe::{Derivation, Recipe},
};
use oci::{Error, ImageReference};
use rebuild::compare::Explanation;
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// What is to be looked at, and what is to be kept.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// Only these; empty means every one.
    pub platforms: Vec<Platform>,
    /// Where the rebuilt layouts and the evidence stay.
    pub keep: Option<PathBuf>,
}

/// A report, with the explanations that it names.
pub struct Verified {
    /// The report.
    pub report: VerifyReport,
    /// Explanation of each platform, in the order of the report.
    pub explanations: Vec<Option<Explanation>>,
    /// What was looked at.
    pub examined: Examined,
}

/// Rebuilds an image. An error means that the image itself could not be looked at.
pub async fn verify(
    workshop: &Workshop,
    reference: &ImageReference,
    options: &VerifyOptions,
    progress: &dyn Progress,
) -> Result<Verified, Error> {
    let examined = examine(workshop, reference).await?;
    let (mut platforms, mut explanations, mut unchecked) = (Vec::new(), Vec::new(), Vec::new());
    let mut parts = Vec::new();
    for platform in &examined.platforms {
        let name = &platform.entry.platform;
        if !options.platforms.is_empty() && !options.platforms.contains(name) {
            unchecked.push(entry_name(platform));
            continue;
        }
        let judged = one(workshop, &examined, platform, options, progress).await;
        platforms.push(judged.report);
        explanations.push(judged.explanation);
        parts.push(judged.index_part);
    }
    let index_reproduced = unchecked.is_empty()
        && index_follows(&examined, &parts, &platforms)
        && platforms.iter().all(|p| p.outcome == VerifyOutcome::Reproduced);
    let skipped = (!unchecked.is_empty()).then_some(VerifyOutcome::Inconclusive);
    let outcome = VerifyOutcome::worst(platforms.iter().map(|p| p.outcome).chain(skipped))
        .unwrap_or(VerifyOutcome::Inconclusive);
    let report = VerifyReport {
        schema: VERIFY_SCHEMA,
        image: reference.to_string(),
        repository: examined.image.repository().clone(),
        index: examined.image.digest(),
        index_reproduced,
        outcome,
        exit: outcome.exit(),
        platforms_unchecked: unchecked,
        platforms,
    };
    Ok(Verified { report, explanations, examined })
}

fn entry_name(platform: &ExaminedPlatform) -> String {
    let name = &platform.entry.platform;
    if platform.repeated {
        format!("{name} (entry {})", platform.entry.position)
    } else {
        name.to_string()
    }
}

struct Judged {
    report: PlatformReport,
    explanation: Option<Explanation>,
    index_part: Option<IndexPart>,
}

impl Judged {
    fn without(report: PlatformReport) -> Self {
        Self { report, explanation: None, index_part: None }
    }
}

async fn one(
    workshop: &Workshop,
    examined: &Examined,
    platform: &ExaminedPlatform,
    options: &VerifyOptions,
    progress: &dyn Progress,
) -> Judged {
    let mut report = empty(examined, platform);
    let (recipes, gaps) = match &platform.derivation {
        Derivation::Recipes { recipes, contradictions, gaps } => {
            report.recipe.contradictions.clone_from(contradictions);
            (recipes, gaps)
        }
        Derivation::NotRebuildable(gaps) => {
            not_rebuildable(&mut report, gaps.clone());
            return Judged::without(report);
        }
        Derivation::Untrusted { reason } => {
            report.outcome = VerifyOutcome::Untrusted;
            report.detail.clone_from(reason);
            return Judged::without(report);
        }
    };
    progress.phase(&platform.entry.platform, "fetching");
    let started = Instant::now();
    let published = match fetch(workshop, examined, platform).await {
        Ok(published) => published,
        Err(problem) => {
            report.detail = problem;
            return Judged::without(report);
        }
    };
    report.seconds.fetch = started.elapsed().as_secs_f64();
    report.published = Some(published_digests(&published.image));
    let keep = options.keep.as_deref();
    let best = attempts(workshop, &published, recipes, keep, progress).await;
    let Some(best) = best else { return Judged::without(report) };
    fill(&mut report, &best, workshop.level());
    if report.outcome == VerifyOutcome::Diverged && !gaps.is_empty() {
        // A trusted statement could not be used: what it says might be what was built.
        not_rebuildable(&mut report, gaps.clone());
    }
    let built = match best.answer {
        Answer::Built(built) => Some(built),
        _ => best.set_aside,
    };
    let explanation = built.map(|built| built.comparison.explanation);
    Judged { report, explanation, index_part: best.index_part }
}

/// Tries the recipes in order; one that rebuilds the image is proof, otherwise [`rank`] says which
/// stands for all. What was built stays in `keep`.
pub async fn attempts(
    workshop: &Workshop,
    published: &Fetched,
    recipes: &[Recipe],
    keep: Option<&Path>,
    progress: &dyn Progress,
) -> Option<Attempt> {
    let mut best: Option<Attempt> = None;
    for recipe in recipes {
        let attempt = apko::attempt(workshop, published, recipe, keep, progress).await;
        let required = workshop.level();
        let done = attempt.level() >= required && attempt.level().is_reproduced();
        if best.as_ref().is_none_or(|best| rank(&attempt, required) > rank(best, required)) {
            best = Some(attempt);
        }
        if done {
            break;
        }
    }
    best
}

/// What speaks loudest where several recipes were tried and none rebuilt the image. "It builds
/// something else" accuses, and may be said only where every recipe was built: while another could
/// not be tried, or may not be, that one speaks.
fn rank(attempt: &Attempt, required: Level) -> (u8, Level) {
    let level = attempt.level();
    let kind = match attempt.answer {
        Answer::Built(_) if level >= required && level.is_reproduced() => 6,
        Answer::Operational(_) => 5,
        Answer::InputGone(_) => 4,
        Answer::Limit { .. } => 3,
        Answer::RecipeInvalid(_) => 2,
        Answer::BuildFailed { .. } => 1,
        Answer::Built(_) => 0,
    };
    (kind, level)
}

impl Workshop {
    /// The weakest level that counts as reproduced.
    pub fn level(&self) -> Level {
        self.policy.quorum.as_ref().map_or(Level::Config, |quorum| quorum.level)
    }
}

fn empty(examined: &Examined, platform: &ExaminedPlatform) -> PlatformReport {
    let about = [platform.subject.digest, examined.image.digest()];
    let ignored = examined.trust.ignored.iter().filter(|i| about.contains(&i.attached_to));
    let problems = examined.discovery.problems.iter().filter(|p| about.contains(&p.attached_to));
    let ignored = ignored
        .map(|i| IgnoredReport { signer: i.signer.clone(), reason: i.reason.clone() })
        .chain(problems.map(|p| IgnoredReport {
            signer: "unknown".to_owned(),
            reason: format!("{}: {}", p.uri, p.message),
        }))
        .collect();
    PlatformReport {
        platform: platform.entry.platform.clone(),
        entry: platform.repeated.then_some(platform.entry.position),
        outcome: VerifyOutcome::Error,
        level: Level::None,
        published: None,
        rebuilt: None,
        recipe: RecipeReport { ignored, ..RecipeReport::default() },
        materials: Vec::new(),
        explanation: None,
        detail: String::new(),
        seconds: PhaseSeconds::default(),
    }
}

fn not_rebuildable(report: &mut PlatformReport, gaps: Vec<Gap>) {
    report.outcome = VerifyOutcome::NotRebuildable;
    report.detail = gaps.first().map(Gap::to_string).unwrap_or_default();
    report.recipe.gaps = gaps;
}

fn published_digests(image: &PublishedImage) -> ImageDigests {
    let layers = image.layer_descriptors().iter();
    let layers = layers.map(|l| LayerDigests { blob: Some(l.digest), diff_id: None });
    ImageDigests {
        manifest: Some(image.subject.digest),
        config: image.config_digest(),
        layers: layers.collect(),
    }
}

fn fill(report: &mut PlatformReport, attempt: &Attempt, level: Level) {
    let recipe = &mut report.recipe;
    recipe.digest = Some(attempt.recipe.digest());
    recipe.builder = Some(attempt.recipe.builder.to_string());
    recipe.version.clone_from(&attempt.version);
    recipe.tier = Some(attempt.recipe.tier.as_str().to_owned());
    recipe.signer = Some(attempt.recipe.signer.clone());
    recipe.hints = attempt
        .hints
        .iter()
        .map(|h| HintReport { name: h.name.to_owned(), decided: h.decided.clone() })
        .collect();
    recipe.searched = attempt
        .searched
        .iter()
        .map(|s| SearchReport { flag: s.flag.clone(), value: s.value.clone() })
        .collect();
    report.materials = attempt
        .materials
        .iter()
        .map(|m| MaterialReport {
            uri: m.uri.clone(),
            sha256: m.digest,
            from: m.from.clone(),
            verified_by: m.verified_by.clone(),
        })
        .collect();
    report.seconds.fetch += attempt.spent.fetch;
    report.seconds.build = attempt.spent.build;
    report.seconds.compare = attempt.spent.compare;
    if let Some(built) = &attempt.set_aside {
        fill_built(report, built, level);
        report.level = Level::None;
    }
    match &attempt.answer {
        Answer::Built(built) => fill_built(report, built, level),
        Answer::RecipeInvalid(gaps) => not_rebuildable(report, gaps.clone()),
        Answer::InputGone(gap) => not_rebuildable(report, vec![gap.clone()]),
        Answer::BuildFailed { class, detail } => {
            let gap = Gap::new(GapCode::BuildFailed, format!("{class}: {detail}"));
            not_rebuildable(report, vec![gap]);
        }
        Answer::Limit { limit, detail } => {
            let gap = Gap::new(GapCode::Limit, format!("{limit}: {detail}"));
            not_rebuildable(report, vec![gap]);
        }
        Answer::Operational(problem) => {
            report.outcome = VerifyOutcome::Error;
            report.detail.clone_from(problem);
        }
    }
}

fn fill_built(report: &mut PlatformReport, built: &Built, required: Level) {
    report.level = built.level();
    let layers = built
        .image
        .layers
        .iter()
        .map(|l| LayerDigests { blob: l.blob.map(|(digest, _)| digest), diff_id: Some(l.diff_id) });
    report.rebuilt = Some(ImageDigests {
        manifest: Some(built.image.manifest_digest()),
        config: built.image.config_digest(),
        layers: layers.collect(),
    });
    if let Some(published) = &mut report.published {
        for (layer, hygiene) in published.layers.iter_mut().zip(built.hygiene()) {
            layer.diff_id = Some(hygiene.diff_id);
        }
    }
    if let Ok(summary) = built.comparison.summary() {
        report.explanation = Some(ExplanationReport {
            digest: summary.digest,
            differences: summary.differences,
            causes: summary.causes.iter().map(ToString::to_string).collect(),
            security: summary.security,
        });
    }
    let level = report.level;
    if level >= required && level.is_reproduced() {
        report.outcome = VerifyOutcome::Reproduced;
        report.detail = format!("the published image was rebuilt, level {level}");
    } else if level.is_reproduced() {
        // Not what the policy asks for, and no accusation either: the judge calls it below-level.
        report.outcome = VerifyOutcome::Inconclusive;
        report.detail = format!(
            "the published image was rebuilt, level {level}; the policy asks for {required}"
        );
    } else {
        report.outcome = VerifyOutcome::Diverged;
        report.detail = match &report.explanation {
            Some(e) => format!(
                "the recipe builds something else: {} differences, level {level}",
                e.differences
            ),
            None => format!("level {level}, the policy asks for {required}"),
        };
    }
}
