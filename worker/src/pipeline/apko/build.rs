//! One build of one platform, on a thread that may block: order, keys, times, behaviour, image.
//!
//! Where one version of apko is named it is built at once; where none is, those are tried that may
//! give the published configuration. Invariant: a hint permutes the attested packages, picks among
//! proven keys or sets the time, and each that was followed is on record. It must never write
//! anywhere but into the attempt's folder.

use super::answers::of_assembly;
use crate::material::{Gathered, Keys, OtherKeys};
use crate::pipeline::{
    attempt::{Answer, BuiltImage, BuiltLayer, FoundFlag, IndexPart, UsedHint},
    clues::Clues,
    hints::{self, KeyChoice, Order},
    keep::{self, LayerFiles},
};
use attest::{Gap, GapCode, Platform};
use rebuild::{
    apk::resolver::Rules,
    apko::{
        Assembly, AssemblyInput, Behaviour, BuildTimes, Depth, Discard, ImageConfiguration,
        IndexEntry, assemble, behaviour::search::PackageFacts,
    },
};
use std::path::PathBuf;

/// Everything of one build, on its way to a thread that may block.
pub(super) struct Job {
    pub(super) config: ImageConfiguration,
    pub(super) behaviour: Option<Behaviour>,
    pub(super) platform: Platform,
    pub(super) keys: Keys,
    pub(super) gathered: Gathered,
    pub(super) clues: Clues,
    pub(super) threads: usize,
    pub(super) folder: PathBuf,
    pub(super) published_config: attest::Digest,
}

/// What came out.
pub(super) struct Made {
    pub(super) behaviour: Behaviour,
    pub(super) image: BuiltImage,
    pub(super) files: keep::BuiltFiles,
    pub(super) hints: Vec<UsedHint>,
    pub(super) searched: Vec<FoundFlag>,
    pub(super) epoch: Option<i64>,
    pub(super) key_materials: Vec<crate::material::Material>,
    pub(super) other_keys: OtherKeys,
    pub(super) index_part: IndexPart,
    pub(super) other_file: Option<Gap>,
}

#[derive(Clone, Copy)]
struct Trial {
    times: BuildTimes,
    epoch: Option<i64>,
}

impl Job {
    pub(super) fn run(self) -> Result<Made, Answer> {
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
            let assembly = assemble(&input, sink).map_err(of_assembly)?;
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
            Err(error) if error.gap().is_none() => Err(of_assembly(error)),
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
        let files = keep::BuiltFiles::new(
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
