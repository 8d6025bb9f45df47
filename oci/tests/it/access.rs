//! Logging in: Basic, tokens, identity tokens, and what a refusal says.

use crate::{
    at, options, published,
    registry::{Access, Realm, Registry, RegistryOptions},
};
use oci::{Credentials, Error, ErrorKind, Image, ImageReference, ImageSource};
use serde_json::{Value, json};

async fn guarded(user: &str, realm: Realm, tls: bool) -> Registry {
    let access = Access { user: user.into(), password: "secret".into(), realm };
    published(RegistryOptions { access: Some(access), tls, ..RegistryOptions::default() }).await
}

async fn read_with(registry: &Registry, entry: Value) -> Result<Image, Error> {
    let (_, reference): (_, ImageReference) = at(registry, "demo/hello:latest");
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "auths": { registry.host(): entry } });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let mut options = options(registry.policy());
    options.credentials = Credentials::DockerIn(folder.path().to_owned());
    Image::read(&ImageSource::open(&reference, &options).unwrap(), &reference).await
}

#[tokio::test]
async fn basic_and_tokens_with_the_right_password() {
    let right = || json!({ "username": "u", "password": "secret" });
    for (realm, tls) in [(Realm::None, false), (Realm::Own, false), (Realm::Own, true)] {
        let registry = guarded("u", realm, tls).await;
        read_with(&registry, right()).await.unwrap();
        // One challenge, then the credential or token is known.
        let unauthorised = registry.seen().iter().filter(|s| s.authorization.is_none()).count();
        assert_eq!(unauthorised, 1, "{:?}", registry.seen());
    }
}

#[tokio::test]
async fn an_identity_token_is_turned_into_a_token() {
    let registry = guarded("u", Realm::Own, false).await;
    read_with(&registry, json!({ "identitytoken": "secret" })).await.unwrap();
    assert_eq!(registry.count("POST", "/token"), 1);
}

#[tokio::test]
async fn anybody_may_get_a_token_for_what_it_asked() {
    let registry = guarded("", Realm::Own, false).await;
    let (source, reference) = at(&registry, "demo/hello:latest");
    Image::read(&source, &reference).await.unwrap();
    let asked = registry.seen().into_iter().find(|s| s.path.starts_with("/token")).unwrap();
    assert!(asked.path.contains("scope=repository%3Ademo%2Fhello%3Apull"), "{}", asked.path);
    assert!(asked.path.contains("service=the-test"), "{}", asked.path);
}

#[tokio::test]
async fn wrong_or_no_passwords_are_denied_and_never_shown() {
    for realm in [Realm::None, Realm::Own] {
        let registry = guarded("u", realm, false).await;
        let wrong = json!({ "username": "u", "password": "hunter2" });
        for entry in [wrong, json!({})] {
            let error = read_with(&registry, entry).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}
