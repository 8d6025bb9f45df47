//! What one layer holds, entry by entry, as the comparison reads it: for tools that look at a
//! layer by itself, and for holding this reader against others.
//!
//! Invariant: the listing is exactly what the comparison sees, oddities included; bytes that differ
//! in any place give another listing. It judges nothing and keeps no contents.

use super::{
    error::{CompareError, Side},
    image::{LayerForm, Limits},
    layer::{Budget, LayerStream},
    tap::LayerName,
    tar::{self, EntryKind, Memory, Oddities, OddityKind, TarEntry, Visit},
};
use attest::Digest;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, io::Read};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// The path below the root, cleaned.
    pub path: Vec<u8>,
    /// `file`, `hard link`, `symlink`, `directory`…
    pub kind: String,
    /// The mode as it stands.
    pub mode: i64,
    /// The owner's and the group's number.
    pub owner: (i64, i64),
    /// Seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// The target of a link.
    pub link: Vec<u8>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes of content.
    pub size: u64,
    /// Of the content.
    pub content: Digest,
    /// Of everything else that belongs to the entry: headers and padding.
    pub frame: Digest,
}

/// A layer's entries and what was odd about them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of the archive.
    pub entries: Vec<ListedEntry>,
    /// Whatever two readers could see differently: the words for it, and the path.
    pub oddities: Vec<(&'static str, Vec<u8>)>,
    /// True where an oddity is not harmless: runtimes may see other files.
    pub ambiguous: bool,
    /// True where the archive breaks off or turns into something else.
    pub broken: bool,
    /// Bytes from the first zero block on, and their digest; none before reading.
    pub tail: Option<(u64, Digest)>,
}

/// Lists a blob (compressed or not) or a tar.
pub fn list_layer(
    blob: &mut dyn Read,
    form: LayerForm,
    limits: &Limits,
) -> Result<Listing, CompareError> {
    let name = LayerName { side: Side::Published, index: 0 };
    let (budget, memory) = (Budget::default(), Memory::default());
    let mut stream = LayerStream::open(&name, Box::new(blob), form, &budget, limits)?;
    let (mut oddities, mut lister) = (Oddities::default(), Lister::default());
    let tail =
        tar::read(&mut stream, Side::Published, &memory, limits, &mut oddities, &mut lister)?;
    let broken = oddities.list.iter().any(|oddity| oddity.kind == OddityKind::Broken);
    Ok(Listing {
        entries: lister.entries,
        ambiguous: oddities.ambiguous,
        // Beyond what is kept in full nobody knows the kinds: it counts as broken.
        broken: broken || oddities.count > oddities.list.len() as u64,
        oddities: oddities.list.into_iter().map(|o| (o.kind.as_str(), o.path)).collect(),
        tail: Some((tail.size, Digest::from_raw(tail.digest))),
    })
}

#[derive(Default)]
struct Lister {
    entries: Vec<ListedEntry>,
    content: Sha256,
}

impl Visit for Lister {
    fn entry(&mut self, entry: TarEntry) {
        self.content = Sha256::new();
        let kind = match entry.kind {
            EntryKind::Other(_) => "other".to_owned(),
            known => known.text(),
        };
        self.entries.push(ListedEntry {
            path: entry.path,
            kind,
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            mtime: entry.mtime,
            link: entry.link,
            xattrs: entry.xattrs,
            size: entry.stored_size,
            content: Digest::of(b""),
            frame: Digest::of(b""),
        });
    }

    fn data(&mut self, bytes: &[u8]) {
        self.content.update(bytes);
    }

    fn end(&mut self, frame: [u8; 32]) {
        if let Some(entry) = self.entries.last_mut() {
            entry.content = Digest::from_raw(std::mem::take(&mut self.content).finalize().into());
            entry.frame = Digest::from_raw(frame);
        }
    }
}
