//! Every published case of tests/fixtures/published through the whole pipeline, as `assay verify`
//! runs it: the outcome, level and gap that cases.json expects, for the image and each platform.
//!
//! The fixtures were built by the real apko and signed by the real cosign; their README says how.

use attest::{
    Digest, Level,
    policy::{Mirror, Policy},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use worker::{
    material::{ContentStore, store::STORE_BYTES_MAX_DEFAULT},
    pipeline::{
        Signers, Workshop,
        progress::Silent,
        verify::{VerifyOptions, verify},
    },
    report::{PlatformReport, VerifyReport},
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/published")
}

fn policy() -> Policy {
    let key = fs::read(fixtures().join("packages/assay-test-6a1f.rsa.pub")).unwrap();
    let text = format!(
        r#"
[[publisher]]
repositories = ["oci:*"]
key = "keys/publisher.pub"
transparency = "none"

[[package_repository]]
url = "https://packages.assay.test/*"
keys = "discovery"
pins = ["{}"]
complete = true
"#,
        Digest::of(&key)
    );
    let read = |name: &str| fs::read(fixtures().join(name)).map_err(|e| e.to_string());
    Policy::parse(&text, &read).unwrap()
}

fn workshop(work: &Path) -> Workshop {
    let mirror = Mirror {
        prefix: "https://packages.assay.test/".into(),
        url: format!("file://{}/", fixtures().join("packages").display()),
        complete: true,
    };
    let store = ContentStore::open(work.join("store"), STORE_BYTES_MAX_DEFAULT).unwrap();
    let work = work.to_owned();
    let policy = Arc::new(policy());
    Workshop::new(policy, Signers::Policy, vec![mirror], Arc::new(store), work).unwrap()
}

fn cases() -> BTreeMap<String, Value> {
    serde_json::from_slice(&fs::read(fixtures().join("cases.json")).unwrap()).unwrap()
}

async fn report(workshop: &Workshop, case: &str) -> VerifyReport {
    let image = format!("oci:{}:demo/{case}:latest", fixtures().display());
    let options = VerifyOptions::default();
    let verified = verify(workshop, &image.parse().unwrap(), &options, &Silent).await;
    verified.unwrap_or_else(|error| panic!("{case}: {error}")).report
}

/// What is wrong with a platform's answer, if anything.
fn check(expected: &Value, found: &PlatformReport) -> Option<String> {
    let outcome = expected["expect"].as_str().unwrap();
    let said = format!("{} {} {}", found.outcome.as_str(), found.level, found.detail);
    if found.outcome.as_str() != outcome {
        return Some(format!("expected {outcome}, found {said}"));
    }
    let level: Level = expected["level"].as_str().unwrap_or("none").parse().unwrap();
    // For `reproduced` the level is a minimum.
    let right = if outcome == "reproduced" { found.level >= level } else { found.level == level };
    if !right {
        return Some(format!("expected level {level}, found {said}"));
    }
    if let Some(gap) = expected["gap"].as_str()
        && !found.recipe.gaps.iter().any(|g| g.code.as_str() == gap)
    {
        return Some(format!("expected gap {gap}, found {:?}", found.recipe.gaps));
    }
    let manifest = expected["manifest"].as_str().unwrap();
    if level == Level::Manifest {
        let rebuilt = found.rebuilt.as_ref().and_then(|r| r.manifest);
        if rebuilt.map(|d| d.to_string()).as_deref() != Some(manifest) {
            return Some(format!("expected manifest {manifest}, found {rebuilt:?}"));
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn every_published_case_gets_its_answer() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path());
    let (mut wrong, mut right) = (Vec::new(), 0);
    for (case, expected) in cases() {
        let report = report(&workshop, &case).await;
        let outcome = expected["expect"].as_str().unwrap();
        if report.outcome.as_str() != outcome {
            wrong.push(format!("{case}: expected {outcome}, found {}", report.outcome.as_str()));
        }
        let platforms = expected["platforms"].as_object().unwrap();
        assert_eq!(platforms.len(), report.platforms.len(), "{case}");
        for (name, expected) in platforms {
            let (platform, entry) = match name.split_once('#') {
                Some((platform, entry)) => (platform, Some(entry.parse::<usize>().unwrap())),
                None => (name.as_str(), None),
            };
            let found = report
                .platforms
                .iter()
                .find(|p| p.platform.to_string() == platform && p.entry == entry)
                .unwrap_or_else(|| panic!("{case}: no {name}"));
            match check(expected, found) {
                Some(problem) => wrong.push(format!("{case} {name}: {problem}")),
                None => right += 1,
            }
        }
    }
    assert!(wrong.is_empty(), "{right} right, wrong:\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_claimed_only_where_its_bytes_follow() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path());
    assert!(report(&workshop, "hello").await.index_reproduced);
    // Its source and revision annotations are in no attestation.
    let vcs = report(&workshop, "vcs").await;
    assert!(!vcs.index_reproduced && vcs.outcome.as_str() == "reproduced");
    assert!(!report(&workshop, "mixed").await.index_reproduced);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_from_the_image_is_on_record() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path());
    let hints = |report: &VerifyReport| -> Vec<String> {
        report.platforms[0].recipe.hints.iter().map(|h| h.name.clone()).collect()
    };
    assert_eq!(hints(&report(&workshop, "epoch").await), ["epoch"]);
    assert_eq!(hints(&report(&workshop, "build-date").await), ["epoch"]);
    assert!(hints(&report(&workshop, "hello").await).is_empty());
    let beside = report(&workshop, "stranger-beside").await;
    assert_eq!(beside.platforms[0].recipe.ignored.len(), 1);
    let two = report(&workshop, "two-recipes").await;
    assert!(!two.platforms[0].recipe.contradictions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_not_there_is_an_error_never_a_verdict() {
    let work = tempfile::tempdir().unwrap();
    let mut shop = workshop(work.path());
    let mirror = Mirror {
        prefix: "https://packages.assay.test/".into(),
        url: "file:///nowhere/at/all/".into(),
        complete: true,
    };
    let places = worker::material::Places::new(vec![mirror], &oci::NetworkPolicy::default());
    shop.places = Arc::new(places.unwrap());
    let report = report(&shop, "hello").await;
    assert_eq!(report.exit, 1, "{:?}", report.platforms[0].detail);
}
