//! Everything a registry can do wrong: each ends with its own named error, none with "there is
//! none", and what may pass is tried again.

use crate::{
    at, published,
    registry::{Fault, Registry, RegistryOptions, What},
};
use oci::{
    Descriptor, Error, ErrorKind, Image, ImageReference, ImageSource, Tag, discover_image, media,
    serve::ServeOptions,
};
use serde_json::json;
use std::time::{Duration, Instant};

async fn hello() -> (Registry, ImageSource, ImageReference) {
    let registry = published(RegistryOptions::default()).await;
    let (source, reference) = at(&registry, "demo/hello:latest");
    (registry, source, reference)
}

/// The source for a fault: an impatient one where waiting is the point.
fn source_for(what: &What, registry: &Registry, patient: ImageSource) -> ImageSource {
    match what {
        What::Hang | What::Slow(_) => {
            let options = crate::hasty(registry.policy());
            ImageSource::Registry(oci::Registry::new(&options))
        }
        _ => patient,
    }
}

/// What reading the image ends with, under one fault on its manifests.
async fn reading(what: What) -> Error {
    let (registry, source, reference) = hello().await;
    let source = source_for(&what, &registry, source);
    registry.fault(Fault::get("/manifests/", what));
    let error = Image::read(&source, &reference).await.unwrap_err();
    assert!(!error.hint().is_empty());
    error
}

#[tokio::test]
async fn each_fault_of_a_manifest_has_its_own_error() {
    let oversized = media::MANIFEST_BYTES_MAX as usize + 1;
    let html = What::Instead("text/html".into(), b"<html>log in</html>".to_vec());
    let other = What::Instead(media::OCI_MANIFEST.into(), b"{}".to_vec());
    for (what, kind, text) in [
        (What::Status(401), ErrorKind::Denied, "401"),
        (What::Status(403), ErrorKind::Denied, "403 (TEST a fault of the test)"),
        (What::Status(404), ErrorKind::NotFound, "found none (TEST"),
        (What::Status(500), ErrorKind::Unavailable, "500"),
        (What::Status(503), ErrorKind::Unavailable, "503"),
        (What::Status(429), ErrorKind::Unavailable, "429"),
        (What::Status(418), ErrorKind::Unavailable, "418"),
        (What::Truncated, ErrorKind::Truncated, "cut short"),
        (What::WrongBytes, ErrorKind::WrongDigest, "to have digest"),
        (What::Oversized(oversized), ErrorKind::TooLarge, "at most 4194304 bytes"),
        (What::Endless, ErrorKind::TooLarge, "found more"),
        (What::Slow(Duration::from_millis(50)), ErrorKind::Unavailable, "time"),
        (What::Slow(Duration::from_secs(5)), ErrorKind::Unavailable, "time"),
        (What::Hang, ErrorKind::Unavailable, "time"),
        (html, ErrorKind::Malformed, "JSON"),
        (other, ErrorKind::Malformed, "schemaVersion 2"),
    ] {
        let name = format!("{what:?}").chars().take(60).collect::<String>();
        let error = reading(what).await;
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.to_string().contains(text), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_registry_that_is_down_is_unavailable_and_not_empty() {
    let (mut registry, source, reference) = hello().await;
    let image = Image::read(&source, &reference).await.unwrap();
    registry.stop().await;
    let error = source.resolve(&reference).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = discover_image(&source, &image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let tag: Tag = "latest".parse().unwrap();
    let error = source.tag(image.repository(), &tag).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_as_often_as_it_says() {
    for what in [What::Status(502), What::Status(503), What::Status(504), What::Truncated] {
        let (registry, source, reference) = hello().await;
        registry.fault(Fault::get("/manifests/latest", what).times(2));
        Image::read(&source, &reference).await.unwrap();
        assert_eq!(registry.count("GET", "/manifests/latest"), 3);
    }
    for (what, count) in [(What::Status(500), 1), (What::Status(403), 1), (What::Status(503), 3)] {
        let (registry, source, reference) = hello().await;
        registry.fault(Fault::get("/manifests/latest", what));
        Image::read(&source, &reference).await.unwrap_err();
        assert_eq!(registry.count("GET", "/manifests/latest"), count);
    }
}

#[tokio::test]
async fn retry_after_is_honoured_within_bounds() {
    let (registry, source, reference) = hello().await;
    registry.fault(Fault::get("/manifests/latest", What::RetryAfter(429, 1)).times(1));
    let start = Instant::now();
    Image::read(&source, &reference).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    let (registry, source, reference) = hello().await;
    registry.fault(Fault::get("/manifests/latest", What::RetryAfter(429, 86_400)));
    let start = Instant::now();
    let error = Image::read(&source, &reference).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(registry.count("GET", "/manifests/latest"), 1);
}

#[tokio::test]
async fn a_failure_while_looking_for_evidence_is_an_error_never_none() {
    for (path, what, kind) in [
        ("/referrers/", What::Status(500), ErrorKind::Unavailable),
        ("/referrers/", What::Status(403), ErrorKind::Denied),
        ("/referrers/", What::Truncated, ErrorKind::Truncated),
        ("/referrers/", What::Oversized(5 << 20), ErrorKind::TooLarge),
        ("/referrers/", What::Hang, ErrorKind::Unavailable),
        (".att", What::Status(500), ErrorKind::Unavailable),
        (".att", What::Status(401), ErrorKind::Denied),
        ("/blobs/", What::Status(503), ErrorKind::Unavailable),
        ("/blobs/", What::WrongBytes, ErrorKind::WrongDigest),
        ("/blobs/", What::Truncated, ErrorKind::Truncated),
        ("/blobs/", What::Oversized(7), ErrorKind::WrongSize),
        ("/blobs/", What::Endless, ErrorKind::WrongSize),
        ("/blobs/", What::Slow(Duration::from_millis(20)), ErrorKind::Unavailable),
    ] {
        let (registry, source, reference) = hello().await;
        let image = Image::read(&source, &reference).await.unwrap();
        let source = source_for(&what, &registry, source);
        registry.fault(Fault::any(path, what.clone()));
        let error = discover_image(&source, &image).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{path} {what:?}: {error}");
    }
    // The tag, where there is no API.
    let serve = ServeOptions { referrers_api: false, ..ServeOptions::default() };
    let registry = published(RegistryOptions { serve, ..RegistryOptions::default() }).await;
    let (source, reference) = at(&registry, "demo/hello:latest");
    let image = Image::read(&source, &reference).await.unwrap();
    registry.fault(Fault::get("/manifests/sha256-", What::Status(500)));
    let error = discover_image(&source, &image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_page_that_was_announced_and_is_missing_is_an_error() {
    let serve = ServeOptions { referrers_page: 1, ..ServeOptions::default() };
    let registry = published(RegistryOptions { serve, ..RegistryOptions::default() }).await;
    let (source, reference) = at(&registry, "demo/hello:latest");
    let image = Image::read(&source, &reference).await.unwrap();
    registry.fault(Fault::get("start=1", What::Status(404)));
    let error = discover_image(&source, &image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("page 2"), "{error}");
}

#[tokio::test]
async fn ways_to_say_that_there_is_no_api_lead_to_the_tag() {
    for status in [404, 405, 501] {
        let (registry, source, reference) = hello().await;
        let image = Image::read(&source, &reference).await.unwrap();
        registry.fault(Fault::get("/referrers/", What::Status(status)));
        let found = discover_image(&source, &image).await.unwrap();
        assert_eq!(found.evidence.len(), 8, "{status}");
    }
}

#[tokio::test]
async fn an_index_in_an_index_and_a_page_that_is_no_list() {
    let (registry, source, reference) = hello().await;
    let inner = Descriptor::of(media::OCI_INDEX, b"{}").to_json();
    let outer = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [inner] });
    let what = What::Instead(media::OCI_INDEX.into(), outer.to_string().into_bytes());
    registry.fault(Fault::get("/manifests/latest", what));
    let error = Image::read(&source, &reference).await.unwrap_err();
    assert!(matches!(error, Error::IndexInIndex { position: 0, .. }), "{error}");

    registry.heal();
    let image = Image::read(&source, &reference).await.unwrap();
    let page = What::Instead("text/html".into(), b"<html>".to_vec());
    registry.fault(Fault::get("/referrers/", page));
    let found = discover_image(&source, &image).await.unwrap();
    assert!(found.evidence.is_empty());
    assert_eq!(found.problems.len(), 3, "the index and both platforms: {:?}", found.problems);
}

#[tokio::test]
async fn a_tag_that_moves_between_two_requests_is_noticed() {
    let (registry, source, reference) = hello().await;
    let latest: Tag = "latest".parse().unwrap();
    let (_, tampered) = at(&registry, "demo/hello-both:latest");
    let other = source.resolve(&tampered).await.unwrap();
    let name = "demo/hello".to_owned();
    let first = source.resolve(&reference).await.unwrap();
    let platform = Image::from_root(&source, first.clone()).await.unwrap().entries[0].clone();
    // The digest of one of its own platforms stands for "another image" in the same repository.
    let moved = What::ThenMoveTag(name, latest, platform.descriptor.digest);
    registry.fault(Fault::get("/manifests/latest", moved).times(1));
    let image = Image::read(&source, &reference).await.unwrap();
    assert_eq!(image.digest(), first.digest);
    assert_ne!(image.digest(), other.digest);
    let error = source.still_names(&reference, &image.digest()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TagMoved, "{error}");
    let fixed = reference.at(image.repository(), image.digest());
    source.still_names(&fixed, &image.digest()).await.unwrap();
}

#[tokio::test]
async fn headers_that_are_missing_or_lie() {
    let (registry, source, reference) = hello().await;
    let image = Image::read(&source, &reference).await.unwrap();
    let tag: Tag = "latest".parse().unwrap();
    registry.fault(Fault::any(
        "/manifests/",
        What::Without(&["docker-content-digest", "content-type"]),
    ));
    assert_eq!(source.tag(image.repository(), &tag).await.unwrap(), Some(image.digest()));
    Image::read(&source, &reference).await.unwrap();
}
