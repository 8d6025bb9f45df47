//! The assembler against an oracle: an independent program that makes apko's bytes.
//!
//! Run on demand: `tests/oracle/random_cases.py` makes random packages and configurations and
//! writes what the oracle makes of them; this compares, case by case, every layer, the image
//! configuration, the manifest (gzip bytes included) and the index, and says what differs.

use attest::Digest;
use rebuild::{
    apk::package::{Package, PackageLimits},
    apko::{
        Assembly, AssemblyInput, Behaviour, BuildTimes, Depth, IndexEntry, LayerSink, assemble,
        config::ImageConfiguration, index,
    },
    source::MemorySpool,
};
use serde_json::Value;
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Writes the layers beside the case if the variable DUMP is set.
struct Dump(Option<PathBuf>);

impl LayerSink for Dump {
    fn compressed(&self, _layer: usize) -> io::Result<Box<dyn Write + Send + '_>> {
        Ok(Box::new(io::sink()))
    }

    fn uncompressed(&self, layer: usize) -> io::Result<Option<Box<dyn Write + Send + '_>>> {
        let Some(folder) = &self.0 else { return Ok(None) };
        Ok(Some(Box::new(fs::File::create(folder.join(format!("rebuilt-{layer}.tar")))?)))
    }
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// The image, and the index over it.
fn build(folder: &Path, case: &Value) -> Result<(Assembly, Vec<u8>), String> {
    let config = serde_json::to_vec(&case["config"]).unwrap();
    let config = ImageConfiguration::from_attested_json(&config).map_err(|e| e.to_string())?;
    let mut packages = Vec::new();
    for file in texts(&case["packages"]) {
        let file = fs::File::open(folder.join(file)).unwrap();
        let package = Package::read(file, &MemorySpool, &PackageLimits::default());
        packages.push(Arc::new(package.map_err(|error| error.to_string())?));
    }
    let keys: Vec<(String, Vec<u8>)> = case["keys"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, text)| (name.clone(), text.as_str().unwrap().as_bytes().to_vec()))
        .collect();
    let architecture = case["architecture"].as_str().unwrap();
    let input = AssemblyInput {
        config: &config,
        platform: &format!("linux/{architecture}").parse().unwrap(),
        packages: &packages,
        keys: &keys,
        extra_packages: &[],
        extra_repositories: &[],
        times: BuildTimes { source_date_epoch: case["epoch"].as_i64().map(Some), build_date: None },
        behaviour: Behaviour::of(case["version"].as_str().unwrap()).unwrap(),
        depth: Depth::Blobs,
        threads: 2,
    };
    let dump = Dump(std::env::var_os("DUMP").map(|_| folder.to_owned()));
    let assembly = assemble(&input, &dump).map_err(|error| error.to_string())?;
    let manifest = assembly.manifest.as_ref().unwrap();
    let entry = IndexEntry {
        architecture: architecture.to_owned(),
        manifest: Digest::of(manifest),
        size: manifest.len() as u64,
        created: assembly.created,
    };
    let index = index(&config, &[entry], &input.behaviour, input.times.epoch_option());
    Ok((assembly, index.map_err(|error| error.to_string())?))
}

/// The first of the digests that is not as expected.
fn difference(assembly: &Assembly, index: &[u8], case: &Value) -> Option<String> {
    let found: Vec<String> =
        assembly.layers.iter().map(|layer| layer.written.diff_id.to_string()).collect();
    let expected = texts(&case["diff_ids"]);
    if found != expected {
        let same = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        return Some(format!("layer {same} of {} differs", expected.len()));
    }
    let documents = [
        ("image", assembly.config.as_slice()),
        ("manifest", assembly.manifest.as_deref().unwrap()),
        ("index", index),
    ];
    let differs = |(what, bytes): &(&str, &[u8])| {
        Digest::of(bytes).to_string() != case[*what].as_str().unwrap()
    };
    documents.iter().find(|one| differs(one)).map(|(what, _)| format!("the {what} differs"))
}

/// What differs, if anything does.
fn check(folder: &Path) -> Option<String> {
    let case: Value = serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap();
    let version = case["version"].as_str().unwrap();
    let outcome = match (build(folder, &case), case["error"].as_str()) {
        (Err(_), Some(_)) => None,
        (Err(error), None) => Some(format!("expected an image, found: {error}")),
        (Ok(_), Some(error)) => Some(format!("expected a failure ({error}), found an image")),
        (Ok((assembly, index)), None) => difference(&assembly, &index, &case),
    };
    outcome.map(|what| format!("{} ({version}): {what}", folder.display()))
}

#[test]
#[ignore = "needs the folder of cases that tests/oracle/random_cases.py writes"]
fn same_as_the_oracle() {
    let folder = std::env::var_os("ASSAY_ORACLE_CASES").expect("ASSAY_ORACLE_CASES names a folder");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let different: Vec<String> = folders.iter().filter_map(|folder| check(folder)).collect();
    assert!(!folders.is_empty(), "expected cases, found none");
    assert!(
        different.is_empty(),
        "{} of {} differ:\n{}",
        different.len(),
        folders.len(),
        different.join("\n")
    );
}
