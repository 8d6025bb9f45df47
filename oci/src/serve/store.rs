//! What the in-process registry holds: manifests and tags by repository, blobs for all.
//!
//! Invariant: bytes are stored under their own digest only; a tag names a manifest that is there.

use crate::{
    error::Error,
    layout::{Layout, writer::LayoutWriter},
    manifest::{self, Descriptor, Document},
    media,
    reference::{Tag, Target},
};
use attest::{Digest, Repository};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Uploads that were begun and not finished.
const UPLOADS_MAX: usize = 1024;

/// The content of an in-process registry. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Store {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    repositories: BTreeMap<String, Contents>,
    blobs: HashMap<Digest, Bytes>,
    uploads: HashMap<u64, Vec<u8>>,
    next_upload: u64,
}

#[derive(Debug, Default)]
struct Contents {
    /// In the order of their arrival, which is the order of the referrers API.
    manifests: Vec<Stored>,
    tags: BTreeMap<Tag, Digest>,
}

#[derive(Debug, Clone)]
struct Stored {
    descriptor: Descriptor,
    document: Document,
    bytes: Bytes,
}

/// Why a manifest was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PutError {
    Malformed,
    TooLarge,
    WrongDigest,
    Lacking,
    Changed,
}

/// A manifest that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) digest: Digest,
    pub(super) subject: Option<Digest>,
}

impl Stored {
    fn subject(&self) -> Option<Digest> {
        let subject = match &self.document {
            Document::Index(index) => index.subject.as_ref(),
            Document::Manifest(manifest) => manifest.subject.as_ref(),
        };
        subject.map(|subject| subject.digest)
    }

    /// The descriptor as the referrers API lists it.
    fn listed(&self) -> Descriptor {
        let mut listed = self.descriptor.clone();
        if let Document::Manifest(manifest) = &self.document {
            listed.artifact_type = Some(manifest.kind().to_owned());
            listed.annotations = manifest.annotations.clone();
        }
        listed
    }
}

impl Contents {
    fn get(&self, digest: &Digest) -> Option<&Stored> {
        self.manifests.iter().find(|stored| stored.descriptor.digest == *digest)
    }

    fn resolve(&self, target: &Target) -> Option<&Stored> {
        match target {
            Target::Digest(digest) => self.get(digest),
            Target::Tag(tag) => self.get(self.tags.get(tag)?),
        }
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in everything that a layout holds: each entry `REPO:TAG` as that tag in that
    /// repository, with what it names.
    pub fn load_layout(&self, dir: impl AsRef<Path>) -> Result<(), Error> {
        let layout = Layout::open(dir)?;
        for entry in layout.entries() {
            let Some(tag) = &entry.tag else { continue };
            let name = entry.repository.as_str();
            self.load(&layout, &entry.repository, &entry.descriptor.digest)?;
            self.set_tag(name, tag, entry.descriptor.digest);
        }
        Ok(())
    }

    fn load(&self, layout: &Layout, from: &Repository, digest: &Digest) -> Result<(), Error> {
        let found = layout.manifest(from, digest)?;
        let what = format!("manifest {from}@{digest}");
        let (_, document) = manifest::read(&found.bytes, Some(&found.media_type), &what)?;
        match &document {
            Document::Index(index) => {
                for child in &index.entries {
                    self.load(layout, from, &child.digest)?;
                }
            }
            Document::Manifest(manifest) => {
                for descriptor in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    let bytes = layout.blob(descriptor, media::BLOB_BYTES_MAX)?;
                    self.lock().blobs.insert(descriptor.digest, bytes.into());
                }
            }
        }
        let descriptor = Descriptor::of(&found.media_type, &found.bytes);
        self.keep(from.as_str(), Stored { descriptor, document, bytes: found.bytes.into() });
        Ok(())
    }

    /// Writes everything as a layout whose ref names are `REPO:TAG`. What no tag reaches but a
    /// subject does (referrers of a registry with the API) gets its digest as a tag.
    pub fn save_layout(&self, dir: impl AsRef<Path>) -> Result<(), Error> {
        let writer = LayoutWriter::create(dir)?;
        let state = self.lock();
        for bytes in state.blobs.values() {
            writer.put_blob(bytes)?;
        }
        for (name, contents) in &state.repositories {
            let repository: Repository =
                name.parse().map_err(crate::reference::ReferenceError::from)?;
            for stored in &contents.manifests {
                writer.put_manifest(&stored.descriptor.media_type, &stored.bytes)?;
                if stored.subject().is_some() {
                    let tag: Tag =
                        format!("referrer-{}", stored.descriptor.digest.hex()).parse()?;
                    writer.tag(&repository, &tag, &stored.descriptor)?;
                }
            }
            for (tag, digest) in &contents.tags {
                if let Some(stored) = contents.get(digest) {
                    writer.tag(&repository, tag, &stored.descriptor)?;
                }
            }
        }
        Ok(())
    }

    /// Lets a tag name a manifest that is there; false if it is not.
    pub fn set_tag(&self, name: &str, tag: &Tag, digest: Digest) -> bool {
        let mut state = self.lock();
        let Some(contents) = state.repositories.get_mut(name) else { return false };
        let there = contents.get(&digest).is_some();
        if there {
            contents.tags.insert(tag.clone(), digest);
        }
        there
    }

    /// The repositories, sorted.
    pub fn repositories(&self) -> Vec<String> {
        self.lock().repositories.keys().cloned().collect()
    }

    /// True if something was ever put into a repository of this name.
    pub fn has(&self, name: &str) -> bool {
        self.lock().repositories.contains_key(name)
    }

    /// The tags of a repository, sorted.
    pub fn tags(&self, name: &str) -> Vec<String> {
        let state = self.lock();
        let contents = state.repositories.get(name);
        contents.map_or(Vec::new(), |c| c.tags.keys().map(Tag::to_string).collect())
    }

    /// Digest, media type and bytes of a manifest.
    pub fn manifest(&self, name: &str, target: &Target) -> Option<(Digest, String, Bytes)> {
        let state = self.lock();
        let stored = state.repositories.get(name)?.resolve(target)?;
        let Descriptor { digest, media_type, .. } = &stored.descriptor;
        Some((*digest, media_type.clone(), stored.bytes.clone()))
    }

    /// The bytes of a blob.
    pub fn blob(&self, digest: &Digest) -> Option<Bytes> {
        self.lock().blobs.get(digest).cloned()
    }

    /// What says that it is about `subject`.
    pub fn referrers(&self, name: &str, subject: &Digest) -> Vec<Descriptor> {
        let state = self.lock();
        let Some(contents) = state.repositories.get(name) else { return Vec::new() };
        let about = contents.manifests.iter().filter(|s| s.subject() == Some(*subject));
        about.map(Stored::listed).collect()
    }

    fn keep(&self, name: &str, stored: Stored) {
        let mut state = self.lock();
        let contents = state.repositories.entry(name.to_owned()).or_default();
        if contents.get(&stored.descriptor.digest).is_none() {
            contents.manifests.push(stored);
        }
    }

    pub(super) fn put_manifest(
        &self,
        name: &str,
        target: &Target,
        media_type: &str,
        bytes: Bytes,
        only_if: Option<String>,
    ) -> Result<Put, PutError> {
        if name.parse::<Repository>().is_err() {
            return Err(PutError::Malformed);
        }
        let digest = Digest::of(&bytes);
        if matches!(target, Target::Digest(expected) if *expected != digest) {
            return Err(PutError::WrongDigest);
        }
        if bytes.len() as u64 > media::MANIFEST_BYTES_MAX {
            return Err(PutError::TooLarge);
        }
        let declared = Some(media_type).filter(|text| !text.is_empty());
        let (media_type, document) = manifest::read(&bytes, declared, "the pushed manifest")
            .map_err(|_| PutError::Malformed)?;
        let descriptor = Descriptor::of(&media_type, &bytes);
        let stored = Stored { descriptor, document, bytes };
        let subject = stored.subject();
        {
            let state = self.lock();
            let contents = state.repositories.get(name);
            if let Some(expected) = only_if {
                let now = contents.and_then(|c| c.resolve(target));
                if now.map(|now| now.descriptor.digest.to_string()) != Some(expected) {
                    return Err(PutError::Changed);
                }
            }
            let complete = match &stored.document {
                Document::Index(index) => index
                    .entries
                    .iter()
                    .all(|entry| contents.is_some_and(|c| c.get(&entry.digest).is_some())),
                Document::Manifest(manifest) => std::iter::once(&manifest.config)
                    .chain(&manifest.layers)
                    .all(|descriptor| state.blobs.contains_key(&descriptor.digest)),
            };
            if !complete {
                return Err(PutError::Lacking);
            }
        }
        self.keep(name, stored);
        if let Target::Tag(tag) = target {
            self.set_tag(name, tag, digest);
        }
        Ok(Put { digest, subject })
    }

    pub(super) fn delete(&self, name: &str, target: &Target) -> bool {
        let mut state = self.lock();
        let Some(contents) = state.repositories.get_mut(name) else { return false };
        match target {
            Target::Tag(tag) => contents.tags.remove(tag).is_some(),
            Target::Digest(digest) => {
                let before = contents.manifests.len();
                contents.manifests.retain(|stored| stored.descriptor.digest != *digest);
                contents.tags.retain(|_, named| named != digest);
                contents.manifests.len() != before
            }
        }
    }

    pub(super) fn start_upload(&self) -> u64 {
        let mut state = self.lock();
        if state.uploads.len() >= UPLOADS_MAX {
            state.uploads.clear();
        }
        state.next_upload += 1;
        let id = state.next_upload;
        state.uploads.insert(id, Vec::new());
        id
    }

    pub(super) fn append_upload(&self, id: u64, bytes: &[u8]) -> Option<usize> {
        let mut state = self.lock();
        let upload = state.uploads.get_mut(&id)?;
        upload.extend_from_slice(bytes);
        Some(upload.len())
    }

    /// None if there is no such upload; false if the bytes have another digest.
    pub(super) fn finish_upload(&self, id: u64, last: &[u8], expected: &Digest) -> Option<bool> {
        let mut state = self.lock();
        let mut bytes = state.uploads.remove(&id)?;
        bytes.extend_from_slice(last);
        let right = Digest::of(&bytes) == *expected;
        if right {
            state.blobs.insert(*expected, bytes.into());
        }
        Some(right)
    }
}
