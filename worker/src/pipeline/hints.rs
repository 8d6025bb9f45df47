//! Choices that the recipe leaves open, and when the published image may make them.
//!
//! Every such choice is followed, because without it the image could only differ; a rebuild that
//! matches by a choice which the policy does not allow is a gap, and one that differs all the same
//! is a divergence, whatever the policy allows ([`Allowed::lacking`], [`only_unknown_keys`]).
//! Invariant: an order of installation is a permutation of the attested packages, same names and
//! same versions, else it is not used; a key is one that was proven elsewhere, byte for byte. What
//! was chosen against our own order is named with every path that it decided.

use super::{attempt::UsedHint, clues::Clues};
use crate::material::{Gathered, Given, Keys, Material, OtherKeys};
use attest::{Gap, GapCode, policy::Policy};
use rebuild::{
    apk::{
        package::Package,
        resolver::{Repository, Resolver, Rules},
    },
    apko::{Assembly, ImageConfiguration},
    compare::Explanation,
};
use std::{collections::BTreeMap, sync::Arc};

/// Where apko puts the keys that may sign packages.
const KEYS_FOLDER: &str = "etc/apk/keys";
/// Longest detail of a gap: a few paths of 100 characters.
const DETAIL_CHARS_MAX: usize = 500;

/// Which hints the policy allows. Without a quorum (a person who verifies) all of them are; they are
/// in the report.
#[derive(Debug, Clone, Copy)]
pub struct Allowed<'a>(&'a Policy);

impl<'a> Allowed<'a> {
    /// By the policy's quorum.
    pub fn by(policy: &'a Policy) -> Self {
        Self(policy)
    }

    fn has(self, name: &str) -> bool {
        self.0.quorum.as_ref().is_none_or(|quorum| quorum.hints.contains(name))
    }

    /// A gap for each hint that made a rebuild match and that the policy does not allow.
    pub fn lacking(self, used: &[UsedHint]) -> Vec<Gap> {
        used.iter().filter_map(|hint| self.lacking_one(hint)).collect()
    }

    fn lacking_one(self, hint: &UsedHint) -> Option<Gap> {
        let conflicts = format!("{}-conflicts", hint.name);
        let name = if !self.has(hint.name) {
            hint.name
        } else if !hint.decided.is_empty() && !self.has(&conflicts) {
            &conflicts
        } else {
            return None;
        };
        let (code, what) = match hint.name {
            "epoch" => (GapCode::EpochUnknown, "its time of creation"),
            "key-set" => (GapCode::Keys, "which of the known keys it has"),
            _ => (GapCode::UnpinnedMaterial, "the order in which packages were installed"),
        };
        let detail = format!(
            "the recipe gives this image only with {what} taken from it; the policy does not \
             allow the hint {name}"
        );
        Some(Gap::new(code, detail))
    }
}

/// The packages in the order in which they will be installed.
pub struct Order {
    /// The packages.
    pub packages: Vec<Arc<Package>>,
    /// True if the published image's order was taken because ours is another.
    pub hinted: bool,
    /// Our own order, by name; empty where it is not known.
    ours: Vec<String>,
}

impl Order {
    /// The paths whose winner is another than in our own order.
    pub fn decided(&self, assembly: &Assembly) -> Vec<String> {
        let place = |name: &str| {
            // Conflicts name packages as name-version; our order has names.
            self.packages
                .iter()
                .find(|p| p.label() == name || p.info.name == name)
                .and_then(|p| self.ours.iter().position(|n| *n == p.info.name))
        };
        let mut paths: Vec<String> = assembly
            .order_decided()
            .filter(|conflict| match (place(&conflict.first), place(&conflict.second)) {
                (Some(first), Some(second)) => first > second,
                _ => true,
            })
            .map(|conflict| String::from_utf8_lossy(&conflict.path).into_owned())
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

/// Our order is the resolver's over the verified indexes; where that has no answer, over the locked
/// packages alone. The published order is taken only where it is another permutation of them. Where
/// an index could not be read our order is not apko's, whether or not it is the published one: then
/// the published one is a hint, and every path that an order decides is decided by it.
pub fn order(
    gathered: &Gathered,
    config: &ImageConfiguration,
    clues: &Clues,
    rules: Rules,
) -> Order {
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, package) in gathered.packages.iter().enumerate() {
        by_name.insert(&package.info.name, i);
    }
    let ours = resolved(gathered, config, rules).filter(|names| permutes(names, &by_name));
    let own: Vec<String> =
        ours.unwrap_or_else(|| gathered.packages.iter().map(|p| p.info.name.clone()).collect());
    let seen = clues.installed.as_ref().filter(|pairs| same_set(pairs, gathered));
    let theirs: Option<Vec<String>> =
        seen.map(|pairs| pairs.iter().map(|(name, _)| name.clone()).collect());
    let take = |names: &[String]| {
        names.iter().map(|n| gathered.packages[by_name[n.as_str()]].clone()).collect()
    };
    match theirs {
        Some(theirs) if !gathered.unread.is_empty() => {
            Order { packages: take(&theirs), hinted: true, ours: Vec::new() }
        }
        Some(theirs) if theirs != own => Order { packages: take(&theirs), hinted: true, ours: own },
        _ => Order { packages: take(&own), hinted: false, ours: own },
    }
}

fn permutes(names: &[String], by_name: &BTreeMap<&str, usize>) -> bool {
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len() == names.len()
        && sorted.len() == by_name.len()
        && sorted.iter().all(|name| by_name.contains_key(name))
}

fn same_set(pairs: &[(String, String)], gathered: &Gathered) -> bool {
    let mut theirs: Vec<(&str, &str)> =
        pairs.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect();
    let mut locked: Vec<(&str, &str)> =
        gathered.packages.iter().map(|p| (p.info.name.as_str(), p.info.version.as_str())).collect();
    theirs.sort_unstable();
    locked.sort_unstable();
    theirs == locked
}

/// What apko's resolver makes of the locked list over the indexes.
fn resolved(gathered: &Gathered, config: &ImageConfiguration, rules: Rules) -> Option<Vec<String>> {
    let repositories: Vec<Repository<'_>> = gathered
        .indexes
        .iter()
        .map(|verified| Repository { pin: &verified.pin, entries: &verified.index.entries })
        .collect();
    let mut world = config.contents.packages.clone();
    world.sort();
    world.dedup();
    let resolution = Resolver::new(&repositories, rules).resolve(&world).ok()?;
    Some(resolution.names().into_iter().map(str::to_owned).collect())
}

/// The key files of the image.
pub struct KeyChoice {
    /// Name and bytes.
    pub files: Vec<(String, Vec<u8>)>,
    /// True if the image told which: some keys of today were left out because it lacks them, or
    /// some of before taken because it has them.
    pub hinted: bool,
    /// For the record.
    pub materials: Vec<Material>,
}

/// All keys of today and those of before that the image has; or, as a hint, only those that it has.
pub fn keys(keys: &Keys, clues: &Clues) -> KeyChoice {
    let has = |name: &String, pin| clues.keys.get(name).is_some_and(|seen| seen.pin == pin);
    let lacking = keys
        .known
        .iter()
        .any(|(name, known)| known.given == Given::Today && !has(name, known.key.pin()));
    // An image in which no key was seen was not readable: that is no reason to leave keys out.
    let left_out = lacking && !clues.keys.is_empty();
    let chosen = keys.known.iter().filter(|(name, known)| match known.given {
        Given::Recipe => true,
        Given::Today => !left_out || has(name, known.key.pin()),
        Given::Before => has(name, known.key.pin()),
    });
    let (mut files, mut materials) = (Vec::new(), Vec::new());
    let mut hinted = left_out;
    for (name, known) in chosen {
        hinted |= known.given == Given::Before;
        files.push((name.clone(), known.key.file().to_vec()));
        materials.push(known.material.clone());
    }
    KeyChoice { files, hinted, materials }
}

/// The gap of an image that says of a package which no verified index has that it has another file
/// than the one that was found: the same name and version, signed by the same key, but not the
/// input of its build. Where an index has a package, that says which file is meant.
pub fn another_file(gathered: &Gathered, clues: &Clues) -> Option<Gap> {
    let mut unindexed =
        gathered.packages.iter().filter(|package| gathered.unindexed.contains(&package.info.name));
    let other = unindexed.find(|package| {
        clues.checksums.get(&package.info.name).is_some_and(|sum| *sum != package.control_sha1)
    })?;
    let detail = format!(
        "{}: no verified index has it, it was proven by the signature inside the file that was \
         found, and the image says that it has another file of that name and version",
        other.label()
    );
    Some(Gap::new(GapCode::UnpinnedMaterial, detail))
}

/// The gap of an image that differs in nothing but keys that no listed source vouches for: where the
/// lists are not complete; where they are, only for keys that the policy pins, that a release list
/// calls deprecated, which discovery gave on another day, or that it gives today and that were
/// refused. None where anything else differs, or where
/// what was added is not just as discovery would have put it there: the file of a key, readable,
/// without privileges.
pub fn only_unknown_keys(
    explanation: &Explanation,
    clues: &Clues,
    others: &OtherKeys,
) -> Option<Gap> {
    if !explanation.only_adds_below(KEYS_FOLDER) {
        return None;
    }
    let paths: Vec<&str> = explanation.events.iter().filter_map(|e| e.path.as_deref()).collect();
    let is_key = |path: &&str| {
        let name = path.strip_prefix(KEYS_FOLDER).and_then(|rest| rest.strip_prefix('/'));
        let seen = name.and_then(|name| Some((name, clues.keys.get(name)?)));
        seen.is_some_and(|(name, seen)| {
            let of_another_day = others.pins.contains(&seen.pin) || others.names.contains(name);
            seen.plain && (!others.complete || of_another_day)
        })
    };
    if !paths.iter().all(is_key) {
        return None;
    }
    let detail = format!(
        "{}: no source of keys that the policy lists vouches for it today",
        paths.join(", ")
    );
    Some(Gap::new(GapCode::Keys, detail.chars().take(DETAIL_CHARS_MAX).collect::<String>()))
}
