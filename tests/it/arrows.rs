//! Dependencies point one way (docs/ARCHITECTURE.md, "The house").

use serde_json::Value;
use std::{collections::BTreeMap, process::Command};

/// What each crate of the workspace may depend on.
const MAY: [(&str, &[&str]); 9] = [
    ("assay-attest", &[]),
    ("assay-oci", &["assay-attest"]),
    ("assay-rebuild", &["assay-attest"]),
    ("assay-proto", &["assay-attest"]),
    ("assay-gate", &["assay-attest", "assay-oci"]),
    ("assay-coordinator", &["assay-attest", "assay-oci", "assay-proto"]),
    ("assay-worker", &["assay-attest", "assay-oci", "assay-proto", "assay-rebuild"]),
    ("assay-benches", &["assay-attest", "assay-coordinator", "assay-proto"]),
    (
        "assay",
        &[
            "assay-attest",
            "assay-oci",
            "assay-rebuild",
            "assay-proto",
            "assay-gate",
            "assay-coordinator",
            "assay-worker",
        ],
    ),
];

/// What must not even be reachable: the pure crates do no network and no async.
const NEVER: [(&str, &[&str]); 2] = [
    ("assay-attest", &["tokio", "reqwest", "tonic", "hyper"]),
    ("assay-rebuild", &["tokio", "reqwest", "tonic", "hyper"]),
];

fn metadata() -> BTreeMap<String, Vec<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(manifest)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let normal = dependencies.iter().filter(|d| d["kind"].is_null());
            let names = normal.map(|d| d["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

#[test]
fn no_arrow_turns() {
    let packages = metadata();
    for (name, may) in MAY {
        let ours = packages[name].iter().filter(|d| *d == "assay" || d.starts_with("assay-"));
        for dependency in ours {
            assert!(may.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
    for (name, never) in NEVER {
        for dependency in &packages[name] {
            assert!(!never.contains(&dependency.as_str()), "{name} must not use {dependency}");
        }
    }
}
