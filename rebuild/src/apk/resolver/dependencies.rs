//! The depth-first walk through the dependencies of one package (apko-assembly.md, 3.3, step 3).
//!
//! Invariant: what a package needs comes before it; a cycle is left where it closes. The walk is
//! bounded in depth and, over the whole resolution, in steps.

use super::{
    DEPTH_MAX, ResolveError, WORLD_MAX,
    preference::Chosen,
    session::{Pins, Session},
    universe::PackageId,
};
use crate::apk::{dependency::Dependency, version::Version};
use std::collections::{BTreeMap, HashSet};

impl<'a> Session<'_, 'a> {
    /// What has to be installed before `package`, with repetitions.
    pub(super) fn dependencies(
        &mut self,
        package: PackageId,
        pin: &str,
        parents: &mut Vec<&'a str>,
        chosen: &mut Chosen<'a>,
    ) -> Result<Vec<PackageId>, ResolveError> {
        let entry = self.universe.entry(package);
        if parents.contains(&entry.name.as_str()) {
            return Ok(Vec::new());
        }
        if parents.len() >= DEPTH_MAX || entry.depends.len() > WORLD_MAX {
            let max = DEPTH_MAX as u64;
            return Err(ResolveError::Limit { what: "dependencies in a chain", max });
        }
        let label = self.universe.label(package);
        let provided: HashSet<&str> = entry.provides.iter().collect();
        let provided_names: HashSet<&str> =
            self.universe.provides(package).map(|provided| provided.name).collect();
        let own = |text: &str, name: &str| {
            provided_names.contains(name)
                || provided_names.contains(text)
                || provided.contains(text)
        };
        self.constrain(entry.depends.iter(), &label)?;
        let mut open: Vec<&'a str> = entry.depends.iter().collect();
        let mut before = Vec::new();
        loop {
            let mut options: BTreeMap<&'a str, Vec<PackageId>> = BTreeMap::new();
            for text in open {
                let asked = self.universe.parse(text);
                let provides_it = text.starts_with('!') || own(text, asked.name);
                if !provides_it && !self.is_settled(package, &asked, text)? {
                    let pins = Pins { pin, installed: chosen.get(asked.name) };
                    options.insert(text, self.candidates(&asked, text, &label, pins)?);
                }
            }
            // The fewest candidates; among equals the smallest text, which comes first here.
            let next = options.iter().min_by_key(|(_, candidates)| candidates.len());
            let Some((&text, candidates)) = next else { return Ok(before) };
            let name = self.universe.parse(text).name;
            let best = self.best(candidates, name, "", Some(chosen), text, &label)?;
            open = options.into_keys().filter(|other| *other != text).collect();
            self.rule_out_conflicts(best)?;
            if self.rules.selected_packages_settle {
                self.select(package)?;
            }
            parents.push(&entry.name);
            let deeper = self.dependencies(best, pin, parents, chosen)?;
            parents.pop();
            for &id in &deeper {
                self.step()?;
                chosen.insert(self.universe, id);
            }
            before.extend(deeper);
            before.push(best);
        }
    }

    /// True for a dependency that the package itself or one that was selected before fulfils.
    fn is_settled(
        &mut self,
        package: PackageId,
        asked: &Dependency<'_>,
        text: &str,
    ) -> Result<bool, ResolveError> {
        self.step()?;
        let universe = self.universe;
        if universe.entry(package).name == asked.name
            && universe.version(package).is_some_and(|own| asked.accepts(&own))
        {
            return Ok(true);
        }
        let Some(&selected) = self.selected.get(asked.name) else { return Ok(false) };
        if asked.version.is_empty() {
            return Ok(true);
        }
        let bad_version =
            || ResolveError::Version { asked_by: universe.label(package), wanted: text.to_owned() };
        let own = universe.version(selected).ok_or_else(bad_version)?;
        let required = asked.parsed_version().ok_or_else(bad_version)?;
        for provided in universe.provides(selected) {
            if provided.name == asked.name && !provided.version.is_empty() {
                let version: Version = provided.parsed_version().ok_or_else(bad_version)?;
                // As in apko: the operator of the provide counts here, not that of the wish.
                if provided.operator.accepts(&version, &required) {
                    return Ok(true);
                }
            }
        }
        if asked.operator.accepts(&own, &required) {
            return Ok(true);
        }
        Err(ResolveError::AlreadyChosen {
            asked_by: universe.label(package),
            wanted: text.to_owned(),
            selected: universe.label(selected),
        })
    }

    /// Takes a package's name and its versioned provides; nobody else may have them.
    fn select(&mut self, package: PackageId) -> Result<(), ResolveError> {
        let universe = self.universe;
        let conflict = |other, name: &str| ResolveError::Conflict {
            package: universe.label(package),
            other: universe.label(other),
            name: name.to_owned(),
        };
        let name = universe.entry(package).name.as_str();
        match self.selected.get(name) {
            Some(&other) if other == package => return Ok(()),
            Some(&other) => return Err(conflict(other, name)),
            None => self.selected.insert(name, package),
        };
        for provided in universe.provides(package) {
            if let Some(&other) = self.selected.get(provided.name) {
                return Err(conflict(other, provided.name));
            }
            if !provided.version.is_empty() {
                self.selected.insert(provided.name, package);
            }
        }
        Ok(())
    }
}
