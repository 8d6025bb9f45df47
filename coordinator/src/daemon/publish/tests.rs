//! When an index is attested, and when that is taken back; what a restart finds to be published.

use super::*;
use crate::{
    daemon::{evidence::SubmittedPlatform, notary::LeaseNotary, roster::Roster},
    journal::{MemoryDisk, Options},
    queue::Limits,
    setup::{InitOptions, Loaded, init},
    store::{SystemSurroundings, in_memory},
};
use std::sync::RwLock;

const BUNDLE: &[u8] = br#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}"#;

fn core(folder: &std::path::Path) -> Core {
    let options = InitOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        listen_http: "127.0.0.1:0".parse().unwrap(),
        names: vec!["localhost".into()],
        verifier_id: "https://coordinator.test/assay".into(),
        publish: None,
    };
    init(folder, &options).unwrap();
    let loaded = Loaded::read(folder).unwrap();
    let (notary, around) = (LeaseNotary::of(&loaded).unwrap(), SystemSurroundings::default());
    let opened = in_memory(
        MemoryDisk::default(),
        Options::new([7; 16]),
        Limits::default(),
        Arc::new(notary),
        Arc::new(around),
        Box::new(|error| panic!("the journal must not end here: {error}")),
    );
    let store: Arc<dyn crate::store::Store> = Arc::new(opened.unwrap().store);
    let roster = RwLock::new(Arc::new(Roster::read(store.as_ref()).unwrap()));
    let (changed, _) = tokio::sync::watch::channel(0);
    Core {
        metrics: crate::daemon::metrics::Metrics::new(&store),
        watches: crate::daemon::watch::Watches::read(store.as_ref()).unwrap(),
        wakes: Default::default(),
        stopping: Default::default(),
        store,
        loaded,
        publishing: Publishing::default(),
        roster,
        changed,
    }
}

#[tokio::test]
async fn an_index_loses_its_attestation_with_its_first_platform() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    let repository: Repository = "registry.example/demo/hello".parse().unwrap();
    let index = Digest::of(b"index");
    let about = about_image(&repository, &index);
    let jobs = [JobId(Digest::of(b"amd64")), JobId(Digest::of(b"arm64"))];
    let keep = async |kind, about, body: Vec<u8>| {
        core.store.append(vec![NewRecord::new(kind, about, body)]).await.unwrap();
    };
    let consider = async || of_index(&core, &repository, &index).await.unwrap();
    let stands = || newest(&core, &about).unwrap().is_some_and(|b| attestation(&b).is_some());
    assert!(!consider().await, "an image that nobody submitted");
    let platforms = (0u32..).zip(jobs).map(|(entry, job)| SubmittedPlatform { entry, job });
    let image = SubmittedImage {
        repository: repository.clone(),
        digest: index,
        jobs: platforms.collect(),
        tag: None,
    };
    keep(Kind::EVIDENCE, about, serde_json::to_vec(&image).unwrap()).await;
    assert!(!consider().await, "nothing is judged");
    keep(Kind::PUBLICATION, about, BUNDLE.to_vec()).await;
    keep(Kind::PUBLICATION, jobs[0].0, BUNDLE.to_vec()).await;
    assert!(!consider().await && stands(), "one platform is not judged again yet");
    keep(Kind::PUBLICATION, jobs[1].0, no_attestation("diverged")).await;
    assert!(consider().await && !stands(), "one platform diverged");
    assert!(!consider().await, "that is said once");
    let waiting = core.store.unpublished(None, 10).unwrap();
    assert_eq!(waiting.len(), 3, "two platforms and the index are to be published");
}

#[test]
fn a_bundle_is_an_attestation_and_a_refusal_is_none() {
    assert_eq!(attestation(&no_attestation("diverged")), None);
    assert_eq!(attestation(BUNDLE), Some(BUNDLE));
    assert!(!says_the_same(BUNDLE, BUNDLE), "what cannot be read is never the same");
}
