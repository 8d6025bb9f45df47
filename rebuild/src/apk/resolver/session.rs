//! One resolution: the world is narrowed down, then each entry is walked (apko-assembly.md, 3.3,
//! steps 1, 2, 3 and 5).
//!
//! Invariant: packages are only ever ruled out, never let in again, and every loop is bounded by
//! the steps of the resolution.

use super::{
    Ambiguity, Choice, PROVIDES_LOOKED_AT_MAX, Resolution, ResolveError, Rules, STEPS_MAX,
    preference::{Chosen, Preference},
    universe::{PackageId, Universe},
};
use crate::apk::{
    dependency::{Dependency, Operator},
    version::Version,
};
use std::collections::{HashMap, HashSet};

fn too_many_provides() -> ResolveError {
    ResolveError::Limit { what: "provides looked at", max: PROVIDES_LOOKED_AT_MAX }
}

/// The state of one resolution.
pub(super) struct Session<'s, 'a> {
    pub(super) universe: &'s Universe<'a>,
    pub(super) rules: Rules,
    /// Packages that are out.
    ruled_out: HashSet<PackageId>,
    /// Names that walked packages have or provide with a version.
    pub(super) selected: HashMap<&'a str, PackageId>,
    pub(super) ambiguous: Vec<Ambiguity>,
    steps: u64,
}

/// Which packages a filter lets through besides by version.
#[derive(Clone, Copy, Default)]
pub(super) struct Pins<'p> {
    /// Packages of this pin may be taken.
    pub(super) pin: &'p str,
    /// This package may be taken whatever its pin.
    pub(super) installed: Option<PackageId>,
}

impl<'s, 'a> Session<'s, 'a> {
    pub(super) fn new(
        universe: &'s Universe<'a>,
        rules: Rules,
        ruled_out: &HashSet<PackageId>,
    ) -> Self {
        Self {
            universe,
            rules,
            ruled_out: ruled_out.clone(),
            selected: HashMap::new(),
            ambiguous: Vec::new(),
            steps: 0,
        }
    }

    /// Resolves a world that is sorted and has no entry twice.
    pub(super) fn run(self, world: &[&str]) -> Result<Resolution<'a>, ResolveError> {
        let universe = self.universe;
        universe.begin();
        let resolved = self.resolve(world);
        // What came of packages that seemed to provide nothing is no answer, of either kind.
        match universe.is_exhausted() {
            true => Err(too_many_provides()),
            false => resolved,
        }
    }

    fn resolve(mut self, world: &[&str]) -> Result<Resolution<'a>, ResolveError> {
        let mut direct = self.narrow_down(world)?;
        let mut order: Vec<PackageId> = Vec::new();
        let mut names = HashSet::new();
        for wish in world {
            let (package, before) = self.walk_wish(wish, &direct)?;
            for id in before.into_iter().chain([package]) {
                let name = self.universe.entry(id).name.as_str();
                if names.insert(name) {
                    order.push(id);
                }
                if !direct.iter().any(|&there| self.universe.entry(there).name == name) {
                    direct.push(id);
                }
            }
        }
        let universe = self.universe;
        let choice = |id| {
            let package = universe.package(id);
            Choice { repository: package.repository, pin: package.pin, entry: package.entry }
        };
        self.ambiguous.sort();
        self.ambiguous.dedup();
        Ok(Resolution { order: order.into_iter().map(choice).collect(), ambiguous: self.ambiguous })
    }

    /// Steps 1 and 2: the packages of the world, those with the fewest candidates first.
    fn narrow_down(&mut self, world: &[&str]) -> Result<Vec<PackageId>, ResolveError> {
        self.constrain(world.iter().copied(), "the configuration")?;
        let mut open = world.to_vec();
        let mut direct: Vec<PackageId> = Vec::new();
        while !open.is_empty() {
            let mut next: Option<(&str, Vec<PackageId>)> = None;
            for wish in &open {
                let candidates = self.candidates_of_wish(wish)?;
                if next.as_ref().is_none_or(|(_, least)| candidates.len() < least.len()) {
                    next = Some((wish, candidates));
                }
            }
            let Some((wish, candidates)) = next else { break };
            open.retain(|other| *other != wish);
            let id = self.best_of_wish(wish, &candidates)?;
            let name = &self.universe.entry(id).name;
            match direct.iter_mut().find(|there| self.universe.entry(**there).name == *name) {
                Some(there) => *there = id,
                None => direct.push(id),
            }
            self.rule_out_conflicts(id)?;
        }
        Ok(direct)
    }

    fn candidates_of_wish(&mut self, wish: &str) -> Result<Vec<PackageId>, ResolveError> {
        let asked = self.universe.parse(wish);
        self.candidates(&asked, wish, "the configuration", Pins { pin: asked.pin, installed: None })
    }

    fn best_of_wish(
        &mut self,
        wish: &str,
        candidates: &[PackageId],
    ) -> Result<PackageId, ResolveError> {
        let asked = self.universe.parse(wish);
        self.best(candidates, asked.name, asked.pin, None, wish, "the configuration")
    }

    /// Steps 3 and 5 for one entry: its package, and what is installed before it.
    fn walk_wish(
        &mut self,
        wish: &str,
        direct: &[PackageId],
    ) -> Result<(PackageId, Vec<PackageId>), ResolveError> {
        let mut chosen = Chosen::default();
        for &id in direct {
            self.choose(&mut chosen, id);
        }
        let candidates = self.candidates_of_wish(wish)?;
        let package = self.best_of_wish(wish, &candidates)?;
        let pin = self.universe.parse(wish).pin.to_owned();
        let all = self.dependencies(package, &pin, &mut Vec::new(), &mut chosen)?;
        let mut names = HashSet::new();
        let mut before: Vec<PackageId> = all;
        before.retain(|&id| names.insert(self.universe.entry(id).name.as_str()));
        self.add_triggered(wish, &mut before)?;
        Ok((package, before))
    }

    /// Remembers a choice. apko fills its memory of origins from a map, so where two packages of
    /// one origin have different versions, chance decides which of them it remembers.
    fn choose(&mut self, chosen: &mut Chosen<'a>, id: PackageId) {
        let before = chosen.insert(self.universe, id);
        if let Some(before) = before.filter(|_| self.rules.same_origin_same_version) {
            let entry = self.universe.entry(id);
            let mut versions = vec![before.to_owned(), entry.version.clone()];
            versions.sort();
            self.ambiguous.push(Ambiguity::Origin { origin: entry.origin.clone(), versions });
        }
    }

    /// Step 5: packages whose `install_if` conditions are met by what one entry brings.
    fn add_triggered(
        &mut self,
        wish: &str,
        before: &mut Vec<PackageId>,
    ) -> Result<(), ResolveError> {
        let mut added: HashMap<&'a str, PackageId> =
            before.iter().map(|&id| (self.universe.entry(id).name.as_str(), id)).collect();
        let mut triggered: Vec<PackageId> = Vec::new();
        for trigger in before.clone() {
            self.add_triggered_by(trigger, &mut added, &mut triggered)?;
        }
        let mut chained = Vec::new();
        let mut with_chained = added;
        for trigger in triggered.clone() {
            self.add_triggered_by(trigger, &mut with_chained, &mut chained)?;
        }
        if triggered.len() > 1 || !chained.is_empty() {
            let all = triggered.iter().chain(&chained);
            let packages = all.map(|&id| self.universe.entry(id).name.clone()).collect();
            let chained = !chained.is_empty();
            self.ambiguous.push(Ambiguity::InstallIf { world: wish.to_owned(), packages, chained });
        }
        before.extend(triggered);
        Ok(())
    }

    fn add_triggered_by(
        &mut self,
        trigger: PackageId,
        added: &mut HashMap<&'a str, PackageId>,
        triggered: &mut Vec<PackageId>,
    ) -> Result<(), ResolveError> {
        let entry = self.universe.entry(trigger);
        let exact = || format!("{}={}", entry.name, entry.version);
        let found = self.universe.triggered_by(&entry.name);
        let found = found.or_else(|| self.universe.triggered_by(&exact())).unwrap_or_default();
        for &id in found {
            self.step()?;
            let candidate = self.universe.entry(id);
            let met = candidate.install_if.iter().all(|condition| {
                let asked = self.universe.parse(condition);
                added.contains_key(condition)
                    || added
                        .get(asked.name)
                        .is_some_and(|&there| self.universe.entry(there).version == asked.version)
            });
            if met && !added.contains_key(candidate.name.as_str()) {
                added.insert(&candidate.name, id);
                triggered.push(id);
            }
        }
        Ok(())
    }

    pub(super) fn step(&mut self) -> Result<(), ResolveError> {
        self.steps += 1;
        if self.universe.is_exhausted() {
            return Err(too_many_provides());
        }
        match self.steps > STEPS_MAX {
            true => Err(ResolveError::Limit { what: "steps", max: STEPS_MAX }),
            false => Ok(()),
        }
    }

    /// The candidates for what is asked, at least one.
    pub(super) fn candidates(
        &mut self,
        asked: &Dependency<'_>,
        wanted: &str,
        asked_by: &str,
        pins: Pins<'_>,
    ) -> Result<Vec<PackageId>, ResolveError> {
        let there = self.universe.candidates(asked.name).ok_or_else(|| {
            let (asked_by, wanted) = (asked_by.to_owned(), wanted.to_owned());
            ResolveError::NothingProvides { asked_by, wanted }
        })?;
        let candidates = self.filter(there, asked, pins)?;
        if candidates.is_empty() {
            const SHOWN_MAX: usize = 10;
            let ruled_out: Vec<_> =
                there.iter().take(SHOWN_MAX).map(|&id| self.universe.label(id)).collect();
            return Err(ResolveError::RuledOut {
                asked_by: asked_by.to_owned(),
                wanted: wanted.to_owned(),
                ruled_out: ruled_out.join(", "),
            });
        }
        Ok(candidates)
    }

    fn filter(
        &mut self,
        ids: &[PackageId],
        asked: &Dependency<'_>,
        pins: Pins<'_>,
    ) -> Result<Vec<PackageId>, ResolveError> {
        let required = asked.parsed_version();
        let mut passed = Vec::new();
        for &id in ids {
            self.step()?;
            let pin = self.universe.package(id).pin;
            let pinned_away = !pin.is_empty() && pin != pins.pin && pins.installed != Some(id);
            if !self.ruled_out.contains(&id)
                && !pinned_away
                && self.has_version(id, asked.operator, required.as_ref())
            {
                passed.push(id);
            }
        }
        Ok(passed)
    }

    /// By its own version, or by the version of anything that it provides.
    fn has_version(&self, id: PackageId, operator: Operator, required: Option<&Version>) -> bool {
        if operator == Operator::Any {
            return true;
        }
        let (Some(required), Some(own)) = (required, self.universe.version(id)) else {
            return false;
        };
        operator.accepts(&own, required)
            || self
                .universe
                .provides(id)
                .filter_map(|provided| provided.parsed_version())
                .any(|version| operator.accepts(&version, required))
    }

    /// The best candidate; reports where that depends on the order of comparison.
    pub(super) fn best(
        &mut self,
        candidates: &[PackageId],
        name: &str,
        pin: &str,
        chosen: Option<&Chosen<'a>>,
        wanted: &str,
        asked_by: &str,
    ) -> Result<PackageId, ResolveError> {
        let preference =
            Preference { universe: self.universe, rules: self.rules, name, pin, chosen };
        let Some((best, rivals)) = preference.best(candidates) else {
            let (asked_by, wanted) = (asked_by.to_owned(), wanted.to_owned());
            return Err(ResolveError::NothingProvides { asked_by, wanted });
        };
        if !rivals.is_empty() {
            let candidates = [best].into_iter().chain(rivals);
            let candidates = candidates.map(|id| self.universe.label(id)).collect();
            self.ambiguous.push(Ambiguity::Provider { wanted: wanted.to_owned(), candidates });
        }
        Ok(best)
    }

    /// Rules out everything else that provides one of a package's names. One that provides a
    /// name without a version shares it with others of the same kind.
    pub(super) fn rule_out_conflicts(&mut self, id: PackageId) -> Result<(), ResolveError> {
        let universe = self.universe;
        for provided in universe.provides(id) {
            for &other in universe.candidates(provided.name).unwrap_or_default() {
                self.step()?;
                if other != id && !self.shares(&provided, other) {
                    self.ruled_out.insert(other);
                }
            }
        }
        Ok(())
    }

    fn shares(&self, provided: &Dependency<'_>, other: PackageId) -> bool {
        if !provided.version.is_empty() || self.universe.entry(other).name == provided.name {
            // A package always has a version, and so never shares its own name.
            return false;
        }
        let same = self.universe.provides(other).find(|theirs| theirs.name == provided.name);
        same.is_some_and(|theirs| theirs.version.is_empty())
    }

    /// Rules out what a list of dependencies excludes: conflicts, and other versions.
    pub(super) fn constrain<'d>(
        &mut self,
        dependencies: impl Iterator<Item = &'d str>,
        asked_by: &str,
    ) -> Result<(), ResolveError> {
        let universe = self.universe;
        for text in dependencies {
            if let Some(conflict) = text.strip_prefix('!') {
                let asked = universe.parse(conflict);
                let there = universe.candidates(asked.name).unwrap_or_default();
                let excluded =
                    self.filter(there, &asked, Pins { pin: asked.pin, installed: None })?;
                self.ruled_out.extend(excluded);
                continue;
            }
            let asked = universe.parse(text);
            let Some(there) = universe.candidates(asked.name) else { continue };
            if asked.operator == Operator::Any {
                continue;
            }
            let Some(required) = asked.parsed_version() else {
                let (asked_by, wanted) = (asked_by.to_owned(), text.to_owned());
                return Err(ResolveError::Version { asked_by, wanted });
            };
            for &id in there {
                self.step()?;
                if self.is_excluded(id, &asked, &required) {
                    self.ruled_out.insert(id);
                }
            }
        }
        Ok(())
    }

    /// True for a package that has or provides the name at a version that is not asked for.
    fn is_excluded(&self, id: PackageId, asked: &Dependency<'_>, required: &Version) -> bool {
        let fits = |version: Option<Version>| {
            version.is_some_and(|version| asked.operator.accepts(&version, required))
        };
        if self.universe.entry(id).name == asked.name {
            return !fits(self.universe.version(id));
        }
        let mut provided = self.universe.provides(id).filter(|p| p.name == asked.name);
        provided.any(|provided| match provided.version.is_empty() {
            true => !self.rules.unversioned_provides_stay,
            false => !fits(provided.parsed_version()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apk::{
        index::{IndexEntry, Words},
        resolver::Repository,
    };

    #[test]
    fn provides_that_are_looked_at_are_counted_not_only_packages() {
        let provides: Vec<String> = (0..500).map(|n| format!("cmd:{n}=1")).collect();
        let provides = provides.join(" ");
        let entry = |name: &str| IndexEntry {
            name: name.to_owned(),
            version: "2".to_owned(),
            provides: Words::new(&provides),
            ..IndexEntry::default()
        };
        let entries = [entry("a"), entry("b")];
        let repositories = [Repository { pin: "", entries: &entries }];
        let mut universe = Universe::new(&repositories, Rules::NEWEST);
        let run = |universe: &Universe<'_>, wish: &str| {
            Session::new(universe, Rules::NEWEST, &HashSet::new()).run(&[wish]).map(|_| ())
        };
        // What asks for the version of a provide goes through all that a package provides.
        universe.looked_at_max = 400;
        let error = run(&universe, "cmd:499=1").unwrap_err();
        let what = "provides looked at";
        assert!(
            matches!(error, ResolveError::Limit { what: found, .. } if found == what),
            "{error}"
        );
        universe.looked_at_max = PROVIDES_LOOKED_AT_MAX;
        run(&universe, "cmd:499=1").unwrap();
        run(&universe, "a=1").unwrap_err();
    }
}
