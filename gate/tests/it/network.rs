//! Coordinators and registries on loopback: right, wrong and unreachable.

use crate::{Bench, fleet::NOON, options, path, run, try_run};
use attest::{
    Digest,
    evidence_set::EvidenceSet,
    policy::{Policy, Source},
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use gate::{
    Admission, EvidenceSource, Outcome,
    collect::attached::{self, attach},
    promote::promote,
};
use oci::{
    Destination, Registry, Tag,
    serve::{ServeOptions, Store, router},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering::SeqCst},
    },
};
use tokio::net::TcpListener;

/// A server on loopback; gone when dropped.
struct Server {
    addr: SocketAddr,
    /// Another status for everything; 0: none, 1: a body that breaks off.
    fault: Arc<AtomicU16>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let fault: Arc<AtomicU16> = Arc::default();
        let app = app.layer(middleware::from_fn_with_state(Arc::clone(&fault), inject));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { addr, fault, task }
    }

    async fn coordinator(answers: Answers) -> Self {
        Self::start(Router::new().fallback(evidence).with_state(answers)).await
    }

    async fn registry(referrers_api: bool) -> (Self, Store) {
        let store = Store::default();
        let options = ServeOptions { referrers_api, ..ServeOptions::default() };
        (Self::start(router(store.clone(), options)).await, store)
    }

    fn url(&self) -> EvidenceSource {
        format!("http://{}", self.addr).parse().unwrap()
    }

    /// The exception that a policy needs for this server.
    fn table(&self) -> String {
        format!("[[registry]]\nhost = \"{}\"\nplain_http = true\n", self.addr)
    }
}

async fn inject(State(fault): State<Arc<AtomicU16>>, request: Request, next: Next) -> Response {
    match fault.load(SeqCst) {
        0 => next.run(request).await,
        1 => {
            let body = Body::from("{\"schema\":");
            Response::builder().header("content-length", "5000").body(body).unwrap()
        }
        status => StatusCode::from_u16(status).unwrap().into_response(),
    }
}

/// What a coordinator answers, by path and query.
type Answers = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

async fn evidence(State(answers): State<Answers>, request: Request) -> Response {
    let asked = request.uri().path_and_query().unwrap().to_string();
    match answers.lock().unwrap().get(&asked) {
        Some(bytes) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The path and query of the contract, spelled out.
fn question(set: &EvidenceSet) -> String {
    format!(
        "/v1/evidence?source={}&repository={}&manifest={}&platform={}",
        if set.source == Source::Layout { "layout" } else { "registry" },
        set.subject.repository.to_string().replace('/', "%2F").replace(':', "%3A"),
        set.subject.digest.to_string().replace(':', "%3A"),
        set.subject.platform.to_string().replace('/', "%2F"),
    )
}

fn answers(sets: &[EvidenceSet]) -> Answers {
    let bytes = |set: &EvidenceSet| (question(set), set.to_canonical_json().unwrap());
    Arc::new(Mutex::new(sets.iter().map(bytes).collect()))
}

async fn outcome(policy: &Policy, image: &str, evidence: &[EvidenceSource]) -> (Outcome, u8) {
    let report = run(policy, image, evidence).await.report;
    assert_eq!(report.admits(), report.ruling.outcome == Outcome::Reproduced);
    (report.ruling.outcome, report.exit)
}

#[tokio::test]
async fn a_coordinator_answers_lies_and_fails() {
    let bench = Bench::new();
    let sets = bench.reproduced();
    let known = answers(&sets);
    let server = Server::coordinator(Arc::clone(&known)).await;
    let policy = bench.fleet.policy(&server.table());
    let url = server.url();
    let ask = async || outcome(&policy, &bench.reference, std::slice::from_ref(&url)).await;
    assert_eq!(ask().await, (Outcome::Reproduced, 0));
    // It answers about another platform, or about another repository.
    let (amd64, arm64) = (question(&sets[0]), question(&sets[1]));
    let right = known.lock().unwrap().clone();
    let mut renamed = sets[0].clone();
    renamed.subject.repository = "demo/other".parse().unwrap();
    for wrong in [right[&arm64].clone(), renamed.to_canonical_json().unwrap(), b"{}".to_vec()] {
        known.lock().unwrap().insert(amd64.clone(), wrong);
        assert_eq!(ask().await, (Outcome::Error, 1));
    }
    // It knows nothing: that is no error, and no pass.
    known.lock().unwrap().remove(&amd64);
    assert_eq!(ask().await, (Outcome::Inconclusive, 11));
    known.lock().unwrap().extend(right);
    for fault in [1, 200, 204, 302, 400, 401, 403, 429, 500, 503] {
        server.fault.store(fault, SeqCst);
        assert_eq!(ask().await, (Outcome::Error, 1), "{fault}");
    }
    server.fault.store(0, SeqCst);
    assert_eq!(ask().await, (Outcome::Reproduced, 0));
    // Without the policy's leave nobody speaks to a private address.
    let closed = bench.fleet.policy("");
    let report = run(&closed, &bench.reference, std::slice::from_ref(&url)).await.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Error, 1));
    assert!(report.ruling.to_pass.contains("[[registry]]"), "{}", report.ruling.to_pass);
    // Unreachable, whatever the mode, and however good another source is.
    drop(server);
    let folder = bench.fleet.keep("evidence", &sets);
    for mode in ["observe", "warn", "enforce"] {
        let more = format!("[gate]\nmode = \"{mode}\"\nunknown = \"pass\"\n");
        let policy = Policy { registries: policy.registries.clone(), ..bench.fleet.policy(&more) };
        let evidence = [path(&folder), url.clone()];
        let report = run(&policy, &bench.reference, &evidence).await.report;
        assert_eq!((report.ruling.outcome, report.exit), (Outcome::Error, 1), "{mode}");
        assert_eq!(report.ruling.decision, Admission::Deny, "{mode}");
        assert!(report.ruling.enforced);
    }
}

/// A registry with the image of the bench as `HOST/demo/hello:latest`, and sets about it.
async fn in_registry(bench: &Bench, api: bool) -> (Server, Store, String, Vec<EvidenceSet>) {
    let (server, store) = Server::registry(api).await;
    store.load_layout(bench.fleet.path("layout")).unwrap();
    let repository = format!("{}/demo/hello", server.addr);
    let sets = bench.fleet.reproduced(Source::Registry, &repository, &bench.image);
    (server, store, repository, sets)
}

#[tokio::test]
async fn attached_sets_are_found_beside_the_image_and_in_a_sidecar() {
    for api in [true, false] {
        let bench = Bench::new();
        let (server, store, repository, sets) = in_registry(&bench, api).await;
        let policy = bench.fleet.policy(&server.table());
        let image = format!("{repository}:latest");
        let destination = Destination::Registry(Registry::new(&options(&policy)));
        let sidecar = format!("{}/assay/evidence", server.addr);
        let elsewhere: EvidenceSource = format!("oci://{sidecar}").parse().unwrap();
        let evidence = std::slice::from_ref(&elsewhere);
        assert_eq!(outcome(&policy, &image, &[]).await, (Outcome::Inconclusive, 11));
        assert_eq!(outcome(&policy, &image, evidence).await, (Outcome::Inconclusive, 11));
        let put = async |to: &str, set: &EvidenceSet, which: usize| {
            let subject = &bench.image.platforms[which].descriptor;
            attach(&destination, &to.parse().unwrap(), subject, set.clone()).await.unwrap()
        };
        for (which, set) in sets.iter().enumerate() {
            put(&sidecar, set, which).await;
        }
        assert_eq!(outcome(&policy, &image, evidence).await, (Outcome::Reproduced, 0), "{api}");
        assert_eq!(outcome(&policy, &image, &[]).await, (Outcome::Inconclusive, 11));
        for (which, set) in sets.iter().enumerate() {
            put(&repository, set, which).await;
        }
        assert_eq!(outcome(&policy, &image, &[]).await, (Outcome::Reproduced, 0), "{api}");
        // A later set that leaves observations out does not take them away, nor pile up.
        let mut less = sets[0].clone();
        less.observations.truncate(1);
        put(&sidecar, &less, 0).await;
        assert_eq!(outcome(&policy, &image, evidence).await, (Outcome::Reproduced, 0), "{api}");
        let digest = bench.image.platforms[0].descriptor.digest;
        assert!(store.referrers("assay/evidence", &digest).len() <= 1);
        // Evidence about another image under this one's tag.
        let tag = attached::tag_of(&digest).unwrap();
        let arm64 = attached::tag_of(&bench.image.platforms[1].descriptor.digest).unwrap();
        let target = oci::Target::Tag(arm64);
        let (wrong, ..) = store.manifest("assay/evidence", &target).unwrap();
        store.set_tag("assay/evidence", &tag, wrong);
        assert_eq!(outcome(&policy, &image, evidence).await, (Outcome::Error, 1), "{api}");
    }
}

#[tokio::test]
async fn a_registry_that_fails_is_an_error_and_a_digest_can_do_without() {
    let bench = Bench::new();
    let (server, _store, repository, sets) = in_registry(&bench, true).await;
    let policy = bench.fleet.policy(&server.table());
    let folder = bench.fleet.keep("evidence", &sets);
    let by_tag = format!("{repository}:latest");
    let by_digest = format!("{repository}@{}", bench.image.index.digest);
    let evidence = [path(&folder)];
    for image in [&by_tag, &by_digest] {
        assert_eq!(outcome(&policy, image, &evidence).await, (Outcome::Reproduced, 0));
    }
    for fault in [401, 403, 404, 500, 503] {
        server.fault.store(fault, SeqCst);
        assert_eq!(outcome(&policy, &by_tag, &evidence).await, (Outcome::Error, 1), "{fault}");
        // No answer at all: the digest and the evidence are enough. A "no" is a "no".
        let unavailable = fault >= 500;
        let expected = if unavailable { (Outcome::Reproduced, 0) } else { (Outcome::Error, 1) };
        assert_eq!(outcome(&policy, &by_digest, &evidence).await, expected, "{fault}");
        // Where evidence would lie beside the image, not to reach it is not to know.
        assert_eq!(outcome(&policy, &by_digest, &[]).await, (Outcome::Error, 1), "{fault}");
    }
    drop(server);
    assert_eq!(outcome(&policy, &by_tag, &evidence).await, (Outcome::Error, 1));
    let report = run(&policy, &by_digest, &evidence).await.report;
    assert_eq!((report.ruling.outcome, report.offline), (Outcome::Reproduced, true));
    // Other repositories' evidence does not become this one's by being the only one.
    let other = by_digest.replace("demo/hello", "demo/other");
    assert_eq!(outcome(&policy, &other, &evidence).await, (Outcome::Error, 1));
}

#[tokio::test]
async fn a_tag_moves_only_to_what_was_admitted() {
    let bench = Bench::new();
    let (server, store, repository, sets) = in_registry(&bench, true).await;
    let policy = bench.fleet.policy(&server.table());
    let folder = bench.fleet.keep("evidence", &sets);
    let image = format!("{repository}@{}", bench.image.index.digest);
    let reference = image.parse().unwrap();
    let stable: Tag = "stable".parse().unwrap();
    let named = || store.manifest("demo/hello", &oci::Target::Tag(stable.clone())).map(|m| m.0);

    let denied = run(&policy, &image, &[]).await;
    let options = options(&policy);
    let error = promote(&reference, &denied, &stable, &options).await.unwrap_err();
    assert!(error.to_string().contains("denied"), "{error}");
    assert_eq!(named(), None);

    let admitted = run(&policy, &image, &[path(&folder)]).await;
    let promoted = promote(&reference, &admitted, &stable, &options).await.unwrap();
    assert_eq!((promoted.digest, promoted.before), (bench.image.index.digest, None));
    assert_eq!(named(), Some(bench.image.index.digest));
    let again = promote(&reference, &admitted, &stable, &options).await.unwrap();
    assert_eq!(again.before, Some(bench.image.index.digest));
    // A decision about one image moves no tag to another.
    let other = format!("{repository}@{}", Digest::of(b"other")).parse().unwrap();
    assert!(promote(&other, &admitted, &stable, &options).await.is_err());
    // Without the image there are no bytes to tag.
    let offline = try_run(&policy, &image, &[path(&folder)], NOON, true).await.unwrap();
    assert!(offline.report.admits());
    assert!(promote(&reference, &offline, &stable, &options).await.is_err());
    // In a layout it is an entry of the index.
    let local = bench.fleet.keep("local", &bench.reproduced());
    let admitted = run(&policy, &bench.reference, &[path(local)]).await;
    let reference = bench.reference.parse().unwrap();
    promote(&reference, &admitted, &stable, &options).await.unwrap();
    let moved = bench.reference.replace(":latest", ":stable");
    let report = run(&policy, &moved, &[]).await.report;
    assert_eq!(report.digest, Some(bench.image.index.digest));
}
