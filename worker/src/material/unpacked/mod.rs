//! Packages that were verified and unpacked once: their data and their records, by the digest of
//! the package file.
//!
//! One file for each package, `<root>/unpacked/<two digits>/<hex>`: the uncompressed data, then the
//! package's record, a tag for each 64 KiB of the data, and a footer with a tag over all that is
//! not data. Tags are AES-256-GMAC under a key of this store. Why a keyed tag and not a hash: the
//! statement "this is what the package of this digest unpacks to" can't be checked again without
//! unpacking, so what must be checked is that *we* made it; and GMAC costs a fifth of SHA-256.
//!
//! Invariant: nothing of an entry is used before its tag was found right, and a wrong one removes
//! the entry. So a disk that lies, a crash in the middle, a file cut short or exchanged for another
//! are noticed. Trusted are the account that owns the store, and root: whoever can read the key
//! (`unpacked.key`, mode 0600) can forge. The folder is used only if it belongs to this account and
//! nobody else may write to it. Entries are a cache: losing one costs time.

mod file;
mod seal;
mod write;

pub use write::UnpackSpool;

use super::{own_folder::own_folder, staging::Staging};
use attest::Digest;
use file::VerifiedFile;
use rebuild::apk::package::Package;
use seal::{CHUNK_BYTES, StoreKey, TAG_BYTES};
use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// The last bytes of an entry: magic, salt, lengths of data and record, tag.
const FOOTER_BYTES: usize = 16 + 32 + 8 + 8 + TAG_BYTES;
/// The first bytes of the footer; another form of the file gets another number.
const MAGIC: &[u8; 16] = b"assay-unpacked-1";
/// Record and tags of one package: 64 MiB of names and PAX records twice over, and 4 MiB of tags
/// for 16 GiB of data.
const META_BYTES_MAX: u64 = 160 << 20;

/// The unpacked packages of a content store.
#[derive(Debug, Clone)]
pub struct UnpackedStore {
    folder: PathBuf,
    staging: Arc<Staging>,
    key: Arc<StoreKey>,
}

impl UnpackedStore {
    /// Opens the part of a store; an error where others could write to it.
    pub(super) fn open(root: &Path, staging: Arc<Staging>) -> io::Result<Self> {
        let folder = root.join("unpacked");
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let key = StoreKey::open(&root.join("unpacked.key"), staging.path())?;
        for path in [root, &folder] {
            own_folder(path, key.owner)?;
        }
        Ok(Self { folder, staging, key: Arc::new(key) })
    }

    /// Where an entry is, or would be.
    fn path_of(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.folder.join(&hex[..2]).join(hex)
    }

    /// A place for the data of one package that is about to be unpacked.
    pub fn spool(&self) -> UnpackSpool {
        UnpackSpool::new(self.clone())
    }

    /// The package whose file has this digest, if it was kept and is what was kept.
    pub fn package(&self, digest: &Digest) -> Option<Package> {
        let path = self.path_of(digest);
        let file = File::open(&path).ok()?;
        match self.read(file, &path, digest) {
            Ok(package) => Some(package),
            Err(error) => {
                tracing::warn!(material.digest = %digest, %error, "an unpacked package was removed");
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    fn read(&self, file: File, path: &Path, digest: &Digest) -> io::Result<Package> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let len = file.metadata()?.len();
        let at = len.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| wrong("it is too short"))?;
        let mut footer = [0; FOOTER_BYTES];
        file.read_exact_at(&mut footer, at)?;
        let (head, tag) = footer.split_at(FOOTER_BYTES - TAG_BYTES);
        let mut salt = [0; 32];
        salt.copy_from_slice(&head[16..48]);
        let data_len = number(&head[48..56]);
        let record_len = number(&head[56..64]);
        let chunks = data_len.div_ceil(CHUNK_BYTES as u64);
        let meta_len = record_len.checked_add(chunks.saturating_mul(TAG_BYTES as u64));
        let meta_len = meta_len.filter(|meta| {
            *meta <= META_BYTES_MAX
                && data_len.checked_add(*meta) == Some(at)
                && head[..16] == *MAGIC
        });
        let meta_len = meta_len.ok_or_else(|| wrong("its footer does not fit its length"))?;
        let seal = self.key.entry(&salt);
        // Record, tags and the footer's head, as they lie there.
        let mut meta = vec![0; usize::try_from(meta_len).unwrap_or_default() + head.len()];
        file.read_exact_at(&mut meta, data_len)?;
        if !seal.fits_meta(&meta, tag) {
            return Err(wrong("it is not what was written"));
        }
        let record = usize::try_from(record_len).unwrap_or_default();
        let tags = meta[record..meta.len() - head.len()].to_vec();
        meta.truncate(record);
        // Marks it as used, for eviction.
        let _ = file.set_modified(SystemTime::now());
        let data = VerifiedFile::new(Arc::new(file), data_len, tags, seal, path.to_owned());
        let package = Package::from_record(&meta, Arc::new(data))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if package.file_sha256 == *digest { Ok(package) } else { Err(wrong("it is another's")) }
    }
}

fn number(bytes: &[u8]) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(bytes);
    u64::from_le_bytes(raw)
}

#[cfg(test)]
mod tests;
