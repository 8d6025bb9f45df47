//! When `diverged` may be said, and when it must be: nothing that an attacker adds to an image
//! turns a divergence into a gap, and nothing that Assay cannot know turns a gap into a divergence.
//!
//! The images are the published cases, altered; the recipes are the attested ones, altered where a
//! test is about what a recipe may say.

mod fixture;

use attest::{GapCode, Level, recipe::Recipe};
use fixture::{Alter, altered, policy, published, reference, with_file, workshop};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use worker::{
    pipeline::{
        Workshop, apko,
        attempt::{Answer, Attempt},
        progress::Silent,
        published::Fetched,
        verify::{VerifyOptions, attempts, verify},
    },
    report::VerifyReport,
};

const ALL_HINTS: &str = r#""epoch", "install-order", "install-order-conflicts", "key-set""#;

fn same(tar: Vec<u8>) -> Vec<u8> {
    tar
}

fn as_it_is(config: String) -> String {
    config
}

fn another_key() -> Vec<u8> {
    fs::read(fixture::fixtures().join("packages/assay-test-6a1f.rsa.pub")).unwrap()
}

async fn tried(workshop: &Workshop, image: &Fetched, recipe: &Recipe) -> Attempt {
    apko::attempt(workshop, image, recipe, None, &Silent).await
}

async fn report(workshop: &Workshop, case: &str) -> VerifyReport {
    let options = VerifyOptions::default();
    verify(workshop, &reference(case), &options, &Silent).await.unwrap().report
}

/// `diverged`, or the codes of the gaps, or what else happened.
fn said(attempt: &Attempt) -> String {
    match &attempt.answer {
        Answer::Built(built) if built.level().is_reproduced() => "reproduced".to_owned(),
        Answer::Built(_) => "diverged".to_owned(),
        Answer::RecipeInvalid(gaps) => {
            let codes: Vec<&str> = gaps.iter().map(|gap| gap.code.as_str()).collect();
            format!("gap {}", codes.join(" "))
        }
        other => format!("{other:?}"),
    }
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_that_builds_something_else_accuses_nobody_while_another_cannot_be_tried() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path(), policy(true, Some(ALL_HINTS)));
    let (image, recipe) = published(&workshop, "tampered").await;
    let alone = [recipe.clone()];
    let best = attempts(&workshop, &image, &alone, None, &Silent).await.unwrap();
    assert_eq!(said(&best), "diverged");
    let newer = Recipe { version: Some("9.9.9".into()), ..recipe.clone() };
    let mut withdrawn = recipe.clone();
    withdrawn.config["contents"]["packages"]
        .as_array_mut()
        .unwrap()
        .push(json!("no-such-package=1.0-r0"));
    for (other, expected) in [(newer, "gap unsupported-version"), (withdrawn, "InputGone")] {
        for recipes in [[recipe.clone(), other.clone()], [other.clone(), recipe.clone()]] {
            let best = attempts(&workshop, &image, &recipes, None, &Silent).await.unwrap();
            assert!(said(&best).starts_with(expected), "{expected}: {}", said(&best));
        }
    }
    // A match is proof whatever the other says.
    let (image, recipe) = published(&workshop, "hello").await;
    let newer = Recipe { version: Some("9.9.9".into()), ..recipe.clone() };
    let best = attempts(&workshop, &image, &[newer, recipe], None, &Silent).await.unwrap();
    assert_eq!(said(&best), "reproduced");
}

/// Every object of a configuration, as a path of keys.
fn objects(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(map) => {
            found.push(path.clone());
            for (key, inner) in map {
                path.push(key.clone());
                objects(inner, path, found);
                path.pop();
            }
        }
        Value::Array(items) => {
            for (i, inner) in items.iter().enumerate() {
                path.push(i.to_string());
                objects(inner, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

/// Free-form tables, in which any key means something to apko already.
const FREE_FORM: [&str; 2] = ["annotations", "environment"];

#[tokio::test(flavor = "multi_thread")]
async fn a_field_or_version_that_is_not_known_is_a_gap_never_a_divergence() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path(), policy(true, None));
    let mut fields = 0;
    for case in ["tampered", "web", "services", "vcs", "web-flat"] {
        let (image, recipe) = published(&workshop, case).await;
        let mut places = Vec::new();
        objects(&recipe.config, &mut Vec::new(), &mut places);
        for place in places {
            if place.last().is_some_and(|key| FREE_FORM.contains(&key.as_str())) {
                continue;
            }
            let mut recipe = recipe.clone();
            let pointer: String = place.iter().map(|key| format!("/{key}")).collect();
            recipe.config.pointer_mut(&pointer).unwrap()["a-field-of-tomorrow"] = json!(true);
            let answer = said(&tried(&workshop, &image, &recipe).await);
            assert_eq!(answer, "gap unsupported-field", "{case}: {pointer:?}");
            fields += 1;
        }
    }
    assert!(fields > 10, "{fields} places");
    let (image, recipe) = published(&workshop, "tampered").await;
    for version in ["0.12.9", "1.2.40", "2.0.0", "1.2.39+2", "1.2.39-rc1", "latest", ""] {
        let recipe = Recipe { version: Some(version.into()), ..recipe.clone() };
        let answer = said(&tried(&workshop, &image, &recipe).await);
        assert_eq!(answer, "gap unsupported-version", "{version:?}");
    }
    // No version at all: they are tried, and none that fits is no accusation.
    let recipe = Recipe { version: None, ..recipe };
    let attempt = tried(&workshop, &image, &recipe).await;
    let Answer::RecipeInvalid(gaps) = &attempt.answer else { panic!("{}", said(&attempt)) };
    assert_eq!(gaps[0].code, GapCode::BuilderVersion);
}

/// What is done to a file.
type Damage<'a> = &'a dyn Fn(&Path);

/// A copy of the packages' mirror in which something was done to one file.
fn broken_mirror(folder: &Path, damage: &dyn Fn(&Path)) -> worker::material::Places {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            let place = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &place);
            } else {
                fs::copy(entry.path(), place).unwrap();
            }
        }
    }
    copy(&fixture::fixtures().join("packages"), folder);
    damage(folder);
    let mirror = attest::policy::Mirror {
        prefix: "https://packages.assay.test/".into(),
        url: format!("file://{}/", folder.display()),
        complete: true,
    };
    worker::material::Places::new(vec![mirror], &oci::NetworkPolicy::default()).unwrap()
}

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

#[tokio::test(flavor = "multi_thread")]
async fn repositories_with_a_pin_are_read_and_those_of_a_machine_are_a_gap() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path(), policy(true, None));
    let (image, recipe) = published(&workshop, "web").await;
    for (address, expected) in [
        // The image's own list of repositories differs then, and nothing else is in the way.
        ("@edge https://packages.assay.test/extras", "diverged"),
        ("/srv/packages", "gap local-context"),
        ("file:///srv/packages", "gap local-context"),
        ("@edge", "gap local-context"),
    ] {
        let mut recipe = recipe.clone();
        let repositories = &mut recipe.config["contents"]["repositories"];
        let list = repositories.as_array_mut().unwrap();
        list.retain(|one| !one.as_str().unwrap().ends_with("extras"));
        list.push(json!(address));
        assert_eq!(said(&tried(&workshop, &image, &recipe).await), expected, "{address}");
    }
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
