//! Several architectures together: a package is taken only where every architecture has it at that
//! version, and the index-level configuration is what their locks share (apko-assembly.md, 2.5).
//!
//! Invariant: one architecture alone is resolved as if there were no others.

use super::{Repository, Resolution, ResolveError, Resolver, Rules};
use std::collections::{BTreeMap, HashSet};

/// The resolvers of an image's architectures, by their names.
pub struct Architectures<'a> {
    resolvers: BTreeMap<String, Resolver<'a>>,
}

/// The packages of each architecture, and what they share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock<'a> {
    /// Each architecture's packages.
    pub architectures: BTreeMap<String, Resolution<'a>>,
}

impl<'a> Architectures<'a> {
    /// Takes each architecture's repositories, sorted by address.
    pub fn new(repositories: &BTreeMap<String, Vec<Repository<'a>>>, rules: Rules) -> Self {
        let resolver = |(name, list): (&String, &Vec<Repository<'a>>)| {
            (name.clone(), Resolver::new(list, rules))
        };
        let mut resolvers: BTreeMap<_, _> = repositories.iter().map(resolver).collect();
        let present: BTreeMap<String, HashSet<(&'a str, &'a str)>> =
            resolvers.iter().map(|(name, resolver)| (name.clone(), present(resolver))).collect();
        for (name, resolver) in &mut resolvers {
            let others: Vec<_> =
                present.iter().filter(|(other, _)| *other != name).map(|(_, set)| set).collect();
            let universe = &resolver.universe;
            let lacking = universe.ids().filter(|&id| {
                let entry = universe.entry(id);
                others.iter().any(|set| !set.contains(&(&*entry.name, &*entry.version)))
            });
            resolver.absent_elsewhere = lacking.collect();
        }
        Self { resolvers }
    }

    /// Resolves one world for every architecture.
    pub fn lock(&self, world: &[String]) -> Result<Lock<'a>, ResolveError> {
        let resolve = |(name, resolver): (&String, &Resolver<'a>)| {
            Ok((name.clone(), resolver.resolve(world)?))
        };
        Ok(Lock { architectures: self.resolvers.iter().map(resolve).collect::<Result<_, _>>()? })
    }

    /// The resolver of one architecture, which knows what the others lack.
    pub fn get(&self, name: &str) -> Option<&Resolver<'a>> {
        self.resolvers.get(name)
    }
}

fn present<'a>(resolver: &Resolver<'a>) -> HashSet<(&'a str, &'a str)> {
    let universe = &resolver.universe;
    let entries = universe.ids().map(|id| universe.entry(id));
    entries.map(|entry| (entry.name.as_str(), entry.version.as_str())).collect()
}

impl Lock<'_> {
    /// What every architecture has at the same version, as `name=version`, sorted: the packages
    /// of the configuration that an image index carries.
    pub fn shared(&self) -> Vec<String> {
        let mut lists = self.architectures.values().map(Resolution::locked);
        let mut shared = lists.next().unwrap_or_default();
        for list in lists {
            let there: HashSet<_> = list.into_iter().collect();
            shared.retain(|package| there.contains(package));
        }
        shared
    }
}
