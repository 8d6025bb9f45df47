//! What 33 versions of apko made, from 0.13.0 on, each by the behaviour of its version.

use super::{
    golden::keyring,
    support::{Case, digests, find, fixtures, json, package, published, text},
};
use attest::Digest;
use rebuild::{
    apk::package::Package,
    apko::{
        Behaviour, BuildTimes, Depth, Discard, ImageConfiguration, IndexEntry,
        config::{Extras, Lock, LockedPackage, Lockfile, architecture},
        index,
    },
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

fn folder() -> PathBuf {
    fixtures().join("apko-versions")
}

/// Where a repository of the configurations lies here.
fn repository(name: &str) -> PathBuf {
    match name.trim_end_matches('/') {
        "./os" => published().join("packages/os"),
        "./extras" => published().join("packages/extras"),
        "./repo2" => fixtures().join("apko/repo2"),
        own => folder().join("repos").join(own.trim_start_matches("./")),
    }
}

/// Versions that a name has in these repositories, by file name.
fn versions(folders: &[PathBuf], architecture_name: &str, name: &str) -> Vec<String> {
    let mut found: Vec<String> = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder.join(architecture::apk(architecture_name))).ok())
        .flatten()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter_map(|file| {
            let version = file.strip_prefix(name)?.strip_prefix('-')?.strip_suffix(".apk")?;
            version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Every choice of versions for a list of names.
fn choices(folders: &[PathBuf], architecture: &str, order: &[&str]) -> Vec<Vec<(String, String)>> {
    order.iter().fold(vec![Vec::new()], |lists, name| {
        let versions = versions(folders, architecture, name);
        assert!(!versions.is_empty(), "{name} in none of {folders:?}");
        lists
            .iter()
            .flat_map(|list| {
                versions.iter().map(|version| {
                    let mut list: Vec<(String, String)> = list.clone();
                    list.push(((*name).to_owned(), version.clone()));
                    list
                })
            })
            .collect()
    })
}

struct Result_ {
    digests: Vec<String>,
    entry: IndexEntry,
}

fn run(
    config: &ImageConfiguration,
    architecture: &str,
    packages: &[Arc<Package>],
    behaviour: Behaviour,
    times: BuildTimes,
    lockfile: Option<&Lockfile>,
) -> Result<Result_, String> {
    let locked: Vec<LockedPackage> = match lockfile {
        Some(lockfile) => lockfile.locked_packages(architecture),
        None => packages
            .iter()
            .map(|package| LockedPackage {
                name: package.info.name.clone(),
                version: package.info.version.clone(),
                pin: None,
            })
            .collect(),
    };
    let extras = Extras::default();
    let lock = Lock {
        architecture,
        packages: &locked,
        from_lockfile: lockfile.is_some(),
        extras: &extras,
    };
    let (platform_config, _) =
        config.locked(&lock, &behaviour).map_err(|error| error.to_string())?;
    let keys = keyring(config, &folder());
    let case =
        Case { config: &platform_config, architecture, packages, keys: &keys, times, behaviour };
    let assembly = case.assemble_to(&Discard, Depth::Blobs, 2);
    let assembly = assembly.map_err(|error| error.to_string())?;
    let manifest = assembly.manifest.as_ref().unwrap();
    let entry = IndexEntry {
        architecture: architecture.into(),
        manifest: Digest::of(manifest),
        size: manifest.len() as u64,
        created: assembly.created,
    };
    Ok(Result_ { digests: digests(&assembly), entry })
}

fn expected(platform: &Value) -> Vec<String> {
    let layers = || platform["layers"].as_array().unwrap().iter();
    layers()
        .map(|layer| text(&layer["diff_id"]).to_owned())
        .chain(layers().map(|layer| text(&layer["blob"]).to_owned()))
        .chain([text(&platform["config"]).to_owned(), text(&platform["manifest"]).to_owned()])
        .collect()
}

fn times(variant: &str) -> BuildTimes {
    match variant {
        "epoch" => BuildTimes { source_date_epoch: Some(Some(1_600_000_000)), build_date: None },
        "bdate" => {
            let build_date = rebuild::go::time::parse("2026-02-01T00:00:00Z").unwrap();
            BuildTimes { source_date_epoch: None, build_date: Some(build_date) }
        }
        _ => BuildTimes::default(),
    }
}

/// The results, by `VERSION/CONFIG@VARIANT`.
pub fn cases() -> serde_json::Map<String, Value> {
    json(&folder().join("expected.json")).as_object().unwrap().clone()
}

/// The behaviour of the version that made a result.
pub fn behaviour(case: &Value) -> Behaviour {
    Behaviour::of(text(&case["apko"])).unwrap()
}

/// One result under a behaviour; an error says what differs.
pub fn check(key: &str, case: &Value, behaviour: Behaviour) -> Result<(), String> {
    let variant = key.split_once('@').map_or("", |(_, variant)| variant);
    let times = times(variant);
    let path = folder().join(text(&case["config"]));
    let yaml = fs::read(&path).unwrap();
    let config = ImageConfiguration::from_yaml(&yaml, &|name| Err(format!("no {name}")))
        .map_err(|error| error.to_string())?;
    let lockfile = (variant == "lock").then(|| {
        let json = fs::read(Path::new(&path).with_extension("lock.json")).unwrap();
        Lockfile::from_json(&json).unwrap()
    });
    let folders: Vec<PathBuf> =
        config.repositories_for_build().iter().map(|name| repository(name)).collect();
    let mut entries = Vec::new();
    for (name, platform) in case["platforms"].as_object().unwrap() {
        let architecture = name.strip_prefix("linux/").unwrap();
        let order: Vec<&str> = platform["order"].as_array().unwrap().iter().map(text).collect();
        let expected = expected(platform);
        let result = choices(&folders, architecture, &order)
            .iter()
            .map(|choice| {
                let packages: Vec<Arc<Package>> = choice
                    .iter()
                    .map(|(name, version)| package(&find(&folders, architecture, name, version)))
                    .collect();
                run(&config, architecture, &packages, behaviour, times, lockfile.as_ref())
            })
            .find(|result| !matches!(result, Ok(found) if found.digests != expected))
            .ok_or_else(|| {
                format!("{name}: no choice of versions gives {}", expected.join(" "))
            })??;
        entries.push(result.entry);
    }
    let index = index(&config, &entries, &behaviour, times.epoch_option()).unwrap();
    let found = Digest::of(&index).to_string();
    if found == text(&case["index"]) {
        Ok(())
    } else {
        Err(format!("index: expected {}, found {found}", text(&case["index"])))
    }
}

#[test]
fn every_version_gives_its_own_bytes() {
    let cases = cases();
    let fails = |(key, case): (&String, &Value)| {
        check(key, case, behaviour(case)).err().map(|error| format!("{key}: {error}"))
    };
    let failures: Vec<String> = cases.iter().filter_map(fails).collect();
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(cases.len(), 83);
}
