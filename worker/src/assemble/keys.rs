//! Keys of an assembly: what signs indexes, and what lies in `etc/apk/keys`.
//!
//! As apko does it: what Alpine's release list names for its repositories, for each architecture by
//! itself ([`crate::material::listed`]; where the list is, the call says), what each repository's
//! `apk-configuration` leads to, then the keyring of configuration and call, files and URLs.
//! Invariant: a discovered key counts if it came over TLS from its repository's own host (one of the
//! list: list and key, each from its own), or the policy lists or pins it; anything else ends the
//! build, since leaving a key out in silence would make another image. A server that fails is an
//! error, only "there is none" means none.

use super::{
    AssembleFailure, AssembleProgress, AssembleRequest, AssembleTools,
    recipe::{RecipeFile, read_file},
    repository::BuildRepository,
};
use crate::material::{
    Keys, Material, MaterialError,
    listed::ReleaseKeys,
    release_list::{branch_of, file_name},
};
use attest::{
    Digest,
    policy::{KeySource, PackageRepository, Policy, UrlPattern},
};
use rebuild::apk::key::{KEY_FILE_BYTES_MAX, PublicKey};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

/// The keys of one assembly.
#[derive(Debug, Clone, Default)]
pub struct AssemblyKeys {
    /// Those of every architecture.
    common: ArchitectureKeys,
    /// With those that only one has, by its name in OCI's words; none where there are no such.
    own: BTreeMap<String, ArchitectureKeys>,
    /// For the record.
    pub materials: Vec<Material>,
}

/// The keys of one architecture.
#[derive(Debug, Clone, Default)]
pub struct ArchitectureKeys {
    /// Who may sign.
    pub keys: Keys,
    /// Files for the image: those of Alpine's list, discovered ones, then the keyring.
    pub files: Vec<(String, Vec<u8>)>,
}

impl ArchitectureKeys {
    fn add(&mut self, name: &str, key: PublicKey, uri: &str) -> Result<(), MaterialError> {
        let file = key.file().to_vec();
        self.keys.ring.add(key).map_err(|error| MaterialError::Unproven {
            uri: uri.to_owned(),
            problem: error.to_string(),
        })?;
        if !self.files.iter().any(|known| (known.0.as_str(), &known.1) == (name, &file)) {
            self.files.push((name.to_owned(), file));
        }
        Ok(())
    }
}

/// Finds the keys of all repositories and reads the keyring.
pub async fn gather(
    request: &AssembleRequest,
    tools: &AssembleTools,
    recipe: &RecipeFile,
    repositories: &[BuildRepository],
    progress: &dyn AssembleProgress,
) -> Result<AssemblyKeys, AssembleFailure> {
    let mut gathered = AssemblyKeys::default();
    let remote = || repositories.iter().filter(|repository| !repository.local);
    let branches: BTreeSet<&str> = remote().filter_map(|r| branch_of(&r.base)).collect();
    match &request.alpine_releases {
        Some(list) if !branches.is_empty() => {
            gathered.by_release_list(tools, list, &branches, &recipe.config.archs).await?;
            for name in recipe.config.archs.iter().filter(|name| !gathered.own.contains_key(*name))
            {
                progress.remark(&format!("{list} names no key for {name}"));
            }
        }
        None if !branches.is_empty() => {
            progress.remark(
                "apko also adds the keys that Alpine's release list names for its repositories; \
                 give the list with --alpine-releases, or the keys with --keyring",
            );
        }
        _ => {}
    }
    for repository in remote() {
        gathered.discover(tools, &repository.base).await?;
    }
    let mut names: BTreeSet<&String> = recipe.config.contents.keyring.iter().collect();
    names.extend(&request.keyring);
    for name in names {
        gathered.keyring(tools, name).await?;
    }
    Ok(gathered)
}

impl AssemblyKeys {
    /// The keys of an architecture in OCI's words.
    pub fn of(&self, architecture: &str) -> &ArchitectureKeys {
        self.own.get(architecture).unwrap_or(&self.common)
    }

    /// The keys that Alpine's release list names for these branches, for each architecture.
    async fn by_release_list(
        &mut self,
        tools: &AssembleTools,
        list: &str,
        branches: &BTreeSet<&str>,
        architectures: &[String],
    ) -> Result<(), AssembleFailure> {
        let opened = ReleaseKeys::open(&tools.places, list).await;
        let mut releases = opened.map_err(|error| match error {
            MaterialError::Gone { .. } => AssembleFailure::Usage(format!(
                "expected Alpine's release list at the address of --alpine-releases: {error}"
            )),
            error => error.into(),
        })?;
        let pins = tools.policy.package_repositories.iter().flat_map(|r| &r.pins).copied();
        let pins: BTreeSet<Digest> = pins.collect();
        self.materials.push(releases.material.clone());
        for name in architectures {
            for listed in releases.of(branches, name, &pins).await?.keys {
                let (uri, from) = (listed.uri, listed.from);
                let Some(verified_by) = listed.verified_by else {
                    let problem = "it, or the release list that names it, did not come over TLS \
                                   from its own host, and no policy pins it";
                    return Err(MaterialError::Unproven { uri, problem: problem.to_owned() }.into());
                };
                let own = self.own.entry(name.clone()).or_default();
                own.add(file_name(&uri), listed.key.clone(), &uri)?;
                let (digest, verified_by) = (listed.key.pin(), verified_by.to_owned());
                let material = Material { uri, digest, from, verified_by };
                if !self.materials.contains(&material) {
                    self.materials.push(material);
                }
            }
        }
        Ok(())
    }

    async fn discover(
        &mut self,
        tools: &AssembleTools,
        repository: &str,
    ) -> Result<(), AssembleFailure> {
        let policy = match tools.policy.package_repository_for(repository) {
            Some(_) => (*tools.policy).clone(),
            None => discovery_of(repository)?,
        };
        let repositories = [repository.to_owned()];
        // Where there is no apk-configuration there is nothing to discover.
        let found = Keys::discover(&policy, &tools.places, &repositories).await?;
        if let Some(refused) = found.refused.first() {
            return Err(MaterialError::Unproven {
                uri: refused.uri.clone(),
                problem: "a key that did not come over TLS from its repository's own host or \
                          one that the policy lists"
                    .into(),
            }
            .into());
        }
        let (store, given) = (Arc::clone(&tools.store), found.clone());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        // What an image of a later day may need; this one holds the keys of today.
        let _ = tokio::task::spawn_blocking(move || given.keep(&store, now)).await;
        for (name, known) in found.known {
            self.add(&name, known.key, known.material)?;
        }
        Ok(())
    }

    async fn keyring(&mut self, tools: &AssembleTools, name: &str) -> Result<(), AssembleFailure> {
        let remote = name.contains("://") && !name.starts_with("file://");
        let (bytes, from) = if remote {
            let (bytes, from) = tools.places.read(name, KEY_FILE_BYTES_MAX as u64).await?;
            if !pinned(&tools.policy, &bytes) && (from != name || !name.starts_with("https://")) {
                let problem = "it did not come over TLS from its own host, and no policy pins it";
                let uri = name.to_owned();
                return Err(MaterialError::Unproven { uri, problem: problem.to_owned() }.into());
            }
            (bytes, from)
        } else {
            let path = name.strip_prefix("file://").unwrap_or(name);
            (read_file(Path::new(path), KEY_FILE_BYTES_MAX)?, path.to_owned())
        };
        let base = file_name(name);
        let key = PublicKey::from_file(base, &bytes)
            .map_err(|error| AssembleFailure::Usage(format!("keyring entry {name}: {error}")))?;
        let digest = Digest::of(&bytes);
        let verified_by = "listed in the keyring".to_owned();
        self.add(base, key, Material { uri: name.to_owned(), digest, from, verified_by })
    }

    fn add(
        &mut self,
        name: &str,
        key: PublicKey,
        material: Material,
    ) -> Result<(), AssembleFailure> {
        for keys in self.own.values_mut().chain([&mut self.common]) {
            keys.add(name, key.clone(), &material.uri)?;
        }
        self.materials.push(material);
        Ok(())
    }
}

fn pinned(policy: &Policy, file: &[u8]) -> bool {
    let pin = Digest::of(file);
    policy.package_repositories.iter().any(|repository| repository.pins.contains(&pin))
}

/// A policy that takes what the repository's own host serves over TLS.
fn discovery_of(repository: &str) -> Result<Policy, AssembleFailure> {
    let url: UrlPattern = format!("{repository}/*").parse().map_err(|error| {
        AssembleFailure::Usage(format!("expected the URL of a repository: {error}"))
    })?;
    let rule = PackageRepository {
        url,
        keys: KeySource::Discovery,
        pins: BTreeSet::new(),
        complete: true,
        jwks_hosts: BTreeSet::new(),
        archived: false,
    };
    Ok(Policy { package_repositories: vec![rule], ..Policy::default() })
}
