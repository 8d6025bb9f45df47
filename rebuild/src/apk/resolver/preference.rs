//! Which of several candidates is best (apko-assembly.md, 3.3, step 4, and 17.1).
//!
//! Invariant: the comparison is that of apko's rules for its version. It is not always transitive
//! (an unversioned provide ties with everything), so the best of a list may depend on its order;
//! [`Preference::best`] says so.

use super::{
    Rules,
    universe::{PackageId, Universe},
};
use crate::apk::version::Version;
use std::{cmp::Ordering, collections::HashMap};

/// What was chosen before, as far as it matters to what is preferred.
#[derive(Clone, Default)]
pub(super) struct Chosen<'a> {
    by_name: HashMap<&'a str, PackageId>,
    /// Origins, each with the version that was chosen last.
    origins: HashMap<&'a str, &'a str>,
}

impl<'a> Chosen<'a> {
    pub(super) fn get(&self, name: &str) -> Option<PackageId> {
        self.by_name.get(name).copied()
    }

    /// Remembers a package; the version of its origin that it replaces, if another.
    pub(super) fn insert(&mut self, universe: &Universe<'a>, id: PackageId) -> Option<&'a str> {
        let entry = universe.entry(id);
        self.by_name.insert(&entry.name, id);
        if entry.origin.is_empty() {
            return None;
        }
        let before = self.origins.insert(&entry.origin, &entry.version);
        before.filter(|version| *version != entry.version)
    }
}

/// The comparison for one request.
pub(super) struct Preference<'s, 'a> {
    pub(super) universe: &'s Universe<'a>,
    pub(super) rules: Rules,
    /// The name that was asked for.
    pub(super) name: &'s str,
    pub(super) pin: &'s str,
    /// Packages chosen before; none while the world itself is narrowed down.
    pub(super) chosen: Option<&'s Chosen<'a>>,
}

impl Preference<'_, '_> {
    /// The best candidate, the first of equals, and those that are not strictly worse than it.
    pub(super) fn best(&self, candidates: &[PackageId]) -> Option<(PackageId, Vec<PackageId>)> {
        let mut rest = candidates.iter().copied();
        let first = rest.next()?;
        let best = rest.fold(first, |best, id| match self.compare(id, best) {
            Ordering::Less => id,
            _ => best,
        });
        let entry = self.universe.entry(best);
        let is_other = |id: &PackageId| {
            let other = self.universe.entry(*id);
            (&other.name, &other.version) != (&entry.name, &entry.version)
        };
        let not_worse = |id: &PackageId| {
            self.compare(best, *id) != Ordering::Less || self.compare(*id, best) == Ordering::Less
        };
        let rivals = candidates.iter().copied().filter(|id| is_other(id) && not_worse(id));
        Some((best, rivals.collect()))
    }

    /// `Less` means `a` is preferred.
    fn compare(&self, a: PackageId, b: PackageId) -> Ordering {
        let prefer = |a: bool, b: bool| b.cmp(&a);
        prefer(self.is_chosen(a), self.is_chosen(b))
            .then_with(|| prefer(self.has_chosen_origin(a), self.has_chosen_origin(b)))
            .then_with(|| prefer(self.has_pin(a), self.has_pin(b)))
            .then_with(|| match self.rules.versions_before_priority {
                true => self.by_version_and_priority(a, b),
                false => self.by_priority_and_version(a, b),
            })
            .then_with(|| self.universe.entry(a).name.cmp(&self.universe.entry(b).name))
    }

    fn is_chosen(&self, id: PackageId) -> bool {
        let entry = self.universe.entry(id);
        let chosen = self.chosen.and_then(|chosen| chosen.get(&entry.name));
        chosen.is_some_and(|chosen| self.universe.entry(chosen).version == entry.version)
    }

    fn has_chosen_origin(&self, id: PackageId) -> bool {
        let entry = self.universe.entry(id);
        let version = self.chosen.and_then(|chosen| chosen.origins.get(entry.origin.as_str()));
        match self.rules.same_origin_same_version {
            true => version == Some(&entry.version.as_str()),
            false => version.is_some(),
        }
    }

    fn has_pin(&self, id: PackageId) -> bool {
        self.universe.package(id).pin == self.pin
    }

    fn by_priority(&self, a: PackageId, b: PackageId) -> Ordering {
        let priority = |id| self.universe.entry(id).provider_priority;
        priority(b).cmp(&priority(a))
    }

    /// From 1.2.17 on.
    fn by_version_and_priority(&self, a: PackageId, b: PackageId) -> Ordering {
        let (entry_a, entry_b) = (self.universe.entry(a), self.universe.entry(b));
        let (asked_a, asked_b) = (self.version_asked_for(a), self.version_asked_for(b));
        let by_asked = match asked_a.is_empty() || asked_b.is_empty() || asked_a == asked_b {
            true => Ordering::Equal,
            false => newest_first(&asked_a, &asked_b),
        };
        let own = || match entry_a.version == entry_b.version {
            true => Ordering::Equal,
            false => newest_first(&entry_a.version, &entry_b.version),
        };
        by_asked
            .then_with(|| if entry_a.name == entry_b.name { own() } else { Ordering::Equal })
            .then_with(|| self.by_priority(a, b))
            .then_with(own)
    }

    /// Before 1.2.17.
    fn by_priority_and_version(&self, a: PackageId, b: PackageId) -> Ordering {
        let (entry_a, entry_b) = (self.universe.entry(a), self.universe.entry(b));
        // An unversioned provide has the version of its package.
        let asked = |id, own: &str| match self.version_asked_for(id) {
            version if version.is_empty() && self.provides_asked_name(id) => own.to_owned(),
            version => version,
        };
        let asked_a = asked(a, &entry_a.version);
        let asked_b = asked(b, &entry_b.version);
        self.by_priority(a, b).then_with(|| newest_first(&asked_a, &asked_b)).then_with(|| {
            match asked_a == entry_a.version && asked_b == entry_b.version {
                true => Ordering::Equal,
                false => newest_first(&entry_a.version, &entry_b.version),
            }
        })
    }

    /// The version that a package has for the name that was asked for; empty where it provides
    /// the name without one.
    fn version_asked_for(&self, id: PackageId) -> String {
        let entry = self.universe.entry(id);
        if self.name.is_empty() || self.name == entry.name {
            return entry.version.clone();
        }
        let provided = self.universe.provides(id).find(|provided| provided.name == self.name);
        provided.map(|provided| provided.version.into_owned()).unwrap_or_default()
    }

    fn provides_asked_name(&self, id: PackageId) -> bool {
        self.universe.provides(id).any(|provided| provided.name == self.name)
    }
}

/// Newer versions first; what is no version comes last, the second of two such first.
fn newest_first(a: &str, b: &str) -> Ordering {
    match (Version::parse(a), Version::parse(b)) {
        (None, _) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => b.cmp(&a),
    }
}
