//! Rebuilds one platform under an apko recipe, and compares.
//!
//! The order of installation is the resolver's; the creation time is the packages'; the keys are the
//! discovered ones. Where the published image shows that its build chose otherwise among what the
//! recipe allows, that choice is followed as a hint and is on record; what matches only by a hint
//! that the policy does not allow is a gap.
//! Invariant: a hint permutes the attested packages, picks among proven keys or sets the time; it
//! can never bring in a byte. Where the provenance names no version, versions are tried, and none
//! that fits is a gap. What is built is written to files of this attempt and to nothing else.

use super::{
    Workshop,
    attempt::{Answer, Attempt, Built, BuiltImage, BuiltLayer, FoundFlag, IndexPart, UsedHint},
    clues::Clues,
    hints::{self, Allowed, KeyChoice, Order},
    keep::LayerFiles,
    progress::Progress,
    published::Fetched,
};
use crate::material::{
    Gathered, Keys, MaterialError, Origins, OtherKeys, PackageRequest, packages::Shelf,
};
use attest::{Gap, GapCode, Platform, recipe::Recipe};
use rebuild::{
    apk::resolver::Rules,
    apko::{
        AssembleError, Assembly, AssemblyInput, Behaviour, BuildTimes, Depth, Discard,
        ImageConfiguration, IndexEntry, assemble, behaviour::search::PackageFacts,
        config::PinnedRepository,
    },
    compare::{Options, Searched, compare},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, SystemTime},
};

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
    let (keys, gathered) = gathered.map_err(answer_of)?;
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
    // As the judge has it: what was found by search is reproduced, at a level of its own.
    let searched = attempt.searched.iter();
    let searched = searched
        .map(|found| Searched { flag: found.flag.clone(), value: found.value.clone() })
        .collect();
    let comparing = Options { searched, ..Options::default() };
    let (image, files) = (published.image.clone(), made.files.clone());
    let comparing = tokio::task::spawn_blocking(move || compare(&image, &files, &comparing)).await;
    let comparison = comparing.map_err(|e| Answer::Operational(e.to_string()))?;
    let comparison = comparison.map_err(|error| compare_answer(&error))?;
    attempt.spent.compare = started.elapsed().as_secs_f64();
    if let Some(keep) = keep {
        super::keep::layout(keep, &published.image.subject, &made.files)
            .map_err(Answer::Operational)?;
    }
    let built = Box::new(Built { image: made.image, comparison });
    let gaps = if built.level().is_reproduced() {
        let lacking = Allowed::by(&workshop.policy).lacking(&attempt.hints);
        // With that index the order might have been apko's own, and no hint.
        if let Some(error) = unread.first().filter(|_| !lacking.is_empty()) {
            return Err(index_answer(error));
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

/// A panic of the build; one for want of threads is about this machine alone.
fn panicked(error: &tokio::task::JoinError) -> Answer {
    let detail = error.to_string();
    if detail.contains(NO_THREAD) {
        return Answer::Operational(detail);
    }
    Answer::BuildFailed { class: "panic".to_owned(), detail }
}

/// The typed configuration, or every field that stands in the way.
fn configuration(recipe: &Recipe) -> Result<ImageConfiguration, Answer> {
    let json = recipe.config.to_string();
    ImageConfiguration::from_attested_json(json.as_bytes()).map_err(|error| {
        let gaps = error.gaps().to_vec();
        if gaps.is_empty() {
            let gap = Gap::new(GapCode::UnsupportedField, error.to_string());
            Answer::RecipeInvalid(vec![gap])
        } else {
            Answer::RecipeInvalid(gaps)
        }
    })
}

async fn gather(
    workshop: &Workshop,
    published: &Fetched,
    config: &ImageConfiguration,
    platform: &Platform,
) -> Result<(Keys, Gathered), MaterialError> {
    let written = config.repositories_for_build();
    let split = split(&written)?;
    let repositories: BTreeSet<&str> = split.iter().map(|repository| repository.address).collect();
    let repositories: Vec<String> = repositories.into_iter().map(str::to_owned).collect();
    let mut keys = Keys::discover(&workshop.policy, &workshop.places, &repositories).await?;
    let arch = platform.architecture_with_variant();
    if let Some(list) = &workshop.alpine_releases {
        let (policy, places) = (&workshop.policy, &workshop.places);
        keys.add_listed(policy, places, list, &repositories, &arch).await?;
    }
    let keyring = &config.contents.keyring;
    keys.add_keyring(&workshop.policy, &workshop.places, keyring).await?;
    let (policy, store) = (workshop.policy.clone(), Arc::clone(&workshop.store));
    let (of, list) = (repositories.clone(), workshop.alpine_releases.clone());
    let archived = tokio::task::spawn_blocking(move || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        keys.archive(&store, now.map_or(0, |since| since.as_secs()))?;
        keys.add_archived(&policy, &store, &of, list.as_deref())?;
        Ok::<_, MaterialError>(keys)
    });
    let keys = archived.await.map_err(|error| MaterialError::Unavailable {
        uri: "the content store".to_owned(),
        problem: error.to_string(),
    })??;
    let wanted = locked_packages(config)?;
    let shelf = Shelf {
        places: &workshop.places,
        store: &workshop.store,
        keys: &keys,
        spool: published.folder.path(),
        escrow_local: true,
        origins: Origins::Network,
    };
    let mut gathered = shelf.gather(&split, &arch, &wanted).await?;
    gathered.materials.extend(keys.lists.iter().map(|(material, _)| material.clone()));
    Ok((keys, gathered))
}

/// The repositories of a recipe, which others must be able to read.
fn split(written: &[String]) -> Result<Vec<PinnedRepository<'_>>, MaterialError> {
    let one = |text| {
        PinnedRepository::parse(text).filter(PinnedRepository::is_remote).ok_or_else(|| {
            let detail = format!("repository {text:?} is on the builder's machine, or no address");
            MaterialError::Gap(Gap::new(GapCode::LocalContext, detail))
        })
    };
    written.iter().map(|text| one(text.as_str())).collect()
}

/// `name=version` of every package. A bare name repeats a locked one (`s6` of a service bundle).
fn locked_packages(config: &ImageConfiguration) -> Result<Vec<PackageRequest>, MaterialError> {
    let mut locked: Vec<PackageRequest> = Vec::new();
    let mut bare = Vec::new();
    for entry in &config.contents.packages {
        let unpinned = entry.split('@').next().unwrap_or(entry);
        match unpinned.split_once('=') {
            Some((name, version)) if !name.ends_with(['<', '>', '~']) => {
                locked.push(PackageRequest { name: name.to_owned(), version: version.to_owned() });
            }
            _ => bare.push(unpinned),
        }
    }
    match bare.iter().find(|name| !locked.iter().any(|l| l.name == **name)) {
        Some(name) => {
            let detail = format!("package {name:?} has no version");
            Err(MaterialError::Gap(Gap::new(GapCode::UnpinnedMaterial, detail)))
        }
        None => {
            locked.sort();
            locked.dedup();
            Ok(locked)
        }
    }
}

fn answer_of(error: MaterialError) -> Answer {
    match (&error, error.gap()) {
        (MaterialError::Gone { .. }, Some(gap)) => Answer::InputGone(gap),
        (MaterialError::Limit { .. }, _) => {
            Answer::Limit { limit: "material".to_owned(), detail: error.to_string() }
        }
        (_, Some(gap)) => Answer::RecipeInvalid(vec![gap]),
        (_, None) => Answer::Operational(error.to_string()),
    }
}

/// What follows where an answer hangs on an index that could not be used.
fn index_answer(error: &MaterialError) -> Answer {
    let detail = format!("the order of installation cannot be told: {error}");
    match error.gap() {
        Some(gap) => Answer::RecipeInvalid(vec![Gap::new(gap.code, detail)]),
        None => Answer::Operational(detail),
    }
}

fn assemble_answer(error: AssembleError) -> Answer {
    let detail = error.to_string();
    match (&error, error.gap()) {
        (AssembleError::Unsupported(gaps), _) => Answer::RecipeInvalid(gaps.clone()),
        (_, None) => Answer::Operational(detail),
        (_, Some(gap)) if gap.code == GapCode::Limit => {
            Answer::Limit { limit: "assembly".to_owned(), detail }
        }
        _ => Answer::BuildFailed { class: "assembly".to_owned(), detail },
    }
}

fn compare_answer(error: &rebuild::compare::CompareError) -> Answer {
    match error.gap() {
        Some(gap) if gap.code == GapCode::Limit => {
            Answer::Limit { limit: "comparison".to_owned(), detail: gap.detail }
        }
        Some(gap) => Answer::RecipeInvalid(vec![gap]),
        None => Answer::Operational(error.to_string()),
    }
}

/// Everything of one build, on its way to a thread that may block.
struct Job {
    config: ImageConfiguration,
    behaviour: Option<Behaviour>,
    platform: Platform,
    keys: Keys,
    gathered: Gathered,
    clues: Clues,
    threads: usize,
    folder: PathBuf,
    published_config: attest::Digest,
}

/// What came out.
struct Made {
    behaviour: Behaviour,
    image: BuiltImage,
    files: super::keep::BuiltFiles,
    hints: Vec<UsedHint>,
    searched: Vec<FoundFlag>,
    epoch: Option<i64>,
    key_materials: Vec<crate::material::Material>,
    other_keys: OtherKeys,
    index_part: IndexPart,
    other_file: Option<Gap>,
}

impl Job {
    fn run(self) -> Result<Made, Answer> {
        // Where no version is named, the newest rules: a wrong order is a hint, or a mismatch.
        let rules = self.behaviour.and_then(|behaviour| behaviour.resolver_rules());
        let rules = rules.unwrap_or(Rules::NEWEST);
        let order = hints::order(&self.gathered, &self.config, &self.clues, rules);
        let keys = hints::keys(&self.keys, &self.clues);
        let (times, mut used) = self.times();
        let behaviours = match self.behaviour {
            Some(behaviour) => vec![behaviour],
            None => {
                let facts = PackageFacts::of(&self.gathered.packages);
                Behaviour::candidates(&self.config, facts)
            }
        };
        let plain = Trial { times, epoch: None };
        let sink = LayerFiles::new(self.folder.clone());
        let (behaviour, trial, assembly) = self.build(&behaviours, &order, &keys, plain, &sink)?;
        if let Some(epoch) = trial.epoch.or(times.source_date_epoch.flatten()) {
            used.retain(|hint: &UsedHint| hint.name != "epoch");
            used.push(UsedHint { name: "epoch", decided: Vec::new() });
            return self.made(behaviour, assembly, &order, &keys, used, Some(epoch));
        }
        self.made(behaviour, assembly, &order, &keys, used, None)
    }

    /// The build's times: the packages' own, or the published creation time as a hint.
    fn times(&self) -> (BuildTimes, Vec<UsedHint>) {
        let plain = BuildTimes::default();
        let dates = self.gathered.packages.iter().map(|p| p.info.build_date);
        let default = plain.created(dates);
        let Some(created) = self.clues.created.map(|c| c.unix()) else {
            return (plain, Vec::new());
        };
        if created == default {
            return (plain, Vec::new());
        }
        let times = BuildTimes { source_date_epoch: Some(Some(created)), build_date: None };
        (times, vec![UsedHint { name: "epoch", decided: Vec::new() }])
    }

    /// An epoch equal to the newest package's date leaves its mark in scripts only, and so does a
    /// build date that is older.
    fn explicit(&self, plain: Trial) -> Option<Trial> {
        let created = self.clues.created.map(|c| c.unix());
        let created = created.filter(|_| plain.times.source_date_epoch.is_none())?;
        let older = self.clues.scripts_time.filter(|time| (1..created).contains(time));
        let times = match older {
            Some(date) => BuildTimes { source_date_epoch: None, build_date: Some(date) },
            None => BuildTimes { source_date_epoch: Some(Some(created)), build_date: None },
        };
        Some(Trial { times, epoch: Some(older.unwrap_or(created)) })
    }

    /// Builds with the behaviour and the times that give the published configuration. Where one
    /// version is named its image is built at once: mostly that is the one, and if not, it is the
    /// answer unless other times give the published one.
    fn build(
        &self,
        behaviours: &[Behaviour],
        order: &Order,
        keys: &KeyChoice,
        plain: Trial,
        sink: &LayerFiles,
    ) -> Result<(Behaviour, Trial, Assembly), Answer> {
        let whole = |behaviour: Behaviour, trial: Trial| {
            let input = self.input(behaviour, order, keys, trial.times, Depth::Blobs);
            let assembly = assemble(&input, sink).map_err(assemble_answer)?;
            Ok::<_, Answer>((behaviour, trial, assembly))
        };
        let explicit = self.explicit(plain);
        if let [only] = behaviours {
            let built = whole(*only, plain)?;
            if self.is_published(&built.2) {
                return Ok(built);
            }
            if let Some(trial) = explicit
                && self.fits(*only, trial, order, keys)?
            {
                return whole(*only, trial);
            }
            return Ok(built);
        }
        for behaviour in behaviours {
            for trial in [Some(plain), explicit].into_iter().flatten() {
                if self.fits(*behaviour, trial, order, keys)? {
                    return whole(*behaviour, trial);
                }
            }
        }
        let detail = format!(
            "the provenance names no version of apko, and none of {} behaviours from {} to {} \
             gives this image",
            behaviours.len(),
            rebuild::apko::behaviour::OLDEST,
            rebuild::apko::behaviour::NEWEST
        );
        Err(Answer::RecipeInvalid(vec![Gap::new(GapCode::BuilderVersion, detail)]))
    }

    fn is_published(&self, assembly: &Assembly) -> bool {
        attest::Digest::of(&assembly.config) == self.published_config
    }

    /// True if this gives the published configuration. One that cannot be assembled does not; a
    /// failure of this machine says nothing, and ends the attempt.
    fn fits(
        &self,
        behaviour: Behaviour,
        trial: Trial,
        order: &Order,
        keys: &KeyChoice,
    ) -> Result<bool, Answer> {
        let input = self.input(behaviour, order, keys, trial.times, Depth::DiffIds);
        match assemble(&input, &Discard) {
            Ok(made) => Ok(self.is_published(&made)),
            Err(error) if error.gap().is_none() => Err(assemble_answer(error)),
            Err(_) => Ok(false),
        }
    }

    fn input<'a>(
        &'a self,
        behaviour: Behaviour,
        order: &'a Order,
        keys: &'a KeyChoice,
        times: BuildTimes,
        depth: Depth,
    ) -> AssemblyInput<'a> {
        AssemblyInput {
            config: &self.config,
            platform: &self.platform,
            packages: &order.packages,
            keys: &keys.files,
            extra_packages: &[],
            extra_repositories: &[],
            times,
            behaviour,
            depth,
            threads: self.threads,
        }
    }

    fn made(
        &self,
        behaviour: Behaviour,
        assembly: Assembly,
        order: &Order,
        keys: &KeyChoice,
        mut hints: Vec<UsedHint>,
        epoch: Option<i64>,
    ) -> Result<Made, Answer> {
        let missing = || Answer::Operational("the assembler made no manifest".to_owned());
        let manifest = assembly.manifest.clone().ok_or_else(missing)?;
        if order.hinted {
            let decided = order.decided(&assembly);
            hints.push(UsedHint { name: "install-order", decided });
        }
        if keys.hinted {
            hints.push(UsedHint { name: "key-set", decided: Vec::new() });
        }
        hints.sort();
        let searched = match self.behaviour {
            Some(_) => Vec::new(),
            None => {
                vec![FoundFlag { flag: "apko".to_owned(), value: behaviour.version().to_string() }]
            }
        };
        let layers = assembly.layers.iter().map(|layer| BuiltLayer {
            blob: layer.written.blob.map(|b| (b.digest, b.size)),
            diff_id: layer.written.diff_id,
            size: layer.written.uncompressed_size,
        });
        let image = BuiltImage {
            manifest: manifest.clone(),
            config: assembly.config.clone(),
            layers: layers.collect(),
        };
        let files = super::keep::BuiltFiles::new(
            self.folder.clone(),
            manifest.clone(),
            assembly.config.clone(),
            image.layers.len(),
        );
        let index_part = IndexPart {
            entry: IndexEntry {
                architecture: self.platform.architecture_with_variant(),
                manifest: image.manifest_digest(),
                size: manifest.len() as u64,
                created: assembly.created,
            },
            config: self.config.clone(),
            behaviour,
            epoch_option: epoch.unwrap_or(0),
        };
        Ok(Made {
            behaviour,
            image,
            files,
            hints,
            searched,
            epoch,
            key_materials: keys.materials.clone(),
            other_keys: self.keys.others(),
            index_part,
            other_file: hints::another_file(&self.gathered, &self.clues),
        })
    }
}

#[derive(Clone, Copy)]
struct Trial {
    times: BuildTimes,
    epoch: Option<i64>,
}
