//! Unpacking into the store: data first, under another name; the entry appears when the package was
//! found right.
//!
//! Invariant: an entry is complete when it gets its name. It is not synced: one that a crash tore
//! fails its tags and is made again.

use super::{
    CHUNK_BYTES, FOOTER_BYTES, MAGIC, META_BYTES_MAX, TAG_BYTES, UnpackedStore, file::VerifiedFile,
    seal::EntrySeal,
};
use rebuild::{
    apk::package::Package,
    source::{RandomAccess, Spool, SpoolFile},
};
use std::{
    fs::{self, File},
    io::{self, Write},
    mem,
    sync::{Arc, Mutex, PoisonError},
};

/// Takes the data of one package.
pub struct UnpackSpool {
    store: UnpackedStore,
    sealed: Arc<Mutex<Option<Sealed>>>,
}

/// Data that is all there.
struct Sealed {
    path: tempfile::TempPath,
    file: Arc<File>,
    salt: [u8; 32],
    len: u64,
    tags: Vec<u8>,
}

impl UnpackSpool {
    pub(super) fn new(store: UnpackedStore) -> Self {
        Self { store, sealed: Arc::default() }
    }

    /// Keeps the package that was read into this spool. Failing to do so costs only time.
    pub fn keep(&self, package: &Package) -> io::Result<()> {
        let sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Sealed { path, file, salt, len, tags }) = sealed else { return Ok(()) };
        let mut meta = package.to_record();
        let record_len = meta.len() as u64;
        meta.extend_from_slice(&tags);
        if meta.len() as u64 > META_BYTES_MAX {
            return Ok(());
        }
        meta.extend_from_slice(MAGIC);
        meta.extend_from_slice(&salt);
        meta.extend_from_slice(&len.to_le_bytes());
        meta.extend_from_slice(&record_len.to_le_bytes());
        let tag = self.store.key.entry(&salt).meta(&meta)?;
        meta.extend_from_slice(&tag);
        debug_assert!(meta.len() >= FOOTER_BYTES);
        (&*file).write_all(&meta)?;
        let place = self.store.path_of(&package.file_sha256);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        path.persist(place).map_err(|error| error.error)
    }
}

impl Spool for UnpackSpool {
    fn create(&self) -> io::Result<Box<dyn SpoolFile>> {
        let mut salt = [0; 32];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| io::Error::other("no random bytes"))?;
        let named =
            tempfile::Builder::new().prefix("unpack-").tempfile_in(self.store.staging.path())?;
        let (file, path) = named.into_parts();
        Ok(Box::new(Filling {
            store: self.store.clone(),
            seal: self.store.key.entry(&salt),
            sealed: Arc::clone(&self.sealed),
            file,
            path,
            salt,
            len: 0,
            chunk: Vec::with_capacity(CHUNK_BYTES),
            tags: Vec::new(),
        }))
    }
}

/// Data that is still coming.
struct Filling {
    store: UnpackedStore,
    seal: EntrySeal,
    sealed: Arc<Mutex<Option<Sealed>>>,
    file: File,
    path: tempfile::TempPath,
    salt: [u8; 32],
    len: u64,
    chunk: Vec<u8>,
    tags: Vec<u8>,
}

impl Filling {
    /// Tags and writes one chunk.
    fn put(&mut self, chunk: &[u8]) -> io::Result<()> {
        let number = (self.tags.len() / TAG_BYTES) as u64;
        self.tags.extend_from_slice(&self.seal.chunk(number, chunk)?);
        self.file.write_all(chunk)?;
        self.len += chunk.len() as u64;
        Ok(())
    }

    fn put_rest(&mut self) -> io::Result<()> {
        let mut chunk = mem::take(&mut self.chunk);
        if !chunk.is_empty() {
            self.put(&chunk)?;
            chunk.clear();
        }
        self.chunk = chunk;
        Ok(())
    }
}

impl Write for Filling {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut rest = buf;
        while !rest.is_empty() {
            if self.chunk.is_empty() && rest.len() >= CHUNK_BYTES {
                let (chunk, behind) = rest.split_at(CHUNK_BYTES);
                self.put(chunk)?;
                rest = behind;
                continue;
            }
            let (part, behind) = rest.split_at(rest.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(part);
            rest = behind;
            if self.chunk.len() == CHUNK_BYTES {
                self.put_rest()?;
            }
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpoolFile for Filling {
    fn seal(mut self: Box<Self>) -> io::Result<Arc<dyn RandomAccess>> {
        self.put_rest()?;
        let file = Arc::new(self.file);
        let seal = self.store.key.entry(&self.salt);
        let path = self.path.to_path_buf();
        let data = VerifiedFile::new(Arc::clone(&file), self.len, self.tags.clone(), seal, path);
        let sealed =
            Sealed { path: self.path, file, salt: self.salt, len: self.len, tags: self.tags };
        *self.sealed.lock().unwrap_or_else(PoisonError::into_inner) = Some(sealed);
        Ok(Arc::new(data))
    }
}
