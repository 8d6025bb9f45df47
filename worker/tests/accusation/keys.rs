//! Keys that discovery lacks, refuses or names no more: a gap, and nothing beside it is.

use crate::fixture::{self, Alter, altered, policy, published, with_file, workshop};
use crate::{Damage, another_key, as_it_is, broken_mirror, said, tried};
use serde_json::{Value, json};
use std::{fs, path::Path, sync::Arc};
use worker::pipeline::attempt::Answer;

/// A pinned key that discovery gave when the image was made and does not give today is legitimate.
#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_key_that_discovery_lacks_today_is_a_gap_and_nothing_beside_it_is() {
    let old = attest::key::SigningKey::generate().unwrap().public().to_pem().into_bytes();
    let with_old = |tar| with_file(tar, "etc/apk/keys/old.rsa.pub", 0o644, &old);
    let with_program = |tar| with_file(with_old(tar), "usr/bin/extra", 0o755, b"#!/bin/sh\n");
    let renamed = |tar| with_file(tar, "etc/apk/keys/other.rsa.pub", 0o644, &another_key());
    let cases: [(&str, bool, Alter<'_>, &str); 4] = [
        ("pinned", true, Alter { tar: &with_old, config: &as_it_is }, "gap keys"),
        ("not pinned", false, Alter { tar: &with_old, config: &as_it_is }, "diverged"),
        ("and a program", true, Alter { tar: &with_program, config: &as_it_is }, "diverged"),
        // A key that discovery does give lies there under one name.
        ("another name", true, Alter { tar: &renamed, config: &as_it_is }, "diverged"),
    ];
    for (name, pinned, alter, expected) in &cases {
        let work = tempfile::tempdir().unwrap();
        let mut policy = policy(true, None);
        if *pinned {
            policy.package_repositories[0].pins.insert(attest::Digest::of(&old));
        }
        let workshop = workshop(work.path(), policy);
        let (_, recipe) = published(&workshop, "hello").await;
        let image = altered(&workshop, "hello", alter).await;
        assert_eq!(said(&tried(&workshop, &image, &recipe).await), *expected, "{name}");
    }
}

/// No discovery is no withdrawn package: what it would have vouched for is unproven.
#[tokio::test(flavor = "multi_thread")]
async fn a_repository_without_discovery_gives_no_key_and_is_not_gone() {
    for missing in ["os/apk-configuration", "jwks.json"] {
        let work = tempfile::tempdir().unwrap();
        let mut workshop = workshop(work.path(), policy(true, None));
        let without = |folder: &Path| fs::remove_file(folder.join(missing)).unwrap();
        workshop.places = Arc::new(broken_mirror(&work.path().join("mirror"), &without));
        for case in ["hello", "tampered"] {
            let (image, recipe) = published(&workshop, case).await;
            let attempt = tried(&workshop, &image, &recipe).await;
            assert_eq!(said(&attempt), "gap keys", "{missing} {case}");
        }
    }
}

/// What lies where the keys should be is no fact about an image: never a gap, whatever it is, and
/// nothing of it is repeated. A document of a repository can't make this machine read its own files.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_discovery_says_nothing_about_an_image() {
    const SECRET: &str = "s3cret-of-this-machine";
    let page: Damage<'_> = &|path: &Path| fs::write(path, b"<html>back soon</html>").unwrap();
    let text: Damage<'_> = &|path: &Path| fs::write(path, format!("{SECRET:?}")).unwrap();
    let local: Damage<'_> = &|path: &Path| {
        let secret = path.with_file_name("secret.json");
        fs::write(&secret, format!(r#"{{"keys":{SECRET:?}}}"#)).unwrap();
        fs::write(path, json!({ "jwks_uri": secret }).to_string()).unwrap();
    };
    let by_url: Damage<'_> = &|path: &Path| {
        let secret = path.with_file_name("secret.json");
        fs::write(&secret, format!(r#"{{"keys":{SECRET:?}}}"#)).unwrap();
        let uri = format!("file://{}", secret.display());
        fs::write(path, json!({ "jwks_uri": uri }).to_string()).unwrap();
    };
    let at = "os/apk-configuration";
    let damages = [(at, page), (at, text), (at, local), (at, by_url)];
    for (place, damage) in damages.into_iter().chain([("jwks.json", page), ("jwks.json", text)]) {
        let work = tempfile::tempdir().unwrap();
        let mut workshop = workshop(work.path(), policy(true, None));
        let one = |folder: &Path| damage(&folder.join(place));
        workshop.places = Arc::new(broken_mirror(&work.path().join("mirror"), &one));
        let (image, recipe) = published(&workshop, "hello").await;
        let Answer::Operational(why) = tried(&workshop, &image, &recipe).await.answer else {
            panic!("{place}: not an error of today")
        };
        assert!(!why.contains(SECRET), "{why}");
    }
}

/// A key that discovery names and nobody vouches for is unknown, not planted.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_refused_is_a_gap_and_so_is_any_where_discovery_names_no_keys() {
    let jwks = |folder: &Path| folder.join("jwks.json");
    let path = jwks(&fixture::fixtures().join("packages"));
    let mut set: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut second = set["keys"][0].clone();
    second["kid"] = json!("second");
    let n = second["n"].as_str().unwrap().to_owned();
    second["n"] = json!(format!("{}AAAA{}", &n[..40], &n[44..]));
    set["keys"].as_array_mut().unwrap().push(second);
    let keys = rebuild::apk::key::keys_from_jwks(set.to_string().as_bytes()).unwrap();
    let (name, bytes) = (keys[1].name().to_owned(), keys[1].file().to_vec());
    let place = format!("etc/apk/keys/{name}");
    let with_second = |tar| with_file(tar, &place, 0o644, &bytes);
    let both = |folder: &Path| fs::write(jwks(folder), set.to_string()).unwrap();
    let as_published = |_: &Path| {};
    let silent = |folder: &Path| fs::write(folder.join("extras/apk-configuration"), "{}").unwrap();
    let cases: [(&str, Damage<'_>, &str); 3] = [
        ("refused", &both, "gap keys"),
        ("planted", &as_published, "diverged"),
        ("no jwks_uri", &silent, "gap keys"),
    ];
    for (name, damage, expected) in cases {
        let work = tempfile::tempdir().unwrap();
        let mut workshop = workshop(work.path(), policy(true, None));
        let case = if name == "no jwks_uri" { "web" } else { "hello" };
        workshop.places = Arc::new(broken_mirror(&work.path().join("mirror"), damage));
        let (_, recipe) = published(&workshop, case).await;
        let alter = Alter { tar: &with_second, config: &as_it_is };
        let image = altered(&workshop, case, &alter).await;
        assert_eq!(said(&tried(&workshop, &image, &recipe).await), expected, "{name}");
    }
}
