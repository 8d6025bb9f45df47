//! All packages of the repositories, and who has or provides which name (apko-assembly.md, 3.2).
//!
//! Invariant: a name's packages come first, in the order of the indexes, and behind them those
//! that provide it; nothing here changes after it was built but the count of provides that were looked
//! at, which bounds every loop over them: behind the bound packages provide nothing, and
//! [`Universe::is_exhausted`] says that what came of it does not count.

use super::{PROVIDES_LOOKED_AT_MAX, Repository, Rules};
use crate::apk::{dependency::Dependency, index::IndexEntry, version::Version};
use std::{cell::Cell, collections::HashMap};

/// A package's place in [`Universe::packages`].
pub(super) type PackageId = usize;

/// One package of one repository.
pub(super) struct Package<'a> {
    pub(super) entry: &'a IndexEntry,
    pub(super) repository: usize,
    pub(super) pin: &'a str,
}

/// Every package, by name.
pub(super) struct Universe<'a> {
    packages: Vec<Package<'a>>,
    by_name: HashMap<&'a str, Vec<PackageId>>,
    /// Packages by each of their `install_if` conditions.
    by_condition: HashMap<&'a str, Vec<PackageId>>,
    rules: Rules,
    /// Provides that were looked at since the resolution began.
    looked_at: Cell<u64>,
    /// How many there may be.
    pub(super) looked_at_max: u64,
}

impl<'a> Universe<'a> {
    pub(super) fn new(repositories: &[Repository<'a>], rules: Rules) -> Self {
        let packages: Vec<_> = repositories
            .iter()
            .enumerate()
            .flat_map(|(repository, r)| {
                let pin = r.pin;
                r.entries.iter().map(move |entry| Package { entry, repository, pin })
            })
            .collect();
        let mut by_name: HashMap<&'a str, Vec<PackageId>> = HashMap::new();
        let mut by_condition: HashMap<&'a str, Vec<PackageId>> = HashMap::new();
        for (id, package) in packages.iter().enumerate() {
            by_name.entry(&package.entry.name).or_default().push(id);
            for condition in package.entry.install_if.iter() {
                by_condition.entry(condition).or_default().push(id);
            }
        }
        for (id, package) in packages.iter().enumerate() {
            for provided in package.entry.provides.iter() {
                let name = Dependency::parse(provided, rules.shared_objects_below_releases).name;
                by_name.entry(name).or_default().push(id);
            }
        }
        Self {
            packages,
            by_name,
            by_condition,
            rules,
            looked_at: Cell::new(0),
            looked_at_max: PROVIDES_LOOKED_AT_MAX,
        }
    }

    pub(super) fn entry(&self, id: PackageId) -> &'a IndexEntry {
        self.packages[id].entry
    }

    pub(super) fn package(&self, id: PackageId) -> &Package<'a> {
        &self.packages[id]
    }

    /// All packages.
    pub(super) fn ids(&self) -> std::ops::Range<PackageId> {
        0..self.packages.len()
    }

    /// Packages that have or provide a name.
    pub(super) fn candidates(&self, name: &str) -> Option<&[PackageId]> {
        self.by_name.get(name).map(Vec::as_slice)
    }

    /// Packages with this `install_if` condition.
    pub(super) fn triggered_by(&self, condition: &str) -> Option<&[PackageId]> {
        self.by_condition.get(condition).map(Vec::as_slice)
    }

    pub(super) fn parse<'b>(&self, text: &'b str) -> Dependency<'b> {
        Dependency::parse(text, self.rules.shared_objects_below_releases)
    }

    /// What a package provides, taken apart; each one counts as looked at.
    pub(super) fn provides(&self, id: PackageId) -> impl Iterator<Item = Dependency<'a>> + '_ {
        self.entry(id).provides.iter().map_while(|text| {
            self.looked_at.set(self.looked_at.get() + 1);
            (!self.is_exhausted()).then(|| self.parse(text))
        })
    }

    /// A resolution begins: counts from nothing.
    pub(super) fn begin(&self) {
        self.looked_at.set(0);
    }

    /// True once more provides were looked at than one resolution may.
    pub(super) fn is_exhausted(&self) -> bool {
        self.looked_at.get() > self.looked_at_max
    }

    pub(super) fn version(&self, id: PackageId) -> Option<Version> {
        Version::parse(&self.entry(id).version)
    }

    /// `name-version`, for messages.
    pub(super) fn label(&self, id: PackageId) -> String {
        let entry = self.entry(id);
        format!("{}-{}", entry.name, entry.version)
    }
}
