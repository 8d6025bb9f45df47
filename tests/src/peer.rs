//! Real counterparts: programs of the machine that a test starts on loopback.
//!
//! A test runs where its programs are found and otherwise says what it skipped; with
//! `ASSAY_REQUIRE_PEERS=1` (as in `.ci/run`, after `tests/peers/install`) a missing program is a
//! failure. A child ends with its test.
//!
//! The file is also compiled into the tests of `oci` and of `cli`, so it uses no other part of the
//! harness.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// `u` with the password `secret`, as bcrypt.
const HTPASSWD: &str = "u:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
/// A program of the machine, if it is there.
pub fn installed(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join("go/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/bin");
    let folders = std::env::split_paths(&path).chain(home).chain([here]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A program of the machine; none, and a line that says so, if it is not there.
pub fn program(name: &str) -> Option<PathBuf> {
    let found = installed(name);
    if found.is_none() {
        skipped(&format!("{name} is not installed"));
    }
    found
}

/// Says what is not tested.
// A person who reads the test's output has to see what was not tested.
#[allow(clippy::print_stdout)]
pub fn skipped(why: &str) {
    assert!(std::env::var("ASSAY_REQUIRE_PEERS").is_err(), "required, but {why}");
    println!("skipped: {why}");
}

/// A child that ends with its test.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// Host and port, as references write them.
    pub host: String,
    _folder: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free just now, for a program that has to be told one.
///
/// It is below those that the system gives away by itself (32768 and up on Linux), so that nobody
/// gets it by chance before the program listens; each process counts from a place of its own.
pub fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 20_000;
    const PORTS: u32 = 12_000;
    for _ in 0..PORTS {
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let port = FIRST + std::process::id().wrapping_mul(97).wrapping_add(count) % PORTS;
        let port = u16::try_from(port).expect("ports below 32000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// Starts a program that listens on the address it is given, at a port that was free just now.
/// Should somebody else take the port in between, the program ends and is started again.
pub async fn listening(command: impl Fn(&str, &Path) -> Command) -> Peer {
    for _ in 0..5 {
        let folder = tempfile::tempdir().expect("the test's own set-up");
        let host = format!("127.0.0.1:{}", free_port());
        let mut command = command(&host, folder.path());
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the test's own set-up");
        let mut peer = Peer { child, host, _folder: folder };
        for _ in 0..100 {
            if peer.child.try_wait().expect("the test's own set-up").is_some() {
                break;
            }
            if tokio::net::TcpStream::connect(&peer.host).await.is_ok() {
                return peer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    panic!("the program did not come up");
}

/// Debian's registry; `access` is the `auth` part of its configuration.
pub async fn debian(access: &str) -> Option<Peer> {
    let program = program("docker-registry")?;
    let peer = listening(|host, folder| {
        let password_file = folder.join("htpasswd");
        std::fs::write(&password_file, HTPASSWD).expect("the test's own set-up");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {host}\n{}",
            folder.join("data").display(),
            access.replace("FILE", &password_file.display().to_string()),
        );
        let path = folder.join("config.yml");
        std::fs::write(&path, config).expect("the test's own set-up");
        let mut command = Command::new(&program);
        command.arg("serve").arg(path);
        command
    });
    Some(peer.await)
}

/// go-containerregistry's registry, with the referrers API (tests/peers/registry): as installed by
/// `tests/peers/install`, else built now.
pub async fn ggcr() -> Option<Peer> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let built = match installed("referrers-registry") {
        Some(built) => built,
        None => {
            let go = program("go")?;
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/peers/registry");
            let built = folder.path().join("registry");
            let mut build = Command::new(go);
            build.current_dir(source).arg("build").arg("-o").arg(&built).arg(".");
            let output = build.output().expect("go runs");
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                skipped(&format!("tests/peers/registry does not build: {why}"));
                return None;
            }
            built
        }
    };
    let peer = listening(|host, _| {
        let mut command = Command::new(&built);
        command.args(["-addr", host]);
        command
    });
    Some(peer.await)
}
