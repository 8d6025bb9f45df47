//! Real registries and a real verifier: Debian's `docker-registry` (no referrers API),
//! go-containerregistry's `pkg/registry` (with it), cosign.

use crate::{
    options,
    peer::{Peer, debian, ggcr, program},
};
use attest::{Repository, evidence::EvidenceKind, time::Timestamp};
use oci::{
    BundlePush, Copy, Credentials, Destination, ErrorKind, HostException, Image, ImageReference,
    ImageSource, NetworkPolicy, Place, Registry, Tag, Target, discover, discover_image,
    push_bundle,
};
use std::collections::BTreeSet;

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

fn client(peer: &Peer) -> Registry {
    let exception = HostException { host: peer.host.clone(), plain_http: true, ca_pem: None };
    Registry::new(&options(NetworkPolicy { hosts: vec![exception] }))
}

/// Pushes an image of the fixtures with all its evidence.
async fn fill(peer: &Peer, name: &str) -> Repository {
    let source = crate::published::open();
    let from: Repository = format!("demo/{name}").parse().unwrap();
    let to: Repository = format!("{}/demo/{name}", peer.host).parse().unwrap();
    let destination = Destination::Registry(client(peer));
    let copy = Copy { source: &source, from: &from, destination: &destination, to: &to };
    let ImageSource::Layout(layout) = &source else { panic!("expected a layout") };
    for entry in layout.entries().iter().filter(|entry| entry.repository == from) {
        copy.manifest(&entry.descriptor.digest, entry.tag.as_ref()).await.unwrap();
    }
    to
}

async fn facts(source: &ImageSource, image: &Image) -> BTreeSet<(String, String)> {
    let found = discover_image(source, image).await.unwrap();
    assert_eq!(found.problems, []);
    found.evidence.iter().map(|e| (e.digest.to_string(), e.attached_to.to_string())).collect()
}

async fn exercise(peer: Peer, has_api: bool) {
    let source = ImageSource::Registry(client(&peer));
    let layout = crate::published::open();
    for name in ["hello", "hello-legacy", "hello-both", "twice", "no-attestation"] {
        let repository = fill(&peer, name).await;
        let reference: ImageReference = format!("{repository}:latest").parse().unwrap();
        let image = Image::read(&source, &reference).await.unwrap();
        let local = crate::published::reference(&format!(":demo/{name}:latest"));
        let original = Image::read(&layout, &local).await.unwrap();
        assert_eq!(image.digest(), original.digest());
        assert_eq!(facts(&source, &image).await, facts(&layout, &original).await, "{name}");
    }
    let missing: ImageReference = format!("{}/demo/hello:nothing", peer.host).parse().unwrap();
    assert_eq!(source.resolve(&missing).await.unwrap_err().kind(), ErrorKind::NotFound);
    let api = client(&peer);
    let hello: Repository = format!("{}/demo/hello", peer.host).parse().unwrap();
    let reference: ImageReference = format!("{hello}:latest").parse().unwrap();
    let image = Image::read(&source, &reference).await.unwrap();
    let listed = api.referrers_api(&hello, &image.digest()).await.unwrap();
    assert_eq!(listed.is_some(), has_api);

    let sidecar: Repository = format!("{}/assay/side", peer.host).parse().unwrap();
    replace_in_sidecar(&peer, &source, &image, &sidecar).await;
    verify_with_cosign(&hello, &image, &sidecar).await;
}

/// The publisher's real provenance, pushed by us into a sidecar, in place of one that is ours.
async fn replace_in_sidecar(
    peer: &Peer,
    source: &ImageSource,
    image: &Image,
    sidecar: &Repository,
) {
    let found = discover(source, image.repository(), &image.digest()).await.unwrap();
    let bundle = found
        .evidence
        .iter()
        .filter(|e| e.kind == EvidenceKind::SigstoreBundle)
        .find(|e| payload(&e.bytes).contains(PROVENANCE))
        .unwrap();
    let destination = Destination::Registry(client(peer));
    let subject = image.root.descriptor();
    let is_old = |bytes: &[u8]| bytes == b"{\"old\":1}";
    for bytes in [b"{\"old\":1}".as_slice(), &bundle.bytes] {
        let push = BundlePush {
            repository: sidecar,
            place: Place::Sidecar,
            subject: &subject,
            bundle: bytes,
            predicate_type: PROVENANCE,
            created: Timestamp::from_unix(1_700_000_000).unwrap(),
        };
        push_bundle(&destination, &push, &is_old).await.unwrap();
    }
    let found = discover(source, sidecar, &image.digest()).await.unwrap();
    assert_eq!(found.problems, []);
    let [only] = found.evidence.as_slice() else { panic!("{:?}", found.evidence) };
    assert_eq!(only.bytes, bundle.bytes);
    let tag: Tag = "latest".parse().unwrap();
    assert_eq!(source.tag(sidecar, &tag).await.unwrap(), None);
}

/// The statement inside a bundle, as text.
fn payload(bundle: &[u8]) -> String {
    use base64::Engine as _;
    let value: serde_json::Value = serde_json::from_slice(bundle).unwrap();
    let text = value["dsseEnvelope"]["payload"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// cosign accepts what we copied and what we attached, and finds nothing where there is nothing.
async fn verify_with_cosign(hello: &Repository, image: &Image, sidecar: &Repository) {
    let Some(cosign) = program("cosign") else { return };
    let key = crate::published::layout().join("keys/publisher.pub");
    let run = async |repository: &str, side: Option<&Repository>| {
        let mut command = tokio::process::Command::new(&cosign);
        command
            .arg("verify-attestation")
            .args(["--insecure-ignore-tlog=true", "--type", PROVENANCE, "--key"])
            .arg(&key)
            .arg(format!("{repository}@{}", image.digest()))
            .env("HOME", std::env::temp_dir());
        if let Some(side) = side {
            command.env("COSIGN_REPOSITORY", side.as_str());
        }
        command.output().await.unwrap()
    };
    let accepted = run(hello.as_str(), None).await;
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    let aside = run(hello.as_str(), Some(sidecar)).await;
    assert!(aside.status.success(), "{}", String::from_utf8_lossy(&aside.stderr));
    let bare = hello.as_str().replace("demo/hello", "demo/no-attestation");
    assert!(!run(&bare, None).await.status.success());
}

#[tokio::test]
async fn debians_registry_without_the_referrers_api() {
    if let Some(peer) = debian("").await {
        exercise(peer, false).await;
    }
}

#[tokio::test]
async fn go_containerregistrys_registry_with_the_referrers_api() {
    if let Some(peer) = ggcr().await {
        exercise(peer, true).await;
    }
}

#[tokio::test]
async fn debians_registry_with_a_password() {
    let access = "auth:\n  htpasswd:\n    realm: the test\n    path: FILE\n";
    let Some(peer) = debian(access).await else { return };
    let exception = HostException { host: peer.host.clone(), plain_http: true, ca_pem: None };
    let repository: Repository = format!("{}/demo/hello", peer.host).parse().unwrap();
    let manifest =
        format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, oci::media::OCI_INDEX);
    let tag: Tag = "latest".parse().unwrap();
    for (password, allowed) in [("secret", true), ("wrong", false)] {
        let folder = tempfile::tempdir().unwrap();
        let entry = serde_json::json!({ "username": "u", "password": password });
        let config = serde_json::json!({ "auths": { peer.host.as_str(): entry } });
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let mut options = options(NetworkPolicy { hosts: vec![exception.clone()] });
        options.credentials = Credentials::DockerIn(folder.path().to_owned());
        let registry = Registry::new(&options);
        let target = Target::Tag(tag.clone());
        let bytes = bytes::Bytes::from(manifest.clone());
        let index = oci::media::OCI_INDEX;
        let pushed = registry.push_manifest(&repository, &target, index, bytes, None).await;
        let read = registry.resolve(&repository, &target).await;
        if allowed {
            assert_eq!(read.unwrap().digest, pushed.unwrap());
        } else {
            assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Denied);
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Denied);
        }
    }
}
