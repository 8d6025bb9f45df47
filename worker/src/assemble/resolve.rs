//! What the resolver makes of the wanted packages over the verified indexes, all architectures
//! together.
//!
//! Invariant: every file that is chosen stands in one of the indexes that were handed in; what apko
//! leaves to chance is said in words. Nothing is fetched here.

use super::AssembleFailure;
use crate::material::packages::VerifiedIndex;
use rebuild::{
    apk::resolver::{Ambiguity, Architectures, Choice, Repository, Rules},
    apko::config::LockedPackage,
};
use std::collections::BTreeMap;

/// An index and the pin of its repository.
pub(super) struct Found<'r> {
    pub(super) pin: &'r str,
    pub(super) index: VerifiedIndex,
}

/// A chosen record: its name, and where it stands in which index.
pub(super) struct ChosenFile {
    pub(super) name: String,
    pub(super) repository: usize,
    pub(super) record: usize,
}

/// One architecture, resolved.
pub(super) struct Resolved {
    pub(super) architecture: String,
    pub(super) files: Vec<ChosenFile>,
    pub(super) locked: Vec<LockedPackage>,
    pub(super) ambiguous: Vec<String>,
}

pub(super) fn resolve(
    indexes: &BTreeMap<String, Vec<Found<'_>>>,
    world: &[String],
    beside: Option<&[String]>,
    rules: Rules,
) -> Result<Vec<Resolved>, AssembleFailure> {
    let repositories: BTreeMap<String, Vec<Repository<'_>>> = indexes
        .iter()
        .map(|(name, found)| {
            let list = found.iter();
            let list = list.map(|f| Repository { pin: f.pin, entries: &f.index.index.entries });
            (name.clone(), list.collect())
        })
        .collect();
    let resolvers = Architectures::new(&repositories, rules);
    let mut all = Vec::new();
    for name in indexes.keys() {
        let Some(resolver) = resolvers.get(name) else { continue };
        let failed =
            |error| AssembleFailure::Resolve { architecture: name.clone(), error: Box::new(error) };
        let mut resolution = resolver.resolve(world).map_err(failed)?;
        // The lock is the first resolution's, also where the second one installs more.
        let locked: Vec<LockedPackage> = resolution.order.iter().map(locked_choice).collect();
        if let Some(beside) = beside {
            let mut again = resolution.locked();
            again.extend(beside.iter().cloned());
            let again = resolver.resolve(&again).map_err(failed)?;
            resolution.order = again.order;
            resolution.ambiguous.extend(again.ambiguous);
            resolution.ambiguous.dedup();
        }
        let lists = repositories.get(name).map(Vec::as_slice).unwrap_or_default();
        all.push(Resolved {
            architecture: name.clone(),
            files: resolution.order.iter().filter_map(|choice| place(choice, lists)).collect(),
            locked,
            ambiguous: resolution.ambiguous.iter().map(ambiguity).collect(),
        });
    }
    Ok(all)
}

fn locked_choice(choice: &Choice<'_>) -> LockedPackage {
    LockedPackage {
        name: choice.entry.name.clone(),
        version: choice.entry.version.clone(),
        pin: Some(choice.pin.to_owned()).filter(|pin| !pin.is_empty()),
    }
}

/// Where a choice stands. The resolver hands out what was handed in, so it is there.
fn place(choice: &Choice<'_>, lists: &[Repository<'_>]) -> Option<ChosenFile> {
    let entries = lists.get(choice.repository)?.entries;
    let record = entries.iter().position(|entry| std::ptr::eq(entry, choice.entry))?;
    Some(ChosenFile { name: choice.entry.name.clone(), repository: choice.repository, record })
}

fn ambiguity(ambiguity: &Ambiguity) -> String {
    match ambiguity {
        Ambiguity::InstallIf { world, packages, chained } => {
            let more = if *chained { ", and what they trigger" } else { "" };
            format!("the order of {} (install_if, by {world}{more})", packages.join(", "))
        }
        Ambiguity::Provider { wanted, candidates } => {
            format!("which of {} provides {wanted}", candidates.join(", "))
        }
        Ambiguity::Origin { origin, versions } => {
            format!("which version of origin {origin} counts: {}", versions.join(", "))
        }
    }
}
