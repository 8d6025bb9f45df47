//! The real worker (the built binary, its own process, real gRPC over TLS) against a coordinator
//! that lies: what it is offered, what it is told about its results, and what happens to the
//! process that builds.

mod bench;

use attest::{
    Digest, Subject,
    dsse::Envelope,
    id::{LeaseId, WorkerId},
    key::{PublicKey, SigningKey},
    observation::{Observation, Outcome, Refusal},
    record::{JobAnnounce, Lease, Record as _},
};
use bench::{
    Bench, case,
    coordinator::{Acknowledge, Scripted, honest, offer},
    fleet::init_worker,
};
use harness::registry::{Fault, What};
use proto::v1;
use std::{fs, path::PathBuf, process::Stdio, sync::Arc};
use tokio::process::Child;

/// A registry, a scripted coordinator, and a worker's folder.
struct Scene {
    bench: Bench,
    coordinator: Scripted,
    folder: PathBuf,
    worker: WorkerId,
    recipe: Digest,
}

impl Scene {
    async fn new() -> Self {
        let bench = Bench::start().await;
        let coordinator = Scripted::start(&bench.path("coordinator")).await;
        let policy = bench.policy("worker.toml", "");
        let folder = bench.path("worker");
        let (ca, key) = (coordinator.folder.join("ca.pem"), coordinator.folder.join("verdict.pub"));
        let keys = (ca.as_path(), key.as_path());
        let made = init_worker(&bench, &folder, &coordinator.address, keys, "acme", &policy).await;
        assert_eq!(made.code, Some(0), "{made:?}");
        let pem = fs::read_to_string(folder.join("worker.pub")).unwrap();
        let worker = WorkerId(PublicKey::from_pem(&pem).unwrap().id());
        let run =
            bench.verify(&bench.image("hello"), &policy, &["--platform", "linux/amd64"]).await;
        let recipe = run.json()["platforms"][0]["recipe"]["digest"].as_str().unwrap().to_owned();
        let recipe = recipe.parse().unwrap();
        Self { bench, coordinator, folder, worker, recipe }
    }

    /// Starts the worker; its standard error goes to a file.
    fn start(&self) -> Child {
        let mut command = bench::command(self.bench.folder.path());
        let log = fs::File::create(self.bench.path("worker.log")).unwrap();
        command.args(["worker", "run"]).arg(&self.folder).stderr(Stdio::from(log));
        command.spawn().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.bench.path("worker.log")).unwrap()
    }

    /// The amd64 image of a case.
    fn subject(&self, name: &str) -> Subject {
        let case = case(name);
        let digest = case["platforms"]["linux/amd64"]["manifest"].as_str().unwrap();
        Subject {
            repository: format!("{}/demo/{name}", self.bench.registry.host()).parse().unwrap(),
            digest: digest.parse().unwrap(),
            platform: attest::Platform::linux("amd64"),
        }
    }

    /// Lease and job for a case under these recipes.
    fn job(&self, name: &str, recipes: &[Digest], serial: u8) -> (Lease, JobAnnounce) {
        let index = case(name)["index"].as_str().unwrap().parse().unwrap();
        honest(&self.subject(name), Some(index), recipes, self.worker, serial)
    }

    /// Kills a worker; nothing that is answered from now on goes to it.
    async fn kill(&self, worker: &mut Child) {
        worker.kill().await.unwrap();
        self.coordinator.change(|state| state.killed += 1);
    }

    /// What an honest coordinator offers for `hello`.
    fn hello(&self, serial: u8) -> (LeaseId, v1::Offer) {
        let (lease, announce) = self.job("hello", &[self.recipe], serial);
        let key = self.coordinator.key();
        (lease.lease, offer((&lease, key), (&announce, key)))
    }

    /// Waits until this lease is given back; the reason.
    async fn declined(&self, lease: &LeaseId) -> String {
        let lease = lease.to_string();
        let given = |state: &bench::coordinator::State| {
            state.declined.iter().find(|(id, _)| *id == lease).map(|(_, reason)| reason.clone())
        };
        self.coordinator.wait("the lease to be given back", given).await
    }

    /// How many results lie in a folder of the outbox.
    fn outbox(&self, name: &str) -> usize {
        fs::read_dir(self.folder.join("outbox").join(name)).unwrap().count()
    }

    /// Offers a job and waits for what the worker signs about it.
    async fn answered(&self, lease: LeaseId, offered: v1::Offer) -> Arc<Observation> {
        self.coordinator.change(|state| state.offers.push_back(offered));
        observed(&self.coordinator.result(&lease, 0).await)
    }
}

/// The observation of a result, after its signature was checked.
fn observed(result: &v1::SubmitRequest) -> Arc<Observation> {
    let envelope = Envelope::parse(&result.envelope).unwrap();
    Observation::read(&envelope).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_lease_job_recipe_or_subject_is_refused_by_name() {
    let scene = Scene::new().await;
    let (key, stranger) = (scene.coordinator.key(), SigningKey::generate().unwrap());
    let (lease, announce) = scene.job("hello", &[scene.recipe], 1);
    let elsewhere = Lease { worker: WorkerId(Digest::of(b"another")), ..lease.clone() };
    let (other_lease, _) = scene.job("tampered", &[scene.recipe], 1);
    let later = Lease { attempt: attest::id::Attempt(2), ..lease.clone() };
    let other_recipe = JobAnnounce { recipes: vec![Digest::of(b"other")], ..announce.clone() };
    let other_subject = JobAnnounce { subject: scene.subject("tampered"), ..announce.clone() };
    let mut other_platform = announce.clone();
    other_platform.subject.platform = attest::Platform::linux("arm64");
    let good = || offer((&lease, key), (&announce, key));
    let exchanged = v1::Offer {
        lease_envelope: good().announce_envelope,
        announce_envelope: good().lease_envelope,
        ..good()
    };
    let mut resigned = good();
    let mut envelope = Envelope::parse(&resigned.lease_envelope).unwrap();
    let other = lease.sign(&stranger).unwrap();
    envelope.signatures = other.signatures;
    resigned.lease_envelope = envelope.to_json();
    let attacks = [
        ("expected a lease for worker", offer((&elsewhere, key), (&announce, key))),
        ("a job that the lease is for", offer((&other_lease, key), (&announce, key))),
        ("attempt 2", offer((&later, key), (&announce, key))),
        ("to be its content", offer((&lease, key), (&other_recipe, key))),
        ("to be its content", offer((&lease, key), (&other_subject, key))),
        ("to be its content", offer((&lease, key), (&other_platform, key))),
        ("the lease is not the coordinator's", offer((&lease, &stranger), (&announce, key))),
        ("the job is not the coordinator's", offer((&lease, key), (&announce, &stranger))),
        ("the lease is not the coordinator's", exchanged),
        ("the lease is not the coordinator's", resigned),
        ("offer refused", v1::Offer { lease_envelope: b"{}".to_vec(), ..good() }),
    ];
    let count = attacks.len();
    scene.coordinator.change(|state| {
        state.offers.extend(attacks.iter().map(|(_, offer)| offer.clone()));
    });
    let mut worker = scene.start();
    // Every sync looks at what the worker said: there are others than those after an attack.
    let what = "a word on every attack";
    let all = |state: &bench::coordinator::State| {
        let said = scene.log().matches("offer refused").count();
        (state.offers.is_empty() && said >= count).then_some(())
    };
    scene.coordinator.wait(what, all).await;
    let log = scene.log();
    for (says, _) in &attacks {
        let expected = attacks.iter().filter(|(text, _)| text == says).count();
        assert!(log.matches(says).count() >= expected, "{says}: {log}");
    }
    assert_eq!(log.matches("offer refused").count(), count, "{log}");
    assert_eq!(scene.coordinator.state().accepted, [""; 0], "none was accepted");
    // What another key signed goes back, so that the job goes elsewhere, and each makes it wait.
    let by_another = log.matches("another key signed it").count();
    assert_eq!((by_another, scene.coordinator.state().declined.len()), (3, 3), "{log}");
    // And the honest one is taken, built and signed, twice offered or not.
    let (lease, offered) = scene.hello(1);
    scene.coordinator.change(|state| state.offers.push_back(offered.clone()));
    let observation = scene.answered(lease, offered).await;
    assert_eq!(observation.subject, scene.subject("hello"));
    let output = observation.output().expect("it was built");
    assert_eq!(output.manifest, scene.subject("hello").digest);
    assert_eq!(scene.coordinator.state().accepted.len(), 1);
    scene.kill(&mut worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_or_publisher_that_the_worker_does_not_find_itself_is_a_signed_refusal() {
    let scene = Scene::new().await;
    let _worker = scene.start();
    let key = scene.coordinator.key();
    let offered = |name: &str, recipes: &[Digest], serial: u8| {
        let (lease, announce) = scene.job(name, recipes, serial);
        (lease.lease, offer((&lease, key), (&announce, key)))
    };
    let forged = Digest::of(b"forged");
    // Lease and job fit each other, and the coordinator signed both: only the recipe is not what
    // follows from the publisher's evidence.
    let (lease, swapped) = offered("hello", &[forged], 1);
    let observation = scene.answered(lease, swapped).await;
    let Outcome::Refused { reason: Refusal::Policy, detail } = &observation.outcome else {
        panic!("{:?}", observation.outcome)
    };
    assert!(detail.contains(&forged.to_string()), "{detail}");
    assert!(detail.contains(&scene.recipe.to_string()), "{detail}");
    // The recipe of another image, for an image that nobody trusted vouches for.
    let (lease, untrusted) = offered("wrong-signer", &[scene.recipe], 2);
    let observation = scene.answered(lease, untrusted).await;
    let refused =
        matches!(observation.outcome, Outcome::Refused { reason: Refusal::Untrusted, .. });
    assert!(refused, "{:?}", observation.outcome);
    // The same bytes where nothing is attested: no recipe to speak about, whatever was announced.
    let (lease, bare) = offered("no-attestation", &[scene.recipe], 3);
    let observation = scene.answered(lease, bare).await;
    assert!(observation.output().is_none(), "{:?}", observation.outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_counts_only_for_this_result_and_from_this_coordinator() {
    let scene = Scene::new().await;
    scene.coordinator.change(|state| {
        state.acknowledge.extend([
            Acknowledge::With(b"{}".to_vec()),
            Acknowledge::ForAnother,
            Acknowledge::ByAnother,
        ]);
    });
    let mut worker = scene.start();
    let (lease, offered) = scene.hello(1);
    scene.coordinator.change(|state| state.offers.push_back(offered));
    // Four times the same bytes: three receipts were none.
    let four = |state: &bench::coordinator::State| {
        (state.results.len() >= 4).then(|| state.results.clone())
    };
    let results = scene.coordinator.wait("four results", four).await;
    assert!(results.iter().all(|result| result.envelope == results[0].envelope));
    let pending = || fs::read_dir(scene.folder.join("outbox/pending")).unwrap().count();
    let filed = |state: &bench::coordinator::State| {
        state.syncs.last().is_some_and(|sync| sync.holds_receipts).then_some(())
    };
    scene.coordinator.wait("a receipt to be filed", filed).await;
    assert_eq!(pending(), 0);
    let log = scene.log();
    for says in ["is not an envelope", "is for another result", "receipt refused"] {
        assert!(log.contains(says), "{says}: {log}");
    }
    // A receipt that came before the sync: the coordinator lost what it acknowledged and says so.
    // The worker has it still, also after a restart, and sends the same bytes.
    scene.kill(&mut worker).await;
    let _worker = scene.start();
    let seen = scene.coordinator.state().results.len();
    scene.coordinator.change(|state| state.resubmit_from = Some(0));
    let again = scene.coordinator.result(&lease, seen).await;
    assert_eq!(again.envelope, results[0].envelope);
    // Nor is an answered lease worked on again.
    let (_, offered) = scene.hello(1);
    let syncs = scene.coordinator.state().syncs.len();
    scene.coordinator.change(|state| state.offers.push_back(offered));
    let later = |state: &bench::coordinator::State| {
        (state.offers.is_empty() && state.syncs.len() > syncs + 2).then_some(())
    };
    scene.coordinator.wait("two more syncs", later).await;
    assert_eq!(scene.coordinator.state().accepted.len(), 1);
}

/// A restored coordinator learns what it lost from a worker's newest receipt. A receipt of its new
/// journal in the place of that one would hide it.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_compared_before_a_result_of_after_a_restore_gets_one() {
    for restarted in ["the worker", "the coordinator"] {
        let mut scene = Scene::new().await;
        let mut worker = scene.start();
        let (_, offered) = scene.hello(1);
        scene.coordinator.change(|state| state.offers.push_back(offered));
        let filed = |state: &bench::coordinator::State| {
            let newest = state.syncs.last().filter(|sync| sync.holds_receipts);
            newest.map(|sync| sync.newest_receipt_observation.clone())
        };
        let first = scene.coordinator.wait("a receipt to be filed", filed).await;
        // The next result waits for its receipt.
        scene.coordinator.change(|state| {
            state.refuse = Some((tonic::Code::Unavailable, "the disk is away".into()));
        });
        let (lease, offered) = scene.hello(2);
        scene.coordinator.change(|state| state.offers.push_back(offered));
        scene.coordinator.result(&lease, 0).await;
        let restored = |state: &mut bench::coordinator::State| {
            (state.refuse, state.resubmit_from) = (None, Some(0));
            (state.results, state.syncs) = (Vec::new(), Vec::new());
        };
        if restarted == "the worker" {
            scene.kill(&mut worker).await;
            scene.coordinator.change(restored);
            worker = scene.start();
        } else {
            scene.coordinator.restart(restored).await;
        }
        let compared = |state: &bench::coordinator::State| state.syncs.first().cloned();
        let compared = scene.coordinator.wait("a comparison", compared).await;
        assert_eq!(compared.newest_receipt_observation, first, "{restarted}");
        assert_eq!(compared.wait_seconds, 0, "{restarted}: what waits is not kept back");
        // What was lost is asked for, and comes with what had no receipt yet.
        let both = |state: &bench::coordinator::State| {
            let leases: std::collections::BTreeSet<_> =
                state.results.iter().map(|result| result.lease.clone()).collect();
            (leases.len() == 2).then_some(())
        };
        scene.coordinator.wait("both results", both).await;
        scene.kill(&mut worker).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_refused_for_good_is_kept_and_does_not_hold_up_the_end() {
    let scene = Scene::new().await;
    let mut worker = scene.start();
    scene.coordinator.change(|state| {
        let why = "expected an observation of another subject".to_owned();
        state.refuse = Some((tonic::Code::InvalidArgument, why));
    });
    let (lease, offered) = scene.hello(1);
    scene.coordinator.change(|state| state.offers.push_back(offered));
    scene.coordinator.result(&lease, 0).await;
    signal("-TERM", worker.id().unwrap());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(120), worker.wait());
    assert_eq!(ended.await.expect("the worker to end").unwrap().code(), Some(0));
    let log = scene.log();
    assert!(log.contains("refuses a result for good"), "{log}");
    assert!(log.contains("1 results were refused by the coordinator for good"), "{log}");
    assert_eq!((scene.outbox("refused"), scene.outbox("pending")), (1, 0));
    // The next start does not send it, and does not answer the lease again.
    let sent = scene.coordinator.state().results.len();
    assert_eq!(sent, 2, "once, and once more after a sync");
    let (_, offered) = scene.hello(1);
    scene.coordinator.change(|state| {
        state.refuse = None;
        state.syncs.clear();
        state.offers.push_back(offered);
    });
    let mut worker = scene.start();
    let some = |state: &bench::coordinator::State| {
        (state.syncs.len() > 2 && state.offers.is_empty()).then_some(())
    };
    scene.coordinator.wait("some syncs", some).await;
    assert_eq!(scene.coordinator.state().results.len(), sent);
    assert_eq!(scene.coordinator.state().accepted.len(), 1);
    scene.kill(&mut worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_start_jobs_asks_for_none_for_a_while_and_goes_on_syncing() {
    let scene = Scene::new().await;
    let program = scene.bench.path("assay");
    let install = || {
        let built = env!("CARGO_BIN_EXE_assay");
        fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
    };
    install();
    let log = fs::File::create(scene.bench.path("worker.log")).unwrap();
    let mut command = tokio::process::Command::new(&program);
    command.args(["worker", "run"]).arg(&scene.folder).stderr(Stdio::from(log));
    command.env("HOME", scene.bench.folder.path()).kill_on_drop(true);
    let mut worker = command.spawn().unwrap();
    let synced = |state: &bench::coordinator::State| (!state.syncs.is_empty()).then_some(());
    scene.coordinator.wait("a sync", synced).await;
    // The program is replaced, and its file is not there for a moment.
    fs::remove_file(&program).unwrap();
    for serial in 1..=2 {
        let at = scene.coordinator.state().syncs.len();
        let (lease, offered) = scene.hello(serial);
        scene.coordinator.change(|state| state.offers.push_back(offered));
        let reason = scene.declined(&lease).await;
        assert!(reason.contains("expected to start the build"), "{reason}");
        let rests = |state: &bench::coordinator::State| {
            let mut new = state.syncs[at..].iter();
            new.any(|sync| sync.slots_free == 0 && sync.leases.is_empty()).then_some(())
        };
        scene.coordinator.wait("a sync that asks for nothing", rests).await;
    }
    assert_eq!(scene.log().matches("a job could not be run on this machine").count(), 1);
    install();
    let (lease, offered) = scene.hello(4);
    let observation = scene.answered(lease, offered).await;
    assert!(observation.output().is_some());
    scene.kill(&mut worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_by_a_day_is_said_and_changes_nothing() {
    let scene = Scene::new().await;
    scene.coordinator.change(|state| state.clock_off = -86_400);
    let doctor = scene.bench.assay(&["worker", "doctor", scene.folder.to_str().unwrap()]).await;
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.out.contains("clocks differ by -86"), "{doctor:?}");
    assert!(doctor.out.contains("set this machine's clock"), "{doctor:?}");
    let _worker = scene.start();
    let (lease, offered) = scene.hello(1);
    let observation = scene.answered(lease, offered).await;
    assert_eq!(observation.output().unwrap().manifest, scene.subject("hello").digest);
    let log = scene.log();
    assert!(log.contains("clock differs from the coordinator's"), "{log}");
    scene.coordinator.change(|state| state.clock_off = 0);
    let doctor = scene.bench.assay(&["worker", "doctor", scene.folder.to_str().unwrap()]).await;
    assert!(!doctor.out.contains("clocks differ by -86"), "{doctor:?}");
}

/// The processes whose parent is this one (proc(5), `/proc/PID/stat`, the fourth field).
fn children(parent: u32) -> Vec<u32> {
    let stat = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent_of = |pid: u32| -> Option<u32> {
        let stat = stat(pid)?;
        let rest = stat.rsplit_once(") ")?.1;
        rest.split(' ').nth(1)?.parse().ok()
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// Offers a job, waits until its process reads from the registry, and gives its number.
async fn building(scene: &Scene, worker: &Child, offered: v1::Offer) -> u32 {
    let blobs = scene.bench.registry.count("GET", "/blobs/");
    scene.coordinator.change(|state| state.offers.push_back(offered));
    let asked = scene.bench.registry.asked("GET", "/blobs/", blobs);
    let waited = tokio::time::timeout(std::time::Duration::from_secs(120), asked);
    waited.await.expect("the build to read a blob");
    let found = children(worker.id().unwrap());
    assert_eq!(found.len(), 1, "one process per job");
    found[0]
}

fn signal(name: &str, pid: u32) {
    let killed = std::process::Command::new("kill").arg(name).arg(pid.to_string()).status();
    assert!(killed.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_dies_or_hangs_is_a_signed_outcome_and_the_worker_goes_on() {
    let scene = Scene::new().await;
    let mut worker = scene.start();
    // The build waits for a blob that never comes.
    scene.bench.registry.fault(Fault::get("/blobs/", What::Hang));
    let (lease, offered) = scene.hello(1);
    let child = building(&scene, &worker, offered).await;
    // It is its own group, and has no key.
    let environment = fs::read(format!("/proc/{child}/environ")).unwrap();
    assert!(!environment.windows(10).any(|w| w == b"worker.key"));
    signal("-ABRT", child);
    let observation = observed(&scene.coordinator.result(&lease, 0).await);
    let Outcome::BuildFailed { class, .. } = &observation.outcome else {
        panic!("{:?}", observation.outcome)
    };
    assert_eq!(class, "crash-signal-6");
    // Whoever kills it from outside says nothing about the image: the lease is given back.
    for (serial, name, number) in [(5, "-KILL", 9), (6, "-TERM", 15)] {
        let (lease, offered) = scene.hello(serial);
        let child = building(&scene, &worker, offered).await;
        // More than there are slots is not taken, whoever offers it.
        let (more, offered) = scene.hello(serial + 10);
        scene.coordinator.change(|state| {
            state.pushes = true;
            state.offers.push_back(offered);
        });
        let reason = scene.declined(&more).await;
        assert!(reason.contains("no slot of this worker is free"), "{reason}");
        scene.coordinator.change(|state| state.pushes = false);
        signal(name, child);
        let reason = scene.declined(&lease).await;
        assert!(reason.contains(&format!("signal {number} ended it")), "{reason}");
    }
    assert_eq!(scene.coordinator.state().results.len(), 1, "nothing was signed about it");
    // The hard cap: the coordinator grants one second, the configuration an hour.
    scene.coordinator.change(|state| state.execution_seconds = 1);
    let (lease, offered) = scene.hello(3);
    scene.coordinator.change(|state| state.offers.push_back(offered));
    let observation = observed(&scene.coordinator.result(&lease, 0).await);
    let Outcome::Timeout { limit_seconds: 1 } = observation.outcome else {
        panic!("{:?}", observation.outcome)
    };
    assert_eq!(children(worker.id().unwrap()), [0; 0], "nothing of the group is left");
    // The worker lives, and does the next job.
    scene.bench.registry.heal();
    scene.coordinator.change(|state| state.execution_seconds = 600);
    let (lease, offered) = scene.hello(4);
    let observation = scene.answered(lease, offered).await;
    assert_eq!(observation.output().unwrap().manifest, scene.subject("hello").digest);
    assert!(worker.try_wait().unwrap().is_none());
    // Its folder of jobs is empty again.
    assert_eq!(fs::read_dir(scene.folder.join("work")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_not_start_on_a_key_that_others_can_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new().await;
    let key = scene.folder.join("worker.key");
    let mode = || fs::metadata(&key).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o600);
    for name in ["verdict.key", "tls.key", "admin.key"] {
        let meta = fs::metadata(scene.coordinator.folder.join(name)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o600, "{name}");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let folder = scene.folder.to_str().unwrap();
    let run = scene.bench.assay(&["worker", "run", folder]).await;
    assert_eq!(run.code, Some(2), "{run:?}");
    for says in ["worker.key", "(0600)", "found mode 0644", "chmod 600"] {
        assert!(run.err.contains(says), "{says}: {run:?}");
    }
    let doctor = scene.bench.assay(&["worker", "doctor", folder]).await;
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.out.contains("BAD") && doctor.out.contains("0644"), "{doctor:?}");
    assert!(scene.coordinator.state().syncs.is_empty(), "nobody was spoken to");
    // The coordinator's keys, too.
    let secret = scene.coordinator.folder.join("verdict.key");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    let folder = scene.coordinator.folder.to_str().unwrap();
    let run = scene.bench.assay(&["coordinator", "run", folder]).await;
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.err.contains("verdict.key") && run.err.contains("chmod 600"), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_kept_is_not_sent() {
    let scene = Scene::new().await;
    let outbox = scene.folder.join("outbox");
    fs::create_dir_all(&outbox).unwrap();
    // One page: the folders fit, a result does not.
    let script = "mount -t tmpfs -o size=4k tmpfs \"$OUTBOX\" || exit 99; \"$0\" \"$@\"; \
                  code=$?; find \"$OUTBOX\" -type f >&2; exit $code";
    let mut command = tokio::process::Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_assay"), "worker", "run"]);
    command.arg(&scene.folder).env("OUTBOX", &outbox).env("HOME", scene.bench.folder.path());
    command.kill_on_drop(true);
    let (lease, offered) = scene.hello(1);
    scene.coordinator.change(|state| state.offers.push_back(offered));
    let output = match command.output().await {
        Ok(output) => output,
        Err(error) => return bench::skipped(&format!("unshare(1) is not here: {error}")),
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(99) || said.contains("unshare failed") {
        return bench::unable(&format!("no disk could be mounted: {said}"));
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
    for says in ["expected to write", "outbox", "No space left on device"] {
        assert!(said.contains(says), "{says}: {said}");
    }
    assert!(!said.lines().any(|line| line.ends_with(".new")), "half a result was left: {said}");
    assert!(scene.coordinator.state().results.is_empty(), "what is not kept is not sent");
    // With room again the next process gives that lease back, and the next one is answered.
    let _worker = scene.start();
    let reason = scene.declined(&lease).await;
    assert!(reason.contains("was killed while it was at it"), "{reason}");
    let (lease, offered) = scene.hello(2);
    let observation = scene.answered(lease, offered).await;
    assert!(observation.output().is_some());
}
