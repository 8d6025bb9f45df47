//! OCI image layouts, written (OCI image-spec 1.1, image-layout.md).
//!
//! Invariant: every file appears whole or not at all (written beside its place, synced, renamed,
//! the folder synced), and `index.json` is replaced under a lock only after everything it names is
//! on disk. Entries that are not ours to change are kept as they are.
//! It must never write through a link, nor put bytes under a digest that is not theirs.

use super::{REF_NAME, blob_path};
use crate::{
    error::Error,
    json,
    manifest::{self, Descriptor},
    media,
    reference::{self, Tag},
    whole_file::write_whole,
};
use attest::{Digest, Repository};
use serde_json::{Map, Value, json};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// A layout that is being written.
#[derive(Debug, Clone)]
pub struct LayoutWriter {
    root: PathBuf,
}

impl LayoutWriter {
    /// Opens the layout in this folder, and makes an empty one if there is none.
    pub fn create(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
        let root = fs::canonicalize(dir).map_err(|error| Error::io("open", dir, error))?;
        let writer = Self { root };
        for folder in ["blobs", "blobs/sha256"] {
            let path = writer.root.join(folder);
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("create", &path, error));
                }
                _ => require_folder(&path)?,
            }
        }
        let marker = writer.root.join("oci-layout");
        if fs::symlink_metadata(&marker).is_err() {
            write_whole(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        let _lock = writer.lock()?;
        let index = writer.root.join("index.json");
        if fs::symlink_metadata(&index).is_err() {
            let empty =
                json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [] });
            write_whole(&index, &pretty(&empty))?;
        }
        Ok(writer)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Writes a blob; the same bytes that are there already are left alone, damaged ones replaced.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let path = self.root.join(blob_path(&digest));
        let same = has_regular(&path, bytes.len() as u64)?
            && fs::read(&path).map_err(|error| Error::io("read", &path, error))? == bytes;
        if !same {
            write_whole(&path, bytes)?;
        }
        Ok(digest)
    }

    /// Where a blob has to be put by [`BlobReader::into_file`], which checks its bytes; none if it
    /// is there already.
    ///
    /// [`BlobReader::into_file`]: crate::blob::BlobReader::into_file
    pub fn missing_blob(&self, descriptor: &Descriptor) -> Result<Option<PathBuf>, Error> {
        let path = self.root.join(blob_path(&descriptor.digest));
        Ok(if has_regular(&path, descriptor.size)? { None } else { Some(path) })
    }

    /// Writes a manifest or an index, after checking that it is one.
    pub fn put_manifest(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, Error> {
        manifest::read(bytes, Some(media_type), "the manifest to be written")?;
        self.put_blob(bytes)?;
        Ok(Descriptor::of(media_type, bytes))
    }

    /// Makes `repository:tag` name this manifest, which must be written already.
    pub fn tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        descriptor: &Descriptor,
    ) -> Result<(), Error> {
        let path = self.root.join(blob_path(&descriptor.digest));
        if !has_regular(&path, descriptor.size)? {
            let what = format!("manifest {} in the layout", descriptor.digest);
            return Err(Error::not_found(what));
        }
        let mut entry = descriptor.clone();
        entry.annotations.insert(REF_NAME.to_owned(), format!("{repository}:{tag}"));
        self.change(|entries| {
            entries.retain(|old| !is_named(old, repository, tag));
            entries.push(entry.to_json());
        })
    }

    /// Removes `repository:tag`; true if it was there. Blobs stay.
    pub fn untag(&self, repository: &Repository, tag: &Tag) -> Result<bool, Error> {
        let mut removed = false;
        self.change(|entries| {
            let before = entries.len();
            entries.retain(|old| !is_named(old, repository, tag));
            removed = entries.len() != before;
        })?;
        Ok(removed)
    }

    /// Removes every entry of the repository that points at this manifest. Blobs stay.
    pub fn remove(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        let text = digest.to_string();
        self.change(|entries| {
            entries.retain(|old| {
                let same = old.get("digest").and_then(Value::as_str) == Some(text.as_str());
                !(same && repository_of(old).as_ref() == Some(repository))
            });
        })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Value>)) -> Result<(), Error> {
        let _lock = self.lock()?;
        let path = self.root.join("index.json");
        let what = "index.json of the layout";
        let bytes =
            super::read_file(&self.root, Path::new("index.json"), media::INDEX_JSON_BYTES_MAX)?;
        let mut index = json::read(&bytes, what, media::INDEX_JSON_BYTES_MAX)?;
        let entries = index.get_mut("manifests").and_then(Value::as_array_mut);
        let Some(entries) = entries else {
            return Err(Error::malformed(what, "a list of manifests", "none"));
        };
        change(entries);
        let found = entries.len();
        if found > media::LAYOUT_ENTRIES_MAX {
            return Err(Error::too_large(what, media::LAYOUT_ENTRIES_MAX as u64, "entries", found));
        }
        let bytes = pretty(&index);
        if bytes.len() as u64 > media::INDEX_JSON_BYTES_MAX {
            return Err(Error::too_large(what, media::INDEX_JSON_BYTES_MAX, "bytes", bytes.len()));
        }
        write_whole(&path, &bytes)
    }

    /// An advisory lock for as long as the file lives; other processes wait for it.
    fn lock(&self) -> Result<File, Error> {
        let path = self.root.join("oci-layout");
        let file = super::open_file(&self.root, Path::new("oci-layout"))?;
        file.lock().map_err(|error| Error::io("lock", &path, error))?;
        Ok(file)
    }
}

fn repository_of(entry: &Value) -> Option<Repository> {
    let name = entry.get("annotations")?.get(REF_NAME)?.as_str()?;
    reference::split_tag(name).ok().map(|(repository, _)| repository)
}

fn is_named(entry: &Value, repository: &Repository, tag: &Tag) -> bool {
    let annotations = entry.get("annotations").and_then(Value::as_object);
    let name = annotations.and_then(|a: &Map<String, Value>| a.get(REF_NAME)?.as_str());
    name == Some(format!("{repository}:{tag}").as_str())
}

fn pretty(value: &Value) -> Vec<u8> {
    // A `Value` always serialises: its keys are text and its numbers are finite.
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn require_folder(path: &Path) -> Result<(), Error> {
    let metadata = fs::symlink_metadata(path).map_err(|error| Error::io("open", path, error))?;
    if metadata.is_dir() {
        return Ok(());
    }
    let what = path.display().to_string();
    Err(Error::malformed(what, "a folder of the layout itself", "a link or a file"))
}

/// True if a regular file of this size is there. Another size is damage and written again.
fn has_regular(path: &Path, size: u64) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_file() && metadata.len() == size),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("open", path, error)),
    }
}
