//! Explanations: events collected, looked into, sorted, and written as canonical JSON.
//!
//! Invariant: the bytes depend on the two images, the limits and [`DETECTOR`] alone. When there are
//! more events than the limit, those with the most weight are kept; which ones does not depend on
//! the order in which they were found, and the others are counted by kind.

use super::{
    capture::{Captured, Captures, Request, capture},
    cause::{CAUSES_VERSION, CauseCode},
    content,
    error::{CompareError, Side},
    event::{Event, Kind, Weight, shown_bytes},
    image::{ImageBytes, Limits},
    packages::{DATABASES, Database, Packages},
};
use attest::{Digest, Level, canonical};
use serde::{Deserialize, Serialize};
use sha1::Digest as _;
use std::collections::{BTreeMap, BTreeSet};

/// Name and version of the code that finds differences and causes. It changes whenever the same
/// two images would be explained otherwise.
pub const DETECTOR: &str = "assay-compare/1";

/// The schema of [`Explanation`].
const SCHEMA: &str = "assay/explanation/v1";

/// How many sentences `security` holds.
const SECURITY_MAX: usize = 100;

/// Why two images differ. Its canonical bytes are stored as evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    /// `assay/explanation/v1`.
    pub schema: String,
    /// [`DETECTOR`].
    pub detector: String,
    /// [`CAUSES_VERSION`].
    pub causes_version: u32,
    /// What the comparison came to.
    pub level: Level,
    /// How many differences there are, in all.
    pub differences: u64,
    /// How many of them are not in `events`.
    pub cut: u64,
    /// How many there are of each kind, the ones cut included.
    pub kinds: BTreeMap<Kind, u64>,
    /// The codes of all causes in `events`, sorted.
    pub causes: Vec<CauseCode>,
    /// What the differences let a container do, or let it trust, in sentences.
    pub security: Vec<String>,
    /// How many such sentences were cut.
    pub security_cut: u64,
    /// For each layer that differs: where its tar first does.
    pub layers: Vec<LayerDifference>,
    /// The differences, sorted by scope, layer, path and kind.
    pub events: Vec<Event>,
}

/// Stored bytes that are no explanation of this schema and taxonomy.
#[derive(Debug, thiserror::Error)]
pub enum ExplanationError {
    /// Not the JSON that this version writes.
    #[error("expected an explanation with the kinds and causes of version {CAUSES_VERSION}: {0}")]
    Json(#[from] serde_json::Error),
    /// Another schema.
    #[error("expected the schema {SCHEMA}, found {found:?}")]
    Schema {
        /// What stood there.
        found: String,
    },
}

/// Where the tar of a layer first differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerDifference {
    /// Counted from 0.
    pub layer: u32,
    /// The entry that comes first in the published tar; none if only the end or the order differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<FirstEntry>,
}

/// The first differing entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstEntry {
    /// Its path.
    pub path: String,
    /// What differs in it.
    pub fields: Vec<Kind>,
    /// Offset of its header in the published tar, uncompressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a_offset: Option<u64>,
    /// The same in the rebuilt tar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b_offset: Option<u64>,
}

impl Explanation {
    /// Reads an explanation that was stored, for showing it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ExplanationError> {
        let read: Self = serde_json::from_slice(bytes)?;
        if read.schema != SCHEMA {
            let found = read.schema.chars().take(64).collect();
            return Err(ExplanationError::Schema { found });
        }
        Ok(read)
    }

    /// True when the published image differs in nothing but files that it has below `folder` and
    /// the rebuilt one has not. False where events were cut: nobody knows then.
    pub fn only_adds_below(&self, folder: &str) -> bool {
        let below = |path: &str| path.strip_prefix(folder).is_some_and(|p| p.starts_with('/'));
        let added = |event: &Event| {
            event.kind == Kind::FileAdded && event.path.as_deref().is_some_and(below)
        };
        self.cut == 0 && !self.events.is_empty() && self.events.iter().all(added)
    }

    /// The bytes that are stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CompareError> {
        Ok(canonical::to_vec(self)?)
    }

    /// The digest of those bytes.
    pub fn digest(&self) -> Result<Digest, CompareError> {
        Ok(Digest::of(&self.to_bytes()?))
    }
}

/// Where the contents of an event's file are: layer and path on each side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The path as it is.
    pub path: Vec<u8>,
    pub a: (usize, Vec<u8>),
    pub b: (usize, Vec<u8>),
}

/// Keeps the events that matter most, and counts all.
pub(super) struct Collector {
    kept: BTreeMap<(Weight, Event), Option<Wanted>>,
    kept_max: usize,
    kinds: BTreeMap<Kind, u64>,
    total: u64,
    security: u64,
    layers: BTreeMap<u32, Option<FirstEntry>>,
}

impl Collector {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            kept: BTreeMap::new(),
            kept_max: limits.events_max,
            kinds: BTreeMap::new(),
            total: 0,
            security: 0,
            layers: BTreeMap::new(),
        }
    }

    /// How many events came so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn push(&mut self, event: Event) {
        self.push_with(event, None);
    }

    /// Adds an event whose file can be looked into.
    pub(super) fn push_with(&mut self, event: Event, wanted: Option<Wanted>) {
        let key = (event.weight(), event);
        if self.kept.contains_key(&key) {
            return;
        }
        self.total += 1;
        *self.kinds.entry(key.1.kind).or_default() += 1;
        self.security += u64::from(key.1.security.is_some());
        self.kept.insert(key, wanted);
        if self.kept.len() > self.kept_max {
            self.kept.pop_last();
        }
    }

    /// Notes that a layer's tar differs, and where first.
    pub(super) fn layer_differs(&mut self, layer: usize, first: Option<FirstEntry>) {
        self.layers.insert(u32::try_from(layer).unwrap_or(u32::MAX), first);
    }

    /// Looks into files and writes the explanation.
    pub(super) fn finish(
        self,
        level: Level,
        published: (&dyn ImageBytes, usize),
        rebuilt: (&dyn ImageBytes, usize),
        limits: &Limits,
    ) -> Result<Explanation, CompareError> {
        let mut kept: Vec<(Event, Option<Wanted>)> =
            self.kept.into_iter().map(|((_, event), wanted)| (event, wanted)).collect();
        look_into_files(&mut kept, published, rebuilt, limits)?;
        let mut events: Vec<Event> = kept.into_iter().map(|(event, _)| event).collect();
        for event in &mut events {
            event.causes.sort();
            event.causes.dedup();
        }
        events.sort();
        let mut by_weight: Vec<&Event> = events.iter().collect();
        by_weight.sort_by_key(|event| (event.weight(), event.kind));
        let mut security: Vec<String> = Vec::new();
        for sentence in by_weight.iter().filter_map(|event| event.security.as_ref()) {
            if security.len() < SECURITY_MAX && !security.contains(sentence) {
                security.push(sentence.clone());
            }
        }
        let causes: BTreeSet<CauseCode> =
            events.iter().flat_map(|event| event.causes.iter().map(|cause| cause.code)).collect();
        let layers = self.layers.into_iter().map(|(layer, first)| LayerDifference { layer, first });
        Ok(Explanation {
            schema: SCHEMA.to_owned(),
            detector: DETECTOR.to_owned(),
            causes_version: CAUSES_VERSION,
            level,
            differences: self.total,
            cut: self.total.saturating_sub(events.len() as u64),
            kinds: self.kinds,
            causes: causes.into_iter().collect(),
            security_cut: self.security.saturating_sub(security.len() as u64),
            security,
            layers: layers.collect(),
            events,
        })
    }
}

/// Adds offsets, and the causes that need contents and package databases.
fn look_into_files(
    kept: &mut [(Event, Option<Wanted>)],
    published: (&dyn ImageBytes, usize),
    rebuilt: (&dyn ImageBytes, usize),
    limits: &Limits,
) -> Result<(), CompareError> {
    let about_files =
        |kind: Kind| matches!(kind, Kind::FileContent | Kind::FileAdded | Kind::FileRemoved);
    if !kept.iter().any(|(event, _)| about_files(event.kind)) {
        return Ok(());
    }
    let everywhere: BTreeSet<Vec<u8>> =
        DATABASES.iter().map(|path| path.as_bytes().to_vec()).collect();
    let mut request_a = Request { everywhere: everywhere.clone(), ..Request::default() };
    let mut request_b = Request { everywhere, ..Request::default() };
    for wanted in kept.iter().filter_map(|(_, wanted)| wanted.as_ref()) {
        request_a.by_layer.entry(wanted.a.0).or_default().insert(wanted.a.1.clone());
        request_b.by_layer.entry(wanted.b.0).or_default().insert(wanted.b.1.clone());
    }
    let a = capture(published.0, Side::Published, published.1, &request_a, limits)?;
    let b = capture(rebuilt.0, Side::Rebuilt, rebuilt.1, &request_b, limits)?;
    let (database_a, database_b) = (database(&a), database(&b));
    let packages = Packages::new(&database_a, &database_b);
    for (event, wanted) in kept.iter_mut().filter(|(event, _)| about_files(event.kind)) {
        let Some(path) = event.path.clone() else { continue };
        if DATABASES.contains(&path.as_str()) {
            event.causes.extend(packages.drift());
        } else {
            event.causes.extend(packages.of_file(&path));
        }
        match wanted {
            Some(wanted) => {
                if let (Some(x), Some(y)) = (a.get(&wanted.a), b.get(&wanted.b)) {
                    event.bytes = Some(content::first_difference(x, y));
                    event.causes.extend(content::causes(&shown_bytes(&wanted.path), x, y));
                    if x.is_complete() && y.is_complete() {
                        let sha1 = |c: &Captured| sha1::Sha1::digest(&c.bytes).into();
                        event.causes.extend(packages.altered(&path, sha1(x), sha1(y)));
                    }
                }
            }
            None if event.kind == Kind::FileAdded && !is_folder(event) => {
                event.causes.extend(packages.unowned(&path));
            }
            None => {}
        }
    }
    Ok(())
}

fn is_folder(event: &Event) -> bool {
    event.a.as_deref().is_some_and(|text| text.starts_with("directory"))
}

/// The databases of an image: of each path the one in the highest layer.
fn database(captures: &Captures) -> Database {
    let mut database = Database::default();
    for path in DATABASES {
        let highest =
            captures.iter().rev().find(|((_, found), _)| found.as_slice() == path.as_bytes());
        // Half a database would disown the files of its other half.
        if let Some((_, captured)) = highest.filter(|(_, captured)| captured.is_complete()) {
            database.read(path, &captured.bytes);
        }
    }
    database
}
