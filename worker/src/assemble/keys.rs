//! Keys of an assembly: what signs indexes, and what lies in `etc/apk/keys`.
//!
//! As apko does it: what each repository's `apk-configuration` leads to, then the keyring of
//! configuration and call, files and URLs. Invariant: a discovered key counts if it came over TLS
//! from its repository's own host, or the policy lists or pins it; anything else ends the build,
//! since leaving a key out in silence would make another image. A server that fails is an error,
//! only "there is none" means none.

use super::{
    AssembleFailure, AssembleProgress, AssembleRequest, AssembleTools,
    recipe::{RecipeFile, read_file},
    repository::BuildRepository,
};
use crate::material::{Keys, Material, MaterialError};
use attest::{
    Digest,
    policy::{KeySource, PackageRepository, Policy, UrlPattern},
};
use rebuild::apk::key::{KEY_FILE_BYTES_MAX, PublicKey};
use std::{collections::BTreeSet, path::Path};

/// The keys of one assembly.
#[derive(Debug, Clone, Default)]
pub struct AssemblyKeys {
    /// Who may sign.
    pub keys: Keys,
    /// Files for the image: discovered ones, then the keyring.
    pub files: Vec<(String, Vec<u8>)>,
    /// For the record.
    pub materials: Vec<Material>,
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
    for repository in repositories.iter().filter(|repository| !repository.local) {
        if is_alpine(&repository.base) {
            progress.remark(&format!(
                "{}: apko also adds the keys that Alpine's release list names for it; give them \
                 with --keyring",
                repository.base
            ));
        }
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
        let found = match Keys::discover(&policy, &tools.places, &repositories).await {
            Ok(found) => found,
            // There is no apk-configuration: nothing to discover.
            Err(MaterialError::Gone { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Some(refused) = found.refused.first() {
            return Err(MaterialError::Unproven {
                uri: refused.clone(),
                problem: "a key that did not come over TLS from its repository's own host".into(),
            }
            .into());
        }
        for (name, known) in found.known {
            self.add(name, known.key, known.material)?;
        }
        Ok(())
    }

    async fn keyring(&mut self, tools: &AssembleTools, name: &str) -> Result<(), AssembleFailure> {
        let remote = name.contains("://") && !name.starts_with("file://");
        let (bytes, from) = if remote {
            let (bytes, from) = tools.places.read(name, KEY_FILE_BYTES_MAX as u64).await?;
            let pins = tools.policy.package_repositories.iter().flat_map(|r| &r.pins);
            let pinned = pins.into_iter().any(|pin| *pin == Digest::of(&bytes));
            if !pinned && (from != name || !name.starts_with("https://")) {
                let problem = "it did not come over TLS from its own host, and no policy pins it";
                let uri = name.to_owned();
                return Err(MaterialError::Unproven { uri, problem: problem.to_owned() }.into());
            }
            (bytes, from)
        } else {
            let path = name.strip_prefix("file://").unwrap_or(name);
            (read_file(Path::new(path), KEY_FILE_BYTES_MAX)?, path.to_owned())
        };
        let base = name.rsplit('/').next().unwrap_or(name).to_owned();
        let key = PublicKey::from_file(&base, &bytes)
            .map_err(|error| AssembleFailure::Usage(format!("keyring entry {name}: {error}")))?;
        let digest = Digest::of(&bytes);
        let verified_by = "listed in the keyring".to_owned();
        self.add(base, key, Material { uri: name.to_owned(), digest, from, verified_by })
    }

    fn add(
        &mut self,
        name: String,
        key: PublicKey,
        material: Material,
    ) -> Result<(), AssembleFailure> {
        let file = key.file().to_vec();
        self.keys.ring.add(key).map_err(|error| MaterialError::Unproven {
            uri: material.uri.clone(),
            problem: error.to_string(),
        })?;
        self.files.push((name, file));
        self.materials.push(material);
        Ok(())
    }
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
    };
    Ok(Policy { package_repositories: vec![rule], ..Policy::default() })
}

/// `https://dl-cdn.alpinelinux.org/alpine/v3.20/main` and its mirrors.
fn is_alpine(base: &str) -> bool {
    let mut parts = base.rsplit('/');
    let (_, _, alpine) = (parts.next(), parts.next(), parts.next());
    alpine == Some("alpine")
}
