//! The packages of every architecture, in the order of installation, fetched and proven.
//!
//! From a lockfile: its files, in its order, each with the checksum that it states. Else by the
//! resolver over the verified indexes, all architectures together, with the rules of the chosen
//! version; an order that is given may only permute what was resolved. Invariant: no package comes
//! from anywhere else, and none is left out.

use super::{
    AssembleFailure, AssembleProgress, AssembleRequest, AssembleTools,
    keys::AssemblyKeys,
    order::GivenOrder,
    recipe::RecipeFile,
    repository::BuildRepository,
    resolve::{ChosenFile, Found, resolve},
};
use crate::material::{Material, Origins, PackageProof, largest_first, packages::Shelf};
use attest::{Gap, GapCode};
use rebuild::{
    apk::{package::Package, resolver::Rules},
    apko::{
        Behaviour,
        behaviour::Capability,
        config::{LockPackage, LockedPackage, Lockfile, architecture},
    },
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

/// Where the order of installation is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderSource {
    /// The resolver.
    Resolver,
    /// A lockfile.
    Lockfile,
    /// A file or an image that was given.
    Given,
}

/// What one architecture is made from.
pub struct Chosen {
    /// In OCI's words, with variant.
    pub architecture: String,
    /// As the locked configuration lists them.
    pub locked: Vec<LockedPackage>,
    /// In the order of installation.
    pub packages: Vec<Arc<Package>>,
    /// Where that order is from.
    pub order: OrderSource,
    /// What apko would leave to chance.
    pub ambiguous: Vec<String>,
    /// Every file that was read.
    pub materials: Vec<Material>,
}

/// What the choice is made with.
pub struct Job<'a> {
    /// The call.
    pub request: &'a AssembleRequest,
    /// Places and store.
    pub tools: &'a AssembleTools,
    /// Configuration and lockfile.
    pub recipe: &'a RecipeFile,
    /// The version of apko to be.
    pub behaviour: Behaviour,
    /// Who may sign.
    pub keys: &'a AssemblyKeys,
}

/// One file to fetch, and what proves it.
struct Wanted {
    uri: String,
    proof: PackageProof,
}

/// The packages of all architectures of the configuration.
pub async fn packages(
    job: &Job<'_>,
    repositories: &[BuildRepository],
    progress: &dyn AssembleProgress,
) -> Result<Vec<Chosen>, AssembleFailure> {
    match &job.recipe.lockfile {
        Some(lockfile) => job.by_lockfile(lockfile, progress).await,
        None => job.by_resolver(repositories, progress).await,
    }
}

impl Job<'_> {
    fn shelf(&self, name: &str) -> Shelf<'_> {
        Shelf {
            places: &self.tools.places,
            store: &self.tools.store,
            keys: &self.keys.of(name).keys,
            spool: &self.tools.work,
            escrow_local: false,
            origins: Origins::AlsoLocal,
        }
    }

    async fn by_lockfile(
        &self,
        lockfile: &Lockfile,
        progress: &dyn AssembleProgress,
    ) -> Result<Vec<Chosen>, AssembleFailure> {
        let label = self.recipe.lockfile_digest.map(|d| d.to_string()).unwrap_or_default();
        let mut all = Vec::new();
        for name in &self.recipe.config.archs {
            let wanted = lockfile.packages_for(name);
            let wanted: Vec<Wanted> =
                wanted.map(|package| locked_file(package, &label)).collect::<Result<_, _>>()?;
            if wanted.is_empty() {
                let detail = format!("the lockfile has no package for {name}");
                return Err(AssembleFailure::Usage(detail));
            }
            let (packages, materials) = self.fetch(name, wanted, progress).await?;
            all.push(Chosen {
                architecture: name.clone(),
                locked: lockfile.locked_packages(name),
                packages,
                order: OrderSource::Lockfile,
                ambiguous: Vec::new(),
                materials: self.with_keys(materials),
            });
        }
        Ok(all)
    }

    async fn by_resolver(
        &self,
        repositories: &[BuildRepository],
        progress: &dyn AssembleProgress,
    ) -> Result<Vec<Chosen>, AssembleFailure> {
        let archs = &self.recipe.config.archs;
        let given = match &self.request.order_from {
            Some(text) => Some(GivenOrder::read(text, self.tools).await?),
            None => None,
        };
        let rules = self.behaviour.resolver_rules();
        if rules.is_none() && given.is_none() {
            let version = self.behaviour.version();
            let detail = format!("the order of apko {version} is not known: give --order-from");
            return Err(AssembleFailure::Unsupported(vec![Gap::new(
                GapCode::UnsupportedVersion,
                detail,
            )]));
        }
        let count = (archs.len() * repositories.len()) as u64;
        progress.begin("reading indexes", count, false);
        let mut indexes: BTreeMap<String, Vec<Found<'_>>> = BTreeMap::new();
        for name in archs {
            let mut found = Vec::new();
            for repository in repositories {
                found.extend(self.index(repository, name).await?);
                progress.advance(1);
            }
            indexes.insert(name.clone(), found);
        }
        let config = &self.recipe.config;
        let world = config.requested_packages();
        // Since 0.22.2 apko resolves to a lock first, and installs what the lock resolves to, with
        // what its services need beside it: the order is the second one's.
        let beside = self
            .behaviour
            .has(Capability::Locked)
            .then(|| world.get(config.contents.packages.len()..).unwrap_or_default());
        let rules = rules.unwrap_or(Rules::NEWEST);
        let mut all = Vec::new();
        for resolved in resolve(&indexes, &world, beside, rules)? {
            let name = resolved.architecture;
            let found = indexes.get(&name).map(Vec::as_slice).unwrap_or_default();
            let (order, source) = match &given {
                Some(given) => (given.permute(&name, resolved.files)?, OrderSource::Given),
                None => (resolved.files, OrderSource::Resolver),
            };
            if source == OrderSource::Resolver {
                for text in &resolved.ambiguous {
                    progress.remark(&format!("linux/{name}: apko leaves to chance: {text}"));
                }
            }
            let signed = !self.request.ignore_signatures;
            let wanted = order.iter().map(|file| wanted(file, found, signed)).collect();
            let (packages, mut materials) = self.fetch(&name, wanted, progress).await?;
            materials.extend(found.iter().map(|found| found.index.material.clone()));
            all.push(Chosen {
                architecture: name,
                locked: resolved.locked,
                packages,
                order: source,
                ambiguous: resolved.ambiguous,
                materials: self.with_keys(materials),
            });
        }
        Ok(all)
    }

    /// The index of a repository; none where a folder has none, as for apko.
    async fn index<'r>(
        &self,
        repository: &'r BuildRepository,
        name: &str,
    ) -> Result<Option<Found<'r>>, AssembleFailure> {
        let base = format!("{}/{}", repository.base, architecture::apk(name));
        let signed = !self.request.ignore_signatures;
        let file = format!("{base}/APKINDEX.tar.gz");
        let lacks = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        if repository.local && std::fs::symlink_metadata(&file).is_err_and(lacks) {
            return Ok(None);
        }
        match self.shelf(name).index(&base, signed).await {
            Ok(index) => Ok(Some(Found { pin: &repository.pin, index })),
            Err(error) => Err(error.into()),
        }
    }

    async fn fetch(
        &self,
        name: &str,
        wanted: Vec<Wanted>,
        progress: &dyn AssembleProgress,
    ) -> Result<(Vec<Arc<Package>>, Vec<Material>), AssembleFailure> {
        progress.begin(&format!("linux/{name}: packages"), wanted.len() as u64, false);
        let shelf = self.shelf(name);
        let shelf = &shelf;
        let one = |wanted: Wanted| async move {
            let found = shelf.proven(&wanted.uri, &wanted.proof).await;
            progress.advance(1);
            found
        };
        let found = largest_first(wanted, |wanted: &Wanted| wanted.proof.size(), one).await?;
        Ok(found.into_iter().unzip())
    }

    fn with_keys(&self, mut materials: Vec<Material>) -> Vec<Material> {
        materials.extend(self.keys.materials.iter().cloned());
        materials.sort();
        materials.dedup();
        materials
    }
}

fn wanted(file: &ChosenFile, found: &[Found<'_>], signed: bool) -> Wanted {
    let index = &found[file.repository].index;
    let record = &index.index.entries[file.record];
    Wanted {
        uri: format!("{}/{}", index.base, record.file_name()),
        proof: PackageProof::Index {
            record: Box::new(record.clone()),
            index: index.material.clone(),
            signed,
        },
    }
}

fn locked_file(package: &LockPackage, lockfile: &str) -> Result<Wanted, AssembleFailure> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let sha1 = package.checksum.strip_prefix("Q1").and_then(|text| STANDARD.decode(text).ok());
    let control_sha1: [u8; 20] = sha1.and_then(|sha1| sha1.try_into().ok()).ok_or_else(|| {
        AssembleFailure::Usage(format!(
            "lockfile, package {}: expected a checksum like Q1 and base64, found {:?}",
            package.name, package.checksum
        ))
    })?;
    let remote = package.url.contains("://") && !package.url.starts_with("file://");
    let uri = if remote {
        package.url.clone()
    } else {
        let path = package.url.strip_prefix("file://").unwrap_or(&package.url);
        let found = std::fs::canonicalize(path).ok();
        let found = found.and_then(|path| path.to_str().map(str::to_owned));
        found.ok_or_else(|| {
            AssembleFailure::Usage(format!("expected the lockfile's {path} to be a file here"))
        })?
    };
    Ok(Wanted {
        uri,
        proof: PackageProof::Lockfile {
            name: package.name.clone(),
            version: package.version.clone(),
            control_sha1,
            lockfile: lockfile.to_owned(),
        },
    })
}
