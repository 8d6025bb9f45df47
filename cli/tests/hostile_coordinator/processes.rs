//! The worker's process and the one that builds: killed, hung, not started, or on a key that others
//! can read.

use crate::{Scene, observed, signal};
use attest::observation::Outcome;
use harness::registry::{Fault, What};
use proto::v1;
use std::{fs, process::Stdio};
use tokio::process::Child;

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
    let synced = |state: &crate::bench::coordinator::State| (!state.syncs.is_empty()).then_some(());
    scene.coordinator.wait("a sync", synced).await;
    // The program is replaced, and its file is not there for a moment.
    fs::remove_file(&program).unwrap();
    for serial in 1..=2 {
        let at = scene.coordinator.state().syncs.len();
        let (lease, offered) = scene.hello(serial);
        scene.coordinator.change(|state| state.offers.push_back(offered));
        let reason = scene.declined(&lease).await;
        assert!(reason.contains("expected to start the build"), "{reason}");
        let rests = |state: &crate::bench::coordinator::State| {
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
