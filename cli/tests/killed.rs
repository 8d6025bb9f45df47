//! A worker that is killed with SIGKILL, as real processes: no child of it survives, the lease is
//! given back at the next start, and what was signed and not handed in is handed in once.

use attest::{
    Digest,
    dsse::Envelope,
    id::JobId,
    key::SigningKey,
    observation::Observation,
    record::{Capabilities, EnvironmentClass, OperatorRecord, Record, Validity, WorkerRecord},
    time::Timestamp,
};
use coordinator::{
    daemon::{Core, Daemon, DaemonError, intake, roster::Roster},
    queue::{Class, Job, Limits, Tenant},
    setup::{InitOptions, Loaded, init},
};
use harness::registry::{Fault, Registry, RegistryOptions, What};
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use worker::daemon::identity::Identity;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published");
/// Far beyond what anything here takes; reaching it is the failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until something is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn validity() -> Validity {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let at = |seconds| Timestamp::from_unix(seconds).unwrap();
    Validity { from: at(now - 3600), until: at(now + 86_400) }
}

fn policy(dir: &Path, registry: &str, root: &SigningKey) -> PathBuf {
    let fixtures = fs::canonicalize(FIXTURES).unwrap();
    let packages = fixtures.join("packages");
    let pin = Digest::of(&fs::read(packages.join("assay-test-6a1f.rsa.pub")).unwrap());
    fs::copy(fixtures.join("keys/publisher.pub"), dir.join("publisher.pub")).unwrap();
    fs::write(dir.join("acme.pub"), root.public().to_pem()).unwrap();
    let text = format!(
        "[[publisher]]\nrepositories = [\"{registry}/demo/*\"]\nkey = \"publisher.pub\"\n\
         transparency = \"none\"\n\n[[package_repository]]\nurl = \"https://packages.assay.test/*\"\n\
         keys = \"discovery\"\npins = [\"{pin}\"]\ncomplete = true\n\n[[mirror]]\n\
         prefix = \"https://packages.assay.test/\"\nurl = \"file://{}/\"\ncomplete = true\n\n\
         [[registry]]\nhost = \"{registry}\"\nplain_http = true\n\n\
         [[operator]]\nname = \"acme\"\nroot_key = \"acme.pub\"\n\n\
         [quorum]\noperators = [\"acme\"]\nreproduced = 1\nlevel = \"config\"\ntier = \"attested\"\n\
         hints = [\"epoch\", \"install-order\", \"key-set\"]\n",
        packages.display()
    );
    let path = dir.join("policy.toml");
    fs::write(&path, text).unwrap();
    path
}

/// A coordinator in this process, with the waits of a test.
struct Running {
    home: PathBuf,
    core: Arc<Core>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), DaemonError>>,
}

impl Running {
    async fn start(home: &Path) -> Self {
        let limits = Limits { skip_ms: 200, offer_ms: 5000, ..Limits::default() };
        let daemon = Daemon::open(Loaded::read(home).unwrap(), limits).await.unwrap();
        let (core, stop) = (daemon.core(), CancellationToken::new());
        let task = tokio::spawn(daemon.run(stop.clone()));
        Self { home: home.to_owned(), core, stop, task }
    }

    /// Stops it, and waits until nothing holds the store any more.
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        let core = Arc::downgrade(&self.core);
        drop(self.core);
        // The last owner may still be closing it, on a thread of its own: its locks tell.
        let free = |lock| {
            let file = fs::File::open(self.home.join("data").join(lock)).unwrap();
            file.try_lock().is_ok()
        };
        let closed = || core.strong_count() == 0 && free("journal/LOCK") && free("index/db");
        until("the store is closed", closed).await;
    }

    async fn submit(&self, image: &str) -> JobId {
        let reference = image.parse().unwrap();
        let tenant = Tenant("test".to_owned());
        let image =
            intake::submit(&self.core, &reference, tenant, Class::Gate).await.unwrap().image;
        image.jobs[0].job
    }

    fn job(&self, id: &JobId) -> Job {
        self.core.store.job(id).unwrap().unwrap()
    }
}

struct Place {
    _dir: tempfile::TempDir,
    coordinator: PathBuf,
    worker: PathBuf,
}

/// Folders of a coordinator and of a worker that it knows.
async fn place(registry: &Registry) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let root = SigningKey::generate().unwrap();
    let shared = policy(dir.path(), &registry.host(), &root);
    let coordinator = dir.path().join("coordinator");
    let port = free_port();
    let options = InitOptions {
        listen: format!("127.0.0.1:{port}").parse().unwrap(),
        listen_http: "127.0.0.1:0".parse().unwrap(),
        names: vec!["127.0.0.1".to_owned()],
        verifier_id: "https://coordinator.test/assay".to_owned(),
        publish: None,
    };
    init(&coordinator, &options).unwrap();
    for file in ["policy.toml", "publisher.pub", "acme.pub"] {
        fs::copy(dir.path().join(file), coordinator.join(file)).unwrap();
    }
    let config = coordinator.join("coordinator.toml");
    let text = fs::read_to_string(&config).unwrap();
    let one = text.replace("observations_wanted = 3", "observations_wanted = 1");
    fs::write(&config, one).unwrap();
    let worker = dir.path().join("worker");
    fs::create_dir(&worker).unwrap();
    let identity = Identity::generate(&worker.join("worker.key")).unwrap();
    let text = format!(
        "coordinator = \"https://127.0.0.1:{port}\"\nca = \"../coordinator/ca.pem\"\n\
         coordinator_key = \"../coordinator/verdict.pub\"\npolicy = {:?}\noperator = \"acme\"\n",
        shared.display()
    );
    fs::write(worker.join("worker.toml"), text).unwrap();
    let operator = OperatorRecord {
        operator: "acme".parse().unwrap(),
        root_key: root.public().clone(),
        organisation: "acme".to_owned(),
        affiliations: Vec::new(),
        contact: String::new(),
        valid: validity(),
    };
    let enrolled = WorkerRecord {
        operator: "acme".parse().unwrap(),
        key: identity.key().public().clone(),
        capabilities: Capabilities::default(),
        environment: EnvironmentClass::default(),
        valid: validity(),
    };
    let running = Running::start(&coordinator).await;
    let mut roster = Roster::default();
    let records = vec![
        roster.take_operator(&operator.sign(&root).unwrap()).unwrap(),
        roster.take_worker(&enrolled.sign(&root).unwrap()).unwrap(),
    ];
    running.core.store.append(records).await.unwrap();
    running.stop().await;
    Place { _dir: dir, coordinator, worker }
}

fn start_worker(place: &Place) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(place.worker.join("log"));
    Command::new(env!("CARGO_BIN_EXE_assay"))
        // A relative folder: the child works elsewhere and must find everything nevertheless.
        .current_dir(place.worker.parent().unwrap())
        .args(["--log", "info", "worker", "run", "worker"])
        .stdout(Stdio::null())
        .stderr(log.unwrap())
        .spawn()
        .unwrap()
}

/// Processes that belong to a job of this worker.
fn children(place: &Place) -> Vec<i32> {
    let folder = fs::canonicalize(&place.worker).unwrap().join("work");
    let mark = format!("ASSAY_JOB={}/", folder.display());
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|b| *b == 0).any(|entry| entry.starts_with(mark.as_bytes()))
    })
    .collect()
}

/// The layer of an image's first platform: what a build fetches to compare with.
fn layer_of(registry: &Registry, name: &str) -> String {
    let get = |target: &oci::Target| {
        let (_, _, bytes) = registry.store.manifest(name, target).unwrap();
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()
    };
    let index = get(&oci::Target::Tag("latest".parse().unwrap()));
    let manifest = index["manifests"][0]["digest"].as_str().unwrap();
    let manifest = get(&oci::Target::Digest(manifest.parse().unwrap()));
    manifest["layers"][0]["digest"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_leaves_nothing_behind_and_loses_nothing() {
    let registry = Registry::start(RegistryOptions::default()).await;
    registry.load_layout(FIXTURES);
    let place = place(&registry).await;
    let running = Running::start(&place.coordinator).await;

    // Killed while a child of it builds.
    let layer = layer_of(&registry, "demo/hello");
    registry.fault(Fault::get(format!("/blobs/{layer}"), What::Hang));
    let job = running.submit(&format!("{}/demo/hello:latest", registry.host())).await;
    let mut worker = start_worker(&place);
    until("the child asks for the layer", || registry.count("GET", &layer) > 0).await;
    assert!(!children(&place).is_empty());
    worker.kill().unwrap();
    worker.wait().unwrap();
    until("the child is gone with its worker", || children(&place).is_empty()).await;
    assert_eq!(running.job(&job).answers.len(), 0);
    registry.heal();

    // The next start gives the lease back, gets another, and answers.
    let mut worker = start_worker(&place);
    until("the job is answered", || running.job(&job).answers.len() == 1).await;
    assert!(running.job(&job).tries >= 1, "the first lease was given back, not waited for");

    // The coordinator goes away while the next job runs; then the worker is killed.
    let layer = layer_of(&registry, "demo/web");
    let busy = What::RetryAfter(503, 8);
    registry.fault(Fault::get(format!("/blobs/{layer}"), busy).times(1));
    let job = running.submit(&format!("{}/demo/web:latest", registry.host())).await;
    until("the next child asks for the layer", || registry.count("GET", &layer) > 0).await;
    running.stop().await;
    let pending = place.worker.join("outbox/pending");
    let files = || {
        let all = fs::read_dir(&pending).into_iter().flatten().flatten().map(|e| e.path());
        all.filter(|path| path.extension().is_some_and(|e| e == "json")).collect::<Vec<_>>()
    };
    let results = || files().len();
    until("the result is in the outbox", || results() == 1).await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    let stored: serde_json::Value =
        serde_json::from_slice(&fs::read(&files()[0]).unwrap()).unwrap();
    let envelope = Envelope::parse(stored["envelope"].to_string().as_bytes()).unwrap();
    assert_eq!(Observation::read(&envelope).unwrap().job, job);

    let running = Running::start(&place.coordinator).await;
    let mut worker = start_worker(&place);
    let id = envelope.observation_id();
    until("the result is on the coordinator's disk", || {
        running.core.store.observation(&id).unwrap().is_some()
    })
    .await;
    until("the outbox is empty", || results() == 0).await;
    let answers = running.job(&job).answers;
    assert_eq!(answers.iter().filter(|answer| answer.observation == id).count(), 1);
    assert_eq!(answers.len(), 1, "{answers:?}");
    worker.kill().unwrap();
    worker.wait().unwrap();
    running.stop().await;
}
