//! Contents of the few files that an explanation looks into, taken in one more pass over layers.
//!
//! Invariant: what is kept is bounded for each file and for all; a file beyond the bound is kept
//! from its beginning and marked as incomplete, and nothing that needs the whole is said of it.

use super::{
    error::{CompareError, Side},
    image::{ImageBytes, Limits},
    layer::{Budget, LayerStream},
    tar::{self, Memory, Oddities, TarEntry, Visit},
    tree,
};
use std::collections::{BTreeMap, BTreeSet};

/// A file's bytes from its beginning.
#[derive(Debug, Clone, Default)]
pub(super) struct Captured {
    pub bytes: Vec<u8>,
    pub size: u64,
}

impl Captured {
    /// True when nothing is missing.
    pub(super) fn is_complete(&self) -> bool {
        self.bytes.len() as u64 == self.size
    }
}

/// What to take: paths by layer, and paths that are taken wherever they are.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub by_layer: BTreeMap<usize, BTreeSet<Vec<u8>>>,
    pub everywhere: BTreeSet<Vec<u8>>,
}

/// What was taken, by layer and path.
pub(super) type Captures = BTreeMap<(usize, Vec<u8>), Captured>;

/// Takes contents from one image of `layers` layers.
pub(super) fn capture(
    image: &dyn ImageBytes,
    side: Side,
    layers: usize,
    request: &Request,
    limits: &Limits,
) -> Result<Captures, CompareError> {
    let mut captures = Captures::new();
    let (budget, memory) = (Budget::default(), Memory::default());
    let mut left = limits.capture_bytes_max;
    let none = BTreeSet::new();
    for index in 0..layers {
        let wanted = request.by_layer.get(&index).unwrap_or(&none);
        if wanted.is_empty() && request.everywhere.is_empty() {
            continue;
        }
        let name = tree::name(side, index);
        let source = image.layer(index).map_err(|e| name.read_error(e))?;
        let form = image.layer_form();
        let mut stream = LayerStream::open(&name, source, form, &budget, limits)?;
        let mut taker = Taker {
            layer: index,
            wanted,
            everywhere: &request.everywhere,
            file_bytes_max: limits.capture_file_bytes_max,
            left: &mut left,
            captures: &mut captures,
            present: None,
        };
        let mut ignored = Oddities::default();
        tar::read(&mut stream, side, &memory, limits, &mut ignored, &mut taker)?;
    }
    Ok(captures)
}

struct Taker<'a> {
    layer: usize,
    wanted: &'a BTreeSet<Vec<u8>>,
    everywhere: &'a BTreeSet<Vec<u8>>,
    file_bytes_max: u64,
    left: &'a mut u64,
    captures: &'a mut Captures,
    present: Option<(Vec<u8>, Captured, bool)>,
}

impl Visit for Taker<'_> {
    fn entry(&mut self, entry: TarEntry) {
        // Databases have a bound of their own, so that what comes before cannot use it up.
        let database = self.everywhere.contains(&entry.path);
        if database || self.wanted.contains(&entry.path) {
            let captured = Captured { bytes: Vec::new(), size: entry.stored_size };
            self.present = Some((entry.path, captured, database));
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        let Some((_, captured, database)) = &mut self.present else { return };
        let room = self.file_bytes_max.saturating_sub(captured.bytes.len() as u64);
        let room = if *database { room } else { room.min(*self.left) };
        let count = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        captured.bytes.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if !*database {
            *self.left -= count as u64;
        }
    }

    fn end(&mut self, _frame: [u8; 32]) {
        if let Some((path, captured, _)) = self.present.take() {
            self.captures.insert((self.layer, path), captured);
        }
    }
}
