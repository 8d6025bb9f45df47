//! Finding packages, reading expectations, assembling a platform.

use attest::{Digest, Platform};
use rebuild::{
    apk::package::{Package, PackageLimits},
    apko::{
        AssembleError, Assembly, AssemblyInput, Behaviour, BuildTimes, Depth, Discard,
        ImageConfiguration, LayerSink, assemble, config::architecture,
    },
    source::MemorySpool,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

/// The fixtures of this crate.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The published images.
pub fn published() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/published")
}

/// A JSON file.
pub fn json(path: &Path) -> serde_json::Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

/// A text in a JSON value.
pub fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected text, found {value}"))
}

/// A package file, read once per test binary.
pub fn package(path: &Path) -> Arc<Package> {
    static READ: OnceLock<Mutex<BTreeMap<PathBuf, Arc<Package>>>> = OnceLock::new();
    let mut read = READ.get_or_init(Mutex::default).lock().unwrap();
    let entry = read.entry(path.to_owned()).or_insert_with(|| {
        let file = fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let package = Package::read(file, &MemorySpool, &PackageLimits::default());
        Arc::new(package.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    });
    Arc::clone(entry)
}

/// The package file of a name and version in the first of these folders that has it.
pub fn find(folders: &[PathBuf], architecture_name: &str, name: &str, version: &str) -> PathBuf {
    let file = format!("{}/{name}-{version}.apk", architecture::apk(architecture_name));
    folders
        .iter()
        .map(|folder| folder.join(&file))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{file} in none of {folders:?}"))
}

/// A configuration from attested JSON.
pub fn config(json: &str) -> ImageConfiguration {
    ImageConfiguration::from_attested_json(json.as_bytes()).unwrap()
}

/// A platform by the architecture that apko names.
pub fn platform(architecture_name: &str) -> Platform {
    format!("linux/{architecture_name}").parse().unwrap()
}

/// What a test varies.
pub struct Case<'a> {
    pub config: &'a ImageConfiguration,
    pub architecture: &'a str,
    pub packages: &'a [Arc<Package>],
    pub keys: &'a [(String, Vec<u8>)],
    pub times: BuildTimes,
    pub behaviour: Behaviour,
}

impl Case<'_> {
    /// Assembles up to the manifest.
    pub fn assemble(&self) -> Assembly {
        self.assemble_to(&Discard, Depth::Blobs, 2).unwrap()
    }

    /// Assembles as far as asked.
    pub fn assemble_to(
        &self,
        sink: &dyn LayerSink,
        depth: Depth,
        threads: usize,
    ) -> Result<Assembly, AssembleError> {
        let input = AssemblyInput {
            config: self.config,
            platform: &platform(self.architecture),
            packages: self.packages,
            keys: self.keys,
            extra_packages: &[],
            extra_repositories: &[],
            times: self.times,
            behaviour: self.behaviour,
            depth,
            threads,
        };
        assemble(&input, sink)
    }
}

/// The digest of the manifest.
pub fn manifest_digest(assembly: &Assembly) -> String {
    Digest::of(assembly.manifest.as_ref().unwrap()).to_string()
}

/// Every digest of a platform in one list: diffIDs, blobs, configuration, manifest.
pub fn digests(assembly: &Assembly) -> Vec<String> {
    let written = || assembly.layers.iter().map(|layer| &layer.written);
    written()
        .map(|layer| layer.diff_id.to_string())
        .chain(written().map(|layer| layer.blob.unwrap().digest.to_string()))
        .chain([Digest::of(&assembly.config).to_string(), manifest_digest(assembly)])
        .collect()
}
