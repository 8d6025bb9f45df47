//! One node of the tree: a directory, a file, a symlink or a character device.
//!
//! Invariant: a node keeps the package entry that backs it even after its content was replaced, as
//! apko does: an edited `etc/passwd` stays in its package's layer. Content of a package never sits
//! here; only what the build itself wrote does.

use std::collections::BTreeMap;

/// Where a node is in its tree. Only the tree that made it can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

/// The package entry that a file or symlink came from, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backing {
    /// Which of the packages, in installation order.
    pub package: u32,
    /// Which of the entries of that package.
    pub entry: u32,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Names in byte order, which is the order of the walk.
    Directory(BTreeMap<Vec<u8>, NodeId>),
    /// A regular file.
    Regular,
    /// A symlink and where it points, as written.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u64,
        /// Minor number.
        minor: u64,
    },
}

/// A node with everything that a tar header will need.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// The 12 permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970; 0 where nobody set it.
    pub mtime: i64,
    /// What the build wrote. Empty for a backed file means: the content of the backing.
    pub data: Vec<u8>,
    /// The package entry behind it.
    pub backing: Option<Backing>,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Names under which packages hard-linked this node, with the entries that did.
    pub hard_links: BTreeMap<Vec<u8>, Backing>,
    /// Directories above it.
    pub(super) depth: u16,
    /// Bytes of its path.
    pub(super) path_len: u16,
}

impl Node {
    pub(super) fn new(kind: Kind, mode: u32, mtime: i64) -> Self {
        Self {
            kind,
            mode: mode & 0o7777,
            uid: 0,
            gid: 0,
            mtime,
            data: Vec::new(),
            backing: None,
            xattrs: BTreeMap::new(),
            hard_links: BTreeMap::new(),
            depth: 0,
            path_len: 0,
        }
    }

    /// True for a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// True for a regular file.
    pub fn is_regular(&self) -> bool {
        matches!(self.kind, Kind::Regular)
    }

    /// The children of a directory; none for anything else.
    pub fn children(&self) -> Option<&BTreeMap<Vec<u8>, NodeId>> {
        match &self.kind {
            Kind::Directory(children) => Some(children),
            _ => None,
        }
    }

    /// The package entry whose content this node still has. apko reads a backed file that was
    /// truncated to nothing as its original content, so an empty overwrite changes nothing.
    pub fn reads_backing(&self) -> Option<Backing> {
        self.backing.filter(|_| self.data.is_empty())
    }
}
