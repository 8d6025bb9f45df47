//! Sources of packages that are damaged or lie: an error, a gap where nobody can know better, and
//! never a verdict about the image.

use crate::fixture::{Alter, altered, policy, published, with_file, workshop};
use crate::{ALL_HINTS, Damage, as_it_is, broken_mirror, report, said, tried};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use worker::pipeline::attempt::Answer;

/// Every package file below a folder.
fn packages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(packages(&entry.path()));
        } else if entry.path().extension().is_some_and(|e| e == "apk") {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_packages_that_is_damaged_or_lies_is_an_error_never_a_verdict() {
    let cut = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let gone = |path: &Path| fs::remove_file(path).unwrap();
    let empty = |path: &Path| fs::write(path, b"").unwrap();
    let damages: [(&str, Damage<'_>); 4] =
        [("cut", &cut), ("flipped", &flip), ("gone", &gone), ("empty", &empty)];
    for (name, damage) in damages {
        let work = tempfile::tempdir().unwrap();
        let mut workshop = workshop(work.path(), policy(true, None));
        let mirror = work.path().join("mirror");
        let every = |folder: &Path| packages(folder).iter().for_each(|p| damage(p));
        workshop.places = Arc::new(broken_mirror(&mirror, &every));
        // An honest image and an altered one: neither becomes better or worse by it.
        for case in ["hello", "tampered"] {
            let report = report(&workshop, case).await;
            let detail = &report.platforms[0].detail;
            assert_eq!(report.exit, 1, "{name} {case}: {detail}");
            assert!(detail.contains("the verified index names"), "{name} {case}: {detail}");
        }
    }
}

/// A signature says who made a package, not that it is the one that the recipe names.
#[tokio::test(flavor = "multi_thread")]
async fn another_signed_package_under_the_name_of_one_that_is_gone_is_an_error() {
    let work = tempfile::tempdir().unwrap();
    let mut workshop = workshop(work.path(), policy(true, None));
    let swapped = |folder: &Path| {
        let files = packages(folder);
        let newer = files.iter().filter(|p| p.ends_with("hello-2.12-r3.apk"));
        for path in newer {
            fs::copy(path, path.with_file_name("hello-2.12-r2.apk")).unwrap();
        }
    };
    workshop.places = Arc::new(broken_mirror(&work.path().join("mirror"), &swapped));
    let report = report(&workshop, "withdrawn").await;
    let detail = &report.platforms[0].detail;
    assert_eq!(report.exit, 1, "{detail}");
    assert!(detail.contains("expected the package hello-2.12-r2"), "{detail}");
    assert!(detail.contains("hello-2.12-r3"), "{detail}");
}

/// What happened to an index on its way is no fact about an image: never 10, never 14.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_says_nothing_about_an_image() {
    let page = |path: &Path| fs::write(path, b"<html>back in a minute</html>").unwrap();
    let cut = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 30]).unwrap();
    };
    let damages: [(&str, Damage<'_>); 2] = [("a page", &page), ("cut", &cut)];
    for (name, damage) in damages {
        let work = tempfile::tempdir().unwrap();
        let mut workshop = workshop(work.path(), policy(true, None));
        let every = |folder: &Path| {
            for repository in ["os", "extras"] {
                for arch in ["x86_64", "aarch64"] {
                    damage(&folder.join(repository).join(arch).join("APKINDEX.tar.gz"));
                }
            }
        };
        workshop.places = Arc::new(broken_mirror(&work.path().join("mirror"), &every));
        let report = report(&workshop, "hello").await;
        let detail = &report.platforms[0].detail;
        assert!(matches!(report.exit, 0 | 1), "{name}: {} {detail}", report.exit);
        let withdrawn = self::report(&workshop, "withdrawn").await;
        assert_eq!(withdrawn.exit, 1, "{name}: {}", withdrawn.platforms[0].detail);
    }
}

/// All architectures' files are signed by the same keys: a source that has one's in the place of
/// another's, with or without its index, is damaged or lies. It accuses nobody, and no package is
/// "withdrawn" by it.
#[tokio::test(flavor = "multi_thread")]
async fn another_architectures_files_are_an_error_never_a_verdict() {
    let swap = |folder: &Path| {
        for repository in ["os", "extras"] {
            let folder = folder.join(repository);
            fs::rename(folder.join("x86_64"), folder.join("x")).unwrap();
            fs::rename(folder.join("aarch64"), folder.join("x86_64")).unwrap();
            fs::rename(folder.join("x"), folder.join("aarch64")).unwrap();
        }
    };
    let without_indexes = |folder: &Path| {
        swap(folder);
        for repository in ["os", "extras"] {
            for arch in ["x86_64", "aarch64"] {
                fs::remove_file(folder.join(repository).join(arch).join("APKINDEX.tar.gz"))
                    .unwrap();
            }
        }
    };
    let damages: [Damage<'_>; 2] = [&swap, &without_indexes];
    for damage in damages {
        let work = tempfile::tempdir().unwrap();
        let mut workshop = workshop(work.path(), policy(true, None));
        workshop.places = Arc::new(broken_mirror(&work.path().join("mirror"), damage));
        for case in ["hello", "tampered", "withdrawn"] {
            let (image, recipe) = published(&workshop, case).await;
            let Answer::Operational(why) = tried(&workshop, &image, &recipe).await.answer else {
                panic!("{case}: not an error of today")
            };
            assert!(why.contains("expected the architecture"), "{case}: {why}");
        }
    }
}

/// A package that no index has is proven by the signature inside it: that is no word about which of
/// two files of one name and version the image was built from.
#[tokio::test(flavor = "multi_thread")]
async fn another_file_of_a_package_without_an_index_is_a_gap_and_with_one_a_divergence() {
    let other_file = |mut tar: Vec<u8>| {
        let mark = b"C:Q1";
        let at = tar.windows(mark.len()).position(|w| w == mark).unwrap() + mark.len();
        tar[at] = if tar[at] == b'A' { b'B' } else { b'A' };
        tar
    };
    let program = |tar| with_file(tar, "usr/bin/extra", 0o755, b"#!/bin/sh\n");
    let gone = |folder: &Path| {
        fs::remove_file(folder.join("os/x86_64/APKINDEX.tar.gz")).unwrap();
    };
    let as_published = |_: &Path| {};
    let cases: [(Damage<'_>, Alter<'_>, &str); 3] = [
        (&gone, Alter { tar: &other_file, config: &as_it_is }, "gap unpinned-material"),
        (&gone, Alter { tar: &program, config: &as_it_is }, "diverged"),
        (&as_published, Alter { tar: &other_file, config: &as_it_is }, "diverged"),
    ];
    for (damage, alter, expected) in cases {
        let work = tempfile::tempdir().unwrap();
        let mut workshop = workshop(work.path(), policy(true, None));
        workshop.places = Arc::new(broken_mirror(&work.path().join("mirror"), damage));
        let (_, recipe) = published(&workshop, "hello").await;
        let image = altered(&workshop, "hello", &alter).await;
        assert_eq!(said(&tried(&workshop, &image, &recipe).await), expected);
    }
}

/// Every package is proven by its own signature; the order is not the resolver's any more.
#[tokio::test(flavor = "multi_thread")]
async fn without_an_index_the_order_is_a_hint_and_never_trusted_in_silence() {
    let damage = |folder: &Path| {
        for arch in ["x86_64", "aarch64"] {
            let path = folder.join("os").join(arch).join("APKINDEX.tar.gz");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 30]).unwrap();
        }
    };
    // Without a quorum every hint is allowed and on record; a quorum without it cannot tell: an
    // error of today, not a gap of the image.
    for (hints, exit) in [(None, 0), (Some(ALL_HINTS), 0), (Some(r#""epoch""#), 1)] {
        let work = tempfile::tempdir().unwrap();
        let mut workshop = workshop(work.path(), policy(true, hints));
        workshop.places = Arc::new(broken_mirror(&work.path().join("mirror"), &damage));
        let report = report(&workshop, "hello").await;
        let platform = &report.platforms[0];
        assert_eq!(report.exit, exit, "{hints:?}: {}", platform.detail);
        if exit == 0 {
            let names: Vec<&str> = platform.recipe.hints.iter().map(|h| h.name.as_str()).collect();
            assert_eq!(names, ["install-order"], "{hints:?}");
        } else {
            assert!(platform.detail.contains("APKINDEX.tar.gz"), "{}", platform.detail);
        }
        let tampered = self::report(&workshop, "tampered").await;
        assert_eq!(tampered.exit, 10, "{}", tampered.platforms[0].detail);
    }
}
