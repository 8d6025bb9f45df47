//! The content store: files by SHA-256, so that an input fetched once can be used again, also after
//! its origin has withdrawn it (materials escrow).
//!
//! Layout: `<root>/blobs/<first two hex digits>/<hex>`, `<root>/staging/<a process's>/<unique>` while
//! a file is being written ([`super::staging`]), `<root>/records/<hex>.json` saying where a blob came
//! from, `<root>/names/<hex of a URI's digest>` saying which blob was read there last.
//! Invariants: a file under `blobs` is complete and had its name's digest when it was put there
//! (written to staging, synced, then renamed); several processes may share a store. Nothing is taken
//! from it without being hashed again by whoever uses it: a disk may lie.
//! `<root>/unpacked` keeps packages unpacked ([`super::unpacked`]); the bound is for both. `<root>/keys`
//! keeps the keys of repositories ([`super::key_archive`]), outside the bound.
//! It must never delete what another process has open for reading in a way that breaks it (unlinked
//! files stay readable) and never grow past its bound by more than the file being written.

use super::{
    Material,
    key_archive::{ArchivedKey, KeyArchive},
    staging::{self, Staging},
    store_error::StoreError,
    unpacked::UnpackedStore,
};
use attest::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// Default bound: 20 GiB keeps the inputs of several thousand images, which share most of them.
pub const STORE_BYTES_MAX_DEFAULT: u64 = 20 << 30;
/// Copy buffer: large enough that hashing, not system calls, is the cost.
const COPY_BYTES: usize = 256 * 1024;

/// Where a blob came from: kept beside it, so that an escrowed input can be explained years later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    /// Where the recipe says it is.
    pub uri: String,
    /// Where the bytes came from.
    pub from: String,
    /// What vouched for it.
    pub verified_by: String,
    /// Seconds since 1970 when it was put here.
    pub stored_at: u64,
}

/// A content store on disk.
#[derive(Debug)]
pub struct ContentStore {
    root: PathBuf,
    bytes_max: u64,
    unpacked: Option<UnpackedStore>,
    staging: Arc<Staging>,
}

impl ContentStore {
    /// Opens a store, making its folders, and removes what processes that died were writing.
    pub fn open(root: impl Into<PathBuf>, bytes_max: u64) -> Result<Self, StoreError> {
        let mut store = Self::scratch(root, bytes_max)?;
        match UnpackedStore::open(&store.root, Arc::clone(&store.staging)) {
            Ok(unpacked) => store.unpacked = Some(unpacked),
            // Without it everything works, only slower.
            Err(error) => tracing::warn!(%error, "packages are not kept unpacked"),
        }
        Ok(store)
    }

    /// A store that goes away soon, so that keeping packages unpacked would be work for nobody.
    pub fn scratch(root: impl Into<PathBuf>, bytes_max: u64) -> Result<Self, StoreError> {
        let root = root.into();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&root);
        made.map_err(StoreError::io("make the folder", &root))?;
        for folder in ["blobs", "records", "names"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(StoreError::io("make the folder", &path))?;
        }
        let staging = Staging::open(&root);
        let staging = staging.map_err(StoreError::io("make a folder in", &root.join("staging")))?;
        Ok(Self { root, bytes_max, unpacked: None, staging: Arc::new(staging) })
    }

    /// Packages that were verified and unpacked; none in a store that goes away.
    pub fn unpacked(&self) -> Option<&UnpackedStore> {
        self.unpacked.as_ref()
    }

    /// Where a blob is, or would be.
    pub fn path_of(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join("blobs").join(&hex[..2]).join(hex)
    }

    /// Opens a blob for reading. Whoever reads it hashes it again.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        let path = self.path_of(digest);
        match File::open(&path) {
            Ok(file) => {
                // Marks the blob as used, for eviction. Failing to do so costs nothing but order.
                let _ = file.set_modified(SystemTime::now());
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("open", &path)(error)),
        }
    }

    /// Puts bytes in. With `expected`, other bytes are refused and nothing is kept.
    pub fn insert(
        &self,
        mut source: impl Read,
        from: &str,
        limit: u64,
        expected: Option<&Digest>,
    ) -> Result<(Digest, u64), StoreError> {
        let staged = self.stage(&mut source, from, limit)?;
        let (digest, size) = (staged.digest, staged.escrow.size);
        if let Some(expected) = expected.filter(|e| **e != digest) {
            let (expected, from) = (*expected, from.to_owned());
            return Err(StoreError::WrongDigest { from, expected, found: digest });
        }
        self.keep(staged)?;
        Ok((digest, size))
    }

    fn stage(&self, source: &mut dyn Read, from: &str, limit: u64) -> Result<Staged, StoreError> {
        let mut escrow = self.escrow()?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; COPY_BYTES]);
        loop {
            let read = source
                .read(&mut buffer)
                .map_err(|error| StoreError::Source { from: from.to_owned(), error })?;
            if read == 0 {
                break;
            }
            if escrow.size + read as u64 > limit {
                return Err(StoreError::TooLarge { from: from.to_owned(), limit });
            }
            hash.update(&buffer[..read]);
            escrow.put(&buffer[..read])?;
        }
        let digest = Digest::from_raw(hash.finalize().into());
        Ok(Staged { digest, escrow })
    }

    /// A file on its way into the store, under a name of its own until it is kept.
    pub fn escrow(&self) -> Result<Escrow, StoreError> {
        // Random, not a number of this process: a store may be shared by containers, whose
        // processes have the same numbers.
        let staging = self.staging.path();
        let named = tempfile::Builder::new().prefix("file-").tempfile_in(staging);
        let (file, path) = named.map_err(StoreError::io("create a file in", staging))?.into_parts();
        Ok(Escrow { path, file, size: 0 })
    }

    /// Keeps a file whose bytes have this digest: whoever wrote them hashed them.
    pub fn keep_escrow(&self, escrow: Escrow, digest: Digest) -> Result<(), StoreError> {
        self.keep(Staged { digest, escrow })
    }

    fn keep(&self, staged: Staged) -> Result<(), StoreError> {
        let Staged { digest, escrow } = staged;
        escrow.file.sync_all().map_err(StoreError::io("sync", &escrow.path))?;
        let path = self.path_of(&digest);
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(StoreError::io("make the folder", folder))?;
        // Renaming over an equal file is harmless: the same digest, the same bytes.
        escrow.name(&path)?;
        let synced = File::open(folder).and_then(|f| f.sync_all());
        synced.map_err(StoreError::io("sync the folder", folder))
    }

    /// Keeps a small input that was proven, with a note of it, to be found again under its URI.
    pub fn archive(&self, material: &Material, bytes: &[u8]) -> Result<(), StoreError> {
        let Material { uri, digest, from, verified_by } = material;
        if !self.path_of(digest).exists() {
            self.insert(bytes, from, bytes.len() as u64, Some(digest))?;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let record = BlobRecord {
            uri: uri.clone(),
            from: from.clone(),
            verified_by: verified_by.clone(),
            stored_at: now.map_or(0, |since| since.as_secs()),
        };
        self.record(digest, &record)?;
        self.remember(uri, digest)
    }

    /// Notes that a repository gives these keys, which count.
    pub fn keep_keys(&self, repository: &str, keys: &[ArchivedKey]) -> Result<(), StoreError> {
        KeyArchive::open(&self.root)?.keep(repository, keys)
    }

    /// Every key that a repository gave when it counted.
    pub fn kept_keys(&self, repository: &str) -> Result<Vec<ArchivedKey>, StoreError> {
        KeyArchive::open(&self.root)?.of(repository)
    }

    /// Notes where a blob came from; an earlier note stays.
    pub fn record(&self, digest: &Digest, record: &BlobRecord) -> Result<(), StoreError> {
        let path = self.root.join("records").join(format!("{}.json", digest.hex()));
        if path.exists() {
            return Ok(());
        }
        let json = serde_json::to_vec_pretty(record).unwrap_or_default();
        self.put_small(&json, &path)
    }

    /// The note about a blob, if there is a readable one.
    pub fn record_of(&self, digest: &Digest) -> Option<BlobRecord> {
        let path = self.root.join("records").join(format!("{}.json", digest.hex()));
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Remembers which file a URI gave, for when its origin has it no more. Only for a file that was
    /// proven: another one would take the place of the one that was.
    pub fn remember(&self, uri: &str, digest: &Digest) -> Result<(), StoreError> {
        if self.named(uri).as_ref() == Some(digest) {
            return Ok(());
        }
        self.put_small(digest.to_string().as_bytes(), &self.name_path(uri))
    }

    /// A note appears whole. It is not synced: one that a crash tore is no note.
    fn put_small(&self, bytes: &[u8], path: &Path) -> Result<(), StoreError> {
        let mut escrow = self.escrow()?;
        escrow.put(bytes)?;
        escrow.name(path)
    }

    /// The digest that a URI gave when it was last read. Only a place to look: whoever uses it
    /// proves it again.
    pub fn named(&self, uri: &str) -> Option<Digest> {
        fs::read_to_string(self.name_path(uri)).ok()?.parse().ok()
    }

    /// The blob that a URI gave when it was last read, if it is still here.
    pub fn remembered(&self, uri: &str) -> Option<Digest> {
        self.named(uri).filter(|digest| self.path_of(digest).exists())
    }

    fn name_path(&self, uri: &str) -> PathBuf {
        self.root.join("names").join(Digest::of(uri.as_bytes()).hex())
    }

    /// Removes what was not used for longest, files and unpacked packages, until the store fits
    /// its bound, with what is on its way into it. One process at a time does it; another that finds
    /// it being done returns at once.
    pub fn evict(&self) -> Result<u64, StoreError> {
        let lock_path = self.root.join("evict.lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(StoreError::io("open", &lock_path))?;
        if lock.try_lock().is_err() {
            return Ok(0);
        }
        let mut blobs = self.blobs()?;
        let kept: u64 = blobs.iter().map(|blob| blob.size).sum();
        let mut total = kept.saturating_add(staging::bytes(&self.root));
        blobs.sort_by_key(|blob| blob.used);
        let mut removed = 0;
        for blob in blobs {
            if total <= self.bytes_max {
                break;
            }
            match fs::remove_file(&blob.path) {
                // Gone in between: it was damaged, and whoever noticed removed it.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &blob.path)(error));
                }
                _ => {}
            }
            total -= blob.size;
            removed += blob.size;
        }
        Ok(removed)
    }

    fn blobs(&self) -> Result<Vec<Stored>, StoreError> {
        let mut found = Vec::new();
        for root in [self.root.join("blobs"), self.root.join("unpacked")] {
            let folders = match fs::read_dir(&root) {
                Ok(folders) => folders,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::io("list", &root)(error)),
            };
            for folder in folders.flatten() {
                let Ok(files) = fs::read_dir(folder.path()) else { continue };
                for file in files.flatten() {
                    // Gone in between: another process evicted it.
                    let Ok(meta) = file.metadata() else { continue };
                    let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    found.push(Stored { path: file.path(), size: meta.len(), used });
                }
            }
        }
        Ok(found)
    }
}

struct Staged {
    digest: Digest,
    escrow: Escrow,
}

/// A file being written to the store. Dropped, it leaves nothing behind.
pub struct Escrow {
    path: tempfile::TempPath,
    file: File,
    size: u64,
}

impl Escrow {
    /// Writes on.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(StoreError::io("write", &self.path))?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Gives it its name, over whatever had it.
    fn name(self, path: &Path) -> Result<(), StoreError> {
        self.path.persist(path).map_err(|e| StoreError::io("rename into", path)(e.error))
    }
}

struct Stored {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn staging_is_empty(store: &ContentStore) -> bool {
        fs::read_dir(store.staging.path()).unwrap().next().is_none()
    }

    #[test]
    fn whole_files_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path(), 1 << 20).unwrap();
        let (digest, size) = store.insert(&b"hello"[..], "here", 5, None).unwrap();
        assert_eq!((digest, size), (Digest::of(b"hello"), 5));
        let mut text = String::new();
        store.open_blob(&digest).unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        let too_large = store.insert(&b"hello!"[..], "here", 5, None);
        assert!(matches!(too_large, Err(StoreError::TooLarge { limit: 5, .. })));
        let wrong = store.insert(&b"hallo"[..], "here", 5, Some(&digest));
        assert!(matches!(wrong, Err(StoreError::WrongDigest { .. })));
        assert!(store.open_blob(&Digest::of(b"hallo")).unwrap().is_none());
        assert!(staging_is_empty(&store));
    }

    #[test]
    fn the_least_used_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path(), 8).unwrap();
        let digests: Vec<Digest> = [b"aaaa", b"bbbb", b"cccc"]
            .iter()
            .map(|bytes| store.insert(&bytes[..], "x", 9, None).unwrap().0)
            .collect();
        for (i, digest) in digests.iter().enumerate() {
            let file = File::open(store.path_of(digest)).unwrap();
            let when = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + i as u64);
            file.set_modified(when).unwrap();
        }
        store.open_blob(&digests[0]).unwrap().unwrap();
        assert_eq!(store.evict().unwrap(), 4);
        let left: Vec<bool> =
            digests.iter().map(|d| store.open_blob(d).unwrap().is_some()).collect();
        assert_eq!(left, [true, false, true]);
    }
}
