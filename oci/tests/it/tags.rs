//! Lists of tags: pages, bounds, what a hostile or broken registry answers; HEAD with a condition.

use crate::{
    options,
    registry::{Fault, Registry as TestRegistry, RegistryOptions, What},
};
use attest::{Digest, Repository};
use oci::{ErrorKind, Registry, Tag, Target, media, serve::ServeOptions};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

async fn filled(tags: usize) -> (TestRegistry, Registry, Repository) {
    let serve = ServeOptions { tags_page: 3, ..ServeOptions::default() };
    let server = TestRegistry::start(RegistryOptions { serve, ..Default::default() }).await;
    let client = Registry::new(&options(server.policy()));
    let repository: Repository = format!("{}/team/app", server.host()).parse().unwrap();
    for n in 0..tags {
        let target = Target::Tag(format!("v{n}").parse().unwrap());
        let bytes = bytes::Bytes::from_static(MANIFEST);
        client.push_manifest(&repository, &target, media::OCI_INDEX, bytes, None).await.unwrap();
    }
    (server, client, repository)
}

#[tokio::test]
async fn pages_are_followed_and_bounded() {
    let (server, client, repository) = filled(8).await;
    let all = client.tags(&repository, 100, |_| true).await.unwrap();
    assert!(all.complete);
    assert_eq!(all.tags.len(), 8);
    assert_eq!(server.count("GET", "/tags/list"), 3);
    let odd = |tag: &Tag| tag.as_str().ends_with(['1', '3', '5', '7']);
    assert_eq!(client.tags(&repository, 100, odd).await.unwrap().tags.len(), 4);
    let few = client.tags(&repository, 2, odd).await.unwrap();
    assert_eq!((few.tags.len(), few.complete), (2, false));
    let unknown: Repository = format!("{}/team/none", server.host()).parse().unwrap();
    let error = client.tags(&unknown, 100, |_| true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_no_list_is_an_error() {
    let json = "application/json".to_owned();
    let bad = |body: &str| What::Instead(json.clone(), body.as_bytes().to_vec());
    for (what, kind) in [
        (bad(r#"{"tags":["ok","not a tag"]}"#), ErrorKind::Malformed),
        (bad("<html>"), ErrorKind::Malformed),
        (What::Oversized(5 << 20), ErrorKind::TooLarge),
        (What::Endless, ErrorKind::TooLarge),
        (What::Status(500), ErrorKind::Unavailable),
        (What::Truncated, ErrorKind::Truncated),
    ] {
        let (server, client, repository) = filled(1).await;
        server.fault(Fault::get("/tags/list", what.clone()));
        let error = client.tags(&repository, 100, |_| true).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{what:?}: {error}");
    }
    let (server, client, repository) = filled(1).await;
    server.fault(Fault::get("/tags/list", bad(r#"{"name":"x","tags":null}"#)));
    assert!(client.tags(&repository, 100, |_| true).await.unwrap().tags.is_empty());
}

#[tokio::test]
async fn a_tag_that_names_the_same_costs_one_empty_answer() {
    let (server, client, repository) = filled(1).await;
    let tag: Tag = "v0".parse().unwrap();
    let digest = Digest::of(MANIFEST);
    assert_eq!(client.tag(&repository, &tag).await.unwrap(), Some(digest));
    assert_eq!(client.tag_unless(&repository, &tag, Some(digest)).await.unwrap(), Some(digest));
    let other = Some(Digest::of(b"another"));
    assert_eq!(client.tag_unless(&repository, &tag, other).await.unwrap(), Some(digest));
    assert_eq!(server.count("GET", "/manifests/"), 0, "HEAD is enough");
    server.fault(Fault::any("/manifests/v0", What::RetryAfter(429, 3600)));
    let error = client.tag_unless(&repository, &tag, Some(digest)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(std::time::Duration::from_secs(3600)));
}
