//! The assembler against an oracle: an independent program that makes apko's bytes.
//!
//! Run on demand: `tests/oracle/random_cases.py` makes random packages and configurations and
//! writes what the oracle makes of them; this compares, case by case, and says what differs.

use attest::Digest;
use rebuild::{
    apk::package::{Package, PackageLimits},
    apko::{
        Assembly, AssemblyInput, Behaviour, BuildTimes, Depth, LayerSink, assemble,
        config::ImageConfiguration,
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

fn build(folder: &Path, case: &Value) -> Result<Assembly, String> {
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
        depth: Depth::DiffIds,
        threads: 2,
    };
    let dump = Dump(std::env::var_os("DUMP").map(|_| folder.to_owned()));
    assemble(&input, &dump).map_err(|error| error.to_string())
}

/// What differs, if anything does.
fn check(folder: &Path) -> Option<String> {
    let case: Value = serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap();
    let version = case["version"].as_str().unwrap();
    let outcome = match (build(folder, &case), case["error"].as_str()) {
        (Err(_), Some(_)) => None,
        (Err(error), None) => Some(format!("expected an image, found: {error}")),
        (Ok(_), Some(error)) => Some(format!("expected a failure ({error}), found an image")),
        (Ok(assembly), None) => {
            let found: Vec<String> =
                assembly.layers.iter().map(|layer| layer.written.diff_id.to_string()).collect();
            let expected = texts(&case["diff_ids"]);
            let image = Digest::of(&assembly.config).to_string();
            if found != expected {
                let same = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
                Some(format!("layer {same} of {} differs", expected.len()))
            } else if image != case["image"].as_str().unwrap() {
                Some("the image configuration differs".to_owned())
            } else {
                None
            }
        }
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
