//! Where a registry may lead us: redirects, realms, uploads, pages, names.

use crate::{
    at, options, published,
    registry::{Access, Fault, Realm, Registry, RegistryOptions, What},
};
use oci::{
    Credentials, ErrorKind, HostException, Image, ImageReference, ImageSource, NetworkPolicy,
};

#[tokio::test]
async fn without_an_exception_loopback_and_plain_http_are_refused_and_not_spoken_to() {
    let registry = published(RegistryOptions::default()).await;
    let reference: ImageReference =
        format!("{}/demo/hello:latest", registry.host()).parse().unwrap();
    let other = HostException { host: "127.0.0.1:1".into(), plain_http: true, ca_pem: None };
    for policy in [NetworkPolicy::default(), NetworkPolicy { hosts: vec![other] }] {
        let source = ImageSource::open(&reference, &options(policy)).unwrap();
        let error = source.resolve(&reference).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkRefused, "{error}");
        assert!(error.hint().contains("[[registry]]"));
    }
    assert_eq!(registry.seen(), []);
}

#[tokio::test]
async fn names_that_resolve_to_loopback_are_refused() {
    let registry = published(RegistryOptions::default()).await;
    let text = format!("localhost:{}/demo/hello:latest", registry.addr.port());
    let reference: ImageReference = text.parse().unwrap();
    let source = ImageSource::open(&reference, &options(NetworkPolicy::default())).unwrap();
    let error = source.resolve(&reference).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkRefused, "{error}");
    assert!(error.to_string().contains("a loopback address"), "{error}");
    assert_eq!(registry.seen(), []);

    let host = format!("localhost:{}", registry.addr.port());
    let exception = HostException { host, plain_http: true, ca_pem: None };
    let policy = NetworkPolicy { hosts: vec![exception] };
    let source = ImageSource::open(&reference, &options(policy)).unwrap();
    Image::read(&source, &reference).await.unwrap();
}

#[tokio::test]
async fn redirects_are_checked_hop_by_hop() {
    let inner = published(RegistryOptions::default()).await;
    for target in [
        format!("http://{}/v2/demo/hello/manifests/latest", inner.host()),
        format!("https://{}/v2/demo/hello/manifests/latest", inner.host()),
        format!("http://localhost:{}/", inner.addr.port()),
        format!("https://localhost:{}/", inner.addr.port()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "https://[::ffff:10.0.0.1]/".to_owned(),
        "https://2130706433/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "https://user:word@registry.example/".to_owned(),
    ] {
        let registry = published(RegistryOptions::default()).await;
        registry.fault(Fault::get("/manifests/latest", What::Redirect(target.clone())));
        let (source, reference) = at(&registry, "demo/hello:latest");
        let error = source.resolve(&reference).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkRefused, "{target}: {error}");
    }
    assert_eq!(inner.seen(), []);
}

#[tokio::test]
async fn a_redirect_to_an_allowed_store_works_and_a_loop_ends() {
    let registry = published(RegistryOptions::default()).await;
    let store = published(RegistryOptions::default()).await;
    let (_, reference) = at(&registry, "demo/hello:latest");
    let policy = NetworkPolicy { hosts: vec![registry.exception(), store.exception()] };
    let source = ImageSource::open(&reference, &options(policy)).unwrap();
    let target = format!("http://{}/v2/demo/hello/manifests/latest", store.host());
    registry.fault(Fault::get("/manifests/latest", What::Redirect(target)));
    Image::read(&source, &reference).await.unwrap();
    assert_eq!(store.count("GET", "/manifests/latest"), 1);

    registry.heal();
    let itself = "/v2/demo/hello/manifests/latest".to_owned();
    registry.fault(Fault::get("/manifests/latest", What::Redirect(itself)));
    let error = source.resolve(&reference).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert!(error.to_string().contains("redirects"), "{error}");
}

async fn with_password(realm: Realm) -> (Registry, tempfile::TempDir) {
    let access = Access { user: "u".into(), password: "secret".into(), realm };
    let registry =
        published(RegistryOptions { access: Some(access), ..RegistryOptions::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let entry = serde_json::json!({ "username": "u", "password": "secret" });
    let config = serde_json::json!({ "auths": { registry.host(): entry } });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    (registry, folder)
}

#[tokio::test]
async fn a_redirect_elsewhere_carries_no_credentials() {
    let store = published(RegistryOptions::default()).await;
    let (registry, folder) = with_password(Realm::Own).await;
    let (_, reference) = at(&registry, "demo/hello:latest");
    let mut options =
        options(NetworkPolicy { hosts: vec![registry.exception(), store.exception()] });
    options.credentials = Credentials::DockerIn(folder.path().to_owned());
    let source = ImageSource::open(&reference, &options).unwrap();
    // Warm: a token is known from now on.
    source.resolve(&reference).await.unwrap();
    let target = format!("http://{}/v2/demo/hello/manifests/latest", store.host());
    registry.fault(Fault::get("/manifests/latest", What::Redirect(target)));
    source.resolve(&reference).await.unwrap();
    assert!(registry.seen().iter().any(|s| s.authorization.is_some()));
    assert!(!store.seen().is_empty());
    assert!(store.seen().iter().all(|s| s.authorization.is_none()), "{:?}", store.seen());
}

#[tokio::test]
async fn a_realm_elsewhere_is_asked_without_credentials_and_only_if_it_may_be() {
    let thief = Registry::start(RegistryOptions::default()).await;
    let realm = Realm::At(format!("http://{}/token", thief.host()));
    let (registry, folder) = with_password(realm).await;
    let (_, reference) = at(&registry, "demo/hello:latest");
    let open = |hosts: Vec<HostException>| {
        let mut options = options(NetworkPolicy { hosts });
        options.credentials = Credentials::DockerIn(folder.path().to_owned());
        ImageSource::open(&reference, &options).unwrap()
    };
    let source = open(vec![registry.exception()]);
    let error = source.resolve(&reference).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkRefused, "{error}");
    assert_eq!(thief.seen(), []);

    let source = open(vec![registry.exception(), thief.exception()]);
    let error = source.resolve(&reference).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "the thief gives no token: {error}");
    assert!(!thief.seen().is_empty());
    assert!(thief.seen().iter().all(|s| s.authorization.is_none()), "{:?}", thief.seen());
}
