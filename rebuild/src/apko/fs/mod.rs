//! The file system that apko builds in memory, with the semantics that show in an image's bytes.
//!
//! Invariant: every node is reachable by exactly the names that were made for it, a directory by
//! one only, so a walk always ends. Nothing here touches the host's file system, follows a link of
//! the host, or trusts a name: depth, path length and the number of nodes are bounded.

pub mod node;
pub mod path;
pub mod tree;
pub mod walk;

pub use node::{Backing, Kind, Node, NodeId};
pub use tree::{FileTree, FsError};
