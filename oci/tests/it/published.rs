//! The published images of the fixtures, as `verify` meets them: 36 cases in one layout.

use attest::{Digest, Repository, evidence::EvidenceKind};
use oci::{ErrorKind, Image, ImageReference, ImageSource, SourceOptions, discover_image};
use serde_json::Value;
use std::path::PathBuf;

pub fn layout() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published"))
}

pub fn cases() -> Value {
    let text = std::fs::read(layout().join("cases.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

pub fn reference(rest: &str) -> ImageReference {
    format!("oci:{}{rest}", layout().display()).parse().unwrap()
}

pub fn open() -> ImageSource {
    ImageSource::open(&reference(":demo/hello:latest"), &SourceOptions::default()).unwrap()
}

#[tokio::test]
async fn every_case_has_its_index_and_its_platforms() {
    let source = open();
    let cases = cases();
    let cases = cases.as_object().unwrap();
    assert_eq!(cases.len(), 36);
    for (name, case) in cases {
        let reference = reference(&format!(":demo/{name}:latest"));
        let image = Image::read(&source, &reference).await.unwrap();
        assert_eq!(image.digest().to_string(), case["index"].as_str().unwrap(), "{name}");
        let mut found: Vec<(String, String)> = Vec::new();
        for entry in &image.entries {
            let mut key = entry.platform.to_string();
            if image.is_repeated(entry) {
                key = format!("{key}#{}", entry.position);
            }
            found.push((key, entry.descriptor.digest.to_string()));
        }
        found.sort();
        let mut expected: Vec<(String, String)> = case["platforms"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, p)| (key.clone(), p["manifest"].as_str().unwrap().to_owned()))
            .collect();
        expected.sort();
        assert_eq!(found, expected, "{name}");
        assert!(image.attestations.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn evidence_is_found_in_both_schemes_and_counted() {
    let source = open();
    let count = async |name: &str| {
        let reference = reference(&format!(":demo/{name}:latest"));
        let image = Image::read(&source, &reference).await.unwrap();
        let found = discover_image(&source, &image).await.unwrap();
        assert_eq!(found.problems, [], "{name}");
        let of = |kind| found.evidence.iter().filter(|e| e.kind == kind).count();
        (of(EvidenceKind::SigstoreBundle), of(EvidenceKind::DsseEnvelope))
    };
    // Two statements on the index, three on each platform.
    assert_eq!(count("hello").await, (8, 0));
    assert_eq!(count("hello-legacy").await, (0, 8));
    assert_eq!(count("hello-both").await, (5, 5));
    assert_eq!(count("no-attestation").await, (0, 0));
    assert_eq!(count("index-only").await, (2, 0));
}

#[tokio::test]
async fn the_evidence_of_one_repository_never_helps_another() {
    let source = open();
    let hello = Image::read(&source, &reference(":demo/hello:latest")).await.unwrap();
    let bare = Image::read(&source, &reference(":demo/no-attestation:latest")).await.unwrap();
    let platform = |image: &Image| image.entries[0].descriptor.digest;
    assert_eq!(platform(&hello), platform(&bare), "the fixtures share these bytes on purpose");
    let found = discover_image(&source, &bare).await.unwrap();
    assert!(found.evidence.is_empty());
    let wrong = Image::read(&source, &reference(":demo/wrong-signer:latest")).await.unwrap();
    let found = discover_image(&source, &wrong).await.unwrap();
    assert!(found.evidence.iter().all(|e| e.uri.starts_with("oci://demo/wrong-signer@")));
}

#[tokio::test]
async fn a_digest_is_looked_for_in_its_repository_only() {
    let source = open();
    let case = &cases()["tampered"];
    let index: Digest = case["index"].as_str().unwrap().parse().unwrap();
    let own = reference(&format!(":demo/tampered@{index}"));
    assert_eq!(source.resolve(&own).await.unwrap().digest, index);
    let platform = case["platforms"]["linux/amd64"]["manifest"].as_str().unwrap();
    let bare =
        Image::read(&source, &reference(&format!(":demo/tampered@{platform}"))).await.unwrap();
    assert_eq!(bare.entries[0].platform.to_string(), "linux/amd64");
    assert!(bare.index.is_none());

    let foreign = reference(&format!(":demo/hello@{index}"));
    let error = source.resolve(&foreign).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let several = reference(&format!("@{index}"));
    let error = source.resolve(&several).await.unwrap_err();
    assert!(error.to_string().contains("36 repositories"), "{error}");
    let missing = reference(":demo/nothing:latest");
    let error = source.resolve(&missing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn layers_come_whole_and_as_files() {
    let source = open();
    let image = Image::read(&source, &reference(":demo/hello:latest")).await.unwrap();
    let repository: Repository = "demo/hello".parse().unwrap();
    let manifest = source.manifest(&repository, &image.entries[0].descriptor.digest).await.unwrap();
    let manifest =
        oci::manifest::read_image_manifest(&manifest.bytes, Some(&manifest.media_type), "it")
            .unwrap();
    let layer = &manifest.layers[0];
    let bytes = source.blob(&repository, layer, 1 << 30).await.unwrap();
    assert_eq!(Digest::of(&bytes), layer.digest);
    let error = source.blob(&repository, layer, layer.size - 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer");
    source.blob_to_file(&repository, layer, 1 << 30, &path).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
