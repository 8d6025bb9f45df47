//! The configurations that cover every feature, assembled by the newest apko.
//!
//! Where apko itself has several results for one configuration (the order of `install_if` packages
//! is random there), the orders are tried and each listed result must come out of one of them.

use super::support::{Case, find, fixtures, json, package, text};
use attest::Digest;
use rebuild::{
    apk::package::Package,
    apko::{
        Behaviour, BuildTimes, ImageConfiguration, IndexEntry,
        config::{Extras, Lock, LockedPackage},
        index,
    },
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

fn folder() -> PathBuf {
    fixtures().join("apko")
}

fn config(name: &str) -> ImageConfiguration {
    let yaml = fs::read(folder().join(format!("{name}.yaml"))).unwrap();
    ImageConfiguration::from_yaml(&yaml, &|name| Err(format!("no {name}"))).unwrap()
}

/// Key files of the configuration's keyring.
pub fn keyring(config: &ImageConfiguration, folder: &Path) -> Vec<(String, Vec<u8>)> {
    let names: BTreeSet<&String> = config.contents.keyring.iter().collect();
    names
        .into_iter()
        .map(|path| {
            let name = path.rsplit('/').next().unwrap().to_owned();
            (name, fs::read(folder.join(path)).unwrap())
        })
        .collect()
}

fn packages(folders: &[PathBuf], architecture: &str, order: &[&str]) -> Vec<Arc<Package>> {
    order
        .iter()
        .map(|entry| {
            let (name, version) = entry.split_once('=').unwrap();
            package(&find(folders, architecture, name, version))
        })
        .collect()
}

/// The order of [`both_orders`] that is tried first.
fn first_order() -> Vec<&'static str> {
    [&FIRST[..], &EITHER[..], &LAST[..]].concat()
}

/// The package files of the layered configuration.
pub fn layered_files() -> Vec<PathBuf> {
    let version = |entry: &str| entry.replacen('=', "-", 1);
    let file = |entry: &&str| folder().join(format!("repo/x86_64/{}.apk", version(entry)));
    first_order().iter().map(file).collect()
}

/// The same, read.
pub fn layered_packages() -> Vec<Arc<Package>> {
    layered_files().iter().map(|path| package(path)).collect()
}

/// The locked configuration with layers, certificates, paths and accounts, and its keys.
pub fn layered_configuration() -> (ImageConfiguration, Vec<(String, Vec<u8>)>) {
    let config = config("v2-layered");
    let packages = layered_packages();
    let keys = keyring(&config, &folder());
    (lock(&config, "amd64", &packages), keys)
}

fn lock(
    config: &ImageConfiguration,
    architecture: &str,
    packages: &[Arc<Package>],
) -> ImageConfiguration {
    let locked: Vec<LockedPackage> = packages
        .iter()
        .map(|package| LockedPackage {
            name: package.info.name.clone(),
            version: package.info.version.clone(),
            pin: None,
        })
        .collect();
    let extras = Extras::default();
    let lock = Lock { architecture, packages: &locked, from_lockfile: false, extras: &extras };
    let (locked, ignored) = config.locked(&lock, &Behaviour::newest()).unwrap();
    assert!(ignored.is_empty());
    locked
}

/// The lines that the expectations have: layers, configuration and manifest, index.
fn lines(
    config: &ImageConfiguration,
    architecture: &str,
    order: &[&str],
    epoch: Option<i64>,
) -> Vec<String> {
    let folders: Vec<PathBuf> =
        config.repositories_for_build().iter().map(|path| folder().join(path)).collect();
    let packages = packages(&folders, architecture, order);
    let behaviour = Behaviour::newest();
    let platform_config = lock(config, architecture, &packages);
    let times = BuildTimes { source_date_epoch: epoch.map(Some), build_date: None };
    let keys = keyring(config, &folder());
    let case = Case {
        config: &platform_config,
        architecture,
        packages: &packages,
        keys: &keys,
        times,
        behaviour,
    };
    let assembly = case.assemble();
    let manifest = assembly.manifest.as_ref().unwrap();
    let mut lines: Vec<String> = assembly
        .layers
        .iter()
        .enumerate()
        .map(|(number, layer)| {
            let blob = layer.written.blob.unwrap().digest;
            format!("{architecture} layer {number} {} {blob}", layer.written.diff_id)
        })
        .collect();
    let manifest_digest = Digest::of(manifest);
    lines.push(format!(
        "{architecture} config {} manifest {manifest_digest}",
        Digest::of(&assembly.config)
    ));
    let entry = IndexEntry {
        architecture: architecture.into(),
        manifest: manifest_digest,
        size: manifest.len() as u64,
        created: assembly.created,
    };
    let index = index(config, &[entry], &behaviour, times.epoch_option()).unwrap();
    lines.push(format!("index {}", Digest::of(&index)));
    lines
}

fn expected(name: &str) -> Vec<Vec<String>> {
    let all = json(&folder().join("expected.json"));
    let results = all["cases"][name].as_object().unwrap().values();
    results
        .map(|result: &Value| {
            result["lines"].as_array().unwrap().iter().map(|line| text(line).to_owned()).collect()
        })
        .collect()
}

/// One order, one result.
fn exactly(name: &str, expectation: &str, architecture: &str, order: &[&str], epoch: Option<i64>) {
    let lines = lines(&config(name), architecture, order, epoch);
    assert_eq!(vec![lines], expected(expectation), "{expectation}");
}

/// What is installed before the two `install_if` packages that apko takes in random order.
const FIRST: [&str; 9] = [
    "base-layout=20230201-r1",
    "libfoo=1.2.3-r0",
    "libbar=9-r2",
    "busybox=1.36.1-r5",
    "conf-a=1-r0",
    "conf-b=1-r0",
    "conf-c=2-r0",
    "weird=0.1-r0",
    "app=3.0-r7",
];
const EITHER: [&str; 2] = ["auto=1-r0", "app-extra=3.0-r7"];
const LAST: [&str; 1] = ["ca-bundle=20260101-r0"];

/// The two orders of the two `install_if` packages give the two results.
fn both_orders(name: &str) {
    let found: BTreeSet<Vec<String>> = [EITHER, [EITHER[1], EITHER[0]]]
        .iter()
        .map(|either| [&FIRST[..], &either[..], &LAST[..]].concat())
        .map(|order| lines(&config(name), "amd64", &order, None))
        .collect();
    assert_eq!(found, expected(name).into_iter().collect(), "{name}");
}

#[test]
fn rich() {
    both_orders("v1-rich");
}

#[test]
fn alpine_shaped() {
    let order = ["busybox=1.35.0-r1", "dirs=1-r0"];
    exactly("v3-alpine", "v3-alpine", "amd64", &order, None);
    exactly("v3-alpine", "v3-alpine+SDE=1600000000", "amd64", &order, Some(1_600_000_000));
}

#[test]
fn services() {
    let order = ["busybox=1.35.0-r1", "dirs=1-r0", "s6=2.1-r0"];
    exactly("v4-services", "v4-services", "amd64", &order, None);
}

#[test]
fn ld_cache_with_ties() {
    exactly("v5-ldso", "v5-ldso", "amd64", &["manylibs=1-r0"], None);
}

#[test]
fn alpine_package() {
    let order = ["alpine-baselayout=3.2.0-r23"];
    exactly("v6-alpinepkg", "v6-alpinepkg", "arm64", &order, None);
}

#[test]
fn layered() {
    for name in ["v2-layered", "v2-layered-b1", "v2-layered-b2", "v2-layered-b5", "v2-layered-b50"]
    {
        both_orders(name);
    }
}
