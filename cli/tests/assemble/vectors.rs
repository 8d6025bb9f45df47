//! Every image of the fixtures that apko made, through the command.

use super::support::{Call, all, fixtures, json, published, text, versions_folder};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// Feature by feature, the newest apko. Where apko has several results, ours is one of them.
#[test]
fn every_feature() {
    let folder = fixtures().join("apko");
    let expected = json(&folder.join("expected.json"));
    let cases: Vec<(&String, &Value)> = expected["cases"].as_object().unwrap().iter().collect();
    let failures = all(&cases, |(name, results)| {
        let (config, epoch) = name.split_once("+SDE=").unwrap_or((name, ""));
        let mut call = Call::new(&folder, &format!("{config}.yaml"));
        // The generator built amd64 where a configuration names no architecture.
        let yaml = fs::read_to_string(folder.join(format!("{config}.yaml"))).unwrap();
        if !yaml.contains("archs:") {
            call = call.args(&["--arch", "x86_64"]);
        }
        call = call.args(&["--ignore-signatures"]);
        if !epoch.is_empty() {
            call = call.epoch(epoch);
        }
        let answer = call.run();
        let index = answer.index().map_err(|error| format!("{name}: {error}"))?;
        let possible: BTreeSet<&String> = results.as_object().unwrap().keys().collect();
        if possible.contains(&index) { Ok(()) } else { Err(format!("{name}: {index}")) }
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(cases.len(), 11);
}

/// The two orders of two `install_if` packages give apko's two results.
#[test]
fn every_listed_result_by_its_order() {
    let folder = fixtures().join("apko");
    let names = "base-layout libfoo libbar busybox conf-a conf-b conf-c weird app";
    let orders = [["auto", "app-extra"], ["app-extra", "auto"]];
    let found: BTreeSet<String> = orders
        .iter()
        .map(|either| {
            let file = tempfile::NamedTempFile::new().unwrap();
            let lines = names.split(' ').chain(either.iter().copied()).chain(["ca-bundle"]);
            fs::write(file.path(), lines.collect::<Vec<_>>().join("\n")).unwrap();
            let order = file.path().to_str().unwrap();
            let call = Call::new(&folder, "v1-rich.yaml").args(&["--arch", "amd64"]);
            call.args(&["--ignore-signatures", "--order-from", order]).run().index().unwrap()
        })
        .collect();
    let expected = json(&folder.join("expected.json"));
    let results = expected["cases"]["v1-rich"].as_object().unwrap();
    assert_eq!(found, results.keys().cloned().collect());
}

/// 83 results of 33 versions. Before 0.14.0 the order is given, as its resolver is not known.
#[test]
fn every_version() {
    let working = versions_folder();
    let expected = json(&fixtures().join("apko-versions/expected.json"));
    let cases: Vec<(&String, &Value)> = expected.as_object().unwrap().iter().collect();
    let failures = all(&cases, |(key, case)| {
        version(working.path(), key, case).map_err(|error| format!("{key}: {error}"))
    });
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(cases.len(), 83);
}

fn version(working: &Path, key: &str, case: &Value) -> Result<(), String> {
    let config = text(&case["config"]).trim_start_matches("configs/");
    let apko = text(&case["apko"]);
    let mut call = Call::new(working, config).args(&["--as", &format!("apko={apko}")]);
    if text(&case["command"]).contains("--ignore-signatures") {
        call = call.args(&["--ignore-signatures"]);
    }
    match key.split_once('@').map_or("", |(_, variant)| variant) {
        "epoch" => call = call.epoch("1600000000"),
        "bdate" => call = call.args(&["--build-date", "2026-02-01T00:00:00Z"]),
        "lock" => call = call.args(&["--lockfile", &config.replace(".yaml", ".lock.json")]),
        _ => {}
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    if apko.starts_with("0.13.") {
        // Every platform of a case has the same order.
        let platforms = case["platforms"].as_object().unwrap();
        let order = platforms.values().next().unwrap()["order"].as_array().unwrap();
        let order: Vec<&str> = order.iter().map(text).collect();
        fs::write(file.path(), order.join("\n")).unwrap();
        call = call.args(&["--order-from", file.path().to_str().unwrap()]);
    }
    let index = call.run().index()?;
    let expected = text(&case["index"]);
    if index == expected { Ok(()) } else { Err(format!("expected {expected}, found {index}")) }
}

fn policy(folder: &Path) -> String {
    let key = fs::read(published().join("packages/assay-test-6a1f.rsa.pub")).unwrap();
    let policy = format!(
        "[[package_repository]]\nurl = \"https://packages.assay.test/*\"\nkeys = \"discovery\"\n\
         pins = [\"{}\"]\ncomplete = true\n",
        attest::Digest::of(&key)
    );
    let path = folder.join("policy.toml");
    fs::write(&path, policy).unwrap();
    path.to_str().unwrap().to_owned()
}

fn mirror() -> String {
    format!("https://packages.assay.test/={}", published().join("packages").display())
}

/// Published images, from the configurations they were built from, keys by discovery.
#[test]
fn published_images() {
    let working = tempfile::tempdir().unwrap();
    let policy = policy(working.path());
    let cases = json(&published().join("cases.json"));
    let layout = format!("oci:{}:demo/order:latest", published().display());
    let table: &[(&str, &[&str])] = &[
        ("apko-1.1.14", &["--as", "apko=1.1.14"]),
        ("apko-1.2.24", &["--as", "apko=1.2.24"]),
        ("epoch", &[]),
        ("gzip-e2", &["--as", "apko=0.30.22"]),
        ("hello", &["--as", "apko=1.2.39+1"]),
        ("hello-both", &[]),
        ("hello-legacy", &[]),
        ("order", &["--order-from", &layout]),
        ("services", &[]),
        ("vcs", &[]),
        ("web", &[]),
        ("web-flat", &[]),
    ];
    let failures = all(table, |(name, arguments)| {
        let config = published().join(format!("configs/{name}.yaml"));
        let mut call = Call::new(working.path(), config.to_str().unwrap()).args(arguments);
        call = call.args(&["--mirror", &mirror(), "--policy", &policy]);
        if *name == "epoch" {
            call = call.epoch("1600000000");
        }
        let index = call.run().index().map_err(|error| format!("{name}: {error}"))?;
        let expected = text(&cases[name]["index"]);
        if index == expected { Ok(()) } else { Err(format!("{name}: {expected}, found {index}")) }
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What is attested for a platform gives the published manifest. Cases that share a manifest have
/// other statements about it on purpose; one of all must be the right one.
#[test]
fn attested_json() {
    let working = tempfile::tempdir().unwrap();
    let policy = policy(working.path());
    let cases = json(&published().join("cases.json"));
    let attested = attested_configurations();
    let mut count = 0;
    for case in ["hello", "services", "web"] {
        for (platform, expected) in cases[case]["platforms"].as_object().unwrap() {
            let manifest = text(&expected["manifest"]);
            let about = attested.iter().filter(|(subject, _)| subject == manifest);
            let found: Vec<Result<String, String>> = about
                .map(|(_, predicate)| {
                    let path = working.path().join("config.json");
                    fs::write(&path, predicate.to_string()).unwrap();
                    let call = Call::new(working.path(), "config.json");
                    let answer = call.args(&["--mirror", &mirror(), "--policy", &policy]).run();
                    let platform = answer.value()?["platforms"][0].clone();
                    Ok(format!("{} {}", text(&platform["platform"]), text(&platform["manifest"])))
                })
                .collect();
            let wanted = Ok(format!("{platform} {manifest}"));
            assert!(found.contains(&wanted), "{case}: expected {wanted:?}, found {found:?}");
            count += 1;
        }
    }
    assert!(count >= 4, "{count}");
}

/// Subject digest and predicate of every attested configuration in the layout.
fn attested_configurations() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for file in fs::read_dir(published().join("blobs/sha256")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        let Ok(bundle) = serde_json::from_slice::<Value>(&bytes) else { continue };
        let Some(payload) = bundle["dsseEnvelope"]["payload"].as_str() else { continue };
        let statement: Value = serde_json::from_slice(&STANDARD.decode(payload).unwrap()).unwrap();
        if statement["predicateType"] == "https://apko.dev/image-configuration" {
            let digest = text(&statement["subject"][0]["digest"]["sha256"]);
            let one = (format!("sha256:{digest}"), statement["predicate"].clone());
            if !found.contains(&one) {
                found.push(one);
            }
        }
    }
    found
}

/// A lockfile alone names its configuration; from a store, and once more, the same bytes.
#[test]
fn a_lockfile_alone_and_a_store() {
    let working = versions_folder();
    let expected = json(&fixtures().join("apko-versions/expected.json"));
    let index = text(&expected["1.2.39+1/modes@lock"]["index"]);
    let store = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let call = Call::new(working.path(), "modes.lock.json");
        let answer = call.args(&["--store", store.path().to_str().unwrap()]).run();
        assert_eq!(answer.index().unwrap(), index);
    }
}

/// Several processes fill and read one store at once.
#[test]
fn one_store_under_several_processes() {
    let working = versions_folder();
    let expected = json(&fixtures().join("apko-versions/expected.json"));
    let index = text(&expected["1.2.39+1/modes@lock"]["index"]);
    let store = tempfile::tempdir().unwrap();
    let jobs: Vec<usize> = (0..9).collect();
    let failures = all(&jobs, |_| {
        let call = Call::new(working.path(), "modes.lock.json");
        let found = call.args(&["--store", store.path().to_str().unwrap()]).run().index()?;
        if found == index { Ok(()) } else { Err(found) }
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let left = fs::read_dir(store.path().join("staging")).unwrap().count();
    assert_eq!(left, 0, "files in staging");
}
