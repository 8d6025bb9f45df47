//! Two packages, one path: who wins, and whether another order would have let the other win.
//!
//! Invariant: the rules are apko's and need nothing but the two packages; whoever permutes the
//! installation order can change a winner only where [`Conflict::order_matters`] says so.

use super::{Installer, Packages};
use crate::{
    apk::package::Package,
    apko::{
        error::EntryProblem,
        fs::{Backing, Node, NodeId},
    },
    go::tar::Header,
};
use sha1::{Digest as _, Sha1};

/// Conflicts that are kept; a package set with more is hostile, and the count goes on.
const CONFLICTS_MAX: usize = 100_000;

/// Which rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Both bring the same content: the first stays.
    SameContent,
    /// The first package replaces the second: it stays.
    FirstReplaces,
    /// The second package replaces the first.
    SecondReplaces,
    /// Both were built from one source: the second wins.
    SameOrigin,
    /// Both bring the directory with different modes: the first mode stays.
    DirectoryMode,
}

/// A path that two packages brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The path as the second package writes it.
    pub path: Vec<u8>,
    /// Who was there first.
    pub first: String,
    /// Who came second.
    pub second: String,
    /// Why it went as it did.
    pub rule: Rule,
    /// True if the other order would have given the path other content, mode or attributes.
    pub order_matters: bool,
}

/// What happens to an existing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// What the build made is the same as what the package brings.
    KeepGenerated,
    /// The first stays.
    Keep(Rule),
    /// The second takes its place.
    Replace(Rule),
}

/// The rule for an existing node and a package that brings a file or symlink of that name.
pub(super) fn decide(
    existing: &Node,
    packages: Packages<'_>,
    package: &Package,
    checksum: [u8; 20],
) -> Result<Decision, EntryProblem> {
    let Some(backing) = existing.backing else {
        let same = existing.is_regular()
            && !existing.data.is_empty()
            && <[u8; 20]>::from(Sha1::digest(&existing.data)) == checksum;
        return if same { Ok(Decision::KeepGenerated) } else { Err(EntryProblem::Taken) };
    };
    let owner = packages.package(backing);
    if packages.entry(backing).checksum == Some(checksum) {
        Ok(Decision::Keep(Rule::SameContent))
    } else {
        pair(owner, package).ok_or_else(|| EntryProblem::Owned(owner.label()))
    }
}

/// The rule for two packages with different content.
fn pair(first: &Package, second: &Package) -> Option<Decision> {
    if replaces(first, second) {
        Some(Decision::Keep(Rule::FirstReplaces))
    } else if first.info.origin == second.info.origin {
        Some(Decision::Replace(Rule::SameOrigin))
    } else if replaces(second, first) {
        Some(Decision::Replace(Rule::SecondReplaces))
    } else {
        None
    }
}

/// True if one package's list of replaced names holds exactly the other's name.
fn replaces(one: &Package, other: &Package) -> bool {
    one.info.replaces.contains(&other.info.name)
}

/// True if the two packages in the other order would leave the other one's file.
fn order_matters(first: &Package, second: &Package) -> bool {
    let first_wins = |decision| matches!(decision, Some(Decision::Keep(_)));
    first_wins(pair(first, second)) == first_wins(pair(second, first))
}

impl<'a> Installer<'a> {
    /// Notes who won a path.
    pub(super) fn note_conflict(
        &mut self,
        backing: Backing,
        first: Option<Backing>,
        header: &Header,
        decision: &Decision,
    ) {
        let Some(first) = first else { return };
        let (winner, other) = (self.packages.package(first), self.packages.package(backing));
        let (rule, matters) = match decision {
            Decision::KeepGenerated => return,
            Decision::Keep(Rule::SameContent) => {
                let before = self.packages.header(first);
                (Rule::SameContent, before.mode & 0o7777 != header.mode & 0o7777)
            }
            Decision::Keep(rule) | Decision::Replace(rule) => (*rule, order_matters(winner, other)),
        };
        self.note(header, winner, other, rule, matters);
    }

    /// Notes who brought a directory first, and whether this package brings it with another mode.
    pub(super) fn note_directory_mode(&mut self, backing: Backing, header: &Header, id: NodeId) {
        // Where no package brought it before, the build made it, or a parent did, in any order.
        let Some(first) = self.directories.get(&id).copied() else {
            self.directories.insert(id, backing);
            return;
        };
        let packages = self.packages;
        let (before, second) = (packages.package(first), packages.package(backing));
        if first.package != backing.package
            && self.tree.node(id).mode & 0o777 != header.mode & 0o777
        {
            self.note(header, before, second, Rule::DirectoryMode, true);
        }
    }

    fn note(
        &mut self,
        header: &Header,
        first: &Package,
        second: &Package,
        rule: Rule,
        order_matters: bool,
    ) {
        if self.conflicts.len() < CONFLICTS_MAX {
            self.conflicts.push(Conflict {
                path: header.name.clone(),
                first: first.info.name.clone(),
                second: second.info.name.clone(),
                rule,
                order_matters,
            });
        }
    }
}
