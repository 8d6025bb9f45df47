//! The bytes of a file in the tree: what the build wrote, or what a package brought.
//!
//! Invariant: content of packages is read in pieces from where the package keeps it; only small
//! files that the build has to understand (accounts, bundles, configuration) are read whole, and
//! those have a limit.

use super::{
    error::AssembleError,
    fs::{FileTree, FsError, Node, NodeId},
    install::Packages,
};
use std::io::{self, Cursor, Read};

/// Bytes of a file that is read whole. CA bundles have some 200 KiB, Java's trust store the same.
const WHOLE_BYTES_MAX: u64 = 64 << 20;

/// A reader over the content of a node.
pub enum Content<'a> {
    /// Written by the build.
    Written(Cursor<&'a [u8]>),
    /// From a package.
    Packaged(crate::apk::package::Content),
}

impl Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Written(bytes) => bytes.read(buf),
            Self::Packaged(content) => content.read(buf),
        }
    }
}

impl<'a> Packages<'a> {
    /// The content of a file.
    pub fn content<'n>(&self, node: &'n Node) -> Content<'n> {
        match node.reads_backing() {
            Some(backing) => Content::Packaged(self.package(backing).content(self.entry(backing))),
            None => Content::Written(Cursor::new(&node.data)),
        }
    }

    /// How long the content of a file is.
    pub fn size(&self, node: &Node) -> u64 {
        match node.reads_backing() {
            Some(backing) => self.header(backing).size,
            None => node.data.len() as u64,
        }
    }

    /// The whole content of a file.
    pub fn read(&self, tree: &FileTree, id: NodeId) -> Result<Vec<u8>, AssembleError> {
        let node = tree.node(id);
        let size = self.size(node);
        if size > WHOLE_BYTES_MAX {
            let what = "bytes of a file that the build reads";
            let found = size.to_string();
            return Err(AssembleError::Limit { what, limit: WHOLE_BYTES_MAX, found });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        self.content(node).read_to_end(&mut bytes).map_err(|source| AssembleError::Io {
            doing: "reading the unpacked data of a package".into(),
            source,
        })?;
        Ok(bytes)
    }

    /// The whole content of the file at a path, links followed; none if it is not there.
    pub fn read_path(
        &self,
        tree: &mut FileTree,
        path: &str,
        step: &'static str,
    ) -> Result<Option<(NodeId, Vec<u8>)>, AssembleError> {
        match tree.open(path.as_bytes(), None) {
            Ok(id) => Ok(Some((id, self.read(tree, id)?))),
            Err(FsError::NotFound(_)) => Ok(None),
            Err(error) => Err(AssembleError::in_step(step)(error)),
        }
    }
}
