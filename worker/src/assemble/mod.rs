//! `assay assemble`: the assembler alone, from a configuration on this machine to an OCI layout.
//!
//! What `apko build` does, with the behaviour of a chosen version: [`recipe`] reads the
//! configuration, [`keys`] finds who may sign, [`choose`] decides the packages of every
//! architecture, [`layout`] writes. Invariant: the layout appears whole or not at all; nothing is
//! judged here, and nothing is signed. Every package was proven by an index, a lockfile or (said
//! in the result) by nothing, where the person asked for that.

pub mod choose;
pub mod error;
pub mod keys;
pub mod layout;
pub mod order;
pub mod recipe;
pub mod repository;
pub mod request;
mod resolve;
pub mod result;

pub use error::AssembleFailure;
pub use request::{AssembleProgress, AssembleRequest, AssembleTools, Silent};
pub use result::{AssembledImage, AssembledLayer, AssembledPlatform};

use attest::{Digest, Platform};
use choose::Chosen;
use layout::{Counted, Staging};
use rebuild::apko::{
    AssemblyInput, Behaviour, BuildTimes, Depth, ImageConfiguration, IndexEntry,
    assemble as assemble_platform,
    config::{Extras, Lock},
    index,
};
use recipe::RecipeFile;
use std::sync::Arc;

/// Assembles an image into a new layout.
pub async fn assemble(
    request: &AssembleRequest,
    tools: &AssembleTools,
    progress: &Arc<dyn AssembleProgress>,
) -> Result<AssembledImage, AssembleFailure> {
    rebuild::threads::start(tools.threads)
        .map_err(|source| AssembleFailure::Io { doing: "starting threads".into(), source })?;
    let behaviour = behaviour(request)?;
    let recipe = RecipeFile::read(request)?;
    let staging = Staging::beside(&request.output)?;
    progress.temporary(staging.folder());
    let repositories = repository::of(&recipe.config, &request.repositories)?;
    let keys = keys::gather(request, tools, &recipe, &repositories, progress.as_ref()).await?;
    let job = choose::Job { request, tools, recipe: &recipe, behaviour, keys: &keys };
    let chosen = choose::packages(&job, &repositories, progress.as_ref()).await?;
    let mut platforms = Vec::new();
    let mut entries = Vec::new();
    for platform in chosen {
        let build = Build {
            config: recipe.config.clone(),
            behaviour,
            times: request.times,
            keys: keys.of(&platform.architecture).files.clone(),
            extras: extras(request),
            from_lockfile: recipe.lockfile.is_some(),
            threads: tools.threads,
            staging: staging.clone(),
            progress: Arc::clone(progress),
        };
        let made = tokio::task::spawn_blocking(move || build.run(platform)).await;
        let (entry, platform) = made.map_err(|error| AssembleFailure::Io {
            doing: "assembling".into(),
            source: std::io::Error::other(error),
        })??;
        entries.push(entry);
        platforms.push(platform);
    }
    let option = request.times.epoch_option();
    let bytes = index(&recipe.config, &entries, &behaviour, option)
        .map_err(Box::new)
        .map_err(|error| AssembleFailure::Assembly { platform: "the index".into(), error })?;
    let digest = Digest::of(&bytes);
    staging.finish(&bytes, &request.output)?;
    if let Err(error) = tools.store.evict() {
        // The image is there; the next run tries again.
        progress.remark(&format!("the content store could not be kept in its bound: {error}"));
    }
    Ok(AssembledImage {
        schema: result::SCHEMA,
        index: digest,
        apko: behaviour.version().to_string(),
        platforms,
    })
}

fn behaviour(request: &AssembleRequest) -> Result<Behaviour, AssembleFailure> {
    match &request.version {
        None => Ok(Behaviour::newest()),
        Some(version) => {
            Behaviour::of(version).map_err(|gap| AssembleFailure::Unsupported(vec![gap]))
        }
    }
}

fn extras(request: &AssembleRequest) -> Extras {
    Extras {
        build_repositories: Vec::new(),
        repositories: request.repositories.clone(),
        keyring: request.keyring.clone(),
    }
}

/// One platform on its way to a thread that may block.
struct Build {
    config: ImageConfiguration,
    behaviour: Behaviour,
    times: BuildTimes,
    keys: Vec<(String, Vec<u8>)>,
    extras: Extras,
    from_lockfile: bool,
    threads: usize,
    staging: Staging,
    progress: Arc<dyn AssembleProgress>,
}

impl Build {
    fn run(&self, chosen: Chosen) -> Result<(IndexEntry, AssembledPlatform), AssembleFailure> {
        let architecture = chosen.architecture.as_str();
        let name = format!("linux/{architecture}");
        let lock = Lock {
            architecture,
            packages: &chosen.locked,
            from_lockfile: self.from_lockfile,
            extras: &self.extras,
        };
        let (config, ignored) = self.config.locked(&lock, &self.behaviour)?;
        for field in ignored {
            let version = self.behaviour.version();
            self.progress.remark(&format!("{name}: apko {version} ignores {field}"));
        }
        let platform: Platform = name.parse().map_err(|_| {
            AssembleFailure::Usage(format!("expected an architecture, found {architecture:?}"))
        })?;
        let input = AssemblyInput {
            config: &config,
            platform: &platform,
            packages: &chosen.packages,
            keys: &self.keys,
            extra_packages: &[],
            extra_repositories: &self.extras.repositories,
            times: self.times,
            behaviour: self.behaviour,
            depth: Depth::Blobs,
            threads: self.threads,
        };
        let content = |package: &rebuild::apk::package::Package| -> u64 {
            package.entries.iter().map(|entry| entry.header.size).sum()
        };
        let total = chosen.packages.iter().map(|package| content(package)).sum();
        self.progress.begin(&format!("{name}: writing layers"), total, true);
        let sink = Counted::new(&self.staging, self.progress.as_ref());
        let assembly = assemble_platform(&input, &sink)
            .map_err(Box::new)
            .map_err(|error| AssembleFailure::Assembly { platform: name.clone(), error })?;
        let manifest = assembly.manifest.as_deref().unwrap_or_default();
        self.staging.put(&assembly.config)?;
        self.staging.put(manifest)?;
        let entry = IndexEntry {
            architecture: architecture.to_owned(),
            manifest: Digest::of(manifest),
            size: manifest.len() as u64,
            created: assembly.created,
        };
        Ok((entry, AssembledPlatform::new(platform, &assembly, &chosen)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::material::ContentStore;
    use attest::policy::Policy;
    use std::{
        path::{Path, PathBuf},
        sync::Mutex,
    };

    /// The folders that it was told of, and whether they were there then.
    #[derive(Default)]
    struct Told(Mutex<Vec<(PathBuf, bool)>>);

    impl AssembleProgress for Told {
        fn begin(&self, _: &str, _: u64, _: bool) {}
        fn advance(&self, _: u64) {}
        fn remark(&self, _: &str) {}
        fn temporary(&self, folder: &Path) {
            self.0.lock().unwrap().push((folder.to_owned(), folder.is_dir()));
        }
    }

    #[tokio::test]
    async fn whoever_may_have_to_remove_the_folder_beside_the_output_is_told_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("a.yaml");
        std::fs::write(&config, "contents:\n  packages: []\narchs: [amd64]\n").unwrap();
        let store = ContentStore::scratch(folder.path().join("store"), 1 << 20).unwrap();
        let (policy, work) = (Arc::new(Policy::default()), folder.path().to_owned());
        let tools = AssembleTools::new(policy, Vec::new(), Arc::new(store), work).unwrap();
        let output = folder.path().join("layout");
        let request = AssembleRequest { config, output, ..AssembleRequest::default() };
        let told = Arc::new(Told::default());
        let progress: Arc<dyn AssembleProgress> = Arc::<Told>::clone(&told);
        // Whatever comes of it.
        let _ = assemble(&request, &tools, &progress).await;
        let told = told.0.lock().unwrap();
        let [(beside, true)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(beside.parent(), Some(folder.path()));
        assert!(!beside.exists(), "nothing holds it any more");
    }
}
