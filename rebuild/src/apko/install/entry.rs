//! One entry of a package: a directory, a file, a symlink or a hard link.
//!
//! Invariant: a name that a file system would read otherwise than apko's tree does (absolute, `.`,
//! `..`, NUL, empty) is refused before it reaches the tree. Directories are made with their
//! parents, for anything else the parent must exist.

use super::{
    Installer,
    conflict::{Decision, decide},
};
use crate::{
    apk::{
        package::{Entry, Package},
        tar::XATTR_PREFIX,
    },
    apko::{
        behaviour::Capability,
        error::EntryProblem,
        fs::{
            Backing, FileTree, Kind as NodeKind, NodeId,
            tree::{FsError, PATH_BYTES_MAX, shown},
        },
    },
    go::tar::{Header, Kind},
};

impl<'a> Installer<'a> {
    /// Installs one entry; false if what was there before stays.
    pub(super) fn entry(
        &mut self,
        backing: Backing,
        package: &'a Package,
        entry: &'a Entry,
    ) -> Result<bool, EntryProblem> {
        let header = &entry.header;
        check_name(&header.name)?;
        match header.kind {
            Kind::Directory => self.directory(backing, header),
            Kind::Regular | Kind::Symlink => self.file_or_symlink(backing, package, entry),
            Kind::HardLink => self.hard_link(backing, header),
            Kind::CharDevice => Err(EntryProblem::Kind("character device")),
            Kind::BlockDevice => Err(EntryProblem::Kind("block device")),
            Kind::Fifo => Err(EntryProblem::Kind("named pipe")),
        }
    }

    fn directory(&mut self, backing: Backing, header: &Header) -> Result<bool, EntryProblem> {
        let id = self.tree.make_directories(&header.name, header.mode & 0o777)?;
        self.note_directory_mode(backing, header, id);
        if self.behaviour.has(Capability::DirectoryTimes) {
            self.tree.node_mut(id).mtime = header.mtime;
        }
        set_attributes(self.tree, id, header);
        Ok(true)
    }

    fn file_or_symlink(
        &mut self,
        backing: Backing,
        package: &'a Package,
        entry: &'a Entry,
    ) -> Result<bool, EntryProblem> {
        let header = &entry.header;
        let same_link = header.kind == Kind::Symlink
            && self.tree.read_link(&header.name).is_ok_and(|target| target == header.link_name);
        if same_link {
            return Ok(false);
        }
        let checksum = entry.checksum.ok_or(EntryProblem::ChecksumMissing)?;
        let (directory, name) = self.tree.parent(&header.name)?;
        let install = match self.tree.child(directory, &name) {
            None => true,
            Some(existing) => {
                let existing = self.tree.node(existing);
                let decision = decide(existing, self.packages, package, checksum)?;
                self.note_conflict(backing, existing.backing, header, &decision);
                matches!(decision, Decision::Replace(_))
            }
        };
        if install {
            let kind = match header.kind {
                Kind::Symlink => NodeKind::Symlink(header.link_name.clone()),
                _ => NodeKind::Regular,
            };
            let node = FileTree::backed_node(kind, header.mode, header.mtime, backing);
            self.tree.put(directory, &name, node)?;
        }
        if has_attributes(header) {
            let id = self.tree.lookup(&header.name)?;
            set_attributes(self.tree, id, header);
        }
        Ok(install)
    }

    fn hard_link(&mut self, backing: Backing, header: &Header) -> Result<bool, EntryProblem> {
        check_name(&header.link_name)?;
        let (directory, name) = self.tree.parent(&header.name)?;
        let target = self.tree.lookup(&header.link_name)?;
        if self.tree.child(directory, &name).is_some() {
            return Err(FsError::Exists(shown(&header.name)).into());
        }
        self.tree.add_name(directory, &name, target)?;
        self.tree.node_mut(target).hard_links.insert(header.name.clone(), backing);
        Ok(true)
    }
}

/// Only relative names of plain components: apko would make files called `..` of others.
fn check_name(name: &[u8]) -> Result<(), EntryProblem> {
    let trimmed = name.strip_suffix(b"/").unwrap_or(name);
    let why = if trimmed.is_empty() {
        "an empty one"
    } else if trimmed.first() == Some(&b'/') {
        "an absolute one"
    } else if trimmed.contains(&0) {
        "one with a NUL"
    } else if trimmed.split(|b| *b == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
        "one with an empty, . or .. component"
    } else if trimmed.len() > PATH_BYTES_MAX {
        let path = shown(name);
        return Err(FsError::Limit { what: "bytes of a path", limit: PATH_BYTES_MAX, path }.into());
    } else {
        return Ok(());
    };
    Err(EntryProblem::Name(why))
}

fn has_attributes(header: &Header) -> bool {
    header.pax.keys().any(|key| key.starts_with(XATTR_PREFIX))
}

fn set_attributes(tree: &mut FileTree, id: NodeId, header: &Header) {
    for (key, value) in &header.pax {
        if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
            tree.node_mut(id).xattrs.insert(name.to_vec(), value.clone());
        }
    }
}
