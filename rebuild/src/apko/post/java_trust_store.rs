//! The Java trust store `etc/ssl/certs/java/cacerts`: a JKS file, version 2, password `changeit`.
//!
//! Big endian: magic, version, count; per entry a tag (1 key, 2 certificate), alias, milliseconds,
//! then the certificate, or the key with its chain; at the end SHA-1 over the password in UTF-16,
//! the words "Mighty Aphrodite" and all before. Invariant: what is not changed is copied byte for
//! byte; a store whose digest or layout is wrong is an error, as it is for apko.

use super::certificate::Certificate;
use sha1::{Digest as _, Sha1};
use std::collections::BTreeMap;

/// Where the store is.
pub(super) const PATH: &str = "etc/ssl/certs/java/cacerts";

const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
const KEY: u32 = 1;
const CERTIFICATE: u32 = 2;
const PASSWORD: &str = "changeit";
const WORDS: &[u8] = b"Mighty Aphrodite";
const DIGEST_BYTES: usize = 20;
/// Entries of a store, as its count is foreign; each has at least 20 bytes anyway.
const ENTRIES_MAX: u32 = 1 << 20;

/// Why a store cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StoreError {
    /// Ends early, or a length is wrong.
    #[error("expected a Java key store, found one that ends early")]
    Short,
    /// Not this format.
    #[error("expected {expected}, found {found:#x}")]
    Layout {
        /// What should stand there.
        expected: &'static str,
        /// What does.
        found: u32,
    },
    /// Bytes after the last entry.
    #[error("expected the digest after the last entry, found {0} bytes more")]
    Trailing(usize),
    /// Not the bytes that were signed with the password.
    #[error("expected a store with the password `changeit`, found another digest")]
    Digest,
    /// A name or certificate that the format cannot hold.
    #[error("expected a shorter name or certificate than {0} bytes")]
    TooLong(usize),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], StoreError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(StoreError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, StoreError> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// A length in two bytes, and that many.
    fn short(&mut self) -> Result<&'a [u8], StoreError> {
        let bytes = self.take(2)?;
        self.take(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// A length in four bytes, and that many.
    fn long(&mut self) -> Result<&'a [u8], StoreError> {
        let length = self.u32()?;
        self.take(length as usize)
    }
}

/// The entries of a store: alias to tag and what follows the alias.
type Entries = BTreeMap<Vec<u8>, (u32, Vec<u8>)>;

fn read(store: &[u8]) -> Result<Entries, StoreError> {
    let body = store.len().checked_sub(DIGEST_BYTES).ok_or(StoreError::Short)?;
    let (body, found) = store.split_at_checked(body).ok_or(StoreError::Short)?;
    let mut reader = Reader(body);
    let magic = reader.u32()?;
    if magic != MAGIC {
        return Err(StoreError::Layout { expected: "the magic 0xfeedfeed", found: magic });
    }
    let version = reader.u32()?;
    if version != VERSION {
        return Err(StoreError::Layout { expected: "version 2", found: version });
    }
    if digest(body) != found {
        return Err(StoreError::Digest);
    }
    let count = reader.u32()?;
    if count > ENTRIES_MAX {
        return Err(StoreError::Layout { expected: "at most 2^20 entries", found: count });
    }
    let mut entries = Entries::new();
    for _ in 0..count {
        let tag = reader.u32()?;
        let alias = reader.short()?.to_vec();
        let start = reader.0;
        reader.take(8)?;
        match tag {
            CERTIFICATE => certificate(&mut reader)?,
            KEY => {
                reader.long()?;
                for _ in 0..reader.u32()? {
                    certificate(&mut reader)?;
                }
            }
            _ => return Err(StoreError::Layout { expected: "tag 1 or 2", found: tag }),
        }
        let length = start.len() - reader.0.len();
        entries.insert(alias, (tag, start.get(..length).unwrap_or_default().to_vec()));
    }
    if reader.0.is_empty() { Ok(entries) } else { Err(StoreError::Trailing(reader.0.len())) }
}

fn certificate(reader: &mut Reader<'_>) -> Result<(), StoreError> {
    reader.short()?;
    reader.long()?;
    Ok(())
}

fn digest(body: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut sha1 = Sha1::new();
    for unit in PASSWORD.encode_utf16() {
        sha1.update(unit.to_be_bytes());
    }
    sha1.update(WORDS);
    sha1.update(body);
    sha1.finalize().into()
}

/// The store with these certificates added, entries sorted by alias.
pub(super) fn add(
    store: &[u8],
    certificates: &[Certificate],
    created: i64,
) -> Result<Vec<u8>, StoreError> {
    let mut entries = read(store)?;
    for certificate in certificates {
        let mut rest = created.wrapping_mul(1000).to_be_bytes().to_vec();
        put_short(&mut rest, b"X.509")?;
        let length = u32::try_from(certificate.der.len())
            .map_err(|_| StoreError::TooLong(certificate.der.len()))?;
        rest.extend_from_slice(&length.to_be_bytes());
        rest.extend_from_slice(&certificate.der);
        entries.insert(certificate.alias.to_lowercase().into_bytes(), (CERTIFICATE, rest));
    }
    let count = u32::try_from(entries.len()).map_err(|_| StoreError::TooLong(entries.len()))?;
    let mut out: Vec<u8> = [MAGIC, VERSION, count].iter().flat_map(|n| n.to_be_bytes()).collect();
    for (alias, (tag, rest)) in &entries {
        out.extend_from_slice(&tag.to_be_bytes());
        put_short(&mut out, alias)?;
        out.extend_from_slice(rest);
    }
    let digest = digest(&out);
    out.extend_from_slice(&digest);
    Ok(out)
}

fn put_short(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), StoreError> {
    let length = u16::try_from(bytes.len()).map_err(|_| StoreError::TooLong(bytes.len()))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn store(entries: &[u8], count: u32) -> Vec<u8> {
        let mut body: Vec<u8> =
            [MAGIC, VERSION, count].iter().flat_map(|n| n.to_be_bytes()).collect();
        body.extend_from_slice(entries);
        let digest = digest(&body);
        body.extend_from_slice(&digest);
        body
    }

    #[test]
    fn keys_and_certificates_survive() {
        let mut entries = Vec::new();
        entries.extend_from_slice(b"\0\0\0\x02\0\x01z\0\0\0\0\0\0\0\x05\0\x05X.509\0\0\0\x02DE");
        entries.extend_from_slice(b"\0\0\0\x01\0\x01a\0\0\0\0\0\0\0\x06\0\0\0\x01K\0\0\0\x01");
        entries.extend_from_slice(b"\0\x05X.509\0\0\0\x01C");
        let before = store(&entries, 2);
        let after = add(&before, &[], 7).unwrap();
        assert_eq!(after.len(), before.len());
        assert_eq!(read(&after).unwrap(), read(&before).unwrap());
        assert!(after.windows(3).position(|w| w == b"\0\x01a") < Some(30), "sorted by alias");
    }

    #[test]
    fn wrong_stores_are_errors() {
        let good = store(b"", 0);
        assert!(read(&good).unwrap().is_empty());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(read(&bad).is_err(), "byte {at}");
            assert!(read(&good[..at]).is_err());
        }
        assert!(read(&store(b"", u32::MAX)).unwrap_err().to_string().contains("2^20"));
        assert_eq!(read(&store(b"xx", 0)).unwrap_err(), StoreError::Trailing(2));
    }

    proptest! {
        #[test]
        fn any_bytes(entries in proptest::collection::vec(any::<u8>(), 0..100), count in 0_u32..4) {
            let _ = read(&store(&entries, count));
            let _ = read(&entries);
        }
    }
}
