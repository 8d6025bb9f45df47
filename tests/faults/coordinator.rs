//! A coordinator's folder, its process, and the operators and workers that it knows.
//!
//! Invariant: the process is the built binary with its ordinary arguments; the folder was made by
//! `assay coordinator init`. Whatever is started here is gone when its value is dropped.

use crate::{press::Trust, shown};
use attest::{
    key::{PublicKey, SigningKey},
    record::{Capabilities, EnvironmentClass, OperatorRecord, Record, Validity, WorkerRecord},
    time::Timestamp,
};
use proto::v1::{self, admin_service_client::AdminServiceClient};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;
use tonic::transport::Channel;
use worker::daemon::{connect, identity::Identity};

/// How long a start may take on a busy machine, the index made again included.
const START: Duration = Duration::from_secs(600);
/// Last lines of a process that are kept for messages.
const LINES_MAX: usize = 40;

/// A coordinator's folder, with its operators' keys.
pub struct Home {
    /// The binary.
    pub assay: PathBuf,
    /// The coordinator's folder.
    pub folder: PathBuf,
    /// Where it listens.
    pub address: String,
    /// Names and root keys.
    pub operators: Vec<(String, SigningKey)>,
    /// The authority of its certificate.
    pub ca: String,
    /// Its public key.
    pub key: PublicKey,
    workers: PathBuf,
}

/// This machine's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix(i64::try_from(since.as_secs()).unwrap_or_default()).unwrap_or_default()
}

fn validity() -> Result<Validity, String> {
    let at = |seconds: i64| Timestamp::from_unix(now().unix() + seconds).map_err(shown);
    Ok(Validity { from: at(-3600)?, until: at(86_400)? })
}

impl Home {
    /// Makes the folder below `root`, a policy that trusts these publishers, and `count` operators
    /// with a worker's folder each; `wanted` of them are asked for each image.
    pub fn make(
        assay: &Path,
        root: &Path,
        trust: &Trust,
        count: usize,
        wanted: usize,
    ) -> Result<Self, String> {
        let folder = root.join("coordinator");
        let port = || -> Result<u16, String> {
            let listener = TcpListener::bind("127.0.0.1:0").map_err(shown)?;
            Ok(listener.local_addr().map_err(shown)?.port())
        };
        let (grpc, http) = (format!("127.0.0.1:{}", port()?), format!("127.0.0.1:{}", port()?));
        let made = Command::new(assay)
            .args(["coordinator", "init"])
            .arg(&folder)
            .args(["--listen", &grpc, "--listen-http", &http])
            .output()
            .map_err(shown)?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned());
        }
        let config = folder.join("coordinator.toml");
        let text = fs::read_to_string(&config).map_err(shown)?;
        let text = text
            .replace("observations_wanted = 3", &format!("observations_wanted = {wanted}"))
            .replace("# submissions_per_minute = 600", "submissions_per_minute = 10000000");
        fs::write(&config, text).map_err(shown)?;
        let pem = fs::read_to_string(folder.join("verdict.pub")).map_err(shown)?;
        let mut operators = Vec::new();
        for n in 0..count {
            operators.push((format!("op-{n}"), SigningKey::generate().map_err(shown)?));
        }
        let home = Self {
            assay: assay.to_owned(),
            address: format!("https://{grpc}"),
            ca: fs::read_to_string(folder.join("ca.pem")).map_err(shown)?,
            key: PublicKey::from_pem(&pem).map_err(shown)?,
            workers: root.join("workers"),
            folder,
            operators,
        };
        home.write_policy(trust, wanted)?;
        home.make_workers()?;
        Ok(home)
    }

    fn write_policy(&self, trust: &Trust, wanted: usize) -> Result<(), String> {
        let write =
            |name: &str, text: String| fs::write(self.folder.join(name), text).map_err(shown);
        write("publisher.pub", trust.publisher.clone())?;
        let mut text = format!("{}[coordinator]\nkey = \"verdict.pub\"\n\n", trust.text);
        let mut names = Vec::new();
        for (name, root) in &self.operators {
            write(&format!("{name}.pub"), root.public().to_pem())?;
            names.push(format!("{name:?}"));
            text += &format!("[[operator]]\nname = \"{name}\"\nroot_key = \"{name}.pub\"\n\n");
        }
        text += &format!(
            "[quorum]\noperators = [{}]\nreproduced = {wanted}\nlevel = \"config\"\n\
             tier = \"attested\"\nhints = {}\n",
            names.join(", "),
            trust.hints
        );
        write("policy.toml", text)
    }

    fn make_workers(&self) -> Result<(), String> {
        for (name, _) in &self.operators {
            let folder = self.worker(name);
            fs::create_dir_all(&folder).map_err(shown)?;
            Identity::generate(&folder.join("worker.key")).map_err(shown)?;
            let text = format!(
                "coordinator = {:?}\nca = \"../../coordinator/ca.pem\"\n\
                 coordinator_key = \"../../coordinator/verdict.pub\"\n\
                 policy = \"../../coordinator/policy.toml\"\noperator = \"{name}\"\nslots = 2\n",
                self.address
            );
            fs::write(folder.join("worker.toml"), text).map_err(shown)?;
        }
        Ok(())
    }

    /// The folder of an operator's worker.
    pub fn worker(&self, operator: &str) -> PathBuf {
        self.workers.join(operator)
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A connection with this key.
    pub fn channel(&self, key: &Path) -> Result<Channel, String> {
        let identity = Identity::load(key).map_err(shown)?;
        connect::channel(&self.address, Some(&self.ca), &identity).map_err(shown)
    }

    /// A connection as administrator.
    pub fn admin(&self) -> Result<Channel, String> {
        self.channel(&self.folder.join("admin.key"))
    }

    /// Tells a running coordinator of the operators and their workers.
    pub async fn enrol(&self) -> Result<(), String> {
        let mut admin = AdminServiceClient::new(self.admin()?);
        for (name, root) in &self.operators {
            let record = OperatorRecord {
                operator: name.parse().map_err(shown)?,
                root_key: root.public().clone(),
                organisation: String::new(),
                affiliations: Vec::new(),
                contact: String::new(),
                valid: validity()?,
            };
            let record_envelope = record.sign(root).map_err(shown)?.to_json();
            admin.add_operator(v1::AddOperatorRequest { record_envelope }).await.map_err(shown)?;
            let identity = Identity::load(&self.worker(name).join("worker.key")).map_err(shown)?;
            let record = WorkerRecord {
                operator: name.parse().map_err(shown)?,
                key: identity.key().public().clone(),
                capabilities: Capabilities::default(),
                environment: EnvironmentClass::default(),
                valid: validity()?,
            };
            let record_envelope = record.sign(root).map_err(shown)?.to_json();
            admin
                .enroll_worker(v1::EnrollWorkerRequest { record_envelope })
                .await
                .map_err(shown)?;
        }
        Ok(())
    }

    /// Starts the coordinator and waits until it listens. `set` sees the command before.
    pub fn start(&self, set: impl FnOnce(&mut Command)) -> Result<Process, String> {
        let mut command = Command::new(&self.assay);
        command.args(["coordinator", "run"]).arg(&self.folder);
        set(&mut command);
        Process::start(command, Some("gRPC on "))
    }
}

/// A process of this run.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// Closed when the process has nothing more to say.
    silent: watch::Receiver<()>,
}

impl Process {
    /// Starts it; waits for the line that begins with `ready`, if one is given.
    pub fn start(mut command: Command, ready: Option<&str>) -> Result<Self, String> {
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(shown)?;
        let said = BufReader::new(child.stderr.take().ok_or("expected a pipe")?);
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (sender, heard) = std::sync::mpsc::channel();
        let kept = Arc::clone(&lines);
        let wanted = ready.map(str::to_owned);
        let (saying, silent) = watch::channel(());
        std::thread::spawn(move || {
            let _until_it_is_silent = saying;
            for line in said.lines().map_while(Result::ok) {
                if wanted.as_ref().is_some_and(|wanted| line.starts_with(wanted)) {
                    let _ = sender.send(());
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push(line);
                let surplus = kept.len().saturating_sub(LINES_MAX);
                kept.drain(..surplus);
            }
        });
        let process = Self { child, lines, silent };
        if ready.is_some() && heard.recv_timeout(START).is_err() {
            return Err(format!("a process did not start: {}", process.said()));
        }
        Ok(process)
    }

    /// The last lines that it said.
    pub fn said(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<(), String> {
        self.child.kill().map_err(shown)?;
        self.child.wait().map(|_| ()).map_err(shown)
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> Result<ExitStatus, String> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().map_err(shown)?;
        self.child.wait().map_err(shown)
    }

    /// How it ends, if it does within this time.
    pub async fn ends(&mut self, within: Duration) -> Result<Option<ExitStatus>, String> {
        match tokio::time::timeout(within, self.silent.changed()).await {
            Ok(_) => self.child.wait().map(Some).map_err(shown),
            Err(_) => Ok(None),
        }
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child.try_wait().map_err(shown)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
