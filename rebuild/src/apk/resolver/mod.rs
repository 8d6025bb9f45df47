//! Turns wishes into an installation order, as apko's resolver does (apko-assembly.md, 3.2-3.4).
//!
//! Invariant: for the same indexes in the same order, the same rules and the same wishes there is
//! one answer, and wherever apko itself would leave the answer to chance that is reported, never
//! hidden. It must never invent a package: every one comes from an index that was handed in.
//!
//! Not done: the resolver of apko before 0.14.0, whose order differs (`order_014`).

mod architectures;
mod dependencies;
mod preference;
mod problem;
mod session;
mod universe;

pub use architectures::{Architectures, Lock};
pub use problem::{Ambiguity, ResolveError};

use super::index::IndexEntry;
use session::Session;
use std::collections::{BTreeSet, HashSet};
use universe::{PackageId, Universe};

/// Steps of one resolution. An image of 150 packages takes some thousand; packages that depend
/// on each other by unversioned provides could double them at every level.
const STEPS_MAX: u64 = 2_000_000;

/// Provides that one resolution looks at, some 50 ns each: 5 s. Real ones are asked for without a
/// version, or have one, which needs no look; a package with 20,000 provides would be minutes within
/// a tenth of the steps.
const PROVIDES_LOOKED_AT_MAX: u64 = 100_000_000;

/// Length of a chain of dependencies. Real ones stay below 40.
const DEPTH_MAX: usize = 400;

/// Wishes in one world, dependencies of one package.
const WORLD_MAX: usize = 20_000;

/// How apko's versions differ in what they prefer (apko-assembly.md, 17.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `resolver_selected` (0.25.0): a package that was walked settles later dependencies on its
    /// names, so a cycle comes before the entry of the world that leads into it.
    pub selected_packages_settle: bool,
    /// `so_version` (0.26.0): `so:x=1` without a release ranks below any version with one.
    pub shared_objects_below_releases: bool,
    /// `resolver_origin` (1.2.11): a package of an origin that is already chosen is preferred
    /// only at the version that was chosen; before, at any.
    pub same_origin_same_version: bool,
    /// `resolver_apk` (1.2.17): versions decide before the provider's priority, and an
    /// unversioned provide ties with any; before, the priority came first.
    pub versions_before_priority: bool,
    /// `resolver_unversioned` (1.2.20): a package that provides a name without a version stays in
    /// where a version is asked for; before, it was out.
    pub unversioned_provides_stay: bool,
}

impl Rules {
    /// The rules of the newest version that is known.
    pub const NEWEST: Self = Self {
        selected_packages_settle: true,
        shared_objects_below_releases: true,
        same_origin_same_version: true,
        versions_before_priority: true,
        unversioned_provides_stay: true,
    };
}

/// One repository's packages, in the order of its index.
#[derive(Clone, Copy, Debug)]
pub struct Repository<'a> {
    /// The name before the address in a line `@name address`; empty for most.
    pub pin: &'a str,
    /// The records.
    pub entries: &'a [IndexEntry],
}

/// A package that was chosen: a record of one of the repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The repository's place in the list that was handed in.
    pub repository: usize,
    /// The repository's pin.
    pub pin: &'a str,
    /// The record.
    pub entry: &'a IndexEntry,
}

impl Choice<'_> {
    /// `name=version`, with `@pin` where the repository has one: how a lock names it.
    pub fn locked(&self) -> String {
        let pin = if self.pin.is_empty() { String::new() } else { format!("@{}", self.pin) };
        format!("{}={}{pin}", self.entry.name, self.entry.version)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution<'a> {
    /// The packages in installation order.
    pub order: Vec<Choice<'a>>,
    /// Where apko would leave something to chance. Empty: the order is the only one.
    pub ambiguous: Vec<Ambiguity>,
}

impl Resolution<'_> {
    /// The names in installation order.
    pub fn names(&self) -> Vec<&str> {
        self.order.iter().map(|choice| choice.entry.name.as_str()).collect()
    }

    /// The packages as a lock lists them: `name=version`, sorted as whole strings.
    pub fn locked(&self) -> Vec<String> {
        let locked: BTreeSet<_> = self.order.iter().map(Choice::locked).collect();
        locked.into_iter().collect()
    }
}

/// A resolver over the repositories of one architecture.
pub struct Resolver<'a> {
    universe: Universe<'a>,
    rules: Rules,
    /// Packages that other architectures lack.
    absent_elsewhere: HashSet<PackageId>,
}

impl<'a> Resolver<'a> {
    /// Takes the repositories in the order in which apko reads them: sorted by address.
    pub fn new(repositories: &[Repository<'a>], rules: Rules) -> Self {
        let universe = Universe::new(repositories, rules);
        Self { universe, rules, absent_elsewhere: HashSet::new() }
    }

    /// Resolves a world: its entries are sorted and taken once, as apko keeps them.
    pub fn resolve(&self, world: &[String]) -> Result<Resolution<'a>, ResolveError> {
        if world.len() > WORLD_MAX {
            return Err(ResolveError::Limit { what: "packages wished for", max: WORLD_MAX as u64 });
        }
        let world: BTreeSet<&str> = world.iter().map(String::as_str).collect();
        let world: Vec<&str> = world.into_iter().collect();
        Session::new(&self.universe, self.rules, &self.absent_elsewhere).run(&world)
    }
}
