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
        progress::Silent,
        verify::{VerifyOptions, verify},
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

/// The packages' mirror as links, in which one package is another one or is not there.
fn mirror_with(folder: &Path, name: &str, instead: Option<&str>) -> worker::material::Places {
    let packages = fs::canonicalize(fixtures().join("packages")).unwrap();
    let link = |from: PathBuf, to: PathBuf| std::os::unix::fs::symlink(from, to).unwrap();
    for repository in ["os", "extras"] {
        for arch in ["x86_64", "aarch64"] {
            let (from, to) =
                (packages.join(repository).join(arch), folder.join(repository).join(arch));
            fs::create_dir_all(&to).unwrap();
            for file in fs::read_dir(&from).unwrap().flatten() {
                let own = file.file_name();
                let target = if own == *name { instead } else { own.to_str() };
                if let Some(target) = target.filter(|target| from.join(target).exists()) {
                    link(from.join(target), to.join(&own));
                }
            }
        }
        let configuration = Path::new(repository).join("apk-configuration");
        link(packages.join(&configuration), folder.join(&configuration));
    }
    link(packages.join("jwks.json"), folder.join("jwks.json"));
    let mirror = Mirror {
        prefix: "https://packages.assay.test/".into(),
        url: format!("file://{}/", folder.display()),
        complete: true,
    };
    worker::material::Places::new(vec![mirror], &oci::NetworkPolicy::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_serves_something_else_does_not_take_the_place_of_what_was_proven() {
    let work = tempfile::tempdir().unwrap();
    let mut workshop = workshop(work.path());
    assert_eq!(report(&workshop, "hello").await.outcome, VerifyOutcome::Reproduced);
    let apk = |name: &str| {
        let folder = fixtures().join("packages/os/x86_64");
        let all = fs::read_dir(folder).unwrap().flatten().map(|e| e.file_name());
        let mut found = all.map(|n| n.into_string().unwrap()).filter(|n| n.starts_with(name));
        found.next().unwrap_or_else(|| panic!("expected a package {name}"))
    };
    let (wanted, other) = (apk("hello-2.12-r3"), apk("busybox"));
    // A genuine package, and not the one that the index names.
    workshop.places =
        Arc::new(mirror_with(&work.path().join("swapped"), &wanted, Some(other.as_str())));
    fs::remove_dir_all(work.path().join("store/unpacked")).unwrap();
    fs::create_dir(work.path().join("store/unpacked")).unwrap();
    assert_eq!(report(&workshop, "hello").await.outcome, VerifyOutcome::Error);
    // Then it is gone: the store still finds what was proven.
    workshop.places = Arc::new(mirror_with(&work.path().join("gone"), &wanted, None));
    let again = report(&workshop, "hello").await;
    assert_eq!(again.outcome, VerifyOutcome::Reproduced, "{}", again.platforms[0].detail);
    assert!(from_the_store(&again).0 >= 1);
}

#[test]
fn names_on_the_way_are_not_those_of_another_process() {
    // As in another container: a process of the same number was at its first file and died.
    let work = tempfile::tempdir().unwrap();
    let store = ContentStore::open(work.path(), 1 << 20).unwrap();
    let taken = work.path().join(format!("staging/{}-0", std::process::id()));
    fs::write(&taken, b"another process's").unwrap();
    let (digest, _) = store.insert(&b"hello"[..], "here", 5, None).unwrap();
    assert!(store.path_of(&digest).exists() && taken.exists());
}
