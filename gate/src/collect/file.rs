//! Evidence from files and folders.
//!
//! A file holds one set (`assay/evidence/v1`), or a bundle:
//! ```text
//! {"schema":"assay/bundle/v1","sets":[<set>,…]}
//! ```
//! Invariant: every set is read by `EvidenceSet::parse`, which checks its digests. In a folder,
//! JSON with another schema (reports, explanations) is passed over; what is no JSON at all, or says
//! that it is evidence and is not, or is of another version, is an error: half a file could be the
//! half with the dissent. For the same reason nothing is left out because it could not be looked
//! at: a link whose target is away is an error. Links are followed, and a folder that several ways
//! lead to is read once. Reads only; the order of names decides nothing.

use crate::error::GateError;
use attest::evidence_set::{
    EVIDENCE_SET_BYTES_MAX, EVIDENCE_SET_SCHEMA, EvidenceSet, EvidenceSetError,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The schema of a bundle of sets.
pub const BUNDLE_SCHEMA: &str = "assay/bundle/v1";
/// Most files of one folder: a repository's images of some years.
pub const FILES_MAX: u64 = 4096;
/// Most bytes of one folder, or of one bundle: eight of the largest sets.
pub const TOTAL_BYTES_MAX: u64 = 8 * EVIDENCE_SET_BYTES_MAX as u64;
/// Folders in folders: `--keep DIR` has DIR/evidence/REPOSITORY/….
const DEPTH_MAX: usize = 4;
/// Most entries of all folders that are looked at: an OCI layout's blobs may be among them.
const ENTRIES_MAX: u64 = 65_536;

/// A set that came from a file.
#[derive(Debug, Clone)]
pub struct Local {
    /// The file.
    pub uri: String,
    /// The set.
    pub set: EvidenceSet,
    /// The file itself was named, and holds nothing else: it has to be about what is asked for.
    pub named: bool,
}

/// Just enough to know what a file is.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    schema: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireBundle {
    schema: String,
    sets: Vec<Box<RawValue>>,
}

fn unreadable(path: &Path, error: &io::Error) -> GateError {
    GateError::File {
        uri: path.display().to_string(),
        expected: "a readable file or folder with evidence",
        found: error.to_string(),
    }
}

/// Reads a file or a folder.
pub fn read(path: &Path) -> Result<Vec<Local>, GateError> {
    let about = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if about.is_dir() {
        let mut folder = Folder::default();
        folder.walk(path, 0)?;
        return Ok(folder.found);
    }
    let (sets, uri) = (file(path, TOTAL_BYTES_MAX)?.1, path.display().to_string());
    match sets {
        Some(sets) => {
            let named = sets.len() == 1;
            Ok(locals(&uri, sets, named))
        }
        None => Err(GateError::File {
            uri,
            expected: "evidence (schema assay/evidence/v1 or assay/bundle/v1)",
            found: "JSON with another schema".into(),
        }),
    }
}

fn locals(uri: &str, sets: Vec<EvidenceSet>, named: bool) -> Vec<Local> {
    sets.into_iter().map(|set| Local { uri: uri.to_owned(), set, named }).collect()
}

/// A folder while it is read.
#[derive(Default)]
struct Folder {
    found: Vec<Local>,
    /// The real names of the folders in it that were read.
    seen: BTreeSet<PathBuf>,
    entries: u64,
    files: u64,
    bytes: u64,
}

impl Folder {
    fn walk(&mut self, folder: &Path, depth: usize) -> Result<(), GateError> {
        let failed = |error: io::Error| unreadable(folder, &error);
        let uri = || folder.display().to_string();
        if !self.seen.insert(fs::canonicalize(folder).map_err(failed)?) {
            return Ok(());
        }
        if depth > DEPTH_MAX {
            return Err(GateError::TooMany { uri: uri(), max: DEPTH_MAX as u64, unit: "levels" });
        }
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(GateError::TooMany { uri: uri(), max: ENTRIES_MAX, unit: "entries" });
            }
            let entry = entry.map_err(failed)?;
            paths.push((entry.path(), entry.file_type().map_err(failed)?));
        }
        paths.sort_by(|(a, _), (b, _)| a.cmp(b));
        let is_layout = folder.join("oci-layout").is_file();
        for (path, listed) in paths {
            let is_json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
            // The blobs of a layout are found by what is attached, not by their names.
            let is_blobs = is_layout && path.file_name() == Some(OsStr::new("blobs"));
            if is_blobs || (listed.is_file() && !is_json) {
                continue;
            }
            let kind = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.file_type();
            if kind.is_dir() {
                self.walk(&path, depth + 1)?;
            } else if is_json && kind.is_file() {
                self.file(&path)?;
            } else if is_json {
                return Err(GateError::File {
                    uri: path.display().to_string(),
                    expected: "a file or a folder",
                    found: "something else".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), GateError> {
        let uri = path.display().to_string();
        self.files += 1;
        if self.files > FILES_MAX {
            return Err(GateError::TooMany { uri, max: FILES_MAX, unit: "files" });
        }
        let (bytes, sets) = file(path, TOTAL_BYTES_MAX.saturating_sub(self.bytes))?;
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(sets) = sets {
            self.found.extend(locals(&uri, sets, false));
        }
        Ok(())
    }
}

/// The size of a file and its sets; none where it is JSON of another schema.
fn file(path: &Path, bytes_max: u64) -> Result<(u64, Option<Vec<EvidenceSet>>), GateError> {
    let uri = path.display().to_string();
    let mut bytes = Vec::new();
    let opened = File::open(path).map_err(|error| unreadable(path, &error))?;
    opened
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    let size = bytes.len() as u64;
    if size > bytes_max {
        return Err(GateError::TooMany { uri, max: bytes_max, unit: "bytes" });
    }
    Ok((size, sets(&uri, &bytes)?))
}

/// The sets in a file's bytes; none where it is JSON of another schema.
pub fn sets(uri: &str, bytes: &[u8]) -> Result<Option<Vec<EvidenceSet>>, GateError> {
    let failed = |error| GateError::Evidence { uri: uri.to_owned(), error };
    // Lists and texts are JSON, but nothing that says of itself what it is.
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let head: Head = if first == Some(&b'{') {
        serde_json::from_slice(bytes).map_err(|error| failed(error.into()))?
    } else {
        let _: serde::de::IgnoredAny =
            serde_json::from_slice(bytes).map_err(|error| failed(error.into()))?;
        Head { schema: None }
    };
    match head.schema.as_ref().and_then(|schema| schema.as_str()) {
        Some(EVIDENCE_SET_SCHEMA) => Ok(Some(vec![EvidenceSet::parse(bytes).map_err(failed)?])),
        Some(BUNDLE_SCHEMA) => {
            let wire: WireBundle =
                serde_json::from_slice(bytes).map_err(|error| failed(error.into()))?;
            let read = |set: &RawValue| EvidenceSet::parse(set.get().as_bytes()).map_err(failed);
            wire.sets.iter().map(|set| read(set)).collect::<Result<_, _>>().map(Some)
        }
        // Of a version that this one cannot read: what it says is not nothing.
        Some(schema) if is_evidence(schema) => Err(GateError::File {
            uri: uri.to_owned(),
            expected: "evidence of schema assay/evidence/v1 or assay/bundle/v1, or a newer assay",
            found: schema.chars().take(200).collect(),
        }),
        _ => Ok(None),
    }
}

/// True for evidence of any version.
fn is_evidence(schema: &str) -> bool {
    [EVIDENCE_SET_SCHEMA, BUNDLE_SCHEMA]
        .into_iter()
        .filter_map(|known| known.strip_suffix("v1"))
        .any(|known| schema.starts_with(known))
}

/// The bytes of a bundle: canonical sets, in the order of their subjects.
pub fn bundle(sets: &[EvidenceSet]) -> Result<Vec<u8>, EvidenceSetError> {
    let mut sorted: Vec<&EvidenceSet> = sets.iter().collect();
    sorted.sort_by(|a, b| (a.source, &a.subject).cmp(&(b.source, &b.subject)));
    let raw = |set: &&EvidenceSet| -> Result<Box<RawValue>, EvidenceSetError> {
        let json = String::from_utf8_lossy(&set.to_canonical_json()?).into_owned();
        Ok(RawValue::from_string(json)?)
    };
    let sets = sorted.iter().map(raw).collect::<Result<_, _>>()?;
    Ok(serde_json::to_vec(&WireBundle { schema: BUNDLE_SCHEMA.to_owned(), sets })?)
}

/// The name of a set's file in a folder: `<manifest digest>-<platform>.json`.
pub fn name_of(set: &EvidenceSet) -> PathBuf {
    let platform = set.subject.platform.to_string().replace('/', "-");
    PathBuf::from(format!("{}-{platform}.json", set.subject.digest.fallback_tag()))
}
