//! Registries that behave: the same images and the same evidence as in the layout.

use crate::{
    at, published,
    registry::{Registry, RegistryOptions},
};
use attest::{Digest, Repository};
use oci::{Image, ImageReference, ImageSource, Tag, discover_image, serve::ServeOptions};
use std::collections::BTreeSet;

fn without_api() -> RegistryOptions {
    let serve = ServeOptions { referrers_api: false, ..ServeOptions::default() };
    RegistryOptions { serve, ..RegistryOptions::default() }
}

/// What was found for one image, without the places.
async fn facts(
    source: &ImageSource,
    reference: &ImageReference,
) -> (Digest, Vec<(usize, String, Digest)>, BTreeSet<(Digest, Digest)>) {
    let image = Image::read(source, reference).await.unwrap();
    let found = discover_image(source, &image).await.unwrap();
    assert_eq!(found.problems, []);
    let entries = image
        .entries
        .iter()
        .map(|e| (e.position, e.platform.to_string(), e.descriptor.digest))
        .collect();
    (image.digest(), entries, found.evidence.iter().map(|e| (e.digest, e.attached_to)).collect())
}

async fn same_as_the_layout(registry: Registry) {
    let layout = published::open();
    for name in published::cases().as_object().unwrap().keys() {
        let rest = format!("demo/{name}:latest");
        let local = published::reference(&format!(":{rest}"));
        let (source, remote) = at(&registry, &rest);
        assert_eq!(facts(&source, &remote).await, facts(&layout, &local).await, "{name}");
    }
}

#[tokio::test]
async fn every_case_over_the_referrers_tag() {
    same_as_the_layout(published(without_api()).await).await;
}

#[tokio::test]
async fn every_case_over_the_referrers_api_in_small_pages() {
    let serve = ServeOptions { referrers_page: 1, ..ServeOptions::default() };
    let registry = published(RegistryOptions { serve, ..RegistryOptions::default() }).await;
    same_as_the_layout(registry).await;
}

#[tokio::test]
async fn over_tls_with_the_authority_of_the_policy_and_not_without() {
    let registry = published(RegistryOptions { tls: true, ..RegistryOptions::default() }).await;
    let (source, reference) = at(&registry, "demo/hello:latest");
    Image::read(&source, &reference).await.unwrap();

    let mut policy = registry.policy();
    policy.hosts[0].ca_pem = None;
    let source = ImageSource::open(&reference, &crate::options(policy)).unwrap();
    let error = source.resolve(&reference).await.unwrap_err();
    assert_eq!(error.kind(), oci::ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn layers_tags_and_what_is_not_there() {
    let registry = published(without_api()).await;
    let (source, reference) = at(&registry, "demo/hello:latest");
    let image = Image::read(&source, &reference).await.unwrap();
    let repository = image.repository().clone();
    let manifest = source.manifest(&repository, &image.entries[0].descriptor.digest).await.unwrap();
    let manifest =
        oci::manifest::read_image_manifest(&manifest.bytes, Some(&manifest.media_type), "it")
            .unwrap();
    let layer = &manifest.layers[0];
    let bytes = source.blob(&repository, layer, 1 << 30).await.unwrap();
    assert_eq!(Digest::of(&bytes), layer.digest);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer");
    source.blob_to_file(&repository, layer, 1 << 30, &path).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);

    let tag = |text: &str| text.parse::<Tag>().unwrap();
    assert_eq!(source.tag(&repository, &tag("latest")).await.unwrap(), Some(image.digest()));
    assert_eq!(source.tag(&repository, &tag("nothing")).await.unwrap(), None);
    source.still_names(&reference, &image.digest()).await.unwrap();
    let (_, missing) = at(&registry, "demo/hello:nothing");
    let error = source.resolve(&missing).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("MANIFEST_UNKNOWN"), "{error}");
    let nowhere: Repository = format!("{}/demo/nowhere", registry.host()).parse().unwrap();
    assert_eq!(source.referrers(&nowhere, &image.digest()).await.unwrap(), []);
}
