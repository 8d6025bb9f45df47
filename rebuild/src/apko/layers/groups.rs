//! Which packages share a layer: the strategy `origin`.
//!
//! Packages of one origin belong together, and so does a package with what it replaces; the largest
//! groups get layers of their own until the budget is used up. Invariant: a partition; every
//! package is in exactly one group, and the order of installation does not matter.

use crate::{
    apk::{dependency::Dependency, package::Package, version::Version},
    apko::error::AssembleError,
};
use attest::{Gap, GapCode};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Packages of one layer by position, ordered by name.
pub type Group = Vec<usize>;

/// The groups, in the order of their layers.
pub fn groups(packages: &[Arc<Package>], budget: u32) -> Result<Vec<Group>, AssembleError> {
    let mut union = Union((0..packages.len()).collect());
    let mut origins: HashMap<&str, usize> = HashMap::new();
    let mut names: HashMap<&str, usize> = HashMap::new();
    for (position, package) in packages.iter().enumerate() {
        let first = *origins.entry(&package.info.origin).or_insert(position);
        union.merge(first, position);
        names.insert(&package.info.name, position);
    }
    for (position, package) in packages.iter().enumerate() {
        for replaced in &package.info.replaces {
            let wanted = Dependency::parse(replaced, false);
            if let Some(other) = names.get(wanted.name)
                && accepts(&wanted, &packages[*other])?
            {
                union.merge(position, *other);
            }
        }
    }
    let mut by_root: BTreeMap<usize, Group> = BTreeMap::new();
    for position in 0..packages.len() {
        by_root.entry(union.root(position)).or_default().push(position);
    }
    let mut groups: Vec<Group> = by_root.into_values().collect();
    groups.sort_by_cached_key(|group| {
        let size: u128 = group.iter().map(|p| u128::from(packages[*p].info.installed_size)).sum();
        let last_name = group.iter().map(|p| packages[*p].info.name.clone()).max();
        (Reverse(size), last_name)
    });
    let budget = usize::try_from(budget).unwrap_or(usize::MAX);
    if groups.len() > budget {
        let rest = groups.split_off(budget.saturating_sub(1));
        groups.push(rest.concat());
    }
    for group in &mut groups {
        group.sort_by(|a, b| packages[*a].info.name.cmp(&packages[*b].info.name));
    }
    Ok(groups)
}

fn accepts(wanted: &Dependency<'_>, package: &Package) -> Result<bool, AssembleError> {
    if wanted.version.is_empty() {
        return Ok(true);
    }
    match (package.info.version.parse::<Version>().ok(), wanted.parsed_version()) {
        (Some(actual), Some(_)) => Ok(wanted.accepts(&actual)),
        _ => {
            let detail = format!(
                "replaces {}{}: a version that cannot be compared with that of {}",
                wanted.name,
                wanted.version,
                package.label()
            );
            Err(AssembleError::Unsupported(vec![Gap::new(GapCode::BuildFailed, detail)]))
        }
    }
}

/// Sets that are merged, each known by its first member.
struct Union(Vec<usize>);

impl Union {
    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn merge(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        let (low, high) = (one.min(other), one.max(other));
        self.0[high] = low;
    }
}
