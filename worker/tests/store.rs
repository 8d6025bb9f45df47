//! One content store under several rebuilds: what one unpacked the next one takes, and what the disk
//! did to it in between is noticed and never becomes a verdict.

use attest::{
    Digest,
    policy::{Mirror, Policy},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use worker::{
    material::{ContentStore, store::STORE_BYTES_MAX_DEFAULT},
    pipeline::{
        Signers, Workshop,
        verify::{Silent, VerifyOptions, verify},
    },
    report::{VerifyOutcome, VerifyReport},
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/published")
}

fn workshop(work: &Path) -> Workshop {
    let key = fs::read(fixtures().join("packages/assay-test-6a1f.rsa.pub")).unwrap();
    let text = format!(
        "[[publisher]]\nrepositories = [\"oci:*\"]\nkey = \"keys/publisher.pub\"\n\
         transparency = \"none\"\n[[package_repository]]\nurl = \"https://packages.assay.test/*\"\n\
         keys = \"discovery\"\npins = [\"{}\"]\ncomplete = true\n",
        Digest::of(&key)
    );
    let read = |name: &str| fs::read(fixtures().join(name)).map_err(|e| e.to_string());
    let mirror = Mirror {
        prefix: "https://packages.assay.test/".into(),
        url: format!("file://{}/", fixtures().join("packages").display()),
        complete: true,
    };
    let store = ContentStore::open(work.join("store"), STORE_BYTES_MAX_DEFAULT).unwrap();
    let policy = Arc::new(Policy::parse(&text, &read).unwrap());
    let work = work.to_owned();
    Workshop::new(policy, Signers::Policy, vec![mirror], Arc::new(store), work).unwrap()
}

async fn report(workshop: &Workshop, case: &str) -> VerifyReport {
    let image = format!("oci:{}:demo/{case}:latest", fixtures().display());
    let options = VerifyOptions::default();
    verify(workshop, &image.parse().unwrap(), &options, &Silent).await.unwrap().report
}

fn unpacked(work: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(work.join("store/unpacked")).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            found.push(file.unwrap().path());
        }
    }
    found.sort();
    found
}

/// How many package files came out of the store.
fn from_the_store(report: &VerifyReport) -> (usize, usize) {
    let materials = || report.platforms.iter().flat_map(|p| &p.materials);
    let packages = || materials().filter(|m| m.uri.ends_with(".apk"));
    (packages().filter(|m| m.from == "the content store").count(), packages().count())
}

#[tokio::test(flavor = "multi_thread")]
async fn images_share_what_was_unpacked() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path());
    let first = report(&workshop, "web").await;
    assert_eq!(first.outcome, VerifyOutcome::Reproduced);
    assert_eq!(from_the_store(&first).0, 0);
    let again = report(&workshop, "web").await;
    assert_eq!(again.outcome, VerifyOutcome::Reproduced);
    let (kept, all) = from_the_store(&again);
    assert_eq!(kept, all);
    // Another image with most of the same packages.
    let other = report(&workshop, "order").await;
    assert_eq!(other.outcome, VerifyOutcome::Reproduced);
    assert!(from_the_store(&other).0 > 0);
    // What the store gave is proven by the index of today, like any other.
    let proven = |m: &&worker::report::MaterialReport| m.verified_by.starts_with("index sha256:");
    let materials = again.platforms.iter().flat_map(|p| &p.materials);
    assert_eq!(materials.filter(|m| m.uri.ends_with(".apk")).filter(proven).count(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_lies_gives_no_verdict() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path());
    assert_eq!(report(&workshop, "hello").await.outcome, VerifyOutcome::Reproduced);
    let entries = unpacked(work.path());
    assert!(entries.len() >= 3, "{entries:?}");
    for part in [2, 3, 5, 50] {
        for path in unpacked(work.path()) {
            let mut bytes = fs::read(&path).unwrap();
            let at = bytes.len() / part;
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
        // What is found while it is being read ends the attempt; what is found before is unpacked
        // again. Every attempt removes what it found.
        let mut outcomes = Vec::new();
        for _ in 0..2 * entries.len() {
            let outcome = report(&workshop, "hello").await.outcome;
            assert_ne!(outcome, VerifyOutcome::Diverged);
            outcomes.push(outcome);
            if outcome == VerifyOutcome::Reproduced {
                break;
            }
            assert_eq!(outcome, VerifyOutcome::Error);
        }
        assert_eq!(outcomes.last(), Some(&VerifyOutcome::Reproduced), "{outcomes:?}");
    }
}
