//! All packages of the repositories, and who has or provides which name (apko-assembly.md, 3.2).
//!
//! Invariant: a name's packages come first, in the order of the indexes, and behind them those
//! that provide it; nothing here changes after it was built.

use super::{Repository, Rules};
use crate::apk::{dependency::Dependency, index::IndexEntry, version::Version};
use std::collections::HashMap;

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
        Self { packages, by_name, by_condition, rules }
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

    /// What a package provides, taken apart.
    pub(super) fn provides(&self, id: PackageId) -> impl Iterator<Item = Dependency<'a>> + '_ {
        self.entry(id).provides.iter().map(|text| self.parse(text))
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
