//! One package file: kept from before or fetched, unpacked, proven by a record, and on record
//! itself.
//!
//! Invariant: what comes from the store is proven anew like what comes from its origin; a file that
//! is not what a verified index names is "unavailable", never "gone".

use super::super::{
    Material, MaterialError, blocking::blocking, spool::FileSpool, store::BlobRecord,
    unpacking::Unpacking,
};
use super::shelf::Shelf;
use attest::Digest;
use rebuild::apk::{
    index::IndexEntry,
    package::{Package, PackageLimits},
};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// What proves a package file.
#[derive(Debug, Clone)]
pub enum PackageProof {
    /// The record of an index.
    Index {
        /// Name, version, size and the hash of the control member.
        record: Box<IndexEntry>,
        /// The index, with what vouches for it.
        index: Material,
        /// False where nothing vouches for the index and a person said that this is fine: then,
        /// as for apko, the size that it states does not count either.
        signed: bool,
    },
    /// A lockfile that the person gave.
    Lockfile {
        /// Name.
        name: String,
        /// Version.
        version: String,
        /// SHA-1 of the compressed control member.
        control_sha1: [u8; 20],
        /// The lockfile's digest.
        lockfile: String,
    },
}

impl PackageProof {
    /// Bytes of the package file, where its record says so.
    pub fn size(&self) -> u64 {
        match self {
            Self::Index { record, .. } => record.size,
            Self::Lockfile { .. } => 0,
        }
    }

    /// Checks a package; what vouches for it.
    fn check(&self, package: &Package) -> Result<String, String> {
        match self {
            Self::Index { record, index, signed } => {
                let size = if *signed { record.size } else { package.file_size };
                let record = IndexEntry { size, ..(**record).clone() };
                package.verify_against_index(&record).map_err(|error| error.to_string())?;
                Ok(format!("index {} ({})", index.digest, index.verified_by))
            }
            Self::Lockfile { name, version, control_sha1, lockfile } => {
                let expected = format!("{name}-{version} {}", hex::encode(control_sha1));
                let found = format!("{} {}", package.label(), hex::encode(package.control_sha1));
                if expected == found {
                    return Ok(format!("lockfile {lockfile}"));
                }
                Err(format!("expected {expected} as in the lockfile, found {found}"))
            }
        }
    }
}

impl Shelf<'_> {
    /// Fetches, unpacks and proves one package file.
    pub async fn proven(
        &self,
        uri: &str,
        proof: &PackageProof,
    ) -> Result<(Arc<Package>, Material), MaterialError> {
        if let Some(kept) = self.kept(uri, proof).await {
            return Ok(kept);
        }
        // What a verified index names exists: a source that lacks it, or has something else, is
        // damaged or dishonest, and says nothing about the image.
        let named = matches!(proof, PackageProof::Index { signed: true, .. });
        let other = |problem: String| match named {
            true => MaterialError::Unavailable {
                uri: uri.to_owned(),
                problem: format!("not the package that the verified index names: {problem}"),
            },
            false => MaterialError::Unproven { uri: uri.to_owned(), problem },
        };
        let (package, digest, from) = self.fetch(uri).await.map_err(|error| match error {
            MaterialError::Gone { looked_at, .. } if named => other(looked_at),
            MaterialError::Unproven { problem, .. } | MaterialError::Limit { problem, .. }
                if named =>
            {
                other(problem)
            }
            error => error,
        })?;
        let verified_by = proof.check(&package).map_err(other)?;
        self.finish(uri, package, digest, from, verified_by)
    }

    /// A package that an earlier run verified and unpacked, if it is the one that is proven now.
    async fn kept(&self, uri: &str, proof: &PackageProof) -> Option<(Arc<Package>, Material)> {
        let unpacked = self.store.unpacked()?.clone();
        let digest = self.store.named(uri)?;
        let package = blocking(move || unpacked.package(&digest)).await?;
        // Another file may be meant today: then it is fetched like any other.
        let verified_by = proof.check(&package).ok()?;
        let from = "the content store".to_owned();
        let material = Material { uri: uri.to_owned(), digest, from, verified_by };
        Some((Arc::new(package), material))
    }

    /// Reads a file, unpacks it, and keeps both. What an origin has dropped may still be here.
    pub(super) async fn fetch(
        &self,
        uri: &str,
    ) -> Result<(Package, Digest, String), MaterialError> {
        let limits = PackageLimits::default();
        let unpacking = Unpacking {
            store: Arc::clone(self.store),
            spool: FileSpool::new(self.spool),
            uri: uri.to_owned(),
            limits,
        };
        match self.places.open(uri, self.origins, limits.gzip.compressed_bytes_max).await {
            Ok(found) => {
                let escrow = !found.local || self.escrow_local;
                let from = found.from.clone();
                let package = blocking(move || unpacking.read(found.bytes, escrow)).await?;
                let digest = package.file_sha256;
                Ok((package, digest, from))
            }
            Err(error) => {
                let Some(digest) = self.store.remembered(uri) else { return Err(error) };
                let package = blocking(move || {
                    let file = unpacking.store.open_blob(&digest)?;
                    let file = file.ok_or_else(|| MaterialError::Unavailable {
                        uri: unpacking.uri.clone(),
                        problem: "the content store lost it while it was being read".to_owned(),
                    })?;
                    unpacking.read(Box::new(file), false)
                });
                // The store's disk may have changed the bytes: that says nothing about the image.
                let damaged = |problem: String| MaterialError::Unavailable {
                    uri: uri.to_owned(),
                    problem: format!("the content store's copy is damaged: {problem}"),
                };
                let package = package.await.map_err(|error| match error {
                    MaterialError::Unproven { problem, .. }
                    | MaterialError::Limit { problem, .. } => damaged(problem),
                    error => error,
                })?;
                if package.file_sha256 != digest {
                    return Err(damaged(format!(
                        "expected {digest}, found {}",
                        package.file_sha256
                    )));
                }
                Ok((package, digest, "the content store".to_owned()))
            }
        }
    }

    /// What is proven is on record, and found again under its URI.
    pub(super) fn finish(
        &self,
        uri: &str,
        package: Package,
        digest: Digest,
        from: String,
        verified_by: String,
    ) -> Result<(Arc<Package>, Material), MaterialError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let record = BlobRecord {
            uri: uri.to_owned(),
            from: from.clone(),
            verified_by: verified_by.clone(),
            stored_at: now,
        };
        self.store.remember(uri, &digest)?;
        if self.store.path_of(&digest).exists() {
            self.store.record(&digest, &record)?;
        }
        let material = Material { uri: uri.to_owned(), digest, from, verified_by };
        Ok((Arc::new(package), material))
    }
}
