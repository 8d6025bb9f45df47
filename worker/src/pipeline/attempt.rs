//! What came of rebuilding one platform under one recipe.
//!
//! Invariant: an [`Answer`] says what happened, not whether it is good: `Built` carries what was
//! built also when it equals what is published. Levels come from `rebuild::compare`, from bytes.

use crate::material::Material;
use attest::{Digest, Gap, Level, recipe::Recipe};
use rebuild::{
    apko::{Behaviour, ImageConfiguration, IndexEntry},
    compare::{Comparison, LayerHygiene},
};

/// A layer that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltLayer {
    /// Digest and size of the compressed blob; none where it was not needed to compress.
    pub blob: Option<(Digest, u64)>,
    /// SHA-256 of the tar.
    pub diff_id: Digest,
    /// Bytes of the tar.
    pub size: u64,
}

/// An image that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// The layers.
    pub layers: Vec<BuiltLayer>,
}

impl BuiltImage {
    /// The manifest's digest.
    pub fn manifest_digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// The configuration's digest.
    pub fn config_digest(&self) -> Digest {
        Digest::of(&self.config)
    }
}

/// Something that was taken from the published image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsedHint {
    /// `epoch`, `install-order`, `key-set`.
    pub name: &'static str,
    /// The paths whose content it decided: a policy must allow `<name>-conflicts` for those.
    pub decided: Vec<String>,
}

/// What an index needs to know of a platform that was rebuilt.
#[derive(Debug, Clone)]
pub struct IndexPart {
    /// Its descriptor.
    pub entry: IndexEntry,
    /// The platform's configuration.
    pub config: ImageConfiguration,
    /// How the builder behaved.
    pub behaviour: Behaviour,
    /// The epoch option of the build, seconds since 1970.
    pub epoch_option: i64,
}

/// A capability of the builder found by search.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundFlag {
    /// Which.
    pub flag: String,
    /// Its value.
    pub value: String,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Answer {
    /// An image was built and compared.
    Built(Box<Built>),
    /// The recipe lacks something or says something that cannot be done.
    RecipeInvalid(Vec<Gap>),
    /// An input is gone.
    InputGone(Gap),
    /// The build failed, and would fail again.
    BuildFailed {
        /// A short kebab-case name.
        class: String,
        /// One line.
        detail: String,
    },
    /// A limit was exceeded.
    Limit {
        /// A short kebab-case name.
        limit: String,
        /// One line.
        detail: String,
    },
    /// Network, registry, disk: nothing can be said.
    Operational(String),
}

/// An image that was built, and how it compares.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image.
    pub image: BuiltImage,
    /// The comparison with what is published.
    pub comparison: Comparison,
}

impl Built {
    /// The level that holds.
    pub fn level(&self) -> Level {
        self.comparison.level
    }

    /// The hygiene of each published layer.
    pub fn hygiene(&self) -> &[LayerHygiene] {
        &self.comparison.hygiene
    }
}

/// Seconds spent in each phase.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Materials.
    pub fetch: f64,
    /// Assembling.
    pub build: f64,
    /// Comparing.
    pub compare: f64,
}

/// One recipe, tried.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The recipe.
    pub recipe: Recipe,
    /// The builder's version, attested or found.
    pub version: Option<String>,
    /// What was taken from the published image.
    pub hints: Vec<UsedHint>,
    /// What was found by search.
    pub searched: Vec<FoundFlag>,
    /// The inputs, sorted.
    pub materials: Vec<Material>,
    /// What happened.
    pub answer: Answer,
    /// What was built where the answer is none the less that nothing can be said: for the record,
    /// never for a level.
    pub set_aside: Option<Box<Built>>,
    /// How long it took.
    pub spent: Spent,
    /// The source date epoch that was used, where it was a hint.
    pub epoch: Option<i64>,
    /// For the index, where something was built.
    pub index_part: Option<IndexPart>,
}

impl Attempt {
    /// An attempt that ended before anything was built.
    pub fn ended(recipe: Recipe, answer: Answer) -> Self {
        Self {
            version: recipe.version.clone(),
            recipe,
            hints: Vec::new(),
            searched: Vec::new(),
            materials: Vec::new(),
            answer,
            set_aside: None,
            spent: Spent::default(),
            epoch: None,
            index_part: None,
        }
    }

    /// The level that holds, `None` unless something was built.
    pub fn level(&self) -> Level {
        match &self.answer {
            Answer::Built(built) => built.level(),
            _ => Level::None,
        }
    }
}
