//! OCI image layouts, read (OCI image-spec 1.1, image-layout.md).
//!
//! A layout holds many repositories: the part of `org.opencontainers.image.ref.name` before the
//! last `:` is the repository, the part after it the tag; a name without a colon is a repository
//! of its own, and entries without a name form the repository [`UNNAMED`].
//! Invariant: what is asked of one repository is answered from the entries of that repository
//! alone, although all share one blob folder: an image's evidence must not help its byte-equal
//! twin elsewhere. Every byte handed out was compared with its descriptor's size and digest.
//! It must never follow a link out of the folder, nor wait on a pipe or a device.

pub mod writer;

use crate::{
    error::Error,
    manifest::{self, Descriptor, Document},
    media,
    reference::{self, LayoutTarget, Tag},
    resolved::Resolved,
};
use attest::{Digest, Repository};
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::Read,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// The annotation that names an entry.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The repository of entries without a name.
pub const UNNAMED: &str = "unnamed";
/// `oci-layout` is one short JSON object.
const MARKER_BYTES_MAX: u64 = 4096;
/// Manifests that one repository may reach: 65,536, a hundred for each tag of a large repository.
const MEMBERS_MAX: usize = 1 << 16;

/// An opened layout: its entries as they were when it was opened.
#[derive(Debug, Clone)]
pub struct Layout {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    entries: Vec<Entry>,
    members: Mutex<HashMap<Repository, Arc<Members>>>,
}

/// One entry of `index.json`.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The repository of the entry's name.
    pub repository: Repository,
    /// The tag of the entry's name.
    pub tag: Option<Tag>,
    /// What the entry points at.
    pub descriptor: Descriptor,
}

/// The manifests of one repository: its entries, and what the indexes among them list.
type Members = BTreeMap<Digest, Descriptor>;

impl Layout {
    /// Opens the layout in this folder and reads its `index.json`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let root = std::fs::canonicalize(dir).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(format!("layout {}", dir.display())),
            _ => Error::io("open", dir, error),
        })?;
        let marker = read_file(&root, Path::new("oci-layout"), MARKER_BYTES_MAX)?;
        check_marker(&marker)?;
        let index = read_file(&root, Path::new("index.json"), media::INDEX_JSON_BYTES_MAX)?;
        let entries = read_index_json(&index)?;
        Ok(Self { inner: Arc::new(Inner { root, entries, members: Mutex::default() }) })
    }

    /// Every named or unnamed entry, in the order of `index.json`.
    pub fn entries(&self) -> &[Entry] {
        &self.inner.entries
    }

    /// The repositories of the layout, sorted.
    pub fn repositories(&self) -> Vec<Repository> {
        let mut all: Vec<_> = self.entries().iter().map(|e| e.repository.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The manifest or index that the target names.
    pub fn resolve(&self, target: &LayoutTarget) -> Result<Resolved, Error> {
        match target {
            LayoutTarget::Tagged(repository, tag) => match self.tag(repository, tag)? {
                Some(digest) => self.manifest(repository, &digest),
                None => Err(self.no_entry(&format!("{repository}:{tag}"))),
            },
            LayoutTarget::Named(repository) => {
                let all = self.entries().iter().filter(|e| e.repository == *repository);
                match only(all.filter(|e| e.tag.is_none()), repository.as_str())? {
                    Some(digest) => self.manifest(repository, &digest),
                    None => Err(self.no_entry(repository.as_str())),
                }
            }
            LayoutTarget::Digest(Some(repository), digest) => self.manifest(repository, digest),
            LayoutTarget::Digest(None, digest) => match self.repositories().as_slice() {
                [only] => self.manifest(only, digest),
                several => Err(Error::malformed(
                    "the layout",
                    "one repository, because the reference names none",
                    format!("{} repositories", several.len()),
                )),
            },
        }
    }

    /// The digest that a tag names; none if the layout has no such entry.
    pub fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, Error> {
        let named = self
            .entries()
            .iter()
            .filter(|e| e.repository == *repository && e.tag.as_ref() == Some(tag));
        only(named, &format!("{repository}:{tag}"))
    }

    /// A manifest or index of this repository, by digest.
    pub fn manifest(&self, repository: &Repository, digest: &Digest) -> Result<Resolved, Error> {
        let what = format!("manifest {repository}@{digest}");
        let members = self.members(repository)?;
        let Some(descriptor) = members.get(digest) else {
            return Err(Error::not_found(format!("{what} in the layout")));
        };
        let bytes = self.read_blob(descriptor, media::MANIFEST_BYTES_MAX, &what)?;
        let (media_type, _) = manifest::read(&bytes, Some(&descriptor.media_type), &what)?;
        Ok(Resolved { repository: repository.clone(), digest: *digest, media_type, bytes })
    }

    /// The descriptors of what says that it is about `digest`: the fallback tag's entries, and the
    /// repository's entries whose `subject` it is.
    pub fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut found: BTreeMap<Digest, Descriptor> = BTreeMap::new();
        if let Some(tagged) = self.tag(repository, &Tag::fallback_of(digest))? {
            let resolved = self.manifest(repository, &tagged)?;
            let what = format!("the referrers tag of {repository}@{digest}");
            let index =
                manifest::read_image_index(&resolved.bytes, Some(&resolved.media_type), &what)?;
            found.extend(index.entries.into_iter().map(|d| (d.digest, d)));
        }
        for entry in self.entries().iter().filter(|e| e.repository == *repository) {
            if found.contains_key(&entry.descriptor.digest) {
                continue;
            }
            let Ok(resolved) = self.manifest(repository, &entry.descriptor.digest) else {
                continue; // whoever asks for this entry itself is told what is wrong with it
            };
            if subject_of(&resolved)?.is_some_and(|subject| subject.digest == *digest) {
                found.insert(entry.descriptor.digest, entry.descriptor.clone());
            }
        }
        Ok(found.into_values().collect())
    }

    /// The bytes of a blob, at most `bytes_max`.
    pub fn blob(&self, descriptor: &Descriptor, bytes_max: u64) -> Result<Vec<u8>, Error> {
        self.read_blob(descriptor, bytes_max, &format!("blob {}", descriptor.digest))
    }

    /// A blob's file, opened; its length was compared with the descriptor, its digest was not.
    pub(crate) fn open_blob(&self, descriptor: &Descriptor, what: &str) -> Result<File, Error> {
        let file = open_file(&self.inner.root, &blob_path(&descriptor.digest))
            .map_err(|error| renamed(error, what))?;
        let size = file.metadata().map_err(|e| Error::io("read", &self.inner.root, e))?.len();
        if size != descriptor.size {
            let (expected, found) = (descriptor.size, size.to_string());
            return Err(Error::WrongSize { what: what.to_owned(), expected, found });
        }
        Ok(file)
    }

    fn read_blob(&self, descriptor: &Descriptor, max: u64, what: &str) -> Result<Vec<u8>, Error> {
        if descriptor.size > max {
            return Err(Error::too_large(what, max, "bytes", descriptor.size));
        }
        let file = self.open_blob(descriptor, what)?;
        let bytes = read_bounded(file, max, what, &self.inner.root)?;
        check_bytes(&bytes, descriptor, what)?;
        Ok(bytes)
    }

    fn members(&self, repository: &Repository) -> Result<Arc<Members>, Error> {
        let lock = || self.inner.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(members) = lock().get(repository) {
            return Ok(Arc::clone(members));
        }
        let mut members = Members::new();
        for entry in self.entries().iter().filter(|e| e.repository == *repository) {
            members.insert(entry.descriptor.digest, entry.descriptor.clone());
            if !media::is_index(&entry.descriptor.media_type) {
                continue;
            }
            let what = format!("index {}", entry.descriptor.digest);
            let bytes = self.read_blob(&entry.descriptor, media::MANIFEST_BYTES_MAX, &what);
            // A damaged index reaches nothing; whoever asks for it itself is told why.
            if let Ok(bytes) = bytes
                && let Ok(index) = manifest::read_image_index(&bytes, None, &what)
            {
                for child in index.entries {
                    members.entry(child.digest).or_insert(child);
                }
            }
            if members.len() > MEMBERS_MAX {
                let what = format!("repository {repository} of the layout");
                return Err(Error::too_large(what, MEMBERS_MAX as u64, "manifests", "more"));
            }
        }
        let members = Arc::new(members);
        lock().insert(repository.clone(), Arc::clone(&members));
        Ok(members)
    }

    fn no_entry(&self, name: &str) -> Error {
        let known: Vec<String> =
            self.repositories().iter().take(5).map(ToString::to_string).collect();
        Error::NotFound {
            what: format!("an entry named {name:?} in the layout"),
            detail: format!("; its first repositories are {}", known.join(", ")),
        }
    }
}

/// The subject of a manifest or index.
fn subject_of(resolved: &Resolved) -> Result<Option<Descriptor>, Error> {
    let what = format!("manifest {}", resolved.digest);
    Ok(match manifest::read(&resolved.bytes, Some(&resolved.media_type), &what)?.1 {
        Document::Index(index) => index.subject,
        Document::Manifest(manifest) => manifest.subject,
    })
}

/// The one digest of these entries; two entries of one name must agree.
fn only<'a>(
    mut entries: impl Iterator<Item = &'a Entry>,
    name: &str,
) -> Result<Option<Digest>, Error> {
    let Some(first) = entries.next().map(|e| e.descriptor.digest) else { return Ok(None) };
    match entries.find(|e| e.descriptor.digest != first) {
        None => Ok(Some(first)),
        Some(other) => Err(Error::malformed(
            "index.json of the layout",
            format!("one entry named {name}"),
            format!("{first} and {}", other.descriptor.digest),
        )),
    }
}

fn check_marker(bytes: &[u8]) -> Result<(), Error> {
    let value = crate::json::read(bytes, "oci-layout", MARKER_BYTES_MAX)?;
    let version = value.get("imageLayoutVersion").and_then(|v| v.as_str()).unwrap_or("none");
    if version.starts_with("1.") {
        Ok(())
    } else {
        Err(Error::malformed("oci-layout", "imageLayoutVersion 1.0.0", version))
    }
}

fn read_index_json(bytes: &[u8]) -> Result<Vec<Entry>, Error> {
    let what = "index.json of the layout";
    let max = media::INDEX_JSON_BYTES_MAX;
    let descriptors = manifest::read_entries(bytes, what, max, media::LAYOUT_ENTRIES_MAX)?;
    Ok(descriptors
        .into_iter()
        .filter_map(|descriptor| {
            let name = descriptor.annotations.get(REF_NAME).map_or(UNNAMED, String::as_str);
            // A name that no reference can spell can be asked for by nobody.
            let (repository, tag) = reference::split_tag(name).ok()?;
            Some(Entry { repository, tag, descriptor })
        })
        .collect())
}

pub(crate) fn blob_path(digest: &Digest) -> PathBuf {
    Path::new("blobs").join("sha256").join(digest.hex())
}

/// Compares bytes with what their descriptor says.
pub(crate) fn check_bytes(bytes: &[u8], descriptor: &Descriptor, what: &str) -> Result<(), Error> {
    if bytes.len() as u64 != descriptor.size {
        return Err(Error::WrongSize {
            what: what.to_owned(),
            expected: descriptor.size,
            found: bytes.len().to_string(),
        });
    }
    let found = Digest::of(bytes);
    if found != descriptor.digest {
        let expected = descriptor.digest;
        return Err(Error::WrongDigest { what: what.to_owned(), expected, found });
    }
    Ok(())
}

/// Opens a regular file below `root` (which is canonical) and nothing else.
fn open_file(root: &Path, below: &Path) -> Result<File, Error> {
    let path = root.join(below);
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::not_found(format!("{} in the layout", below.display()))
        }
        _ => Error::io("open", &path, error),
    };
    let what = format!("{} of the layout", below.display());
    let real = std::fs::canonicalize(&path).map_err(missing)?;
    if !real.starts_with(root) {
        return Err(Error::malformed(what, "a file inside the layout", "a link that leads out"));
    }
    // Not following links: the path has none left. Not blocking: opening a pipe would wait.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(&real)
        .map_err(missing)?;
    let metadata = file.metadata().map_err(|error| Error::io("read", &path, error))?;
    if !metadata.is_file() {
        return Err(Error::malformed(what, "a regular file", "something else"));
    }
    Ok(file)
}

fn read_file(root: &Path, below: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let what = format!("{} of the layout", below.display());
    read_bounded(open_file(root, below)?, max, &what, root)
}

fn read_bounded(file: File, max: u64, what: &str, root: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", root, e))?;
    if bytes.len() as u64 > max {
        return Err(Error::too_large(what, max, "bytes", "more"));
    }
    Ok(bytes)
}

fn renamed(error: Error, name: &str) -> Error {
    match error {
        Error::NotFound { what, .. } => Error::not_found(format!("{name} ({what})")),
        other => other,
    }
}
