//! Published images from their attested configuration, the packages and the discovered keys.
//!
//! The order of installation is taken from the published image, as the worker's hint does; so are
//! the times of the two cases that were built with one.

use super::support::{Case, digests, find, json, package, published, text};
use attest::{Digest, GapCode};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::MultiGzDecoder;
use rebuild::{
    apk::{
        key::keys_from_jwks,
        tar::{Reader, TarLimits},
    },
    apko::{
        AssembleError, Behaviour, BuildTimes, Depth, Discard, ImageConfiguration, IndexEntry,
        behaviour::search::PackageFacts, index,
    },
};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::PathBuf};

fn blob(digest: &str) -> Vec<u8> {
    let name = digest.strip_prefix("sha256:").unwrap();
    fs::read(published().join("blobs/sha256").join(name)).unwrap()
}

fn blob_json(digest: &str) -> Value {
    serde_json::from_slice(&blob(digest)).unwrap()
}

/// The statements attached to a digest of a case, in the bundle or the legacy scheme.
fn statements(case: &str, digest: &str) -> Vec<Value> {
    let index = json(&published().join("index.json"));
    let tag = |suffix: &str| {
        let name = format!("demo/{case}:{}{suffix}", digest.replace(':', "-"));
        index["manifests"].as_array().unwrap().iter().find_map(|entry| {
            let found = text(&entry["annotations"]["org.opencontainers.image.ref.name"]) == name;
            found.then(|| text(&entry["digest"]).to_owned())
        })
    };
    let payload = |envelope: &Value| {
        serde_json::from_slice(&STANDARD.decode(text(&envelope["payload"])).unwrap()).unwrap()
    };
    let mut found = Vec::new();
    if let Some(digest) = tag(".att") {
        for layer in blob_json(&digest)["layers"].as_array().unwrap() {
            found.push(payload(&blob_json(text(&layer["digest"]))));
        }
    }
    if let Some(digest) = tag("") {
        for entry in blob_json(&digest)["manifests"].as_array().unwrap() {
            let manifest = blob_json(text(&entry["digest"]));
            let bundle = blob_json(text(&manifest["layers"][0]["digest"]));
            found.push(payload(&bundle["dsseEnvelope"]));
        }
    }
    found
}

fn predicates<'a>(statements: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let of_kind = |statement: &&Value| text(&statement["predicateType"]) == kind;
    statements.iter().filter(of_kind).map(|statement| &statement["predicate"]).collect()
}

fn behaviour(statements: &[Value]) -> Behaviour {
    let provenance = predicates(statements, "https://slsa.dev/provenance/v1");
    let version = &provenance[0]["runDetails"]["builder"]["version"]["apko"];
    Behaviour::of(text(version)).unwrap()
}

/// The names in the installed database of the published image.
fn order(manifest: &Value) -> Vec<String> {
    let top = manifest["layers"].as_array().unwrap().last().unwrap();
    let layer = blob(text(&top["digest"]));
    let mut reader = Reader::new(MultiGzDecoder::new(layer.as_slice()), TarLimits::default());
    while let Some(header) = reader.next_entry().unwrap() {
        if header.name == b"usr/lib/apk/db/installed" {
            let database = String::from_utf8(reader.content(1 << 20).unwrap()).unwrap();
            let name = |line: &str| line.strip_prefix("P:").map(str::to_owned);
            return database.lines().filter_map(name).collect();
        }
    }
    panic!("expected an installed database in the top layer");
}

fn keys() -> Vec<(String, Vec<u8>)> {
    let jwks = fs::read(published().join("packages/jwks.json")).unwrap();
    let keys = keys_from_jwks(&jwks).unwrap();
    keys.iter().map(|key| (key.name().to_owned(), key.file().to_vec())).collect()
}

fn folders(config: &ImageConfiguration) -> Vec<PathBuf> {
    let host = "https://packages.assay.test/";
    let path = |url: &String| published().join("packages").join(url.strip_prefix(host).unwrap());
    config.repositories_for_build().iter().map(path).collect()
}

/// Rebuilds one platform from one of its recipes; gives all digests.
fn rebuild(case: &str, manifest_digest: &str, predicate: &Value) -> Vec<String> {
    let behaviour = behaviour(&statements(case, manifest_digest));
    rebuild_as(case, manifest_digest, predicate, behaviour).unwrap()
}

/// The same with a version of our choice.
fn rebuild_as(
    case: &str,
    manifest_digest: &str,
    predicate: &Value,
    behaviour: Behaviour,
) -> Result<Vec<String>, AssembleError> {
    let bytes = serde_json::to_vec(predicate).unwrap();
    let config = ImageConfiguration::from_attested_json(&bytes).unwrap();
    let manifest = blob_json(manifest_digest);
    let published_config = blob_json(text(&manifest["config"]["digest"]));
    let architecture = text(&published_config["architecture"]);
    let lock: BTreeMap<&str, &str> =
        config.contents.packages.iter().filter_map(|entry| entry.split_once('=')).collect();
    let folders = folders(&config);
    let packages: Vec<_> = order(&manifest)
        .iter()
        .map(|name| package(&find(&folders, architecture, name, lock[name.as_str()])))
        .collect();
    assert_eq!(packages.len(), lock.len(), "{case}: the image has other packages than the lock");
    let created = rebuild::go::time::parse(text(&published_config["created"])).unwrap();
    let times = match case {
        "epoch" => BuildTimes { source_date_epoch: Some(Some(created)), build_date: None },
        "build-date" => BuildTimes { source_date_epoch: None, build_date: Some(created) },
        _ => BuildTimes::default(),
    };
    let keys = keys();
    let case =
        Case { config: &config, architecture, packages: &packages, keys: &keys, times, behaviour };
    case.assemble_to(&Discard, Depth::Blobs, 2).map(|assembly| digests(&assembly))
}

fn recipes(case: &str, manifest_digest: &str) -> Vec<Value> {
    let attached = statements(case, manifest_digest);
    let found = predicates(&attached, "https://apko.dev/image-configuration");
    found.into_iter().cloned().collect()
}

fn expected(platform: &Value) -> Vec<String> {
    let layers = || platform["layers"].as_array().unwrap().iter();
    layers()
        .map(|layer| text(&layer["diff_id"]).to_owned())
        .chain(layers().map(|layer| text(&layer["blob"]).to_owned()))
        .chain([text(&platform["config"]).to_owned(), text(&platform["manifest"]).to_owned()])
        .collect()
}

#[test]
fn hello() {
    let cases = json(&published().join("cases.json"));
    let platform = &cases["hello"]["platforms"]["linux/amd64"];
    let manifest = text(&platform["manifest"]);
    let rebuilt = rebuild("hello", manifest, &recipes("hello", manifest)[0]);
    assert_eq!(rebuilt, expected(platform));
}

/// Every platform that can be reproduced, at the level that its case names.
#[test]
fn every_unaltered_platform_is_reproduced() {
    let cases = json(&published().join("cases.json"));
    let (mut manifests, mut configs) = (0, 0);
    for (name, case) in cases.as_object().unwrap() {
        for (platform_name, platform) in case["platforms"].as_object().unwrap() {
            if text(&platform["expect"]) != "reproduced" {
                continue;
            }
            let manifest = text(&platform["manifest"]);
            let expected = expected(platform);
            let rebuilt: Vec<Vec<String>> = recipes(name, manifest)
                .iter()
                .map(|recipe| rebuild(name, manifest, recipe))
                .collect();
            match text(&platform["level"]) {
                "manifest" => {
                    assert!(rebuilt.contains(&expected), "{name} {platform_name}: {rebuilt:#?}");
                    manifests += 1;
                }
                "config" => {
                    let config = &expected[expected.len() - 2];
                    assert!(rebuilt.iter().any(|digests| digests.contains(config)), "{name}");
                    configs += 1;
                }
                other => panic!("{name}: unknown level {other}"),
            }
        }
    }
    assert_eq!((manifests, configs), (25, 1));
}

/// Altered images whose recipe is complete: what is rebuilt is another image, never this one.
#[test]
fn no_altered_platform_is_reproduced() {
    let cases = json(&published().join("cases.json"));
    let mut seen = 0;
    for (name, case) in cases.as_object().unwrap() {
        for (platform_name, platform) in case["platforms"].as_object().unwrap() {
            if text(&platform["expect"]) != "diverged" || name == "undeclared-package" {
                continue;
            }
            let manifest = text(&platform["manifest"]);
            let expected = expected(platform);
            for recipe in recipes(name, manifest) {
                let rebuilt = rebuild(name, manifest, &recipe);
                assert_ne!(rebuilt.last(), expected.last(), "{name} {platform_name}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 12, "{seen}");
}

#[test]
fn an_unknown_field_is_a_gap() {
    let cases = json(&published().join("cases.json"));
    let manifest = text(&cases["unknown-field"]["platforms"]["linux/amd64"]["manifest"]);
    let bytes = serde_json::to_vec(&recipes("unknown-field", manifest)[0]).unwrap();
    let error = ImageConfiguration::from_attested_json(&bytes).unwrap_err();
    let [gap] = error.gaps() else { panic!("expected one gap, found {error}") };
    assert_eq!((gap.code, gap.detail.as_str()), (GapCode::UnsupportedField, "teleport"));
}

/// The index of every case whose platforms all follow from evidence, the one with annotations
/// from version control left out: they are in no attestation.
#[test]
fn indexes() {
    let cases = json(&published().join("cases.json"));
    let mut seen = 0;
    for (name, case) in cases.as_object().unwrap() {
        let platforms = case["platforms"].as_object().unwrap();
        let all = platforms.values().all(|p| text(&p["level"]) == "manifest");
        if !all || name == "vcs" {
            continue;
        }
        let (mut behaviours, mut config) = (Vec::new(), ImageConfiguration::default());
        let mut entries = Vec::new();
        for (platform_name, platform) in platforms {
            let manifest = text(&platform["manifest"]);
            let recipe = serde_json::to_vec(&recipes(name, manifest)[0]).unwrap();
            config = ImageConfiguration::from_attested_json(&recipe).unwrap();
            behaviours.push(behaviour(&statements(name, manifest)));
            let published_config = blob_json(text(&platform["config"]));
            entries.push(IndexEntry {
                architecture: platform_name.strip_prefix("linux/").unwrap().to_owned(),
                manifest: manifest.parse().unwrap(),
                size: blob(manifest).len() as u64,
                created: rebuild::go::time::parse(text(&published_config["created"])).unwrap(),
            });
        }
        entries.reverse();
        let index = index(&config, &entries, &behaviours[0], 0).unwrap();
        assert_eq!(Digest::of(&index).to_string(), text(&case["index"]), "{name}");
        seen += 1;
    }
    assert!(seen >= 14, "{seen}");
}

/// Without a version in the provenance: one of the candidates gives the published bytes.
#[test]
fn a_search_finds_the_builder() {
    let cases = json(&published().join("cases.json"));
    for name in ["gzip-e2", "apko-1.1.14", "apko-1.2.24", "web"] {
        let platform = &cases[name]["platforms"]["linux/amd64"];
        let manifest = text(&platform["manifest"]);
        let recipe = &recipes(name, manifest)[0];
        let bytes = serde_json::to_vec(recipe).unwrap();
        let config = ImageConfiguration::from_attested_json(&bytes).unwrap();
        let facts = PackageFacts { ld_so_conf: true, ca_bundle: true, merged_lib: true };
        let candidates = Behaviour::candidates(&config, facts);
        assert!(candidates.len() < Behaviour::rows().len(), "{name}");
        let expected = expected(platform);
        let hit = |row: &&Behaviour| {
            rebuild_as(name, manifest, recipe, **row).is_ok_and(|digests| digests == expected)
        };
        let hits: Vec<&Behaviour> = candidates.iter().filter(hit).collect();
        assert!(!hits.is_empty() && hits.len() < candidates.len(), "{name}: {hits:?}");
    }
}
