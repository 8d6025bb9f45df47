//! What an attacker adds to an image: planted keys, other times, anything beside them. A divergence
//! stays one, and a hint is followed only where it explains everything.

use crate::fixture::{self, Alter, altered, policy, published, with_file, workshop};
use crate::{ALL_HINTS, another_key, as_it_is, report, said, same, tried};
use attest::Level;
use serde_json::Value;
use std::{collections::BTreeMap, fs};

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_key_is_a_divergence_or_a_gap_by_what_the_policy_says_of_its_list() {
    let work = tempfile::tempdir().unwrap();
    for (complete, exit) in [(true, 10), (false, 14)] {
        let workshop = workshop(work.path(), policy(complete, None));
        let report = report(&workshop, "planted-key").await;
        assert_eq!(report.exit, exit, "complete = {complete}: {:?}", report.platforms[0].detail);
        // What was built is on record, also where nothing may be concluded from it.
        assert!(report.platforms[0].rebuilt.is_some() && report.platforms[0].explanation.is_some());
        assert_eq!(report.platforms[0].level, Level::None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_key_does_not_hide_what_else_differs() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path(), policy(false, None));
    let (_, recipe) = published(&workshop, "planted-key").await;
    let program = |tar| with_file(tar, "usr/bin/extra", 0o755, b"#!/bin/sh\n");
    let env = |config: String| config.replacen(r#""config":{"#, r#""config":{"User":"0","#, 1);
    let key = |name: &'static str, mode| move |tar| with_file(tar, name, mode, &another_key());
    let no_key = |tar| with_file(tar, "etc/apk/keys/evil.rsa.pub", 0o644, b"#!/bin/sh\n");
    let (setuid, program_there) =
        (key("etc/apk/keys/other.rsa.pub", 0o4755), key("etc/apk/keys/other.rsa.pub", 0o755));
    let (deeper, beside) =
        (key("etc/apk/keys/x/other.rsa.pub", 0o644), key("etc/apk/keys-other.rsa.pub", 0o644));
    let cases: [(&str, Alter<'_>); 7] = [
        ("a program", Alter { tar: &program, config: &as_it_is }),
        ("the configuration", Alter { tar: &same, config: &env }),
        ("a setuid file", Alter { tar: &setuid, config: &as_it_is }),
        ("an executable file", Alter { tar: &program_there, config: &as_it_is }),
        ("no key", Alter { tar: &no_key, config: &as_it_is }),
        ("a folder below", Alter { tar: &deeper, config: &as_it_is }),
        ("beside the folder", Alter { tar: &beside, config: &as_it_is }),
    ];
    for (name, alter) in &cases {
        let image = altered(&workshop, "planted-key", alter).await;
        let attempt = tried(&workshop, &image, &recipe).await;
        assert_eq!(said(&attempt), "diverged", "{name}");
    }
    // And a second key is as unknown as the first.
    let second = key("etc/apk/keys/other.rsa.pub", 0o644);
    let alter = Alter { tar: &second, config: &as_it_is };
    let image = altered(&workshop, "planted-key", &alter).await;
    assert_eq!(said(&tried(&workshop, &image, &recipe).await), "gap keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_altered_case_stays_diverged_where_lists_are_open_and_no_hint_is_allowed() {
    let work = tempfile::tempdir().unwrap();
    let cases: BTreeMap<String, Value> =
        serde_json::from_slice(&fs::read(fixture::fixtures().join("cases.json")).unwrap()).unwrap();
    for (complete, hints) in [(false, Some("")), (false, None), (true, Some(""))] {
        let workshop = workshop(work.path(), policy(complete, hints));
        for (case, expected) in &cases {
            let report = report(&workshop, case).await;
            let expected = match (expected["expect"].as_str().unwrap(), case.as_str()) {
                // The one whose only difference is the key.
                ("diverged", "planted-key") if !complete => "not-rebuildable",
                // Reproduced only by what was taken from them.
                ("reproduced", "epoch" | "build-date") if hints.is_some() => "not-rebuildable",
                (outcome, _) => outcome,
            };
            assert_eq!(
                report.outcome.as_str(),
                expected,
                "{case}, complete = {complete}, hints {hints:?}: {}",
                report.platforms[0].detail
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_is_not_allowed_is_a_gap_only_where_it_explains_everything() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path(), policy(true, Some(r#""install-order""#)));
    let (image, recipe) = published(&workshop, "epoch").await;
    let attempt = tried(&workshop, &image, &recipe).await;
    assert_eq!(said(&attempt), "gap epoch-unknown");
    assert!(attempt.set_aside.is_some());
    let program = |tar| with_file(tar, "usr/bin/extra", 0o755, b"#!/bin/sh\n");
    let alter = Alter { tar: &program, config: &as_it_is };
    let image = altered(&workshop, "epoch", &alter).await;
    let attempt = tried(&workshop, &image, &recipe).await;
    assert_eq!(said(&attempt), "diverged");
    assert_eq!(attempt.hints[0].name, "epoch", "what it was compared under is on record");
}

/// `apko build --build-date` with a date before the newest package: only scripts show it.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_date_before_the_newest_package_is_a_hint() {
    let date = b"14000000000\0"; // 2021, in octal
    let dated = |mut tar: Vec<u8>| {
        let name = b"usr/lib/apk/db/scripts.tar\0";
        let outer = tar.chunks(512).position(|block| block.starts_with(name)).unwrap();
        let mut inner = (outer + 1) * 512;
        while tar[inner] != 0 {
            let size = std::str::from_utf8(&tar[inner + 124..inner + 135]).unwrap();
            let size = usize::from_str_radix(size, 8).unwrap();
            tar[inner + 136..inner + 148].copy_from_slice(date);
            tar[inner + 148..inner + 156].fill(b' ');
            let sum: u32 = tar[inner..inner + 512].iter().map(|b| u32::from(*b)).sum();
            tar[inner + 148..inner + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            inner += 512 + size.next_multiple_of(512);
        }
        tar
    };
    let program = |tar| with_file(dated(tar), "usr/bin/extra", 0o755, b"#!/bin/sh\n");
    for (hints, alter, expected) in [
        (ALL_HINTS, Alter { tar: &dated, config: &as_it_is }, "reproduced"),
        ("", Alter { tar: &dated, config: &as_it_is }, "gap epoch-unknown"),
        (ALL_HINTS, Alter { tar: &program, config: &as_it_is }, "diverged"),
    ] {
        let work = tempfile::tempdir().unwrap();
        let workshop = workshop(work.path(), policy(true, Some(hints)));
        let (_, recipe) = published(&workshop, "web").await;
        let image = altered(&workshop, "web", &alter).await;
        let attempt = tried(&workshop, &image, &recipe).await;
        assert_eq!(said(&attempt), expected, "hints {hints:?}");
        if expected == "reproduced" {
            let names: Vec<&str> = attempt.hints.iter().map(|hint| hint.name).collect();
            assert_eq!((names, attempt.epoch), (vec!["epoch"], Some(1_610_612_736)));
        }
    }
}
