//! A folder, a registry with the published images, and the processes of a fleet.
//!
//! Invariant: what is run is the built binary and the programs of the machine, with an environment
//! of its own; every process that was started ends with the stage. Waiting is for something that
//! was printed or can be asked, and has an end.

use crate::peer::{self, Peer};
use axum::{
    extract::Request,
    http::Method,
    middleware::{Next, from_fn},
};
use oci::{Copy, Destination, HostException, ImageSource, NetworkPolicy, SourceOptions};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

/// A command that takes longer hangs: the slowest follows an image through three builds.
pub const COMMAND_MAX: Duration = Duration::from_secs(240);

/// The images of the walk-through, and what is known of them.
pub const IMAGES: [&str; 4] = ["hello", "tampered", "unknown-field", "wrong-signer"];

/// The published images and packages.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/published")
}

/// A registry: a program of the machine, or the one that is part of `oci`.
pub enum Host {
    /// A program.
    Program(Peer),
    /// In this process.
    Own {
        /// Host and port.
        host: String,
        /// How many requests would have changed something.
        writes: Arc<AtomicUsize>,
    },
}

impl Host {
    /// Host and port.
    pub fn name(&self) -> &str {
        match self {
            Self::Program(peer) => &peer.host,
            Self::Own { host, .. } => host,
        }
    }

    /// Ours, at a port that is free, or at a given one.
    pub async fn own(referrers_api: bool, at: Option<&str>) -> Self {
        let listener = tokio::net::TcpListener::bind(at.unwrap_or("127.0.0.1:0")).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let store = oci::serve::Store::default();
        let options = oci::serve::ServeOptions { referrers_api, ..Default::default() };
        let writes = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&writes);
        let counted = move |request: Request, next: Next| {
            if !matches!(*request.method(), Method::GET | Method::HEAD) {
                count.fetch_add(1, Ordering::SeqCst);
            }
            next.run(request)
        };
        let app = oci::serve::router(store, options).layer(from_fn(counted));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self::Own { host, writes }
    }

    /// How many requests so far would have changed something; of ours only.
    pub fn writes(&self) -> usize {
        match self {
            Self::Program(_) => panic!("a program does not say"),
            Self::Own { writes, .. } => writes.load(Ordering::SeqCst),
        }
    }

    /// A client of it.
    pub fn client(&self) -> oci::Registry {
        let exception =
            HostException { host: self.name().to_owned(), plain_http: true, ca_pem: None };
        let network = NetworkPolicy { hosts: vec![exception] };
        oci::Registry::new(&SourceOptions { network, ..SourceOptions::default() })
    }

    /// Pushes images of the fixtures with everything that is attached to them.
    pub async fn fill(&self, names: &[&str]) {
        let layout = oci::Layout::open(fixtures()).unwrap();
        let source = ImageSource::Layout(layout.clone());
        let destination = Destination::Registry(self.client());
        for name in names {
            let from: attest::Repository = format!("demo/{name}").parse().unwrap();
            let to: attest::Repository = format!("{}/demo/{name}", self.name()).parse().unwrap();
            let copy = Copy { source: &source, from: &from, destination: &destination, to: &to };
            for entry in layout.entries().iter().filter(|entry| entry.repository == from) {
                copy.manifest(&entry.descriptor.digest, entry.tag.as_ref()).await.unwrap();
            }
        }
    }
}

/// What a process printed, and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub said: String,
}

/// A process in the background.
struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    silent: Receiver<()>,
}

/// See the module's head.
pub struct Stage {
    folder: tempfile::TempDir,
    /// The environment of every command.
    pub env: BTreeMap<String, String>,
    running: BTreeMap<String, Running>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for running in self.running.values_mut() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// Reads to the end; what `until_the_end` belongs to hears of it by its being dropped.
fn reading(
    mut pipe: impl Read + Send + 'static,
    until_the_end: Sender<()>,
) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        drop(until_the_end);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The exit status of what has nothing more to say, or none if that takes too long.
fn wait(child: &mut Child, silent: &Receiver<()>) -> Option<ExitStatus> {
    match silent.recv_timeout(COMMAND_MAX) {
        Err(RecvTimeoutError::Timeout) => None,
        Ok(()) | Err(RecvTimeoutError::Disconnected) => Some(child.wait().unwrap()),
    }
}

impl Stage {
    /// An empty stage; `assay` is on the path of its commands.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let binary = Path::new(env!("CARGO_BIN_EXE_assay")).parent().unwrap().display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), format!("{binary}:{path}")),
            ("HOME".to_owned(), folder.path().join("home").display().to_string()),
        ]);
        if let Some(cosign) = peer::installed("cosign") {
            let own = cosign.parent().unwrap().display().to_string();
            env.insert("PATH".to_owned(), format!("{binary}:{own}:{path}"));
        }
        Self { folder, env, running: BTreeMap::new() }
    }

    /// A path on the stage.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", line]).current_dir(self.folder.path());
        command.env_clear().envs(&self.env).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command line to its end.
    pub fn run(&self, line: &str) -> Ended {
        let mut child = self.command(line).spawn().unwrap();
        let (until_the_end, silent) = channel();
        let out = reading(child.stdout.take().unwrap(), until_the_end.clone());
        let said = reading(child.stderr.take().unwrap(), until_the_end);
        let status = wait(&mut child, &silent);
        if status.is_none() {
            let _ = child.kill();
        }
        let (out, said) = (out.join().unwrap(), said.join().unwrap());
        assert!(status.is_some(), "{line}\ndoes not end\n{out}\n{said}\n{}", self.background());
        Ended { code: status.unwrap().code(), out, said }
    }

    /// Runs a command line and demands an exit code.
    pub fn expect(&self, line: &str, code: i32) -> Ended {
        let ended = self.run(line);
        let Ended { out, said, .. } = &ended;
        let found = ended.code;
        assert_eq!(found, Some(code), "{line}\n{out}\n{said}\n{}", self.background());
        ended
    }

    /// Runs a command until a condition holds for what it prints, or `COMMAND_MAX` is over.
    pub fn until(&self, line: &str, holds: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + COMMAND_MAX;
        loop {
            let ended = self.expect(line, 0);
            if holds(&ended.out) {
                return ended.out;
            }
            assert!(Instant::now() < end, "{line}\n{}\n{}", ended.out, self.background());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Starts a command in the background; with `ready`, waits until it says so.
    pub fn start(&mut self, name: &str, line: &str, ready: Option<&str>) {
        let mut command = self.command(&format!("exec {line}"));
        command.env("ASSAY_LOG", "info");
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (until_the_end, silent) = channel();
        drop(reading(child.stdout.take().unwrap(), until_the_end.clone()));
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, came) = channel::<String>();
        let kept = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push_str(&format!("{line}\n"));
                let _ = lines.send(line);
            }
            drop(until_the_end);
        });
        self.running.insert(name.to_owned(), Running { child, said, silent });
        let Some(ready) = ready else { return };
        let end = Instant::now() + COMMAND_MAX;
        loop {
            match came.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(ready) => return,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{line}\nnever said {ready:?}\n{}", self.background());
                }
            }
        }
    }

    /// SIGTERM, and a clean end within `COMMAND_MAX`.
    pub fn stop(&mut self, name: &str) {
        let mut running = self.running.remove(name).unwrap_or_else(|| panic!("{name} is not run"));
        let killed = Command::new("kill").arg("-TERM").arg(running.child.id().to_string()).status();
        assert!(killed.unwrap().success());
        let status = wait(&mut running.child, &running.silent);
        let said = running.said.lock().unwrap().clone();
        assert_eq!(status.and_then(|s| s.code()), Some(0), "{name} after SIGTERM:\n{said}");
    }

    /// SIGKILL: nothing is put in order.
    pub fn kill(&mut self, name: &str) {
        let mut running = self.running.remove(name).unwrap_or_else(|| panic!("{name} is not run"));
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// What the processes in the background said so far: their last lines.
    pub fn background(&self) -> String {
        let tail = |text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(30)..].join("\n")
        };
        let shown = self
            .running
            .iter()
            .map(|(name, running)| format!("--- {name}\n{}", tail(&running.said.lock().unwrap())));
        shown.collect::<Vec<_>>().join("\n")
    }
}
