//! Plain files by the rules of registries: the registry with faults serves them.

use crate::{
    published,
    registry::{Fault, Registry, RegistryOptions, What},
};
use oci::{ErrorKind, NetworkPolicy, fetch::Fetcher};
use std::io::Read as _;

async fn server() -> (Registry, Fetcher, String) {
    let registry = published(RegistryOptions::default()).await;
    let fetcher = Fetcher::new(&registry.policy()).unwrap();
    let url = format!("http://{}/v2/demo/hello/manifests/latest?secret=s", registry.host());
    (registry, fetcher, url)
}

#[tokio::test]
async fn whole_files_in_memory_and_as_a_blocking_stream() {
    let (_registry, fetcher, url) = server().await;
    let bytes = fetcher.get(&url, 1 << 20).await.unwrap().unwrap().into_bytes().await.unwrap();
    let body = fetcher.get(&url, 1 << 20).await.unwrap().unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        body.into_blocking_reader().read_to_end(&mut all).map(|_| all)
    });
    assert_eq!(read.await.unwrap().unwrap(), bytes);
    let missing = url.replace("latest", "nothing");
    assert!(fetcher.get(&missing, 1 << 20).await.unwrap().is_none());
}

#[tokio::test]
async fn faults_are_errors_and_never_none() {
    for (what, kind) in [
        (What::Status(500), ErrorKind::Unavailable),
        (What::Status(403), ErrorKind::Denied),
        (What::Oversized(2000), ErrorKind::TooLarge),
        (What::Endless, ErrorKind::TooLarge),
        (What::Truncated, ErrorKind::Unavailable),
        (What::Redirect("https://10.0.0.1/".into()), ErrorKind::NetworkRefused),
        (What::Redirect("http://public.example/".into()), ErrorKind::NetworkRefused),
    ] {
        let (registry, fetcher, url) = server().await;
        registry.fault(Fault::get("", what.clone()));
        let result = match fetcher.get(&url, 1000).await {
            Ok(Some(body)) => body.into_bytes().await.map(|_| ()),
            Ok(None) => panic!("{what:?} became none"),
            Err(error) => Err(error),
        };
        let error = result.unwrap_err();
        assert_eq!(error.kind(), kind, "{what:?}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let (registry, _, url) = server().await;
    let strict = Fetcher::new(&NetworkPolicy::default()).unwrap();
    let Err(error) = strict.get(&url, 1000).await else { panic!("loopback was spoken to") };
    assert_eq!(error.kind(), ErrorKind::NetworkRefused, "{error}");
    assert_eq!(registry.seen(), []);
}

#[tokio::test]
async fn a_stream_that_exceeds_its_bound_fails_instead_of_ending() {
    let (registry, fetcher, url) = server().await;
    registry.fault(Fault::get("", What::Endless));
    let body = fetcher.get(&url, 1000).await.unwrap().unwrap();
    let read = tokio::task::spawn_blocking(move || {
        body.into_blocking_reader().read_to_end(&mut Vec::new())
    });
    let error = read.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
}
