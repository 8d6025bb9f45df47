//! The real worker (the built binary, its own process, real gRPC over TLS) against a coordinator
//! that lies: what it is offered, what it is told about its results, and what happens to the
//! process that builds.

mod bench;
#[path = "hostile_coordinator/offers.rs"]
mod offers;
#[path = "hostile_coordinator/processes.rs"]
mod processes;
#[path = "hostile_coordinator/receipts.rs"]
mod receipts;

use attest::{
    Digest, Subject,
    dsse::Envelope,
    id::{LeaseId, WorkerId},
    key::PublicKey,
    observation::Observation,
    record::{JobAnnounce, Lease},
};
use bench::{
    Bench, case,
    coordinator::{Scripted, honest, offer},
    fleet::init_worker,
};
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

fn signal(name: &str, pid: u32) {
    let killed = std::process::Command::new("kill").arg(name).arg(pid.to_string()).status();
    assert!(killed.unwrap().success());
}
