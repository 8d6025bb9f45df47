//! From trusted statements to recipes, or to the reason why there is none (design: architecture,
//! "How data flows", 4; command line, "Outcomes").
//!
//! Invariant: a pure function of subject, index and trust; order and repetition of the statements
//! change nothing. What is attested on the index is never the recipe of a platform. A trusted
//! statement that cannot be used is a gap beside the recipes: a rebuild that matches is proof all
//! the same, one that does not is then unknown, never a divergence.

use super::{
    BuilderKind, Recipe, Tier,
    apko::{self, APKO_BUILD_TYPE, APKO_CONFIGURATION, ApkoProvenance, Own},
    content::{differences, shown},
};
use crate::{
    Digest, Gap, GapCode, Platform, Subject,
    provenance::{Provenance, is_provenance},
    trust::{Trust, TrustedStatement},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Most recipes that are tried for one image.
pub const RECIPES_MAX: usize = 4;
/// Most different configurations, and provenances, that are paired: 32 times 32 pairs are compared.
const CANDIDATES_MAX: usize = 32;
/// Most contradictions that are listed.
const CONTRADICTIONS_MAX: usize = 32;

/// What follows from the evidence.
#[derive(Debug, Clone, PartialEq)]
pub enum Derivation {
    /// Recipes to try.
    Recipes {
        /// 1 to [`RECIPES_MAX`], sorted by digest. One that rebuilds the image is proof.
        recipes: Vec<Recipe>,
        /// How trusted statements disagree; for people.
        contradictions: Vec<String>,
        /// Trusted statements that could not be used, recipes that are not tried. While this is
        /// not empty, a rebuild that does not match means `not-rebuildable` with these gaps: it
        /// must never be called diverged.
        gaps: Vec<Gap>,
    },
    /// No recipe: unknown, not bad. At least one gap, sorted.
    NotRebuildable(Vec<Gap>),
    /// There is evidence, and none of it counts.
    Untrusted {
        /// Why, in one line.
        reason: String,
    },
}

/// Derives the recipes of one platform's image. `index` is the digest of the index that lists it,
/// if there is one; statements attached to anything else are not looked at.
pub fn derive(subject: &Subject, index: Option<&Digest>, trust: &Trust) -> Derivation {
    let index = index.filter(|index| **index != subject.digest);
    let on = |digest: &Digest| {
        let digest = *digest;
        trust.trusted.iter().filter(move |statement| statement.attached_to == digest)
    };
    let platform: Vec<&TrustedStatement> = on(&subject.digest).collect();
    let on_index: Vec<&TrustedStatement> = index.map(|d| on(d).collect()).unwrap_or_default();
    if platform.is_empty() && on_index.is_empty() {
        return nothing_trusted(subject, index, trust);
    }

    let own = Own { subject: &subject.digest, index };
    let gathered = Gathered::from_statements(&platform, &subject.platform, &own);
    if let Some(gap) = gathered.gaps.iter().find(|gap| gap.code == GapCode::SelfReference) {
        return Derivation::NotRebuildable(vec![gap.clone()]);
    }
    if gathered.configurations.is_empty() {
        return Derivation::NotRebuildable(gathered.without_recipe(subject, &on_index));
    }
    gathered.recipes(&subject.platform)
}

fn nothing_trusted(subject: &Subject, index: Option<&Digest>, trust: &Trust) -> Derivation {
    let concerns = |digest: &Digest| *digest == subject.digest || Some(digest) == index;
    let ignored: Vec<_> = trust.ignored.iter().filter(|i| concerns(&i.attached_to)).collect();
    let Some(first) = ignored.first() else {
        let detail = format!("nothing is attached to {}", subject.digest);
        return Derivation::NotRebuildable(vec![Gap::new(GapCode::NoRecipe, detail)]);
    };
    let reason = format!(
        "{} found, none counts; the first, by {}: {}",
        match ignored.len() {
            1 => "1 statement was".to_owned(),
            n => format!("{n} statements were"),
        },
        shown(&first.signer),
        first.reason
    );
    Derivation::Untrusted { reason }
}

/// Who states something, and where.
#[derive(Default)]
struct Sources {
    signers: BTreeSet<String>,
    evidence: BTreeSet<Digest>,
    verified: bool,
}

impl Sources {
    fn add(&mut self, statement: &TrustedStatement) {
        self.signers.insert(statement.signer.clone());
        self.evidence.insert(statement.evidence);
        self.verified |= statement.verified;
    }
}

/// The statements on one platform, by what they say.
#[derive(Default)]
struct Gathered {
    configurations: BTreeMap<Vec<u8>, (Value, Sources)>,
    provenances: BTreeMap<ApkoProvenance, Sources>,
    other_build_types: BTreeSet<String>,
    gaps: BTreeSet<Gap>,
}

impl Gathered {
    fn from_statements(
        statements: &[&TrustedStatement],
        platform: &Platform,
        own: &Own<'_>,
    ) -> Self {
        let mut gathered = Self::default();
        for trusted in statements {
            let predicate_type = trusted.statement.predicate_type.as_str();
            let read = if predicate_type == APKO_CONFIGURATION {
                gathered.configuration(trusted, platform, own)
            } else if is_provenance(predicate_type) {
                gathered.provenance(trusted, own)
            } else {
                Ok(())
            };
            if let Err(gap) = read {
                gathered.gaps.insert(gap);
            }
        }
        let (configurations, provenances) =
            (gathered.configurations.len(), gathered.provenances.len());
        if configurations.max(provenances) > CANDIDATES_MAX {
            let detail = format!(
                "expected at most {CANDIDATES_MAX} configurations and provenances, found \
                 {configurations} and {provenances}"
            );
            gathered.gaps.insert(Gap::new(GapCode::Limit, detail));
        }
        gathered
    }

    fn configuration(
        &mut self,
        trusted: &TrustedStatement,
        platform: &Platform,
        own: &Own<'_>,
    ) -> Result<(), Gap> {
        read_once(trusted)?;
        let config = &trusted.statement.predicate;
        let bytes = apko::configuration(config, platform, own)?;
        let entry = self.configurations.entry(bytes);
        entry.or_insert_with(|| (config.clone(), Sources::default())).1.add(trusted);
        Ok(())
    }

    fn provenance(&mut self, trusted: &TrustedStatement, own: &Own<'_>) -> Result<(), Gap> {
        let statement = &trusted.statement;
        let read = Provenance::parse(&statement.predicate_type, &statement.predicate)
            .map_err(|error| Gap::new(GapCode::UnsupportedField, shown(&error.to_string())))?;
        if read.build_type != APKO_BUILD_TYPE {
            self.other_build_types.insert(shown(&read.build_type));
            return Ok(());
        }
        read_once(trusted)?;
        self.provenances.entry(apko::provenance(&read, own)?).or_default().add(trusted);
        Ok(())
    }

    /// Why there is no recipe, when there is no configuration.
    fn without_recipe(mut self, subject: &Subject, on_index: &[&TrustedStatement]) -> Vec<Gap> {
        for build_type in &self.other_build_types {
            let detail = format!("build type {build_type}");
            self.gaps.insert(Gap::new(GapCode::UnsupportedBuildType, detail));
        }
        let index_has_recipe = on_index.iter().any(|trusted| {
            let predicate_type = trusted.statement.predicate_type.as_str();
            predicate_type == APKO_CONFIGURATION || is_provenance(predicate_type)
        });
        if index_has_recipe {
            let detail = "what is attested on the index is what its platforms share, not the \
                          recipe of one";
            self.gaps.insert(Gap::new(GapCode::IndexOnlyRecipe, detail));
        } else if self.gaps.is_empty() {
            let what = if self.provenances.is_empty() {
                "the trusted statements hold no recipe"
            } else {
                "the provenance names apko, but no image configuration is attested"
            };
            let detail = format!("{what} for {}", subject.platform);
            self.gaps.insert(Gap::new(GapCode::NoRecipe, detail));
        }
        self.gaps.into_iter().collect()
    }

    fn recipes(mut self, platform: &Platform) -> Derivation {
        let mut contradictions = self.contradictions();
        let mut recipes = BTreeMap::new();
        for (config, sources) in self.configurations.values().take(CANDIDATES_MAX) {
            for recipe in self.pair(platform, config, sources, &mut contradictions) {
                // The same content from other statements: only its sources differ.
                recipes.entry(recipe.digest()).or_insert(recipe);
            }
        }
        if recipes.len() > RECIPES_MAX {
            let left: Vec<String> =
                recipes.keys().skip(RECIPES_MAX).map(ToString::to_string).collect();
            let detail = format!("{} recipes, of which {RECIPES_MAX} are tried", recipes.len());
            contradictions.insert(format!("{detail}; not tried: {}", shorten(&left)));
            self.gaps.insert(Gap::new(GapCode::Limit, detail));
        }
        Derivation::Recipes {
            recipes: recipes.into_values().take(RECIPES_MAX).collect(),
            contradictions: contradictions.into_iter().take(CONTRADICTIONS_MAX).collect(),
            gaps: self.gaps.into_iter().collect(),
        }
    }

    /// How the statements of one kind disagree with each other.
    fn contradictions(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut configurations = self.configurations.values();
        if let Some((first, _)) = configurations.next() {
            let others: BTreeSet<String> = configurations
                .take(CANDIDATES_MAX)
                .flat_map(|(other, _)| differences(first, other))
                .collect();
            if !others.is_empty() {
                let places: Vec<String> = others.into_iter().collect();
                let count = self.configurations.len();
                let places = shorten(&places);
                found.insert(format!(
                    "{count} configurations are attested; they differ in {places}"
                ));
            }
        }
        if self.provenances.len() > 1 {
            let versions: BTreeSet<String> = self
                .provenances
                .keys()
                .map(|p| p.version.as_deref().map_or_else(|| "none".to_owned(), shown))
                .collect();
            let versions: Vec<String> = versions.into_iter().collect();
            let count = self.provenances.len();
            let versions = shorten(&versions);
            found.insert(format!("{count} provenances are attested; builder versions: {versions}"));
        }
        found
    }

    /// The recipes of one configuration: with each provenance whose packages are its packages, or
    /// with each one where none agrees, or with none where there is none.
    fn pair(
        &self,
        platform: &Platform,
        config: &Value,
        sources: &Sources,
        contradictions: &mut BTreeSet<String>,
    ) -> Vec<Recipe> {
        if self.provenances.is_empty() {
            return vec![recipe(platform, config, sources, None)];
        }
        let (mut agreeing, mut others) = (Vec::new(), Vec::new());
        for (provenance, more) in self.provenances.iter().take(CANDIDATES_MAX) {
            let conflicts = apko::package_contradictions(config, &provenance.packages);
            let recipe = recipe(platform, config, sources, Some((provenance, more)));
            if conflicts.is_empty() {
                agreeing.push(recipe);
            } else {
                others.push((recipe, conflicts));
            }
        }
        if !agreeing.is_empty() {
            return agreeing;
        }
        others
            .into_iter()
            .map(|(recipe, conflicts)| {
                contradictions.insert(shorten(&conflicts));
                recipe
            })
            .collect()
    }
}

/// A statement that says two things at once says neither.
fn read_once(trusted: &TrustedStatement) -> Result<(), Gap> {
    match &trusted.twice {
        None => Ok(()),
        Some(path) => {
            let detail =
                format!("{} stands twice, and readers differ on which counts", shown(path));
            Err(Gap::new(GapCode::UnsupportedField, detail))
        }
    }
}

fn recipe(
    platform: &Platform,
    config: &Value,
    sources: &Sources,
    provenance: Option<(&ApkoProvenance, &Sources)>,
) -> Recipe {
    let mut signers = sources.signers.clone();
    let mut evidence = sources.evidence.clone();
    let mut verified = sources.verified;
    if let Some((_, more)) = provenance {
        signers.extend(more.signers.iter().cloned());
        evidence.extend(&more.evidence);
        verified &= more.verified;
    }
    let provenance = provenance.map(|(provenance, _)| provenance);
    Recipe {
        builder: BuilderKind::Apko,
        version: provenance.and_then(|p| p.version.clone()),
        build_type: provenance.map(|_| APKO_BUILD_TYPE.to_owned()).unwrap_or_default(),
        builder_id: provenance.map(|p| p.builder_id.clone()).unwrap_or_default(),
        platform: platform.clone(),
        tier: if verified { Tier::Attested } else { Tier::Hinted },
        config: config.clone(),
        packages: provenance.map(|p| p.packages.clone()).unwrap_or_default(),
        signer: signers.into_iter().collect::<Vec<_>>().join(", "),
        evidence: evidence.into_iter().collect(),
    }
}

/// The first eight of a list, and how many more there are.
fn shorten(items: &[String]) -> String {
    const SHOWN: usize = 8;
    let head = items.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(SHOWN) {
        0 => head,
        more => format!("{head} and {more} more"),
    }
}
