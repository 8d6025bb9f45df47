//! The fleet of the demonstration: registry, coordinator, operators, workers, client.

use super::images::{DemoImage, IMAGES};
use crate::{command::fleet::failed, exit::Failure};
use attest::{
    Digest,
    id::OperatorId,
    key::SigningKey,
    record::{Capabilities, EnvironmentClass, OperatorRecord, Record, Validity, WorkerRecord},
    time::Timestamp,
};
use coordinator::{
    daemon::Daemon,
    queue::Limits,
    setup::{InitOptions, Loaded, init},
};
use oci::{
    Layout,
    reference::{Tag, Target},
    serve::{ServeOptions, Store, router},
};
use proto::v1::{self, image_service_client::ImageServiceClient};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use worker::daemon::{
    child::Launcher,
    config::Loaded as WorkerLoaded,
    connect,
    identity::Identity,
    run::{Stop, Worker},
};

/// Who takes part. `mallory` claims what is published without building it.
const FIRST: [&str; 3] = ["mallory", "acme", "globex"];
const LATE: [&str; 2] = ["initech", "hooli"];

/// A running fleet.
pub struct Fleet {
    folder: PathBuf,
    registry: String,
    client: ImageServiceClient<Channel>,
    references: Vec<(DemoImage, String)>,
    workers: Vec<(CancellationToken, JoinHandle<()>)>,
    late_started: bool,
    stop: CancellationToken,
    coordinator: JoinHandle<()>,
}

impl Fleet {
    /// Starts everything but the late operators.
    pub async fn start(folder: &Path, fixtures: &Path) -> Result<Self, Failure> {
        let registry = start_registry(fixtures).await?;
        let home = folder.join("coordinator");
        let loopback = "127.0.0.1:0".parse().map_err(anyhow::Error::from)?;
        let options = InitOptions {
            listen: loopback,
            listen_http: loopback,
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            verifier_id: "https://demo.assay.test/coordinator".to_owned(),
            publish: None,
        };
        init(&home, &options)?;
        let roots = operators()?;
        let verdict_pub = fs::read_to_string(home.join("verdict.pub"))?;
        write_policies(folder, fixtures, &registry, &roots, &verdict_pub)?;
        fs::copy(folder.join("fleet.toml"), home.join("policy.toml"))?;
        copy_keys(folder, &home)?;
        let daemon = Daemon::open(Loaded::read(&home)?, limits()).await?;
        let address = format!("https://{}", daemon.grpc);
        let stop = CancellationToken::new();
        let coordinator = {
            let stop = stop.clone();
            tokio::spawn(async move {
                if let Err(error) = daemon.run(stop).await {
                    crate::output::say(&format!("the coordinator ended: {error}"));
                }
            })
        };
        let ca = fs::read_to_string(home.join("ca.pem"))?;
        let admin = Identity::load(&home.join("admin.key"))?;
        let channel = connect::channel(&address, Some(&ca), &admin)?;
        for (name, root) in &roots {
            enrol(folder, &channel, &address, name, root).await?;
        }
        let client =
            ImageServiceClient::new(channel).max_decoding_message_size(proto::MESSAGE_BYTES_MAX);
        let mut fleet = Self {
            folder: folder.to_owned(),
            registry,
            client,
            references: Vec::new(),
            workers: Vec::new(),
            late_started: false,
            stop,
            coordinator,
        };
        for name in FIRST {
            fleet.start_worker(name)?;
        }
        Ok(fleet)
    }

    fn start_worker(&mut self, name: &str) -> Result<(), Failure> {
        let home = self.folder.join("workers").join(name);
        let loaded = WorkerLoaded::read(&home)?;
        let identity = Identity::load(&loaded.key_path())?;
        let mut launcher = Launcher::this_program()?;
        if name == "mallory" {
            launcher.arguments = vec!["worker".into(), "lie".into()];
        }
        let worker = Worker::open(loaded, identity, launcher)?;
        let stop = Stop::default();
        let now = stop.now.clone();
        let label = name.to_owned();
        let task = tokio::spawn(async move {
            if let Err(error) = worker.run(stop).await {
                crate::output::say(&format!("worker {label} ended: {error}"));
            }
        });
        self.workers.push((now, task));
        Ok(())
    }

    /// Starts those who come late, once.
    pub fn start_late_workers(&mut self) -> Result<(), Failure> {
        if self.late_started {
            return Ok(());
        }
        self.late_started = true;
        crate::output::say("  they contradict each other: two more operators join");
        for name in LATE {
            self.start_worker(name)?;
        }
        Ok(())
    }

    /// Submits an image by its tag.
    pub async fn submit(&mut self, image: &DemoImage) -> Result<v1::SubmitImageResponse, Failure> {
        let request = v1::SubmitImageRequest {
            image: format!("{}/demo/{}:latest", self.registry, image.name),
            priority: v1::Priority::Push.into(),
        };
        let submitted = self.client.submit(request).await.map_err(failed)?.into_inner();
        let reference = format!("{}@{}", submitted.repository, submitted.digest);
        self.references.push((*image, reference));
        Ok(submitted)
    }

    /// The image's state, once it is another than the known one.
    pub async fn watch(
        &mut self,
        image: &v1::SubmitImageResponse,
        known: &str,
    ) -> Result<v1::ImageState, Failure> {
        let request = v1::WatchImageRequest {
            repository: image.repository.clone(),
            digest: image.digest.clone(),
            known_state: known.to_owned(),
            wait_seconds: 10,
        };
        Ok(self.client.watch(request).await.map_err(failed)?.into_inner())
    }

    /// Keeps what is known about a platform, as a gate reads it.
    pub async fn keep_evidence(
        &mut self,
        image: &DemoImage,
        platform: &v1::PlatformState,
    ) -> Result<(), Failure> {
        let request =
            v1::EvidenceRequest { subject: platform.subject.clone(), explanations: false };
        let evidence = self.client.evidence(request).await.map_err(failed)?.into_inner();
        let folder = self.folder.join("evidence");
        fs::create_dir_all(&folder)?;
        let name = platform.subject.as_ref().map(|s| s.platform.replace('/', "-"));
        let file = format!("{}-{}.json", image.name, name.unwrap_or_default());
        fs::write(folder.join(file), evidence.evidence_set)?;
        Ok(())
    }

    /// The images by digest.
    pub fn references(&self) -> impl Iterator<Item = (&DemoImage, &str)> {
        self.references.iter().map(|(image, reference)| (image, reference.as_str()))
    }

    /// Stops workers and coordinator; the registry stays for the gates.
    pub async fn stop(&mut self) {
        for (now, task) in self.workers.drain(..) {
            now.cancel();
            let _ = task.await;
        }
        self.stop.cancel();
        let _ = (&mut self.coordinator).await;
    }
}

/// Serves the demonstration's images, and nothing else, on loopback.
async fn start_registry(fixtures: &Path) -> Result<String, Failure> {
    let store = Store::default();
    store.load_layout(fixtures)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = router(store, ServeOptions::default());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let layout = Layout::open(fixtures)?;
    for image in &IMAGES {
        let tag: Tag = "latest".parse().map_err(anyhow::Error::from)?;
        let repository = format!("demo/{}", image.name).parse().map_err(anyhow::Error::from)?;
        if layout.tag(&repository, &tag)?.is_none() {
            let text = format!("expected {repository}:{tag} among the fixtures");
            return Err(Failure::Usage(text));
        }
        let _ = Target::Tag(tag);
    }
    Ok(address.to_string())
}

fn operators() -> Result<Vec<(OperatorId, SigningKey)>, Failure> {
    let mut operators = Vec::new();
    for name in FIRST.iter().chain(&LATE) {
        let id = name.parse().map_err(anyhow::Error::from)?;
        operators.push((id, SigningKey::generate()?));
    }
    Ok(operators)
}

/// Short waits, so that the demonstration does not take minutes where a fleet has hours.
fn limits() -> Limits {
    Limits { exhausted_ms: 20_000, skip_ms: 2_000, offer_ms: 5_000, ..Limits::default() }
}

fn validity() -> Result<Validity, Failure> {
    let now = crate::command::fleet::now()?.unix();
    Ok(Validity {
        from: Timestamp::from_unix(now - 3600)?,
        until: Timestamp::from_unix(now + 86_400)?,
    })
}

/// Adds an operator and its worker, whose folder is made here.
async fn enrol(
    folder: &Path,
    channel: &Channel,
    address: &str,
    name: &OperatorId,
    root: &SigningKey,
) -> Result<(), Failure> {
    let mut admin = v1::admin_service_client::AdminServiceClient::new(channel.clone());
    let record = OperatorRecord {
        operator: name.clone(),
        root_key: root.public().clone(),
        organisation: format!("{name} (demonstration)"),
        affiliations: Vec::new(),
        contact: String::new(),
        valid: validity()?,
    };
    let record_envelope = record.sign(root)?.to_json();
    admin.add_operator(v1::AddOperatorRequest { record_envelope }).await.map_err(failed)?;
    let home = folder.join("workers").join(name.as_str());
    fs::create_dir_all(&home)?;
    let identity = Identity::generate(&home.join("worker.key"))?;
    let text = format!(
        "coordinator = {address:?}\nca = \"../../coordinator/ca.pem\"\n\
         coordinator_key = \"../../coordinator/verdict.pub\"\npolicy = \"../../fleet.toml\"\n\
         operator = \"{name}\"\nslots = 2\n"
    );
    fs::write(home.join("worker.toml"), text)?;
    let record = WorkerRecord {
        operator: name.clone(),
        key: identity.key().public().clone(),
        capabilities: Capabilities::default(),
        environment: EnvironmentClass::default(),
        valid: validity()?,
    };
    let record_envelope = record.sign(root)?.to_json();
    admin.enroll_worker(v1::EnrollWorkerRequest { record_envelope }).await.map_err(failed)?;
    Ok(())
}

/// `fleet.toml` for workers and coordinator, `gate.toml` for the gate: the same, each its own file.
fn write_policies(
    folder: &Path,
    fixtures: &Path,
    registry: &str,
    roots: &[(OperatorId, SigningKey)],
    coordinator_pub: &str,
) -> Result<(), Failure> {
    let keys = folder.join("keys");
    fs::create_dir_all(&keys)?;
    fs::copy(fixtures.join("keys/publisher.pub"), keys.join("publisher.pub"))?;
    fs::write(keys.join("coordinator.pub"), coordinator_pub)?;
    let packages = fs::canonicalize(fixtures.join("packages"))?;
    let pin = Digest::of(&fs::read(packages.join("assay-test-6a1f.rsa.pub"))?);
    let mut text = format!(
        "[[publisher]]\nrepositories = [\"{registry}/demo/*\"]\nkey = \"keys/publisher.pub\"\n\
         transparency = \"none\"\n\n[[package_repository]]\nurl = \"https://packages.assay.test/*\"\n\
         keys = \"discovery\"\npins = [\"{pin}\"]\ncomplete = true\n\n[[mirror]]\n\
         prefix = \"https://packages.assay.test/\"\nurl = \"file://{}/\"\ncomplete = true\n\n\
         [[registry]]\nhost = \"{registry}\"\nplain_http = true\n\n[coordinator]\n\
         key = \"keys/coordinator.pub\"\n\n",
        packages.display()
    );
    let mut names = Vec::new();
    for (name, root) in roots {
        fs::write(keys.join(format!("{name}.pub")), root.public().to_pem())?;
        names.push(format!("{:?}", name.as_str()));
        text.push_str(&format!(
            "[[operator]]\nname = \"{name}\"\nroot_key = \"keys/{name}.pub\"\n\n"
        ));
    }
    text.push_str(&format!(
        "[quorum]\noperators = [{}]\nreproduced = 3\nlevel = \"config\"\ntier = \"attested\"\n\
         hints = [\"epoch\", \"install-order\", \"key-set\"]\n",
        names.join(", ")
    ));
    fs::write(folder.join("fleet.toml"), &text)?;
    fs::write(folder.join("gate.toml"), &text)?;
    Ok(())
}

fn copy_keys(folder: &Path, home: &Path) -> Result<(), Failure> {
    let to = home.join("keys");
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(folder.join("keys"))?.flatten() {
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
