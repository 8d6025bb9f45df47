//! The indexes of repositories, read and proven for one architecture.
//!
//! Invariant: an index counts by the signature of a trusted key, or where a person said that none
//! is needed; one that is another architecture's is damage of its source. It must never be said to
//! lack a package when it could not be read.

use super::super::{Material, MaterialError, blocking::blocking};
use super::shelf::{PackageRequest, Shelf};
use attest::Digest;
use rebuild::apk::{
    index::{Index, IndexEntry, IndexError, IndexLimits},
    key::KeyError,
};

/// Largest index file: one of 100,000 packages is about 20 MB compressed.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// What a package for every architecture says.
const ANY_ARCHITECTURE: &str = "noarch";

/// The index of one repository, as far as it is proven.
#[derive(Debug, Clone)]
pub struct VerifiedIndex {
    /// `<repository>/<architecture>`.
    pub base: String,
    /// The pin of the repository; empty for most.
    pub pin: String,
    /// Its records.
    pub index: Index,
    /// The index file itself.
    pub material: Material,
}

impl Shelf<'_> {
    /// Reads an index; `signed` is false only where a person said that signatures do not count.
    pub async fn index(&self, base: &str, signed: bool) -> Result<VerifiedIndex, MaterialError> {
        let uri = format!("{base}/APKINDEX.tar.gz");
        let (bytes, from) = self.places.read_from(&uri, self.origins, INDEX_BYTES_MAX).await?;
        let digest = Digest::of(&bytes);
        let ring = self.keys.ring_of(base);
        let read = blocking(move || {
            let limits = IndexLimits::default();
            if signed {
                let (index, signer) = Index::read(&bytes, &ring, &limits)?;
                return Ok((index, format!("signature by {}", signer.key)));
            }
            let index = Index::read_without_signature(&bytes, &limits)?;
            Ok((index, "nothing: signatures are ignored".to_owned()))
        });
        let (index, verified_by) = read.await.map_err(|error: IndexError| {
            let (uri, problem) = (uri.clone(), error.to_string());
            // Unsigned, or signed by a stranger: that is about keys. Anything else is damage of the
            // file or of its way here, which says nothing about the image.
            let of_keys = matches!(
                &error,
                IndexError::Unsigned | IndexError::Signature(KeyError::NoTrustedKey { .. })
            );
            match error.is_limit() {
                true => MaterialError::Limit { uri, problem },
                false if signed && !of_keys => MaterialError::Unavailable { uri, problem },
                false => MaterialError::Unproven { uri, problem },
            }
        })?;
        let material = Material { uri, digest, from, verified_by };
        Ok(VerifiedIndex { base: base.to_owned(), pin: String::new(), index, material })
    }
}

/// An index, unless it is another architecture's. All are signed alike: a source that has one in the
/// place of another is damaged or dishonest.
pub(super) fn of_architecture(
    verified: VerifiedIndex,
    arch: &str,
) -> Result<VerifiedIndex, MaterialError> {
    let entries = &verified.index.entries;
    let other = entries.iter().find(|entry| ![arch, ANY_ARCHITECTURE].contains(&&*entry.arch));
    if let Some(entry) = other.filter(|_| entries.iter().all(|entry| entry.arch != arch)) {
        let uri = format!("{}#{}", verified.material.uri, entry.file_name());
        check_architecture(&uri, &entry.arch, arch)?;
    }
    Ok(verified)
}

/// What is for another architecture is not what the recipe means: its source is damaged or
/// dishonest, which says nothing about the image.
pub(super) fn check_architecture(
    uri: &str,
    found: &str,
    expected: &str,
) -> Result<(), MaterialError> {
    if [expected, ANY_ARCHITECTURE].contains(&found) {
        return Ok(());
    }
    let found: String = found.chars().take(40).collect();
    let problem =
        format!("expected the architecture {expected} or {ANY_ARCHITECTURE}, found {found:?}");
    Err(MaterialError::Unavailable { uri: uri.to_owned(), problem })
}

/// The record of a package in the first index that has one.
pub(super) fn record_of<'i>(
    indexes: &'i [VerifiedIndex],
    request: &PackageRequest,
) -> Option<(&'i VerifiedIndex, &'i IndexEntry)> {
    indexes.iter().find_map(|verified| {
        let mut entries = verified.index.entries.iter();
        let record = entries.find(|r| r.name == request.name && r.version == request.version)?;
        Some((verified, record))
    })
}
