//! The tree: lookup, creation, linking, with apko's rules for symlinks and names.
//!
//! Paths are followed as apko follows them: names are split at `/` and taken as they are, symlinks
//! are followed in every component including the last, a relative target is joined to the names
//! walked so far and cleaned, an absolute one is not cleaned. Invariant: every walk along links is
//! bounded, and no operation leaves a directory with two names.

use super::{
    node::{Backing, Kind, Node, NodeId},
    path,
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

/// Links nested in links: apko's own bound.
const LINK_DEPTH_MAX: u32 = 40;
/// Links followed for one lookup. 40 levels of paths with several links each could multiply.
const LINKS_PER_LOOKUP_MAX: u32 = 1_000;
/// Names walked behind links for one lookup: 40 links nested in each other, each a path of PATH_MAX
/// bytes, are 80,000.
const LINKED_NAMES_PER_LOOKUP_MAX: u64 = 100_000;
/// The same for a whole image, at some 50 ns each: 5 s. A million files below five links each, looked
/// up ten times, are half of it.
const LINKED_NAMES_MAX: u64 = 100_000_000;
/// Nodes of one image: 2^22 nodes of about 250 bytes are 1 GiB; real images have under 200,000.
pub const NODES_MAX: usize = 1 << 22;
/// Bytes of a path in the image: PATH_MAX of Linux.
pub const PATH_BYTES_MAX: usize = 4096;
/// Directories above a node: a path of PATH_MAX bytes can hold at most half as many.
pub const DEPTH_MAX: usize = PATH_BYTES_MAX / 2;

/// Why an operation on the tree is not possible. Paths are shown lossily, cut to 200 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FsError {
    /// A component is missing, or one on the way is no directory.
    #[error("expected {0} to exist, found nothing there")]
    NotFound(String),
    /// The name is taken.
    #[error("expected the name {0} to be free, found it in use")]
    Exists(String),
    /// Something else than a directory stands there.
    #[error("expected a directory at {0}, found something else")]
    NotDirectory(String),
    /// A directory stands where a file is needed.
    #[error("expected a file at {0}, found a directory")]
    IsDirectory(String),
    /// No symlink stands there.
    #[error("expected a symlink at {0}, found something else")]
    NotSymlink(String),
    /// A component that no file can be called by.
    #[error("expected plain names between slashes, found an empty one, `.`, `..` or a NUL in {0}")]
    Name(String),
    /// Too many links on the way.
    #[error(
        "expected at most {LINK_DEPTH_MAX} nested and {LINKS_PER_LOOKUP_MAX} links in all on the \
         way to {0}, found more"
    )]
    Links(String),
    /// A limit of the tree.
    #[error("expected at most {limit} {what}, found more at {path}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// Where it was exceeded.
        path: String,
    },
}

impl FsError {
    /// True where "it is not there" is the answer, and not a failure.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

/// A path for a message.
pub fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).collect()
}

/// The whole file system of one image.
#[derive(Debug)]
pub struct FileTree {
    nodes: Vec<Node>,
    /// Names that lookups walked behind links. Layers are written on several threads.
    linked_names: AtomicU64,
}

impl Clone for FileTree {
    fn clone(&self) -> Self {
        let linked_names = AtomicU64::new(self.linked_names.load(Ordering::Relaxed));
        Self { nodes: self.nodes.clone(), linked_names }
    }
}

impl Default for FileTree {
    fn default() -> Self {
        Self::new()
    }
}

fn too_far(path: &str) -> FsError {
    let (what, limit) = ("names behind symlinks", LINKED_NAMES_PER_LOOKUP_MAX as usize);
    FsError::Limit { what, limit, path: path.to_owned() }
}

/// What one lookup met of links.
#[derive(Default)]
struct Links {
    depth: u32,
    followed: u32,
    names: u64,
}

impl FileTree {
    /// The root of every tree.
    pub const ROOT: NodeId = NodeId(0);

    /// A tree with nothing but its root.
    pub fn new() -> Self {
        let nodes = vec![Node::new(Kind::Directory(BTreeMap::new()), 0o755, 0)];
        Self { nodes, linked_names: AtomicU64::new(0) }
    }

    /// Makes room for so many more nodes, as far as the tree may have them.
    pub fn reserve(&mut self, nodes: usize) {
        self.nodes.reserve(nodes.min(NODES_MAX - self.nodes.len()));
    }

    /// A node. Ids come from this tree only, so it is always there.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// A node to change.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// How many nodes were made so far, removed ones included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: the root is always there.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node at a path, links followed to the end.
    pub fn lookup(&self, path: &[u8]) -> Result<NodeId, FsError> {
        let mut links = Links::default();
        let found = self.follow(path, &mut links);
        match found {
            // This path, not all of them.
            Err(error @ FsError::Limit { .. }) => {
                let _ = self.count(&links);
                Err(error)
            }
            found => self.count(&links).and(found),
        }
    }

    /// Adds what one lookup walked to what all of them may.
    fn count(&self, links: &Links) -> Result<(), FsError> {
        if links.names > 0 {
            let names = match links.names > LINKED_NAMES_PER_LOOKUP_MAX {
                // Whoever takes a failed lookup for "not there" must not get an image of it.
                true => LINKED_NAMES_MAX + 1,
                false => links.names,
            };
            self.linked_names.fetch_add(names, Ordering::Relaxed);
        }
        self.check_links()
    }

    /// An error once links led further than they may, though a lookup that failed of it may have
    /// been taken for "not there" ([`Self::exists`]).
    pub fn check_links(&self) -> Result<(), FsError> {
        match self.linked_names.load(Ordering::Relaxed) > LINKED_NAMES_MAX {
            true => Err(FsError::Limit {
                what: "names behind symlinks in the image",
                limit: LINKED_NAMES_MAX as usize,
                path: "/".to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// True if a lookup finds something. A failure other than "not there" counts as not there too,
    /// as it does in apko.
    pub fn exists(&self, path: &[u8]) -> bool {
        self.lookup(path).is_ok()
    }

    fn follow(&self, path: &[u8], links: &mut Links) -> Result<NodeId, FsError> {
        if path == b"/" || path == b"." {
            return Ok(Self::ROOT);
        }
        let missing = || FsError::NotFound(shown(path));
        let mut at = Self::ROOT;
        let mut walked: Vec<&[u8]> = Vec::new();
        for name in path::components(path) {
            if links.depth > 0 {
                links.names += 1;
                if links.names > LINKED_NAMES_PER_LOOKUP_MAX {
                    return Err(too_far(&shown(path)));
                }
            }
            let children = self.node(at).children().ok_or_else(missing)?;
            let child = *children.get(name).ok_or_else(missing)?;
            at = self.follow_if_link(child, &walked, links)?;
            walked.push(name);
        }
        Ok(at)
    }

    /// The node itself, or what it leads to if it is a symlink found after `walked`.
    fn follow_if_link(
        &self,
        id: NodeId,
        walked: &[&[u8]],
        links: &mut Links,
    ) -> Result<NodeId, FsError> {
        let Kind::Symlink(target) = &self.node(id).kind else { return Ok(id) };
        links.depth += 1;
        links.followed += 1;
        if links.depth > LINK_DEPTH_MAX || links.followed > LINKS_PER_LOOKUP_MAX {
            return Err(FsError::Links(shown(target)));
        }
        let found = if target.first() == Some(&b'/') {
            self.follow(target, links)
        } else {
            self.follow(&path::join(&walked.join(&b'/'), target), links)
        };
        links.depth -= 1;
        found
    }

    /// The directory that holds the last name of a path, and that name.
    pub fn parent<'p>(&self, path: &'p [u8]) -> Result<(NodeId, Cow<'p, [u8]>), FsError> {
        let (directory, name) = path::split(path);
        let id = self.lookup(&directory)?;
        if self.node(id).is_directory() {
            Ok((id, name))
        } else {
            Err(FsError::NotDirectory(shown(&directory)))
        }
    }

    /// What stands under a name of a directory, links not followed.
    pub fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.node(directory).children()?.get(name).copied()
    }

    /// The node at a path, the last name not followed if it is a link.
    pub fn lookup_no_follow(&self, path: &[u8]) -> Result<NodeId, FsError> {
        let (directory, name) = self.parent(path)?;
        self.child(directory, &name).ok_or_else(|| FsError::NotFound(shown(path)))
    }

    /// Puts a new node under a free or taken name; what was there loses this name.
    pub fn put(
        &mut self,
        directory: NodeId,
        name: &[u8],
        mut node: Node,
    ) -> Result<NodeId, FsError> {
        let limit = |what, limit| FsError::Limit { what, limit, path: shown(name) };
        if self.nodes.len() >= NODES_MAX {
            return Err(limit("nodes in the image", NODES_MAX));
        }
        let above = self.node(directory);
        let depth = usize::from(above.depth) + 1;
        let path_len = usize::from(above.path_len) + 1 + name.len();
        if depth > DEPTH_MAX {
            return Err(limit("nested directories", DEPTH_MAX));
        }
        if path_len > PATH_BYTES_MAX {
            return Err(limit("bytes of a path", PATH_BYTES_MAX));
        }
        node.depth = u16::try_from(depth).unwrap_or(u16::MAX);
        node.path_len = u16::try_from(path_len).unwrap_or(u16::MAX);
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        self.link(directory, name, id)?;
        Ok(id)
    }

    /// Gives an existing node another name. Directories are refused: they have one name only.
    pub fn add_name(&mut self, directory: NodeId, name: &[u8], id: NodeId) -> Result<(), FsError> {
        if self.node(id).is_directory() {
            return Err(FsError::IsDirectory(shown(name)));
        }
        self.link(directory, name, id)
    }

    /// The only place where a name comes into being: none that a layer could not be unpacked to.
    fn link(&mut self, directory: NodeId, name: &[u8], id: NodeId) -> Result<(), FsError> {
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|b| matches!(b, 0 | b'/')) {
            return Err(FsError::Name(shown(name)));
        }
        match &mut self.node_mut(directory).kind {
            Kind::Directory(children) => {
                children.insert(name.to_vec(), id);
                Ok(())
            }
            _ => Err(FsError::NotDirectory(shown(name))),
        }
    }

    /// Takes a name away from a directory; nothing happens if it is not there.
    pub fn unlink(&mut self, directory: NodeId, name: &[u8]) {
        if let Kind::Directory(children) = &mut self.node_mut(directory).kind {
            children.remove(name);
        }
    }

    /// Makes one directory in an existing one. An existing name is an error.
    pub fn make_directory(&mut self, path: &[u8], mode: u32) -> Result<NodeId, FsError> {
        let (directory, name) = self.free_name(path)?;
        self.put(directory, &name, Node::new(Kind::Directory(BTreeMap::new()), mode, 0))
    }

    fn free_name<'p>(&self, path: &'p [u8]) -> Result<(NodeId, Cow<'p, [u8]>), FsError> {
        let (directory, name) = self.parent(path)?;
        if self.child(directory, &name).is_some() {
            return Err(FsError::Exists(shown(path)));
        }
        Ok((directory, name))
    }

    /// Makes every missing directory of a path with the same mode and mtime 0; existing ones stay
    /// as they are, symlinks to directories are followed. Gives the last directory.
    pub fn make_directories(&mut self, path: &[u8], mode: u32) -> Result<NodeId, FsError> {
        let mut links = Links::default();
        let made = self.make_directories_behind(path, mode, &mut links);
        self.count(&links)?;
        made
    }

    fn make_directories_behind(
        &mut self,
        path: &[u8],
        mode: u32,
        links: &mut Links,
    ) -> Result<NodeId, FsError> {
        let mut at = Self::ROOT;
        let mut walked: Vec<&[u8]> = Vec::new();
        for name in path::components(path) {
            let next = match self.child(at, name) {
                Some(id) => self.follow_if_link(id, &walked, links)?,
                None => self.put(at, name, Node::new(Kind::Directory(BTreeMap::new()), mode, 0))?,
            };
            if !self.node(next).is_directory() {
                return Err(FsError::NotDirectory(shown(path)));
            }
            at = next;
            walked.push(name);
        }
        Ok(at)
    }

    /// The regular file (or device) at a path, for reading or changing; a missing last name is
    /// created with `mode` if one is given. A link in the last name leads to its target's name.
    pub fn open(&mut self, path: &[u8], create: Option<u32>) -> Result<NodeId, FsError> {
        let mut path = path.to_vec();
        for _ in 0..=LINK_DEPTH_MAX {
            let (directory_path, name) = path::split(&path);
            let directory = self.lookup(&directory_path)?;
            let Some(id) = self.child(directory, &name) else {
                let mode = create.ok_or_else(|| FsError::NotFound(shown(&path)))?;
                return self.put(directory, &name, Node::new(Kind::Regular, mode, 0));
            };
            path = match &self.node(id).kind {
                Kind::Directory(_) => return Err(FsError::IsDirectory(shown(&path))),
                Kind::Symlink(target) if target.first() == Some(&b'/') => target.clone(),
                Kind::Symlink(target) => path::join(&directory_path, target),
                Kind::Regular | Kind::CharDevice { .. } => return Ok(id),
            };
        }
        Err(FsError::Links(shown(&path)))
    }

    /// Writes a whole file, created with `mode` if it is missing; an existing one keeps mode,
    /// owner, mtime and the package behind it.
    pub fn write(&mut self, path: &[u8], data: Vec<u8>, mode: u32) -> Result<NodeId, FsError> {
        let id = self.open(path, Some(mode))?;
        self.node_mut(id).data = data;
        Ok(id)
    }

    /// Makes a symlink; its mtime is the present one of its directory.
    pub fn make_symlink(&mut self, target: &[u8], path: &[u8]) -> Result<NodeId, FsError> {
        let (directory, name) = self.free_name(path)?;
        let mtime = self.node(directory).mtime;
        self.put(directory, &name, Node::new(Kind::Symlink(target.to_vec()), 0o777, mtime))
    }

    /// Where the symlink at a path points; the last name is not followed.
    pub fn read_link(&self, path: &[u8]) -> Result<&[u8], FsError> {
        match &self.node(self.lookup_no_follow(path)?).kind {
            Kind::Symlink(target) => Ok(target),
            _ => Err(FsError::NotSymlink(shown(path))),
        }
    }

    /// Makes a character device; its mtime is the present one of its directory.
    pub fn make_device(
        &mut self,
        path: &[u8],
        mode: u32,
        (major, minor): (u64, u64),
    ) -> Result<NodeId, FsError> {
        let (directory, name) = self.free_name(path)?;
        let mtime = self.node(directory).mtime;
        self.put(directory, &name, Node::new(Kind::CharDevice { major, minor }, mode, mtime))
    }

    /// A new node for a package's file or symlink, not yet under any name.
    pub fn backed_node(kind: Kind, mode: u32, mtime: i64, backing: Backing) -> Node {
        let mut node = Node::new(kind, mode, mtime);
        node.backing = Some(backing);
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a/a/…/a`, so many names below the root.
    fn deep(tree: &mut FileTree, names: usize) -> Vec<u8> {
        let path = vec![&b"a"[..]; names].join(&b'/');
        tree.make_directories(&path, 0o755).unwrap();
        path
    }

    #[test]
    fn links_that_multiply_end_with_a_limit_that_nobody_can_overlook() {
        let mut tree = FileTree::new();
        let path = deep(&mut tree, 1900);
        // A directory that is a link to itself by a long way, a thousand names long.
        tree.make_symlink(b".", &[&path[..], b"/l"].concat()).unwrap();
        let once = [&path[..], b"/l"].concat();
        assert!(tree.lookup(&once).is_ok() && tree.check_links().is_ok());
        let many = [&path[..], &b"/l".repeat(60)[..]].concat();
        let error = tree.lookup(&many).unwrap_err();
        assert!(matches!(error, FsError::Limit { .. }), "{error}");
        // Whoever took that for "not there" hears of it, and so does every later lookup.
        assert!(!tree.exists(&many));
        assert!(tree.check_links().is_err() && tree.clone().check_links().is_err());
        assert!(matches!(tree.lookup(b"a"), Err(FsError::Limit { .. })));
    }
}
