//! Bad input, through the built binary: the exit code, a message that says what was expected, what
//! was found and what to do, one JSON value on standard output, nothing half-written, never a pass.

mod bench;
#[path = "bad_input/disk.rs"]
mod disk;
#[path = "bad_input/evidence.rs"]
mod evidence;
#[path = "bad_input/registry.rs"]
mod registry;
#[path = "bad_input/services.rs"]
mod services;

use bench::{Bench, Run, fixtures};
use oci::layout::writer::LayoutWriter;
use serde_json::{Value, json};
use std::fs;

/// A failure that no verdict may come from: exit 1, said in both forms.
fn assert_error(run: &Run, what: &str, says: &[&str]) {
    assert_eq!(run.code, Some(1), "{what}: {run:?}");
    let json = run.json();
    assert_eq!((&json["outcome"], &json["exit"]), (&json!("error"), &json!(1)), "{what}: {json}");
    for text in says {
        let found = run.err.contains(text) || run.out.contains(text);
        assert!(found, "{what}: expected {text:?} in {run:?}");
    }
}

/// What every message of a failed fetch has.
const WORDS: [&str; 2] = ["expected", "found"];

/// Copies a manifest with everything below it from the published cases into a layout.
fn copy_into(layout: &LayoutWriter, digest: &str, repository: &str, tag: &str) {
    fn blob(layout: &LayoutWriter, digest: &str) -> Vec<u8> {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let bytes = fs::read(fixtures().join("blobs/sha256").join(hex)).unwrap();
        layout.put_blob(&bytes).unwrap();
        bytes
    }
    let bytes = blob(layout, digest);
    let root: Value = serde_json::from_slice(&bytes).unwrap();
    let mut below: Vec<String> = Vec::new();
    let digests = |value: &Value| value["digest"].as_str().unwrap().to_owned();
    for entry in root["manifests"].as_array().into_iter().flatten() {
        let manifest: Value = serde_json::from_slice(&blob(layout, &digests(entry))).unwrap();
        below.push(digests(&manifest["config"]));
        below.extend(manifest["layers"].as_array().unwrap().iter().map(digests));
    }
    if root["config"].is_object() {
        below.push(digests(&root["config"]));
        below.extend(root["layers"].as_array().unwrap().iter().map(digests));
    }
    below.iter().for_each(|digest| {
        blob(layout, digest);
    });
    let media_type = root["mediaType"].as_str().unwrap();
    let descriptor = layout.put_manifest(media_type, &bytes).unwrap();
    layout.tag(&repository.parse().unwrap(), &tag.parse().unwrap(), &descriptor).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_policies_that_are_wrong_say_what_to_do() {
    let bench = Bench::start().await;
    let image = bench.image("hello");
    let run = bench.assay(&["verify", &image, "--format", "json"]).await;
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.err.contains(&format!("assay policy init {image}")), "{run:?}");
    assert_eq!(run.json()["exit"], 2);
    let run = bench.assay(&["verify", "not a reference", "--any-signer", "--format", "json"]).await;
    assert_eq!((run.code, &run.json()["exit"]), (Some(2), &json!(2)), "{run:?}");
    for (name, text) in [
        ("no TOML", "[[publisher"),
        ("an unknown key", "[quorum]\nreproduced = 1\noperators = []\ntypo = 1\n"),
        (
            "a key file that is not there",
            "[[publisher]]\nrepositories = [\"*\"]\nkey = \"x.pub\"\n",
        ),
    ] {
        let path = bench.path("bad.toml");
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        for command in [&["verify", &image][..], &["gate", "check", &image]] {
            let arguments = [command, &["--policy", path, "--format", "json"]].concat();
            let run = bench.assay(&arguments).await;
            assert_eq!((run.code, &run.json()["exit"]), (Some(16), &json!(16)), "{name}: {run:?}");
            assert!(run.err.contains("bad.toml"), "{name}: {run:?}");
        }
    }
}
