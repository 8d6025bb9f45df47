//! Installing packages into the tree, in order.
//!
//! apko runs no script and checks no dependency here: it copies entries, keeps scripts and triggers
//! for apk, and lists what it installed. Invariant: the result is a function of the packages in
//! their order; every path whose winner the order decided is reported in [`Installed::conflicts`].

pub mod base;
pub mod conflict;
pub mod database_link;
mod entry;
pub mod scripts;

pub use conflict::{Conflict, Rule};

use super::{
    behaviour::Behaviour,
    error::AssembleError,
    fs::{Backing, FileTree, NodeId},
};
use crate::{
    apk::package::{Entry, Package},
    go::tar::{Header, Kind},
};
use rayon::prelude::*;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The packages of an image, by position.
#[derive(Clone, Copy)]
pub struct Packages<'a>(pub &'a [Arc<Package>]);

impl<'a> Packages<'a> {
    /// The package behind a node. Positions come from the installation, so it is there.
    pub fn package(&self, backing: Backing) -> &'a Package {
        &self.0[backing.package as usize]
    }

    /// The entry behind a node.
    pub fn entry(&self, backing: Backing) -> &'a Entry {
        &self.package(backing).entries[backing.entry as usize]
    }

    /// The header behind a node.
    pub fn header(&self, backing: Backing) -> &'a Header {
        &self.entry(backing).header
    }
}

/// What the installation left beside the tree.
#[derive(Debug)]
pub struct Installed {
    /// Per package: its records' file list, entries by position, those of other owners left out.
    pub files: Vec<Vec<u32>>,
    /// Paths that two packages brought.
    pub conflicts: Vec<Conflict>,
}

/// The state while packages are installed.
struct Installer<'a> {
    tree: &'a mut FileTree,
    packages: Packages<'a>,
    behaviour: &'a Behaviour,
    /// Which package installed a regular file, by the name in its header.
    owners: HashMap<&'a [u8], u32>,
    /// Which entry brought a directory first.
    directories: HashMap<NodeId, Backing>,
    conflicts: Vec<Conflict>,
}

/// Installs all packages: their entries, scripts and triggers. The database records are written by
/// [`super::database`], as they need the owners of all packages.
pub fn install(
    tree: &mut FileTree,
    packages: &[Arc<Package>],
    behaviour: &Behaviour,
    epoch_option: i64,
) -> Result<Installed, AssembleError> {
    let mut names = HashSet::new();
    if let Some(twice) = packages.iter().find(|package| !names.insert(&package.info.name)) {
        return Err(AssembleError::PackageTwice(twice.info.name.clone()));
    }
    let entries: usize = packages.iter().map(|package| package.entries.len()).sum();
    tree.reserve(entries);
    let mut installer = Installer {
        tree,
        packages: Packages(packages),
        behaviour,
        owners: HashMap::with_capacity(entries),
        directories: HashMap::new(),
        conflicts: Vec::new(),
    };
    let mut reached: Vec<Vec<u32>> = Vec::with_capacity(packages.len());
    for (position, package) in packages.iter().enumerate() {
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        reached.push(installer.install_entries(position, package)?);
        scripts::append(installer.tree, package, behaviour, epoch_option)?;
    }
    let files = reached
        .into_par_iter()
        .enumerate()
        .map(|(position, entries)| installer.without_foreign(position, entries))
        .collect();
    Ok(Installed { files, conflicts: installer.conflicts })
}

impl<'a> Installer<'a> {
    /// Installs the entries of one package; gives those that were reached, in tar order.
    fn install_entries(
        &mut self,
        position: u32,
        package: &'a Package,
    ) -> Result<Vec<u32>, AssembleError> {
        let leading = package.entries.iter().take_while(|entry| {
            entry.header.name.first() == Some(&b'.') && !entry.header.name.contains(&b'/')
        });
        let first = leading.count();
        let mut reached = Vec::with_capacity(package.entries.len().saturating_sub(first));
        for (index, entry) in package.entries.iter().enumerate().skip(first) {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let backing = Backing { package: position, entry: index };
            let installed = self
                .entry(backing, package, entry)
                .map_err(|problem| AssembleError::entry(package, &entry.header.name, problem))?;
            if installed && entry.header.kind == Kind::Regular {
                self.owners.insert(&entry.header.name, position);
            }
            reached.push(index);
        }
        Ok(reached)
    }

    /// A package's file list without names that are in the end another package's.
    fn without_foreign(&self, position: usize, mut entries: Vec<u32>) -> Vec<u32> {
        let package = &self.packages.0[position];
        entries.retain(|index| {
            let name = package.entries[*index as usize].header.name.as_slice();
            self.owners.get(name).is_none_or(|owner| *owner as usize == position)
        });
        entries
    }
}
