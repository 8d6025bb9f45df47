//! The packages of a recipe: fetched by URL, proven, unpacked.
//!
//! Two proofs count (apko-assembly, 4 and 20.2): the record of an index that a trusted key signed,
//! or the signature inside the file by such a key, for packages that the index has dropped.
//! Invariant: `Gone` is said only when a verified index lacks the package and no complete source
//! has the file; a source that did not answer, or whose file is not what its verified index names,
//! makes the whole answer "unavailable", and so does one that has another architecture's files in
//! the place of these. Every file goes through the content store, so that one
//! withdrawn later can still be rebuilt.

use super::{
    ContentStore, Material, MaterialError, Origins, Places, keys::Keys, largest_first,
    spool::FileSpool, store::BlobRecord, unpacking::Unpacking,
};
use attest::Digest;
use rebuild::{
    apk::{
        index::{Index, IndexEntry, IndexError, IndexLimits},
        key::KeyError,
        package::{Package, PackageLimits},
    },
    apko::config::{PinnedRepository, architecture},
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Largest index file: one of 100,000 packages is about 20 MB compressed.
const INDEX_BYTES_MAX: u64 = 64 << 20;
/// What a package for every architecture says.
const ANY_ARCHITECTURE: &str = "noarch";

/// A package that the recipe names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageRequest {
    /// `busybox`.
    pub name: String,
    /// `1.38.0-r1`.
    pub version: String,
}

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

/// Where packages are looked for.
pub struct Shelf<'a> {
    /// Mirrors and network.
    pub places: &'a Places,
    /// Where files are kept.
    pub store: &'a Arc<ContentStore>,
    /// Who may sign.
    pub keys: &'a Keys,
    /// For unpacked data that is not kept.
    pub spool: &'a Path,
    /// Files of this machine go into the store too.
    pub escrow_local: bool,
    /// Where repositories and packages may be.
    pub origins: Origins,
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

    /// For a package that no verified index has: its file may still be there.
    async fn by_own_signature(
        &self,
        bases: &Bases<'_>,
        some_index: bool,
        unread: &[MaterialError],
        request: &PackageRequest,
    ) -> Result<Proven, MaterialError> {
        let mut looked_at = Vec::new();
        let mut others: Vec<MaterialError> = Vec::new();
        for base in &bases.folders {
            let uri = format!("{base}/{}-{}.apk", request.name, request.version);
            let (package, digest, from) = match self.fetch(&uri).await {
                Ok(fetched) => fetched,
                Err(MaterialError::Gone { looked_at: place, .. }) => {
                    looked_at.push(place);
                    continue;
                }
                Err(error) => {
                    others.push(error);
                    continue;
                }
            };
            // A signature says who made a package, not that it is the one that was asked for.
            if (&package.info.name, &package.info.version) != (&request.name, &request.version) {
                let (wanted, found) = (format!("{}-{}", request.name, request.version), package);
                let problem = format!("expected the package {wanted}, found {}", found.label());
                others.push(MaterialError::Unavailable { uri, problem });
                continue;
            }
            if let Err(error) = check_architecture(&uri, &package.info.arch, bases.arch) {
                others.push(error);
                continue;
            }
            match package.verify_signature(&self.keys.ring_of(base)) {
                Ok(signer) => {
                    let verified_by = format!("its own signature by {}", signer.key);
                    let finished = self.finish(&uri, package, digest, from, verified_by);
                    let (package, material) = finished?;
                    return Ok(Proven { package, material, indexed: false });
                }
                Err(error) => {
                    let problem = format!("not in a verified index, and {error}");
                    others.push(MaterialError::Unproven { uri, problem });
                }
            }
        }
        let uri = format!("{}-{}.apk", request.name, request.version);
        // What did not answer might have had it, or its proof: that comes before what did answer.
        let silent = |error: &&MaterialError| {
            matches!(error, MaterialError::Unavailable { .. } | MaterialError::Store(_))
        };
        if let Some(error) = unread.iter().chain(&others).find(silent) {
            let problem = error.to_string();
            return Err(MaterialError::Unavailable { uri, problem });
        }
        if let Some(error) = others.into_iter().next() {
            return Err(error);
        }
        if let Some(error) = unread.iter().find(|e| !matches!(e, MaterialError::Gone { .. })) {
            let problem = format!("an index could not be used: {error}");
            return match error {
                MaterialError::Unproven { .. } => Err(MaterialError::Unproven { uri, problem }),
                _ => Err(MaterialError::Unavailable { uri, problem }),
            };
        }
        if !some_index {
            let problem = "no repository of the recipe has an index".to_owned();
            return Err(MaterialError::Unavailable { uri, problem });
        }
        let looked_at = format!("no verified index has it; {}", looked_at.join("; "));
        Err(MaterialError::Gone { uri, looked_at })
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
    async fn fetch(&self, uri: &str) -> Result<(Package, Digest, String), MaterialError> {
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
    fn finish(
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

/// Where the packages of one architecture, in apk's words, are.
struct Bases<'a> {
    arch: &'a str,
    folders: Vec<String>,
}

/// A package with what vouches for it.
struct Proven {
    package: Arc<Package>,
    material: Material,
    indexed: bool,
}

/// An index, unless it is another architecture's. All are signed alike: a source that has one in the
/// place of another is damaged or dishonest.
fn of_architecture(verified: VerifiedIndex, arch: &str) -> Result<VerifiedIndex, MaterialError> {
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
fn check_architecture(uri: &str, found: &str, expected: &str) -> Result<(), MaterialError> {
    if [expected, ANY_ARCHITECTURE].contains(&found) {
        return Ok(());
    }
    let found: String = found.chars().take(40).collect();
    let problem =
        format!("expected the architecture {expected} or {ANY_ARCHITECTURE}, found {found:?}");
    Err(MaterialError::Unavailable { uri: uri.to_owned(), problem })
}

/// The record of a package in the first index that has one.
fn record_of<'i>(
    indexes: &'i [VerifiedIndex],
    request: &PackageRequest,
) -> Option<(&'i VerifiedIndex, &'i IndexEntry)> {
    indexes.iter().find_map(|verified| {
        let mut entries = verified.index.entries.iter();
        let record = entries.find(|r| r.name == request.name && r.version == request.version)?;
        Some((verified, record))
    })
}

/// A name or version that would change the URL it becomes part of is refused.
fn check_request(request: &PackageRequest) -> Result<(), MaterialError> {
    let plain = |text: &str| {
        (1..=200).contains(&text.len())
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-~:".contains(&b))
    };
    if plain(&request.name) && plain(&request.version) {
        return Ok(());
    }
    let PackageRequest { name, version } = request;
    let problem = format!("expected a plain package name and version, found {name:?} {version:?}");
    Err(MaterialError::Limit { uri: "package".to_owned(), problem })
}

/// Runs what hashes and unpacks away from the threads that wait for the network.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // The work is never cancelled; a panic in it goes on here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
