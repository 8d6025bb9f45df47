//! `etc/ld.so.cache`, which apko writes as ldconfig would, where `etc/ld.so.conf` exists.
//!
//! Invariant: the entries come from the libraries in the image, in the order of Go's unstable sort
//! (which decides among equal names). Nothing is run, no file of the host is looked at; a library
//! that lies about itself is at most left out.

mod conf;
mod elf;
mod file;
mod glob;
mod name;

use super::Build;
use crate::{
    apko::{
        behaviour::Capability,
        error::AssembleError,
        fs::{FileTree, Kind, NodeId, path},
        install::Packages,
    },
    go::pdqsort,
};
use elf::Machine;
use file::Library;
use std::{
    collections::{BTreeMap, HashMap},
    io,
};

const STEP: &str = "etc/ld.so.cache";
/// Libraries in the cache. Distributions have some thousand.
const LIBRARIES_MAX: usize = 1 << 20;
/// Names that are looked at in all folders together: a folder may be listed in many spellings.
const NAMES_MAX: usize = 1 << 24;

impl Build<'_> {
    pub(super) fn ld_cache(&mut self) -> Result<(), AssembleError> {
        if !self.tree.exists(b"etc/ld.so.conf") {
            return Ok(());
        }
        let mut folders = vec![b"/lib".to_vec()];
        folders.extend(conf::folders(self.tree, self.packages)?);
        let mut libraries = Vec::new();
        let mut seen: HashMap<NodeId, Option<elf::Library>> = HashMap::new();
        let mut names = 0_usize;
        for folder in folders {
            let children = |id| self.tree.node(id).children().map_or(0, BTreeMap::len);
            names = names.saturating_add(self.tree.lookup(relative(&folder)).map_or(0, children));
            bounded(names, NAMES_MAX, "names in the folders of etc/ld.so.conf")?;
            libraries.extend(in_folder(self.tree, self.packages, &folder, &mut seen)?);
            bounded(libraries.len(), LIBRARIES_MAX, "libraries in etc/ld.so.cache")?;
        }
        let libraries = self.in_order(libraries);
        let cache = file::encode(&libraries).ok_or_else(|| AssembleError::Limit {
            what: "bytes of etc/ld.so.cache",
            limit: u64::from(u32::MAX),
            found: "more".into(),
        })?;
        let mode = if self.behaviour.has(Capability::LdCacheMode) { 0o644 } else { 0o666 };
        let id = self
            .tree
            .write(b"etc/ld.so.cache", cache, 0o644)
            .map_err(AssembleError::in_step(STEP))?;
        self.tree.node_mut(id).mode = mode;
        Ok(())
    }

    fn in_order(&self, mut libraries: Vec<Library>) -> Vec<Library> {
        if !self.behaviour.has(Capability::LdCacheAllDirectories) {
            let mut first: BTreeMap<Vec<u8>, Library> = BTreeMap::new();
            for library in libraries {
                first.entry(library.name().to_vec()).or_insert(library);
            }
            return first.into_values().collect();
        }
        if self.behaviour.has(Capability::LdCacheLibraryOrder) {
            pdqsort::sort_by(&mut libraries, |a, b| name::compare(b.name(), a.name()));
        } else {
            pdqsort::sort_by(&mut libraries, |a, b| b.name().cmp(a.name()));
        }
        libraries
    }
}

fn bounded(found: usize, limit: usize, what: &'static str) -> Result<(), AssembleError> {
    if found <= limit {
        return Ok(());
    }
    Err(AssembleError::Limit { what, limit: limit as u64, found: found.to_string() })
}

/// A folder without the slashes in front.
fn relative(folder: &[u8]) -> &[u8] {
    let start = folder.iter().position(|b| *b != b'/').unwrap_or(folder.len());
    folder.get(start..).unwrap_or_default()
}

/// The libraries of one folder, by file name.
fn in_folder(
    tree: &FileTree,
    packages: Packages<'_>,
    folder: &[u8],
    seen: &mut HashMap<NodeId, Option<elf::Library>>,
) -> Result<Vec<Library>, AssembleError> {
    let relative = relative(folder);
    let Ok(id) = tree.lookup(relative) else { return Ok(Vec::new()) };
    let Some(children) = tree.node(id).children() else { return Ok(Vec::new()) };
    let mut libraries = Vec::new();
    for (file_name, child) in children {
        let linked = matches!(tree.node(*child).kind, Kind::Regular | Kind::Symlink(_));
        if !linked || name::stem(file_name).is_none() {
            continue;
        }
        let at = [relative, b"/", file_name].concat();
        let Ok(target) = tree.lookup(&at) else { continue };
        if !tree.node(target).is_regular() {
            continue;
        }
        let library = match seen.get(&target) {
            Some(known) => known.clone(),
            None => {
                let read = read_library(tree, packages, target)?;
                seen.insert(target, read.clone());
                read
            }
        };
        let Some(library) = library else { continue };
        if let Some(flags) = flags_of(&library, file_name, &at)? {
            let path = [b"/", path::clean(&at).as_slice()].concat();
            libraries.push(Library { path, flags });
        }
    }
    Ok(libraries)
}

/// Reads a whole file as the cache reads a library: its ELF machine and its names. None for what
/// is no shared library. For tools that look at one file, and for fuzzing.
pub fn shared_library(file: Vec<u8>) -> Option<(u16, Vec<Vec<u8>>)> {
    let part = elf::Part { data: &file, start: 0, size: file.len() as u64 };
    let library = elf::read(&part).ok().flatten()?;
    let machine = match library.machine {
        Machine::X86_64 => 62,
        Machine::Aarch64 => 183,
        Machine::Other(number) => number,
    };
    Some((machine, library.sonames))
}

fn read_library(
    tree: &FileTree,
    packages: Packages<'_>,
    id: NodeId,
) -> Result<Option<elf::Library>, AssembleError> {
    let node = tree.node(id);
    let read = match node.reads_backing() {
        Some(backing) => {
            let package = packages.package(backing);
            let entry = packages.entry(backing);
            elf::read(&elf::Part {
                data: package.data.as_ref(),
                start: entry.offset,
                size: entry.header.size,
            })
        }
        None => elf::read(&elf::Part { data: &node.data, start: 0, size: node.data.len() as u64 }),
    };
    read.map_err(|source: io::Error| AssembleError::Io {
        doing: "reading a library of a package".into(),
        source,
    })
}

/// The flags of the cache entry, if the library belongs into the cache under this file name.
fn flags_of(
    library: &elf::Library,
    file_name: &[u8],
    at: &[u8],
) -> Result<Option<u32>, AssembleError> {
    let flags = match library.machine {
        Machine::X86_64 => 0x0303,
        Machine::Aarch64 => 0x0a03,
        Machine::Other(number) => {
            let detail = format!(
                "expected a library for x86-64 or aarch64 at {}, found ELF machine {number}",
                String::from_utf8_lossy(at)
            );
            return Err(AssembleError::step(STEP, detail));
        }
    };
    let own = [file_name.to_vec()];
    let names: &[Vec<u8>] = if library.sonames.is_empty() && file_name.ends_with(b".so") {
        &own
    } else {
        &library.sonames
    };
    let fits = names.iter().any(|soname| {
        name::stem(soname)
            .is_some_and(|stem| file_name == soname || file_name.strip_suffix(b".so") == Some(stem))
    });
    Ok(fits.then_some(flags))
}
