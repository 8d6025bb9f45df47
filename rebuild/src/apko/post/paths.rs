//! `paths:` of the configuration: directories, files, links, modes, owners.
//!
//! Invariant: changes of mode and owner follow symlinks, as apko's do: a change of type symlink
//! sets mode and owner of what the link leads to. No mtime of an existing file is touched.

use super::Build;
use crate::apko::{
    behaviour::Capability,
    config::PathChange,
    error::AssembleError,
    fs::{FsError, NodeId, path, tree::shown},
};

const STEP: &str = "paths";
/// Entries that recursive changes visit, all of them together: as many as an image may have nodes.
const VISITS_MAX: usize = 1 << 22;

impl Build<'_> {
    pub(super) fn change_paths(&mut self) -> Result<(), AssembleError> {
        let mut visits = 0;
        for index in 0..self.config.paths.len() {
            let Some(change) = self.config.paths.get(index).cloned() else { continue };
            self.change_path(&change, &mut visits).map_err(|source| match source {
                limit @ FsError::Limit { .. } => AssembleError::in_step(STEP)(limit),
                other => AssembleError::step(
                    STEP,
                    format!("entry {index} ({} {}): {other}", change.kind, change.path),
                ),
            })?;
        }
        Ok(())
    }

    fn change_path(&mut self, change: &PathChange, visits: &mut usize) -> Result<(), FsError> {
        let bits = if self.behaviour.has(Capability::SpecialBits) { 0o7777 } else { 0o777 };
        let mode = change.permissions & bits;
        let target = change.path.as_bytes();
        match change.kind.as_str() {
            "directory" => {
                self.tree.make_directories(target, mode)?;
            }
            "empty-file" => {
                self.parents(target)?;
                self.tree.write(target, Vec::new(), 0o644)?;
            }
            "symlink" => {
                self.parents(target)?;
                self.tree.make_symlink(change.source.as_bytes(), target)?;
            }
            "hardlink" => {
                self.parents(target)?;
                let (directory, name) = self.tree.parent(target)?;
                self.tree.unlink(directory, &name);
                let source = self.tree.lookup(change.source.as_bytes())?;
                self.tree.add_name(directory, &name, source)?;
            }
            // "permissions"; the configuration was checked for any other type.
            _ => {}
        }
        let everywhere = self.behaviour.has(Capability::RecursiveAll);
        let mut nodes = vec![self.tree.lookup(target)?];
        if change.recursive && (everywhere || change.kind == "directory") {
            self.below(target, &mut nodes, visits)?;
        }
        for id in nodes {
            self.set(id, mode, change);
        }
        Ok(())
    }

    fn parents(&mut self, target: &[u8]) -> Result<(), FsError> {
        self.tree.make_directories(&path::split(target).0, 0o755).map(|_| ())
    }

    /// What the entries below a directory lead to. A link without a target is an error.
    fn below(
        &self,
        target: &[u8],
        nodes: &mut Vec<NodeId>,
        visits: &mut usize,
    ) -> Result<(), FsError> {
        let root = self.tree.lookup(target)?;
        let mut prefix = target;
        while let Some(shorter) = prefix.strip_suffix(b"/") {
            prefix = shorter;
        }
        for step in self.tree.walk_below(root, prefix) {
            *visits += 1;
            if *visits > VISITS_MAX {
                let what = "entries that recursive path changes visit";
                return Err(FsError::Limit { what, limit: VISITS_MAX, path: shown(target) });
            }
            nodes.push(self.tree.lookup(&step.path)?);
        }
        Ok(())
    }

    fn set(&mut self, id: NodeId, mode: u32, change: &PathChange) {
        let always = !self.behaviour.has(Capability::NullableIds);
        let node = self.tree.node_mut(id);
        node.mode = mode;
        if always || change.uid.is_some() || change.gid.is_some() {
            node.uid = change.uid.unwrap_or(0);
            node.gid = change.gid.unwrap_or(0);
        }
    }
}
