//! When an index is attested, and when that is taken back; whose word on a digest counts; what a
//! restart finds to be published.

use super::{attestation::statement, *};
use crate::{
    daemon::{
        evidence::{self, SubmittedImage, SubmittedPlatform, about_image},
        notary::LeaseNotary,
        roster::Roster,
    },
    journal::{MemoryDisk, Options},
    queue::{Class, Event, JobSpec, Limits, Tenant},
    setup::{InitOptions, Loaded, config::PublishTarget, init},
    store::{SystemSurroundings, in_memory},
};
use attest::{
    Digest, Platform, Repository, Subject,
    bundle_write::key_bundle,
    dsse::{Envelope, IN_TOTO},
    evidence::EvidenceKind,
    evidence_set::EvidenceSet,
    id::JournalPosition,
    policy::Source,
    statement::{Statement, StatementSubject},
    vsa::VSA_V1,
};
use std::sync::{Arc, RwLock};

const BUNDLE: &[u8] = br#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}"#;
const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;

/// A coordinator in memory, of which nothing runs.
pub(in crate::daemon) fn core(folder: &std::path::Path) -> Arc<Core> {
    let options = InitOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        listen_http: "127.0.0.1:0".parse().unwrap(),
        names: vec!["localhost".into()],
        verifier_id: "https://coordinator.test/assay".into(),
        publish: None,
    };
    init(folder, &options).unwrap();
    core_over(folder, MemoryDisk::default())
}

/// The same once more, over a folder and a journal that are there.
pub(in crate::daemon) fn core_over(folder: &std::path::Path, disk: MemoryDisk) -> Arc<Core> {
    let loaded = Loaded::read(folder).unwrap();
    let (notary, around) = (LeaseNotary::of(&loaded).unwrap(), SystemSurroundings::default());
    let opened = in_memory(
        disk,
        Options::new([7; 16]),
        Limits::default(),
        Arc::new(notary),
        Arc::new(around),
        Box::new(|error| panic!("the journal must not end here: {error}")),
    );
    let store: Arc<dyn crate::store::Store> = Arc::new(opened.unwrap().store);
    let roster = RwLock::new(Arc::new(Roster::read(store.as_ref()).unwrap()));
    let (changed, _) = tokio::sync::watch::channel(0);
    Arc::new(Core {
        metrics: crate::daemon::metrics::Metrics::new(&store),
        presence: super::super::presence::Presence::default(),
        watches: crate::daemon::watch::Watches::read(store.as_ref()).unwrap(),
        wakes: Default::default(),
        stopping: Default::default(),
        signers: crate::daemon::signers::Signers::read(store.as_ref(), loaded.public_key())
            .unwrap(),
        store,
        loaded,
        publishing: Publishing::default(),
        revoked: Default::default(),
        judging: tokio::sync::Semaphore::new(1),
        roster,
        changed,
    })
}

fn repository() -> Repository {
    "registry.example/demo/hello".parse().unwrap()
}

async fn keep(core: &Core, kind: Kind, about: Digest, body: Vec<u8>) {
    core.store.append(vec![NewRecord::new(kind, about, body)]).await.unwrap();
}

/// A job about [`MANIFEST`], as intake announces it: under another recipe another job.
pub(in crate::daemon) async fn announce(core: &Core, recipe: &[u8], index: Option<&[u8]>) -> JobId {
    let (repository, digest) = (repository(), Digest::of(MANIFEST));
    let subject = Subject { repository, digest, platform: Platform::linux("amd64") };
    let recipes = vec![Digest::of(recipe)];
    let spec = JobSpec::new(subject.clone(), recipes, "apko", 0, 1, 1000).unwrap();
    let id = spec.id;
    let mut set = EvidenceSet::new(Source::Registry, subject, MANIFEST.to_vec());
    set.index = index.map(<[u8]>::to_vec);
    let pieces = evidence::pieces(&id, &set).unwrap();
    let event = Event::Announce { spec, tenant: Tenant("ci".into()), class: Class::Push };
    core.store.act(event, Box::new(move |_| pieces)).await.unwrap();
    id
}

/// That an image was submitted, with its documents.
async fn submit(core: &Core, digest: Digest, jobs: &[JobId], index: Option<&[u8]>) -> Digest {
    let about = about_image(&repository(), &digest);
    let platforms = (0u32..).zip(jobs).map(|(entry, job)| SubmittedPlatform { entry, job: *job });
    let jobs = platforms.collect();
    let image = SubmittedImage { repository: repository(), digest, jobs, tag: None };
    let body = serde_json::to_vec(&image).unwrap();
    let mut records = vec![NewRecord::new(Kind::EVIDENCE, about, body)];
    records.extend(evidence::submissions(&image, index.is_some()));
    if let Some(bytes) = index {
        records.extend(evidence::keep_document(core.store.as_ref(), bytes).unwrap());
    }
    core.store.append(records).await.unwrap();
    about
}

/// An attestation by the coordinator's own key; each number gives other bytes.
fn vsa(core: &Core, digest: &Digest, number: u32) -> Vec<u8> {
    let subject = StatementSubject::new(repository().as_str(), digest);
    let predicate = serde_json::json!({ "number": number });
    let statement = Statement::new(vec![subject], VSA_V1, predicate);
    let key = &core.loaded.verdict_key;
    let payload = serde_json::to_vec(&statement).unwrap();
    let envelope = Envelope::sign(key, IN_TOTO, payload).unwrap();
    key_bundle(&envelope, key.public()).unwrap()
}

fn stands(core: &Core, about: &Digest) -> bool {
    let newest = core.store.newest_about(Kind::PUBLICATION, about).unwrap();
    newest.is_some_and(|stored| attestation(&stored.body).is_some())
}

#[tokio::test]
async fn an_index_loses_its_attestation_with_its_first_platform() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    let index = Digest::of(b"index");
    let about = about_image(&repository(), &index);
    let jobs = [JobId(Digest::of(b"amd64")), JobId(Digest::of(b"arm64"))];
    let consider = async || indexes::decide(&core, &repository(), &index).await.unwrap();
    assert!(!consider().await, "an image that nobody submitted");
    submit(&core, index, &jobs, Some(b"another index")).await;
    assert!(!consider().await, "nothing is judged");
    keep(&core, Kind::PUBLICATION, about, BUNDLE.to_vec()).await;
    keep(&core, Kind::PUBLICATION, jobs[0].0, BUNDLE.to_vec()).await;
    assert!(!consider().await && stands(&core, &about), "one platform is not judged again yet");
    keep(&core, Kind::PUBLICATION, jobs[1].0, no_attestation("diverged")).await;
    assert!(consider().await && !stands(&core, &about), "one platform diverged");
    assert!(!consider().await, "that is said once");
    let waiting = core.store.unpublished(None, 10).unwrap();
    assert_eq!(waiting.len(), 3, "two platforms and the index are to be published");
}

/// Two indexes with one platform, whose own evidence names the first of them only.
async fn two_indexes(core: &Arc<Core>) -> (JobId, [Digest; 2]) {
    let entry = serde_json::json!({
        "mediaType": oci::media::OCI_MANIFEST,
        "digest": Digest::of(MANIFEST),
        "size": MANIFEST.len(),
        "platform": {"os": "linux", "architecture": "amd64"},
    });
    let index = |name: &str| {
        let annotations = serde_json::json!({ "name": name });
        serde_json::json!({
            "schemaVersion": 2, "mediaType": oci::media::OCI_INDEX, "manifests": [entry],
            "annotations": annotations,
        })
        .to_string()
    };
    let (first, second) = (index("first"), index("second"));
    let job = announce(core, b"recipe", Some(first.as_bytes())).await;
    let mut about = Vec::new();
    for bytes in [first.as_bytes(), second.as_bytes()] {
        about.push(submit(core, Digest::of(bytes), &[job], Some(bytes)).await);
        let attested = vsa(core, &Digest::of(bytes), 1);
        keep(core, Kind::PUBLICATION, about[about.len() - 1], attested).await;
    }
    keep(core, Kind::PUBLICATION, job.0, vsa(core, &Digest::of(MANIFEST), 1)).await;
    // Judged again from this evidence neither can be attested; what stands is left as it is.
    (job, [about[0], about[1]])
}

#[tokio::test]
async fn every_index_that_shares_a_platform_loses_its_attestation_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    let (job, indexes) = two_indexes(&core).await;
    assert!(indexes.iter().all(|about| stands(&core, about)));
    keep(&core, Kind::PUBLICATION, job.0, no_attestation("diverged")).await;
    indexes::consider_all_with(&core, &repository(), &Digest::of(MANIFEST), None).await;
    let standing: Vec<_> = indexes.iter().map(|about| stands(&core, about)).collect();
    assert_eq!(standing, [false, false]);
    // And that can be delivered, also where the platform's evidence names the other index.
    let target = PublishTarget::Folder { path: "out".into() };
    for stored in core.store.unpublished(None, 10).unwrap() {
        let plan = deliver::plan(&core, &target, &stored).unwrap();
        assert!(plan.attestation.is_none());
    }
}

#[tokio::test]
async fn what_a_crash_left_between_two_records_is_decided_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    let (job, indexes) = two_indexes(&core).await;
    keep(&core, Kind::PUBLICATION, job.0, no_attestation("diverged")).await;
    let denied = core.store.end();
    indexes::look_since(&core, denied).await.unwrap();
    assert!(indexes.iter().all(|about| stands(&core, about)), "nothing since then");
    indexes::look_since(&core, JournalPosition(0)).await.unwrap();
    let standing: Vec<_> = indexes.iter().map(|about| stands(&core, about)).collect();
    assert_eq!(standing, [false, false]);
}

/// The numbers of the attestations that a folder has about [`MANIFEST`].
async fn delivered(core: &Core) -> Vec<u64> {
    let layout = oci::Layout::open(core.loaded.folder.join("out")).unwrap();
    // In a folder, too, each registry's repositories have a place of their own.
    let source = oci::ImageSource::Layout(layout);
    let found = oci::discover(&source, &repository(), &Digest::of(MANIFEST)).await.unwrap();
    assert_eq!(found.problems, []);
    let bundles = found.evidence.iter().filter(|e| e.kind == EvidenceKind::SigstoreBundle);
    bundles.map(|e| statement(&e.bytes).unwrap().predicate["number"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn of_two_jobs_about_one_digest_the_one_submitted_last_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    let target = PublishTarget::Folder { path: "out".into() };
    let digest = Digest::of(MANIFEST);
    let say = async |job: JobId, number: Option<u32>| {
        let body = match number {
            Some(number) => vsa(&core, &digest, number),
            None => no_attestation("diverged"),
        };
        keep(&core, Kind::PUBLICATION, job.0, body).await;
        run::round(&core, &target).await.unwrap();
        assert!(core.store.unpublished(None, 10).unwrap().is_empty());
        delivered(&core).await
    };
    let older = announce(&core, b"recipe", None).await;
    submit(&core, digest, &[older], None).await;
    assert_eq!(say(older, Some(1)).await, [1]);
    let newer = announce(&core, b"another recipe", None).await;
    submit(&core, digest, &[newer], None).await;
    assert_eq!(say(older, Some(2)).await, [2], "the newer one has no verdict yet");
    assert_eq!(say(newer, Some(3)).await, [3]);
    assert_eq!(say(older, Some(4)).await, [3], "an older job's word");
    assert_eq!(say(older, None).await, [3], "its denial as well");
    let nothing: [u64; 0] = [];
    assert_eq!(say(newer, None).await, nothing);
    assert_eq!(say(older, Some(5)).await, nothing, "it does not come back");
    // The image's evidence is what it was at first: its job speaks again.
    submit(&core, digest, &[older], None).await;
    assert_eq!(say(older, Some(6)).await, [6]);
    let spoken = speaks::about(&core, &repository(), &digest).unwrap().unwrap();
    assert_eq!(spoken.about, older.0);
}

#[test]
fn a_bundle_is_an_attestation_and_a_refusal_is_none() {
    assert_eq!(attestation(&no_attestation("diverged")), None);
    assert_eq!(attestation(BUNDLE), Some(BUNDLE));
    let same = indexes::says_the_same(BUNDLE, BUNDLE);
    assert!(!same, "what cannot be read is never the same");
}
