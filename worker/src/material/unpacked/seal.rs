//! The key of a store of unpacked packages, and the tags made with it.
//!
//! Invariant: no key makes two tags with one nonce: every entry has a key of its own (HMAC-SHA256
//! of the store's key over a random salt), in it every chunk its number and the rest of the file
//! the last number. The key is never printed and never leaves the file it was made in.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    constant_time, hmac,
};
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Bytes of data under one tag.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 16;

/// Tells these keys from any other use of the store's key.
const CONTEXT: &[u8] = b"assay unpacked package v1";
/// The number under which everything that is not data is tagged.
const META_NUMBER: u64 = u64::MAX;

/// The key of a store.
pub(super) struct StoreKey {
    key: hmac::Key,
    /// The account that this process makes files for.
    pub(super) owner: u32,
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(…)")
    }
}

impl StoreKey {
    /// Reads the key, or makes one. Of several processes that make one at once, one wins.
    pub(super) fn open(path: &Path, staging: &Path) -> io::Result<Self> {
        let mine = tempfile::Builder::new().prefix("key-").tempfile_in(staging)?;
        let owner = mine.as_file().metadata()?.uid();
        let file = match private(path, owner)? {
            Some(file) => file,
            None => {
                let mut raw = [0; 32];
                aws_lc_rs::rand::fill(&mut raw).map_err(|_| io::Error::other("no random bytes"))?;
                mine.as_file().write_all(&raw)?;
                mine.as_file().sync_all()?;
                // A link, as a rename would replace the key of a process that was faster.
                match fs::hard_link(mine.path(), path) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error);
                    }
                    _ => {}
                }
                private(path, owner)?.ok_or(io::ErrorKind::NotFound)?
            }
        };
        let mut raw = Vec::new();
        file.take(33).read_to_end(&mut raw)?;
        if raw.len() != 32 {
            let found = format!("expected 32 bytes in {}, found {}", path.display(), raw.len());
            return Err(io::Error::other(found));
        }
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &raw), owner })
    }

    /// The key of one entry.
    pub(super) fn entry(&self, salt: &[u8; 32]) -> EntrySeal {
        let raw = hmac::sign(&self.key, &[CONTEXT, salt].concat());
        // HMAC-SHA256 has the 32 bytes that AES-256 asks for.
        let key = UnboundKey::new(&AES_256_GCM, raw.as_ref());
        EntrySeal(key.ok().map(LessSafeKey::new))
    }
}

/// The key file, if it is there, is this account's and nobody else may read or write it.
fn private(path: &Path, owner: u32) -> io::Result<Option<File>> {
    let no_link = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    let file = match OpenOptions::new().read(true).custom_flags(no_link).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    if found.is_file() && found.uid() == owner && found.mode() & 0o077 == 0 {
        return Ok(Some(file));
    }
    let message = format!("expected {} to be this account's alone (mode 0600)", path.display());
    Err(io::Error::other(message))
}

/// Makes and checks the tags of one entry.
pub(super) struct EntrySeal(Option<LessSafeKey>);

impl EntrySeal {
    /// The tag of a chunk.
    pub(super) fn chunk(&self, number: u64, bytes: &[u8]) -> io::Result<[u8; TAG_BYTES]> {
        self.tag(number, bytes)
    }

    /// The tag of everything that is not data.
    pub(super) fn meta(&self, bytes: &[u8]) -> io::Result<[u8; TAG_BYTES]> {
        self.tag(META_NUMBER, bytes)
    }

    /// True if a chunk has this tag.
    pub(super) fn fits_chunk(&self, number: u64, bytes: &[u8], tag: &[u8]) -> bool {
        self.fits(number, bytes, tag)
    }

    /// True if everything that is not data has this tag.
    pub(super) fn fits_meta(&self, bytes: &[u8], tag: &[u8]) -> bool {
        self.fits(META_NUMBER, bytes, tag)
    }

    fn fits(&self, number: u64, bytes: &[u8], tag: &[u8]) -> bool {
        let expected = self.tag(number, bytes);
        expected.is_ok_and(|e| constant_time::verify_slices_are_equal(&e, tag).is_ok())
    }

    /// GMAC: GCM that encrypts nothing and authenticates `bytes`.
    fn tag(&self, number: u64, bytes: &[u8]) -> io::Result<[u8; TAG_BYTES]> {
        let failed = || io::Error::other("expected a tag, found that none could be made");
        let key = self.0.as_ref().ok_or_else(failed)?;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_le_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(bytes), &mut []);
        let tag = tag.map_err(|_| failed())?;
        tag.as_ref().try_into().map_err(|_| failed())
    }
}
