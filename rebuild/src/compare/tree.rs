//! Trees: what the entries of one layer are, and what all layers together become.
//!
//! Layers are changesets (OCI image-spec, layer): later ones replace, `.wh.NAME` removes NAME of
//! the layers below, `.wh..wh..opq` removes everything below in its directory. A hard link shares
//! the file of its target; sharing is part of the tree.
//!
//! Invariant: nothing is ever written to a disk, no link is followed. Where runtimes could come to
//! different trees, an oddity that is not harmless is noted, and then [`same_tree`] is never said.

use super::{
    error::{CompareError, Side},
    image::{ImageBytes, Limits},
    layer::{Budget, LayerFacts, LayerStream},
    tap::LayerName,
    tar::{self, EntryKind, Memory, Oddities, OddityKind, Tail, TarEntry, Visit},
};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};

/// The prefix of a whiteout's name.
const WHITEOUT: &[u8] = b".wh.";
/// The name that empties its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// One entry of a layer.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub tar: TarEntry,
    /// SHA-256 of the content that follows the header (of nothing, for a directory).
    pub content: [u8; 32],
    /// Digest of all its other bytes.
    pub frame: [u8; 32],
    /// The content begins as an ELF file or a script does.
    pub program: bool,
}

impl Entry {
    /// Permission bits with setuid, setgid and sticky.
    pub(super) fn permissions(&self) -> i64 {
        self.tar.mode & 0o7777
    }

    /// True when a container could run it.
    pub(super) fn is_executable(&self) -> bool {
        matches!(self.tar.kind, EntryKind::Regular | EntryKind::HardLink)
            && (self.program || self.tar.mode & 0o111 != 0)
    }
}

/// One layer, examined.
#[derive(Debug)]
pub(super) struct LayerTree {
    /// In the order of the tar.
    pub entries: Vec<Entry>,
    /// The last entry of each path.
    pub by_path: BTreeMap<Vec<u8>, usize>,
    pub oddities: Oddities,
    pub tail: Tail,
    pub facts: LayerFacts,
}

/// Reads layer `index` of an image into a tree.
pub(super) fn read_layer(
    image: &dyn ImageBytes,
    name: LayerName,
    budget: &Budget,
    memory: &Memory,
    limits: &Limits,
) -> Result<LayerTree, CompareError> {
    let source = image.layer(name.index).map_err(|e| name.read_error(e))?;
    let mut stream = LayerStream::open(&name, source, image.layer_form(), budget, limits)?;
    let mut oddities = Oddities::default();
    let mut builder = Builder::default();
    let tail = tar::read(&mut stream, name.side, memory, limits, &mut oddities, &mut builder)?;
    let facts = stream.finish()?;
    let entries = builder.entries;
    let mut by_path = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if by_path.insert(entry.tar.path.clone(), index).is_some() {
            oddities.add(OddityKind::DuplicatePath, &entry.tar.path, "");
        }
    }
    Ok(LayerTree { entries, by_path, oddities, tail, facts })
}

#[derive(Default)]
struct Builder {
    entries: Vec<Entry>,
    hash: Sha256,
    head: Vec<u8>,
}

impl Visit for Builder {
    fn entry(&mut self, tar: TarEntry) {
        self.hash = Sha256::new();
        self.head.clear();
        self.entries.push(Entry { tar, content: [0; 32], frame: [0; 32], program: false });
    }

    fn data(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        let wanted = 4usize.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(bytes.get(..wanted).unwrap_or_default());
    }

    fn end(&mut self, frame: [u8; 32]) {
        if let Some(entry) = self.entries.last_mut() {
            entry.content = std::mem::take(&mut self.hash).finalize().into();
            entry.frame = frame;
            entry.program = self.head.starts_with(b"\x7fELF") || self.head.starts_with(b"#!");
        }
    }
}

/// What a path is in the merged tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    /// Its own header.
    pub entry: &'a Entry,
    /// The layer that has it.
    pub layer: usize,
    /// The entry that has the content: another one for hard links.
    pub file: &'a Entry,
    /// Layer and place of that entry: nodes that share it are one file.
    pub file_id: (usize, usize),
}

/// All layers together.
#[derive(Debug, Default)]
pub(super) struct MergedTree<'a> {
    pub nodes: BTreeMap<&'a [u8], Node<'a>>,
    /// Findings of the merging; those of the layers stay with them.
    pub oddities: Oddities,
}

impl<'a> MergedTree<'a> {
    /// Applies layers from the lowest on.
    pub(super) fn of(layers: &'a [LayerTree]) -> Self {
        let mut tree = Self::default();
        for (index, layer) in layers.iter().enumerate() {
            tree.apply(index, layer);
        }
        tree
    }

    fn apply(&mut self, index: usize, layer: &'a LayerTree) {
        // Whiteouts are about the layers below, wherever they stand in this one.
        for (path, _) in layer.by_path.iter() {
            let Some(hidden) = Hidden::of(path) else { continue };
            match hidden {
                Hidden::Children(parent) => self.remove_children(parent),
                Hidden::Path(target) => {
                    if layer.by_path.contains_key(target.as_slice()) {
                        self.oddities.add(OddityKind::AmbiguousWhiteout, path, "");
                    }
                    self.remove_children(&target);
                    self.nodes.remove(target.as_slice());
                }
                Hidden::Nothing => self.oddities.add(OddityKind::AmbiguousWhiteout, path, ""),
            }
        }
        for (place, entry) in layer.entries.iter().enumerate() {
            let path = entry.tar.path.as_slice();
            if Hidden::of(path).is_none() {
                self.put(path, entry, index, place);
            }
        }
    }

    fn put(&mut self, path: &'a [u8], entry: &'a Entry, layer: usize, place: usize) {
        if let Some(parent) = parent(path)
            && self.nodes.get(parent).is_some_and(|n| n.entry.tar.kind != EntryKind::Directory)
        {
            self.oddities.add(OddityKind::ThroughLink, path, "");
        }
        let (mut file, mut file_id) = (entry, (layer, place));
        if entry.tar.kind == EntryKind::HardLink {
            let mut ignored = Oddities::default();
            let target = tar::clean(&entry.tar.link, EntryKind::Regular, &mut ignored);
            match self.nodes.get(target.as_slice()) {
                Some(node) if node.entry.tar.kind != EntryKind::Directory => {
                    (file, file_id) = (node.file, node.file_id);
                }
                _ => self.oddities.add(OddityKind::DanglingHardLink, path, ""),
            }
            if ignored.ambiguous {
                self.oddities.add(OddityKind::PathNotCanonical, path, "target of a hard link");
            }
        }
        if entry.tar.kind != EntryKind::Directory {
            self.remove_children(path);
        }
        self.nodes.insert(path, Node { entry, layer, file, file_id });
    }

    fn remove_children(&mut self, parent: &[u8]) {
        let mut from = parent.to_vec();
        if !from.is_empty() {
            from.push(b'/');
        }
        let below: Vec<&[u8]> = self
            .nodes
            .range::<[u8], _>((
                std::ops::Bound::Included(from.as_slice()),
                std::ops::Bound::Unbounded,
            ))
            .map(|(path, _)| *path)
            .take_while(|path| path.starts_with(&from))
            .filter(|path| !path.is_empty())
            .collect();
        for path in below {
            self.nodes.remove(path);
        }
    }

    /// For every file: the first of the paths that share it.
    pub(super) fn first_names(&self) -> HashMap<(usize, usize), &'a [u8]> {
        let mut names = HashMap::new();
        for (path, node) in &self.nodes {
            names.entry(node.file_id).or_insert(*path);
        }
        names
    }
}

/// The directory that holds a path; none at the root.
pub(super) fn parent(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|b| *b == b'/')?;
    path.get(..slash)
}

/// What a whiteout removes.
enum Hidden<'a> {
    Children(&'a [u8]),
    Path(Vec<u8>),
    /// A name that only looks like one.
    Nothing,
}

impl<'a> Hidden<'a> {
    fn of(path: &'a [u8]) -> Option<Self> {
        let directory = parent(path);
        let name = match directory {
            Some(directory) => path.get(directory.len() + 1..).unwrap_or_default(),
            None => path,
        };
        let target = name.strip_prefix(WHITEOUT)?;
        if name == OPAQUE {
            return Some(Self::Children(directory.unwrap_or_default()));
        }
        if matches!(target, b"" | b"." | b"..") || target.starts_with(WHITEOUT) {
            return Some(Self::Nothing);
        }
        Some(Self::Path(match directory {
            Some(directory) => [directory, b"/", target].concat(),
            None => target.to_vec(),
        }))
    }
}

/// True for a path that removes others.
pub(super) fn is_whiteout(path: &[u8]) -> bool {
    Hidden::of(path).is_some()
}

/// True when two entries of the same path make the same file, time and tar format aside.
pub(super) fn same_file(a: &Entry, b: &Entry) -> bool {
    let kind = |e: &Entry| match e.tar.kind {
        EntryKind::HardLink => EntryKind::Regular,
        other => other,
    };
    let device = |e: &Entry| match e.tar.kind {
        EntryKind::CharDevice | EntryKind::BlockDevice => Some(e.tar.device),
        _ => None,
    };
    let target = |e: &Entry| match e.tar.kind {
        EntryKind::Symlink => e.tar.link.clone(),
        _ => Vec::new(),
    };
    kind(a) == kind(b)
        && (a.tar.kind == EntryKind::Symlink || a.permissions() == b.permissions())
        && (a.tar.uid, a.tar.gid) == (b.tar.uid, b.tar.gid)
        && a.tar.xattrs == b.tar.xattrs
        && device(a) == device(b)
        && target(a) == target(b)
}

/// True when two sets of layers become the same files, whatever order, times, format or split.
/// Never true where runtimes could differ about either of them.
pub(super) fn same_tree(
    a: (&[LayerTree], &MergedTree<'_>),
    b: (&[LayerTree], &MergedTree<'_>),
) -> bool {
    let ((a, merged_a), (b, merged_b)) = (a, b);
    let ambiguous = |layers: &[LayerTree], merged: &MergedTree<'_>| {
        merged.oddities.ambiguous || layers.iter().any(|l| l.oddities.ambiguous)
    };
    if ambiguous(a, merged_a) || ambiguous(b, merged_b) {
        return false;
    }
    let (names_a, names_b) = (merged_a.first_names(), merged_b.first_names());
    merged_a.nodes.len() == merged_b.nodes.len()
        && merged_a.nodes.iter().zip(&merged_b.nodes).all(|((path_a, x), (path_b, y))| {
            path_a == path_b
                && same_file(x.entry, y.entry)
                && x.file.content == y.file.content
                && x.file.tar.stored_size == y.file.tar.stored_size
                && names_a.get(&x.file_id) == names_b.get(&y.file_id)
        })
}

/// Which image and layer, for [`read_layer`].
pub(super) fn name(side: Side, index: usize) -> LayerName {
    LayerName { side, index }
}
