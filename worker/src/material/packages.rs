//! The packages of a recipe: fetched by URL, proven, unpacked.
//!
//! Two proofs count (apko-assembly, 4 and 20.2): the record of an index that a trusted key signed,
//! or the signature inside the file by such a key, for packages that the index has dropped.
//! Invariant: `Gone` is said only when a verified index lacks the package and no complete source
//! has the file; a source that did not answer, or whose file is not what its verified index names,
//! makes the whole answer "unavailable", and so does one that has another architecture's files in
//! the place of these. Every file goes through the content store, so that one
//! withdrawn later can still be rebuilt.

mod file;
mod index;
mod shelf;
mod unindexed;

pub use file::PackageProof;
pub use index::VerifiedIndex;
pub use shelf::{PackageRequest, Shelf};

use super::{Material, MaterialError, largest_first};
use index::{check_architecture, of_architecture, record_of};
use rebuild::{
    apk::{index::IndexEntry, package::Package},
    apko::config::{PinnedRepository, architecture},
};
use shelf::{Bases, Proven, check_request};
use std::{collections::BTreeSet, sync::Arc};

/// Everything a build reads.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// In the order of the request.
    pub packages: Vec<Arc<Package>>,
    /// The verified indexes, in the order of the repositories: what a resolver needs.
    pub indexes: Vec<VerifiedIndex>,
    /// Every file that was read, sorted.
    pub materials: Vec<Material>,
    /// Names of the packages that no verified index has: the signature inside each says who made
    /// it, not that it is the file of that name and version that a build of another day had.
    pub unindexed: BTreeSet<String>,
    /// Indexes that are there and could not be used: every package was proven without them, but
    /// what a resolver makes of the others is not what it makes of all.
    pub unread: Arc<[MaterialError]>,
}

impl Shelf<'_> {
    /// Fetches, proves and unpacks packages for one architecture (in OCI's words).
    pub async fn gather(
        &self,
        repositories: &[PinnedRepository<'_>],
        arch: &str,
        wanted: &[PackageRequest],
    ) -> Result<Gathered, MaterialError> {
        let arch = architecture::apk(arch);
        let folders = repositories.iter().map(|r| format!("{}/{arch}", r.address)).collect();
        let bases = Bases { arch, folders };
        let mut indexes = Vec::new();
        let mut unread = Vec::new();
        for (base, repository) in bases.folders.iter().zip(repositories) {
            match self.index(base, true).await.and_then(|index| of_architecture(index, arch)) {
                Ok(index) => indexes.push(VerifiedIndex { pin: repository.pin.into(), ..index }),
                Err(error) => unread.push(error),
            }
        }
        let wanted: Vec<_> =
            wanted.iter().map(|request| (request, record_of(&indexes, request))).collect();
        let size = |(_, found): &(_, Option<(_, &IndexEntry)>)| found.map_or(0, |(_, r)| r.size);
        let one = |(request, found)| self.package(&bases, &indexes, &unread, request, found);
        let found = largest_first(wanted, size, one).await?;
        let mut materials: Vec<Material> = indexes.iter().map(|i| i.material.clone()).collect();
        let mut packages = Vec::with_capacity(found.len());
        let mut unindexed = BTreeSet::new();
        for Proven { package, material, indexed } in found {
            if !indexed {
                unindexed.insert(package.info.name.clone());
            }
            packages.push(package);
            materials.push(material);
        }
        materials.sort();
        // A repository without an index is a fact, and none to apko either.
        unread.retain(|error| !matches!(error, MaterialError::Gone { .. }));
        for error in &unread {
            tracing::warn!(%error, "an index could not be used");
        }
        Ok(Gathered { packages, indexes, materials, unindexed, unread: unread.into() })
    }

    async fn package(
        &self,
        bases: &Bases<'_>,
        indexes: &[VerifiedIndex],
        unread: &[MaterialError],
        request: &PackageRequest,
        found: Option<(&VerifiedIndex, &IndexEntry)>,
    ) -> Result<Proven, MaterialError> {
        check_request(request)?;
        let Some((verified, record)) = found else {
            return self.by_own_signature(bases, !indexes.is_empty(), unread, request).await;
        };
        let uri = format!("{}/{}", verified.base, record.file_name());
        check_architecture(&uri, &record.arch, bases.arch)?;
        let index = verified.material.clone();
        let proof = PackageProof::Index { record: Box::new(record.clone()), index, signed: true };
        let (package, material) = self.proven(&uri, &proof).await?;
        check_architecture(&uri, &package.info.arch, bases.arch)?;
        Ok(Proven { package, material, indexed: true })
    }
}
