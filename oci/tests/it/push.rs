//! Attaching attestations: the exact manifest, the tag, replacing our own and nobody else's.

use crate::{
    at, published,
    registry::{Fault, Registry, RegistryOptions, What},
};
use attest::{Digest, Repository, evidence::EvidenceKind, time::Timestamp};
use oci::{
    BundlePush, Destination, ErrorKind, Image, ImageSource, Layout, LayoutWriter, Place, Tag,
    discover, preflight, push_bundle, push_envelope, serve::ServeOptions, withdraw_bundles,
};
use serde_json::{Value, json};

const VSA: &str = "https://slsa.dev/verification_summary/v1";

fn options(referrers_api: bool, deletion: bool) -> RegistryOptions {
    let serve = ServeOptions { referrers_api, deletion, ..ServeOptions::default() };
    RegistryOptions { serve, ..RegistryOptions::default() }
}

/// A registry, the image `demo/hello` in it, and a sidecar repository beside it.
struct Scene {
    _registry: Registry,
    destination: Destination,
    source: ImageSource,
    image: Image,
    sidecar: Repository,
}

async fn scene(options: RegistryOptions, name: &str) -> Scene {
    let registry = published(options).await;
    let (source, reference) = at(&registry, &format!("demo/{name}:latest"));
    let image = Image::read(&source, &reference).await.unwrap();
    let ImageSource::Registry(client) = &source else { panic!("expected a registry") };
    let destination = Destination::Registry(client.clone());
    let sidecar: Repository = format!("{}/assay/verdicts", registry.host()).parse().unwrap();
    Scene { _registry: registry, destination, source, image, sidecar }
}

fn bundle(n: u32) -> Vec<u8> {
    format!("{{\"mediaType\":\"bundle\",\"ours\":{n}}}").into_bytes()
}

fn ours(bytes: &[u8]) -> bool {
    bytes.windows(6).any(|w| w == b"\"ours\"")
}

async fn push(scene: &Scene, repository: &Repository, place: Place, n: u32) -> oci::Pushed {
    try_push(scene, repository, place, n).await.unwrap()
}

async fn try_push(
    scene: &Scene,
    repository: &Repository,
    place: Place,
    n: u32,
) -> Result<oci::Pushed, oci::Error> {
    let subject = scene.image.root.descriptor();
    let bytes = bundle(n);
    let created = Timestamp::from_unix(1_700_000_000 + i64::from(n)).unwrap();
    let push = BundlePush {
        repository,
        place,
        subject: &subject,
        bundle: &bytes,
        predicate_type: VSA,
        created,
    };
    push_bundle(&scene.destination, &push, &ours).await
}

async fn bundles(scene: &Scene, repository: &Repository) -> Vec<Vec<u8>> {
    let found = discover(&scene.source, repository, &scene.image.digest()).await.unwrap();
    assert_eq!(found.problems, []);
    found
        .evidence
        .into_iter()
        .filter(|e| e.kind == EvidenceKind::SigstoreBundle)
        .map(|e| e.bytes)
        .collect()
}

#[tokio::test]
async fn the_manifest_is_exactly_the_documented_one() {
    let scene = scene(options(true, true), "hello").await;
    let pushed = push(&scene, &scene.sidecar, Place::Sidecar, 1).await;
    let manifest = scene.source.manifest(&scene.sidecar, &pushed.manifest).await.unwrap();
    let value: Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let bytes = bundle(1);
    let expected = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [{
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "digest": Digest::of(&bytes).to_string(),
            "size": bytes.len(),
        }],
        "subject": {
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": scene.image.digest().to_string(),
            "size": scene.image.root.bytes.len(),
        },
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": VSA,
            "org.opencontainers.image.created": "2023-11-14T22:13:21Z",
        },
    });
    assert_eq!(value, expected);
    assert!(!pushed.tagged);
    let tag = Tag::fallback_of(&scene.image.digest());
    assert_eq!(scene.source.tag(&scene.sidecar, &tag).await.unwrap(), None);
}

#[tokio::test]
async fn a_new_verdict_replaces_the_old_one_with_and_without_the_api() {
    for (api, deletion) in [(true, true), (false, true), (false, false), (true, false)] {
        let scene = scene(options(api, deletion), "hello").await;
        let first = push(&scene, &scene.sidecar, Place::Sidecar, 1).await;
        let second = push(&scene, &scene.sidecar, Place::Sidecar, 2).await;
        assert_eq!(second.tagged, !api);
        let (gone, left) =
            if deletion { (vec![first.manifest], vec![]) } else { (vec![], vec![first.manifest]) };
        assert_eq!((second.removed.clone(), second.left.clone()), (gone, left));
        let now = bundles(&scene, &scene.sidecar).await;
        // Only a registry that lists by itself and deletes nothing still shows the old one.
        let expected = if api && !deletion { vec![bundle(1), bundle(2)] } else { vec![bundle(2)] };
        assert_eq!(now, expected, "api {api}, deletion {deletion}");
        // The same again changes nothing.
        let again = push(&scene, &scene.sidecar, Place::Sidecar, 2).await;
        assert_eq!(again.manifest, second.manifest);
        assert!(bundles(&scene, &scene.sidecar).await.contains(&bundle(2)));
    }
}

#[tokio::test]
async fn the_tag_keeps_what_others_wrote_and_carries_type_and_annotations() {
    let scene = scene(options(false, true), "hello").await;
    let repository = scene.image.repository().clone();
    let before = bundles(&scene, &repository).await;
    assert_eq!(before.len(), 2);
    push(&scene, &repository, Place::Publisher, 1).await;
    push(&scene, &repository, Place::Publisher, 2).await;
    let mut expected = before;
    expected.push(bundle(2));
    assert_eq!(bundles(&scene, &repository).await, expected);
    let tag = Tag::fallback_of(&scene.image.digest());
    let digest = scene.source.tag(&repository, &tag).await.unwrap().unwrap();
    let index = scene.source.manifest(&repository, &digest).await.unwrap();
    let value: Value = serde_json::from_slice(&index.bytes).unwrap();
    let ours = value["manifests"].as_array().unwrap().last().unwrap();
    assert_eq!(ours["artifactType"], "application/vnd.dev.sigstore.bundle.v0.3+json");
    assert_eq!(ours["annotations"]["dev.sigstore.bundle.predicateType"], VSA);
}

#[tokio::test]
async fn legacy_signatures_are_not_switched_off_unless_a_person_says_so() {
    for api in [true, false] {
        let scene = scene(options(api, true), "hello-legacy").await;
        let repository = scene.image.repository().clone();
        let digest = scene.image.digest();
        let error = try_push(&scene, &repository, Place::Publisher, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldHideLegacy, "{error}");
        assert!(error.to_string().contains(".att"), "{error}");
        assert_eq!(bundles(&scene, &repository).await, [[0u8; 0]; 0]);
        push(&scene, &scene.sidecar, Place::Sidecar, 1).await;
        push(&scene, &repository, Place::PublisherForced, 1).await;
        preflight(&scene.source, &repository, &digest).await.unwrap();
    }
    // Bundles already, or nothing at all: nothing is switched off.
    for name in ["hello", "hello-both", "no-attestation"] {
        let scene = scene(options(true, true), name).await;
        push(&scene, &scene.image.repository().clone(), Place::Publisher, 1).await;
    }
}

#[tokio::test]
async fn a_registry_that_claims_the_api_and_lists_nothing_gets_the_tag() {
    let scene = scene(options(true, true), "hello").await;
    let index = oci::media::OCI_INDEX;
    let empty = json!({ "schemaVersion": 2, "mediaType": index, "manifests": [] });
    let what = What::Instead(index.into(), empty.to_string().into_bytes());
    scene._registry.fault(Fault::get("/referrers/", what));
    let pushed = push(&scene, &scene.sidecar, Place::Sidecar, 1).await;
    assert!(pushed.tagged);
    let tag = Tag::fallback_of(&scene.image.digest());
    assert!(scene.source.tag(&scene.sidecar, &tag).await.unwrap().is_some());
}

#[tokio::test]
async fn a_tag_that_somebody_else_writes_at_the_same_time_is_read_again() {
    let scene = scene(options(false, true), "hello").await;
    push(&scene, &scene.sidecar, Place::Sidecar, 1).await;
    let tag = Tag::fallback_of(&scene.image.digest());
    scene._registry.fault(
        Fault { method: Some("PUT"), ..Fault::any(format!("/manifests/{tag}"), What::Status(412)) }
            .times(2),
    );
    push(&scene, &scene.sidecar, Place::Sidecar, 2).await;
    assert_eq!(bundles(&scene, &scene.sidecar).await, [bundle(2)]);
    let always =
        Fault { method: Some("PUT"), ..Fault::any(format!("/manifests/{tag}"), What::Status(412)) };
    scene._registry.fault(always);
    let error = try_push(&scene, &scene.sidecar, Place::Sidecar, 3).await.unwrap_err();
    assert!(error.to_string().contains("other writers"), "{error}");
    // The old verdict is still there: it goes only after the new one is found.
    assert_eq!(bundles(&scene, &scene.sidecar).await, [bundle(2)]);
}

#[tokio::test]
async fn uploads_go_to_the_registry_itself_or_nowhere() {
    let scene = scene(options(true, true), "hello").await;
    let elsewhere = Registry::start(RegistryOptions::default()).await;
    let location = format!("http://{}/v2/x/blobs/uploads/1", elsewhere.host());
    scene._registry.fault(Fault::any("/blobs/uploads/", What::UploadTo(location)));
    let error = try_push(&scene, &scene.sidecar, Place::Sidecar, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkRefused, "{error}");
    scene._registry.heal();
    let target = format!("http://{}/", elsewhere.host());
    scene._registry.fault(Fault::any("/blobs/uploads/", What::Redirect(target)));
    let error = try_push(&scene, &scene.sidecar, Place::Sidecar, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(elsewhere.seen(), []);
}

#[tokio::test]
async fn into_a_folder_it_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let source = published::open();
    let reference = published::reference(":demo/hello:latest");
    let image = Image::read(&source, &reference).await.unwrap();
    let destination = Destination::Layout(LayoutWriter::create(folder.path()).unwrap());
    let sidecar: Repository = "verdicts/hello".parse().unwrap();
    let subject = image.root.descriptor();
    for n in [1, 2] {
        let bytes = bundle(n);
        let created = Timestamp::from_unix(1_700_000_000).unwrap();
        let push = BundlePush {
            repository: &sidecar,
            place: Place::Sidecar,
            subject: &subject,
            bundle: &bytes,
            predicate_type: VSA,
            created,
        };
        assert!(push_bundle(&destination, &push, &ours).await.unwrap().tagged);
    }
    let layout = ImageSource::Layout(Layout::open(folder.path()).unwrap());
    let found = discover(&layout, &sidecar, &image.digest()).await.unwrap();
    let bytes: Vec<_> = found.evidence.iter().map(|e| e.bytes.clone()).collect();
    assert_eq!((bytes, found.problems.len()), (vec![bundle(2)], 0));
}

#[tokio::test]
async fn the_legacy_tag_keeps_the_layers_of_others() {
    let scene = scene(options(false, true), "hello-legacy").await;
    let repository = scene.image.repository().clone();
    let digest = scene.image.digest();
    for n in [1, 2] {
        let envelope = bundle(n);
        push_envelope(
            &scene.destination,
            &repository,
            Place::PublisherForced,
            &digest,
            &envelope,
            VSA,
            &ours,
        )
        .await
        .unwrap();
    }
    let found = discover(&scene.source, &repository, &digest).await.unwrap();
    let layers: Vec<_> = found.evidence.iter().map(|e| e.bytes.clone()).collect();
    assert_eq!(layers.len(), 3);
    assert_eq!(layers[2], bundle(2));
    assert!(!layers.contains(&bundle(1)));
}

/// What we withdraw is gone for every reader; what others attached stays.
#[tokio::test]
async fn a_withdrawn_bundle_is_gone_and_nobody_elses() {
    for api in [true, false] {
        let scene = scene(options(api, true), "hello").await;
        let subject = scene.image.root.descriptor();
        let theirs = BundlePush {
            repository: &scene.sidecar,
            place: Place::Sidecar,
            subject: &subject,
            bundle: b"{\"theirs\":1}",
            predicate_type: VSA,
            created: Timestamp::from_unix(1_700_000_000).unwrap(),
        };
        let nothing = |_: &[u8]| false;
        push_bundle(&scene.destination, &theirs, &nothing).await.unwrap();
        let pushed = push(&scene, &scene.sidecar, Place::Sidecar, 1).await;
        assert_eq!(bundles(&scene, &scene.sidecar).await.len(), 2, "{api}");
        let digest = scene.image.digest();
        let withdraw = || withdraw_bundles(&scene.destination, &scene.sidecar, &digest, &ours);
        let withdrawn = withdraw().await.unwrap();
        assert_eq!((withdrawn.removed, withdrawn.left), (vec![pushed.manifest], vec![]), "{api}");
        assert_eq!(bundles(&scene, &scene.sidecar).await, [theirs.bundle.to_vec()], "{api}");
        assert_eq!(withdraw().await.unwrap(), oci::Withdrawn::default(), "{api}");
    }
}

/// A registry that lists by itself now and did not when the bundle was pushed: it stands under the
/// tag alone, where clients of before find it. It goes with a withdrawal, and with a newer one.
#[tokio::test]
async fn what_stands_under_the_tag_alone_goes_too_where_there_is_an_api() {
    for replaced in [false, true] {
        let scene = scene(options(true, true), "hello").await;
        let empty = json!({
            "schemaVersion": 2, "mediaType": oci::media::OCI_INDEX, "manifests": [],
        });
        let lists_nothing =
            What::Instead(oci::media::OCI_INDEX.into(), empty.to_string().into_bytes());
        scene._registry.fault(Fault::get("/referrers/", lists_nothing));
        let old = push(&scene, &scene.sidecar, Place::Sidecar, 1).await;
        assert!(old.tagged, "{replaced}");
        if replaced {
            scene._registry.heal();
        }
        let removed = if replaced {
            push(&scene, &scene.sidecar, Place::Sidecar, 2).await.removed
        } else {
            let digest = scene.image.digest();
            withdraw_bundles(&scene.destination, &scene.sidecar, &digest, &ours)
                .await
                .unwrap()
                .removed
        };
        assert_eq!(removed, [old.manifest], "{replaced}");
        assert!(!is_tagged(&scene, &old.manifest).await, "{replaced}");
        let gone = scene.source.manifest(&scene.sidecar, &old.manifest).await;
        assert!(gone.unwrap_err().is_not_found(), "{replaced}");
    }
}

/// Whether the tag `sha256-<hex>` names a manifest.
async fn is_tagged(scene: &Scene, manifest: &Digest) -> bool {
    let tag = Tag::fallback_of(&scene.image.digest());
    let Some(index) = scene.source.tag(&scene.sidecar, &tag).await.unwrap() else { return false };
    let index = scene.source.manifest(&scene.sidecar, &index).await.unwrap();
    String::from_utf8(index.bytes).unwrap().contains(&manifest.to_string())
}
