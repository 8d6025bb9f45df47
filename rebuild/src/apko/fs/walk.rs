//! The walk: every entry depth first, names in byte order, links not followed.
//!
//! Invariant: the order is the order of the layer. The walk uses a stack of its own, so a deep tree
//! cannot exhaust the thread's; the root itself is not an entry.

use super::{FileTree, Node, NodeId};
use std::collections::btree_map;

/// One step of the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The path without a leading slash.
    pub path: Vec<u8>,
    /// The node there.
    pub id: NodeId,
}

/// An iterator over a directory and everything below it, the directory itself left out.
pub struct Walk<'a> {
    tree: &'a FileTree,
    path: Vec<u8>,
    open: Vec<(usize, btree_map::Iter<'a, Vec<u8>, NodeId>)>,
}

impl FileTree {
    /// Walks the whole tree.
    pub fn walk(&self) -> Walk<'_> {
        self.walk_below(Self::ROOT, b"")
    }

    /// Walks below one directory; paths start with `prefix`.
    pub fn walk_below(&self, directory: NodeId, prefix: &[u8]) -> Walk<'_> {
        let mut walk = Walk { tree: self, path: prefix.to_vec(), open: Vec::new() };
        walk.enter(self.node(directory));
        walk
    }
}

impl<'a> Walk<'a> {
    fn enter(&mut self, node: &'a Node) {
        if let Some(children) = node.children() {
            self.open.push((self.path.len(), children.iter()));
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            let (length, names) = self.open.last_mut()?;
            self.path.truncate(*length);
            let Some((name, id)) = names.next() else {
                self.open.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            self.enter(self.tree.node(*id));
            return Some(Step { path: self.path.clone(), id: *id });
        }
    }
}
