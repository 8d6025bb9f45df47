//! Wrong calls, wrong files, hostile packages: the exit code, words that name what is wrong, and no
//! layout.

use super::support::{Answer, Call, fixtures, versions_folder};
use std::{fs, path::Path};

fn refused(answer: &Answer, code: i32, words: &[&str]) {
    assert_eq!(answer.code, Some(code), "{}", answer.said);
    assert!(answer.out.is_empty(), "{}", answer.out);
    for word in words {
        assert!(answer.said.contains(word), "expected {word:?} in {}", answer.said);
    }
    assert!(!answer.output.exists());
    let beside = fs::read_dir(answer.output.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 0, "something was left beside the output");
}

#[test]
fn wrong_calls_and_files() {
    let folder = fixtures().join("apko");
    let call = || Call::new(&folder, "v3-alpine.yaml").args(&["--ignore-signatures"]);
    refused(&Call::new(&folder, "nowhere.yaml").run(), 2, &["nowhere.yaml"]);
    refused(&call().args(&["--as", "apko=9.0.0"]).run(), 14, &["unsupported-version", "9.0.0"]);
    refused(&call().args(&["--as", "1.2.39"]).run(), 2, &["apko=VERSION"]);
    refused(&call().args(&["--arch", "pdp11"]).run(), 2, &["pdp11"]);
    refused(&call().args(&["--annotation", "x"]).run(), 2, &["KEY:VALUE"]);
    refused(&call().epoch("soon").run(), 2, &["SOURCE_DATE_EPOCH", "soon"]);
    refused(&call().args(&["--keyring", "expected.json"]).run(), 2, &["expected.json"]);
    refused(&call().args(&["--order-from", "test.rsa.pub"]).run(), 2, &["lacks [", "busybox"]);
    refused(&call().args(&["--lockfile", "expected.json"]).run(), 14, &["unsupported-field"]);
}

#[test]
fn an_output_that_is_in_use_stays_as_it_is() {
    let folder = fixtures().join("apko");
    let call = Call::new(&folder, "v3-alpine.yaml");
    fs::create_dir(&call.output).unwrap();
    fs::write(call.output.join("mine"), b"x").unwrap();
    let answer = call.run();
    assert_eq!(answer.code, Some(2), "{}", answer.said);
    assert_eq!(fs::read(answer.output.join("mine")).unwrap(), b"x");
}

/// A working folder with a copy of a repository, its configuration and its key.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = fixtures().join("apko");
    for name in ["v3-alpine.yaml", "test.rsa.pub"] {
        fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    fs::create_dir_all(folder.path().join("repo2/x86_64")).unwrap();
    for file in fs::read_dir(from.join("repo2/x86_64")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join("repo2/x86_64").join(file.file_name())).unwrap();
    }
    folder
}

fn alter(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn fields_that_are_not_known_are_named() {
    let folder = copy();
    let yaml = fs::read_to_string(folder.path().join("v3-alpine.yaml")).unwrap();
    fs::write(folder.path().join("a.yaml"), format!("{yaml}\nteleport: mars\n")).unwrap();
    let answer = Call::new(folder.path(), "a.yaml").run();
    refused(&answer, 14, &["unsupported-field", "teleport"]);
    fs::write(folder.path().join("b.yaml"), "contents: [").unwrap();
    refused(&Call::new(folder.path(), "b.yaml").run(), 2, &["apko configuration"]);
    fs::write(folder.path().join("c.json"), "{\"contents\": 1}").unwrap();
    refused(&Call::new(folder.path(), "c.json").run(), 2, &["attested configuration"]);
    let yaml = yaml.replace("[dirs]", "[nothing-has-this]");
    fs::write(folder.path().join("d.yaml"), yaml).unwrap();
    let answer = Call::new(folder.path(), "d.yaml").args(&["--ignore-signatures"]).run();
    refused(&answer, 14, &["linux/amd64", "nothing-has-this"]);
}

#[test]
fn packages_that_are_not_what_the_index_says() {
    let folder = copy();
    let package = folder.path().join("repo2/x86_64/dirs-1-r0.apk");
    let call = || Call::new(folder.path(), "v3-alpine.yaml").args(&["--ignore-signatures"]);
    assert_eq!(call().run().code, Some(0));
    let whole = fs::read(&package).unwrap();
    // Cut, altered at the end, another package's bytes, gone.
    alter(&package, |bytes| bytes.truncate(bytes.len() - 20));
    refused(&call().run(), 14, &["dirs-1-r0.apk"]);
    fs::write(&package, &whole).unwrap();
    alter(&package, |bytes| *bytes.last_mut().unwrap() ^= 1);
    refused(&call().run(), 14, &["dirs-1-r0"]);
    fs::copy(folder.path().join("repo2/x86_64/busybox-1.35.0-r1.apk"), &package).unwrap();
    refused(&call().run(), 14, &["the name", "dirs", "busybox"]);
    fs::remove_file(&package).unwrap();
    // A folder that lacks what its index names is damaged: that says nothing about the image.
    refused(&call().run(), 1, &["dirs-1-r0.apk"]);
}

#[test]
fn an_index_without_a_trusted_signature_needs_a_word() {
    let folder = copy();
    let call = Call::new(folder.path(), "v3-alpine.yaml");
    refused(&call.run(), 14, &["APKINDEX.tar.gz", "a signature"]);
    // A signed index, and a configuration that names no key.
    let folder = versions_folder();
    let yaml = fs::read_to_string(folder.path().join("paths.yaml")).unwrap();
    let no_key = |line: &&str| !line.contains(".rsa.pub") && !line.contains("keyring");
    let without: Vec<&str> = yaml.lines().filter(no_key).collect();
    fs::write(folder.path().join("a.yaml"), without.join("\n")).unwrap();
    let call = || Call::new(folder.path(), "a.yaml");
    refused(&call().run(), 14, &["--keyring", "APKINDEX.tar.gz"]);
    assert_eq!(call().args(&["--ignore-signatures"]).run().code, Some(0));
    // With keys on the command line it is trusted, and they are in the image like the keyring's.
    let keys = yaml.lines().filter_map(|line| line.trim().strip_prefix("- "));
    let mut with_keys = call();
    for key in keys.filter(|key| key.ends_with(".rsa.pub")) {
        with_keys = with_keys.args(&["--keyring", key]);
    }
    let configured = Call::new(folder.path(), "paths.yaml").run().index().unwrap();
    assert_eq!(with_keys.run().index().unwrap(), configured);
}

#[test]
fn a_lockfile_goes_with_its_configuration_only() {
    let folder = versions_folder();
    let lock = ["--lockfile", "modes.lock.json"];
    refused(&Call::new(folder.path(), "paths.yaml").args(&lock).run(), 2, &["lock again"]);
    let path = folder.path().join("other.lock.json");
    let json = fixtures().join("apko-versions/configs/modes.lock.json");
    let json = fs::read_to_string(json).unwrap();
    let other = json.replacen("\"checksum\": \"Q1uhDp", "\"checksum\": \"Q1uhDq", 1);
    assert_ne!(json, other);
    fs::write(&path, other).unwrap();
    let call = Call::new(folder.path(), "modes.yaml").args(&["--lockfile", "other.lock.json"]);
    refused(&call.run(), 14, &["as in the lockfile", "baselayout-20260101-r4"]);
}
