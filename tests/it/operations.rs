//! A coordinator with watched repositories: what it finds, what survives, what a registry that fails
//! changes (nothing but `last_error`), what readiness and metrics say.

use attest::{Digest, Platform, Repository, Subject, id::WorkerId};
use coordinator::{
    daemon::{
        Core, Daemon, DaemonError, drains, intake, readiness,
        research::{self, Asked, Cursor, Table},
        watch::{Standing, Watch},
    },
    journal::Kind,
    queue::{Class, Event, JobSpec, Limits, Reply, Report, Tenant},
    setup::{InitOptions, Loaded, init},
    store::nothing,
};
use harness::{
    peer,
    registry::{Fault, Registry, RegistryOptions, What},
};
use oci::{HostException, NetworkPolicy, SourceOptions};
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_util::sync::CancellationToken;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/published");

/// A coordinator on a folder of its own.
struct Running {
    home: PathBuf,
    http: SocketAddr,
    core: Arc<Core>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), DaemonError>>,
}

fn folder(dir: &Path, registry: &str) -> PathBuf {
    let home = dir.join("coordinator");
    let options = InitOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        listen_http: "127.0.0.1:0".parse().unwrap(),
        names: vec!["localhost".to_owned()],
        verifier_id: "https://coordinator.test/assay".to_owned(),
        publish: None,
    };
    init(&home, &options).unwrap();
    let policy = format!("[[registry]]\nhost = \"{registry}\"\nplain_http = true\n");
    std::fs::write(home.join("policy.toml"), policy).unwrap();
    home
}

impl Running {
    async fn start(home: &Path) -> Self {
        let daemon = Daemon::open(Loaded::read(home).unwrap(), Limits::default()).await.unwrap();
        let (http, core, stop) = (daemon.http, daemon.core(), CancellationToken::new());
        let task = tokio::spawn(daemon.run(stop.clone()));
        Self { home: home.to_owned(), http, core, stop, task }
    }

    /// Stops it, and waits until nothing holds the store any more.
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        let core = Arc::downgrade(&self.core);
        drop(self.core);
        while core.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        // Whoever had it last may still be closing it, on a thread of its own: its locks tell.
        for lock in ["journal/LOCK", "index/db"] {
            let file = std::fs::File::open(self.home.join("data").join(lock)).unwrap();
            while file.try_lock().is_err() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Adds the watch, which has it looked at now, and waits for the end of that look.
    async fn look(&self, watch: &Watch) -> Standing {
        let before = self.standing(watch).map_or(0, |standing| standing.looks);
        let mut changes = self.core.changes();
        self.core.watches.add(self.core.store.as_ref(), watch.clone()).await.unwrap();
        loop {
            changes.borrow_and_update();
            match self.standing(watch).filter(|standing| standing.looks > before) {
                Some(standing) => return standing,
                None => changes.changed().await.unwrap(),
            }
        }
    }

    fn standing(&self, watch: &Watch) -> Option<Standing> {
        let all = self.core.watches.list();
        all.into_iter().find(|(id, _)| *id == watch.id()).map(|(_, standing)| standing)
    }

    /// Waits until everything that was submitted is judged, and is in the index.
    async fn settled(&self) {
        let mut changes = self.core.changes();
        while self.core.store.totals().unfinished > 0 {
            changes.changed().await.unwrap();
        }
        self.core.store.settle().await.unwrap();
    }

    /// A whole table of a repository, in pages of two rows.
    fn table(&self, table: Table, repository: &Repository) -> Vec<Value> {
        let (mut rows, mut from) = (Vec::new(), Cursor::default());
        loop {
            let repository = Some(repository.clone());
            let asked = Asked { table, repository, digests: Default::default(), from, rows_max: 2 };
            let page = research::page(&self.core, &asked).unwrap();
            rows.extend(page.rows.iter().map(|row| serde_json::from_slice::<Value>(row).unwrap()));
            if page.done {
                return rows;
            }
            from = page.end;
        }
    }

    fn submitted(&self, repository: &Repository, digest: &Digest) -> bool {
        let about = coordinator::daemon::evidence::about_image(repository, digest);
        self.core.store.newest_about(Kind::EVIDENCE, &about).unwrap().is_some()
    }
}

/// What a client gets over HTTPS that knows the coordinator's authority.
async fn get(home: &Path, address: SocketAddr, path: &str) -> String {
    let pem = std::fs::read(home.join("ca.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The end of the connection may come without TLS's own word for it.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

fn watch(repository: &Repository, tags: &str) -> Watch {
    let (repository, tags) = (repository.clone(), tags.parse().unwrap());
    Watch { repository, tags, interval_seconds: 900, tenant: "admin".to_owned() }
}

/// A registry with the published images, and what `latest` and another tag could name there.
async fn published() -> (Registry, Repository, Digest, Digest) {
    let registry = Registry::start(RegistryOptions::default()).await;
    registry.load_layout(FIXTURES);
    let repository: Repository = format!("{}/demo/hello", registry.host()).parse().unwrap();
    let of = |name: &str| {
        let target = oci::Target::Tag("latest".parse().unwrap());
        registry.store.manifest(name, &target).unwrap()
    };
    let (first, _, bytes) = of("demo/hello");
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    let second = index["manifests"][0]["digest"].as_str().unwrap().parse().unwrap();
    (registry, repository, first, second)
}

#[tokio::test]
async fn watched_tags_are_submitted_and_their_changes_are_history() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, repository, first, second) = published().await;
    let home = folder(dir.path(), &registry.host());
    let running = Running::start(&home).await;
    let watch = watch(&repository, "*");
    let standing = running.look(&watch).await;
    assert_eq!(standing.last_error, "");
    assert!(standing.last_checked.is_some());
    assert!(running.submitted(&repository, &first));
    let tags = running.table(Table::Tags, &repository);
    assert_eq!(tags.len(), 1, "attachments under sha256-… are no images: {tags:?}");
    assert_eq!(tags[0]["tag"], "latest");
    assert_eq!(tags[0]["digest"], first.to_string());

    // The same again: one list, one HEAD, nothing new.
    let heads = registry.count("HEAD", "/manifests/latest");
    assert_eq!(running.look(&watch).await.last_error, "");
    assert_eq!(registry.count("HEAD", "/manifests/latest"), heads + 1);
    assert_eq!(running.table(Table::Tags, &repository).len(), 1);

    // The tag moves.
    let tag = "latest".parse().unwrap();
    assert!(registry.store.set_tag("demo/hello", &tag, second));
    assert_eq!(running.look(&watch).await.last_error, "");
    assert!(running.submitted(&repository, &second));
    running.settled().await;
    let history = running.table(Table::History, &repository);
    let tags: Vec<&Value> = history.iter().filter(|row| row["kind"] == "tag").collect();
    let said: Vec<&Value> = tags.iter().map(|row| &row["outcome"]).collect();
    assert_eq!(said, ["new", "moved"]);
    assert_eq!(tags[1]["tag_before"], first.to_string());

    // After a restart, and with a new index, all of it is there.
    running.stop().await;
    std::fs::remove_dir_all(home.join("data/index")).unwrap();
    let running = Running::start(&home).await;
    let standing = running.standing(&watch).unwrap();
    assert_eq!(standing.watch, watch);
    assert!(standing.last_checked.is_some(), "when the last look was is on record");
    assert_eq!(running.table(Table::History, &repository), history);
    let heads = registry.count("HEAD", "/manifests/latest");
    running.look(&watch).await;
    assert_eq!(registry.count("HEAD", "/manifests/latest"), heads + 1);
    assert_eq!(running.table(Table::History, &repository), history);
    let store = running.core.store.as_ref();
    let foreign = running.core.watches.remove(store, &watch.id(), |_| false).await;
    assert!(foreign.is_err(), "somebody else's watch");
    running.core.watches.remove(store, &watch.id(), |_| true).await.unwrap();
    running.stop().await;
    let running = Running::start(&home).await;
    assert!(running.standing(&watch).is_none());
    assert_eq!(running.table(Table::History, &repository), history);
    running.stop().await;
}

#[tokio::test]
async fn a_registry_that_fails_changes_nothing_but_the_last_error() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, repository, first, _) = published().await;
    let running = Running::start(&folder(dir.path(), &registry.host())).await;
    let watch = watch(&repository, "latest");
    running.look(&watch).await;
    running.settled().await;
    let before = running.table(Table::History, &repository);
    for what in [
        What::Status(500),
        What::Status(404),
        What::Status(401),
        What::Truncated,
        What::Instead("application/json".to_owned(), b"{\"tags\":[\"a b\"]}".to_vec()),
    ] {
        registry.fault(Fault::get("/tags/list", what.clone()));
        assert_ne!(running.look(&watch).await.last_error, "", "{what:?}");
        registry.heal();
        assert_eq!(running.table(Table::History, &repository), before, "{what:?}");
        assert_eq!(running.look(&watch).await.last_error, "");
    }
    // A tag that is gone for now is not forgotten, and no change when it comes back.
    registry.fault(Fault::any("/manifests/latest", What::Status(404)));
    assert_eq!(running.look(&watch).await.last_error, "");
    registry.heal();
    assert_eq!(running.look(&watch).await.last_error, "");
    assert_eq!(running.table(Table::History, &repository), before);
    assert!(running.submitted(&repository, &first));

    // Left alone for as long as it asked: the next look makes no request.
    registry.fault(Fault::get("/tags/list", What::RetryAfter(429, 7200)));
    assert!(running.look(&watch).await.last_error.contains("429"));
    registry.heal();
    let asked = registry.seen().len();
    assert!(running.look(&watch).await.last_error.contains("asked to wait"));
    assert_eq!(registry.seen().len(), asked);
    assert!(running.standing(&watch).is_some());
    running.stop().await;
}

#[tokio::test]
async fn an_image_that_could_not_be_taken_in_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, repository, first, _) = published().await;
    let running = Running::start(&folder(dir.path(), &registry.host())).await;
    let watch = watch(&repository, "latest");
    // HEAD works; reading the index does not.
    registry.fault(Fault::get(format!("/manifests/{first}"), What::Status(500)));
    assert!(running.look(&watch).await.last_error.contains("500"));
    assert!(!running.submitted(&repository, &first));
    assert_eq!(running.table(Table::Tags, &repository).len(), 1, "it was seen");
    registry.heal();
    assert_eq!(running.look(&watch).await.last_error, "");
    assert!(running.submitted(&repository, &first));
    assert_eq!(running.table(Table::Tags, &repository).len(), 1, "and is not seen again");
    running.stop().await;
}

#[tokio::test]
async fn a_broken_image_does_not_hide_the_tags_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, repository, first, second) = published().await;
    let home = folder(dir.path(), &registry.host());
    let running = Running::start(&home).await;
    for (tag, digest) in [("a", first), ("b", second), ("c", first), ("d", first), ("e", first)] {
        assert!(registry.store.set_tag("demo/hello", &tag.parse().unwrap(), digest));
    }
    let watch = watch(&repository, "*");
    registry.fault(Fault::get(format!("/manifests/{first}"), What::Status(403)));
    let standing = running.look(&watch).await;
    assert!(standing.last_error.starts_with("a: "), "{}", standing.last_error);
    assert!(running.submitted(&repository, &second), "the tag behind the broken one");
    assert!(!running.submitted(&repository, &first));
    let asked = |tag: &str| registry.count("HEAD", &format!("/manifests/{tag}"));
    assert_eq!((asked("e"), asked("latest")), (1, 0), "three in a row end the look");
    let failed = running.core.metrics.render().unwrap();
    assert!(failed.contains("assay_watch_tags_failed_total 4"), "{failed}");

    // How it went is there after a restart.
    let error = standing.last_error;
    running.stop().await;
    let running = Running::start(&home).await;
    let standing = running.standing(&watch).unwrap();
    assert_eq!((standing.last_error, standing.last_checked.is_some()), (error, true));
    registry.heal();

    // Whoever asks for a pause gets it: the tags behind are not asked for.
    registry.fault(Fault::get(format!("/manifests/{first}"), What::RetryAfter(429, 7200)));
    let before = asked("b");
    assert!(running.look(&watch).await.last_error.contains("429"));
    assert_eq!(asked("b"), before);
    running.stop().await;
}

#[tokio::test]
async fn a_registry_that_limits_hides_no_tag_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, repository, first, second) = published().await;
    let running = Running::start(&folder(dir.path(), &registry.host())).await;
    for (tag, digest) in [("a", first), ("b", first), ("c", second)] {
        assert!(registry.store.set_tag("demo/hello", &tag.parse().unwrap(), digest));
    }
    let watch = watch(&repository, "*");
    registry.fault(Fault::any("/manifests/b", What::RetryAfter(429, 1)));
    assert!(running.look(&watch).await.last_error.contains("429"));
    assert!(!running.submitted(&repository, &second), "the pause is kept");
    registry.heal();
    // The next look has its limit, too; it goes on where the one before had to stop.
    registry.fault(Fault::any("/manifests/a", What::RetryAfter(429, 7200)));
    while !running.look(&watch).await.last_error.contains("429") {}
    assert!(running.submitted(&repository, &second), "the tag behind the limit");
    running.stop().await;
}

#[tokio::test]
async fn a_tag_that_is_always_refused_ends_no_watch() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, repository, first, second) = published().await;
    let running = Running::start(&folder(dir.path(), &registry.host())).await;
    for (tag, digest) in [("a", first), ("b", first), ("c", second)] {
        assert!(registry.store.set_tag("demo/hello", &tag.parse().unwrap(), digest));
    }
    let watch = watch(&repository, "*");
    registry.fault(Fault::any("/manifests/b", What::RetryAfter(429, 1)));
    let refused = || registry.count("HEAD", "/manifests/b");
    while refused() < 3 && !running.submitted(&repository, &second) {
        running.look(&watch).await;
    }
    assert!(running.submitted(&repository, &second), "b is skipped where a look begins with it");
    running.stop().await;
}

#[tokio::test]
async fn an_index_of_no_platform_is_refused_and_nothing_of_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, repository, ..) = published().await;
    let running = Running::start(&folder(dir.path(), &registry.host())).await;
    let media = "application/vnd.oci.image.index.v1+json";
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{media}","manifests":[]}}"#);
    let digest = Digest::of(index.as_bytes());
    registry.fault(Fault::any("/manifests/empty", What::Instead(media.into(), index.into_bytes())));
    let image = format!("{repository}:empty").parse().unwrap();
    let tenant = Tenant("ci".into());
    let submitted = intake::submit(&running.core, &image, tenant, Class::Push).await;
    let error = submitted.unwrap_err().to_string();
    assert!(error.contains("at least one platform"), "{error}");
    assert!(!running.submitted(&repository, &digest));
    running.stop().await;
}

#[tokio::test]
async fn a_drained_worker_stays_drained_until_it_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let home = folder(dir.path(), "127.0.0.1:1");
    let running = Running::start(&home).await;
    let (worker, subject) = (
        WorkerId(Digest::of(b"worker")),
        Subject {
            repository: "registry.example/demo/hello".parse().unwrap(),
            digest: Digest::of(b"image"),
            platform: Platform::linux("amd64"),
        },
    );
    let spec = JobSpec::new(subject, vec![Digest::of(b"recipe")], "apko", 0, 1, 60_000).unwrap();
    let event = Event::Announce { spec, tenant: Tenant("ci".into()), class: Class::Push };
    running.core.store.act(event, nothing()).await.unwrap();
    drains::set(&running.core, worker, true).await.unwrap();
    running.stop().await;
    let running = Running::start(&home).await;
    let offers = async || {
        let report = Report {
            worker,
            operator: "acme".parse().unwrap(),
            architectures: vec!["amd64".into()],
            rebuilders: vec!["apko".into()],
            memory_mib: 0,
            slots_free: 1,
            draining: false,
            leases: vec![],
            waits: false,
        };
        match running.core.store.act(Event::Sync(report), nothing()).await.unwrap() {
            Reply::Desired(desired) => desired.offers.len(),
            other => panic!("expected offers, found {other:?}"),
        }
    };
    assert_eq!(offers().await, 0, "an administrator's word is kept");
    drains::set(&running.core, worker, false).await.unwrap();
    assert_eq!(offers().await, 1);
    running.stop().await;
}

#[tokio::test]
async fn watching_debians_registry() {
    let Some(peer) = peer::debian("").await else { return };
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(&folder(dir.path(), &peer.host)).await;
    let repository: Repository = format!("{}/team/app", peer.host).parse().unwrap();
    let watch = watch(&repository, "v*");
    let gone = running.look(&watch).await;
    assert!(gone.last_error.contains("tags"), "a repository that is not there: {gone:?}");

    let host = HostException { host: peer.host.clone(), plain_http: true, ca_pem: None };
    let network = NetworkPolicy { hosts: vec![host] };
    let client = oci::Registry::new(&SourceOptions { network, ..SourceOptions::default() });
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    for n in 0..150 {
        let target = oci::Target::Tag(format!("v{n:03}").parse().unwrap());
        let bytes = bytes::Bytes::from_static(index);
        client
            .push_manifest(&repository, &target, oci::media::OCI_INDEX, bytes, None)
            .await
            .unwrap();
    }
    let all = client.tags(&repository, 1000, |_| true).await.unwrap();
    assert_eq!((all.tags.len(), all.complete), (150, true));
    let digest = Digest::of(index);
    let tag = "v000".parse().unwrap();
    assert_eq!(client.tag_unless(&repository, &tag, Some(digest)).await.unwrap(), Some(digest));
    let other = Some(Digest::of(b"other"));
    assert_eq!(client.tag_unless(&repository, &tag, other).await.unwrap(), Some(digest));
    let narrow = Watch { tags: "v00*".parse().unwrap(), ..watch.clone() };
    running.look(&narrow).await;
    assert_eq!(running.table(Table::Tags, &repository).len(), 10);
    running.stop().await;
}

#[tokio::test]
async fn readiness_ends_with_the_first_word_of_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let home = folder(dir.path(), "127.0.0.1:1");
    let running = Running::start(&home).await;
    let readiness = readiness::look(&running.core).await;
    assert!(readiness.ready, "{}", readiness.report);
    let get = async |path: &str| get(&home, running.http, path).await;
    for path in ["/healthz", "/readyz"] {
        let answer = get(path).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    let metrics = get("/metrics").await;
    assert!(metrics.contains("application/openmetrics-text"), "{metrics}");
    assert!(metrics.contains("assay_connections_total{listener=\"http\""), "{metrics}");
    assert!(metrics.trim_end().ends_with("# EOF"), "{metrics}");
    running.core.stopping.cancel();
    // From then on no new connection is taken: whoever asks meets a closed door, not a yes.
    let readiness = readiness::look(&running.core).await;
    assert!(!readiness.ready, "{}", readiness.report);
    running.stop().await;
}

/// Metrics that a dashboard or an alert names must be there.
#[tokio::test]
async fn every_metric_that_is_shown_or_alerted_on_exists() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(&folder(dir.path(), "127.0.0.1:1")).await;
    let core = &running.core;
    core.metrics.judged("reproduced", Some(0));
    core.metrics.called("Sync", "ok", 0.1);
    core.metrics.connected("grpc", "accepted");
    core.metrics.published("ok");
    core.metrics.looked("ok");
    core.metrics.former_policy_judged("judged");
    let text = core.metrics.render().unwrap();
    running.stop().await;
    let mut names = std::collections::BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let endings: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        names.extend(endings.iter().map(|ending| format!("{name}{ending}")));
    }
    assert!(names.contains("assay_journal_sync_duration_seconds_bucket"), "{text}");
    assert!(text.contains("assay_queue_unfinished_jobs{class=\"gate\"} 0"), "{text}");
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for file in ["grafana/assay.json", "prometheus/alerts.yml"] {
        let shown = std::fs::read_to_string(deploy.join(file)).unwrap();
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let used: std::collections::BTreeSet<&str> =
            shown.split(word).filter(|w| w.starts_with("assay_")).collect();
        assert!(used.len() > 5, "{file}: {used:?}");
        for name in used {
            assert!(names.contains(name), "{file} names {name}, which is not exported");
        }
    }
}

#[test]
fn promtool_accepts_the_alerts() {
    let Some(promtool) = peer::program("promtool") else { return };
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/alerts.yml");
    let output =
        std::process::Command::new(promtool).args(["check", "rules"]).arg(alerts).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
