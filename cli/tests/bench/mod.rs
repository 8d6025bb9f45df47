//! What the tests of the built binary share: a registry with faults, policies, and the binary run
//! as somebody runs it.
//!
//! Invariant: the binary is the built one, in a process of its own, without the configuration of
//! whoever runs the tests; the registry is the harness's and listens on loopback only.

// Each test binary uses a part of it.
#![allow(dead_code)]

pub mod coordinator;
pub mod fleet;
pub mod https;

use harness::registry::{Registry, RegistryOptions};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};
use tempfile::TempDir;
use tokio::process::Command;

/// The published cases.
pub fn fixtures() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/published");
    fs::canonicalize(folder).unwrap()
}

/// What `cases.json` says of a case.
pub fn case(name: &str) -> Value {
    let bytes = fs::read(fixtures().join("cases.json")).unwrap();
    let mut cases: Value = serde_json::from_slice(&bytes).unwrap();
    cases[name].take()
}

/// What a run of the binary came to.
#[derive(Debug)]
pub struct Run {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Run {
    /// Standard output as the one JSON value that it must be.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("{e}: {:?}\nstandard error: {}", self.out, self.err))
    }
}

/// The binary, not started yet, in an environment of its own.
pub fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    confined(&mut command, home);
    command
}

/// The same through a shell: `"$0" "$@"` is the binary with its arguments.
pub fn through_shell(home: &Path, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_assay"));
    confined(&mut command, home);
    command
}

fn confined(command: &mut Command, home: &Path) {
    command.env("HOME", home).stdin(Stdio::null()).kill_on_drop(true);
    for name in ["XDG_CONFIG_HOME", "DOCKER_CONFIG", "ASSAY_STORE", "ASSAY_LOG", "ASSAY_LOG_JSON"] {
        command.env_remove(name);
    }
    for name in ["ASSAY_COORDINATOR", "ASSAY_CA", "ASSAY_KEY", "RUST_LOG"] {
        command.env_remove(name);
    }
}

/// The exit code and standard error of a command whose standard output nobody reads.
pub async fn unread(mut command: Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().await.unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs a command to its end.
pub async fn run(mut command: Command) -> Run {
    let output = command.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A registry with the published cases, a folder, and policies.
pub struct Bench {
    /// The registry.
    pub registry: Registry,
    /// For everything else.
    pub folder: TempDir,
}

impl Bench {
    /// Starts it.
    pub async fn start() -> Self {
        // One TLS provider in this process: its tests speak TLS, too.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let registry = Registry::start(RegistryOptions::default()).await;
        registry.load_layout(fixtures());
        Self { registry, folder: tempfile::tempdir().unwrap() }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `HOST/demo/NAME:latest`.
    pub fn image(&self, name: &str) -> String {
        format!("{}/demo/{name}:latest", self.registry.host())
    }

    /// `HOST/demo/NAME@sha256:…`, the index of a case.
    pub fn by_digest(&self, name: &str) -> String {
        let index = case(name)["index"].as_str().unwrap().to_owned();
        format!("{}/demo/{name}@{index}", self.registry.host())
    }

    /// Writes a policy for the registry and the fixtures' layout, with more tables at its end.
    pub fn policy(&self, name: &str, more: &str) -> String {
        let host = self.registry.host();
        let key = fs::read(fixtures().join("packages/assay-test-6a1f.rsa.pub")).unwrap();
        let pin = attest::Digest::of(&key);
        fs::copy(fixtures().join("keys/publisher.pub"), self.path("publisher.pub")).unwrap();
        let packages = fixtures().join("packages");
        let text = format!(
            "[[publisher]]\nrepositories = [\"{host}/demo/*\", \"oci:*\"]\n\
             key = \"publisher.pub\"\ntransparency = \"none\"\n\n\
             [[package_repository]]\nurl = \"https://packages.assay.test/*\"\n\
             keys = \"discovery\"\npins = [\"{pin}\"]\ncomplete = true\n\n\
             [[mirror]]\nprefix = \"https://packages.assay.test/\"\n\
             url = \"file://{}/\"\ncomplete = true\n\n\
             [[registry]]\nhost = \"{host}\"\nplain_http = true\n\n{more}",
            packages.display()
        );
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs the binary to its end.
    pub async fn assay(&self, arguments: &[&str]) -> Run {
        let mut command = command(self.folder.path());
        command.args(arguments);
        run(command).await
    }

    /// `verify IMAGE --format json` under a policy.
    pub async fn verify(&self, image: &str, policy: &str, more: &[&str]) -> Run {
        let arguments = ["verify", image, "--policy", policy, "--format", "json"];
        self.assay(&[&arguments[..], more].concat()).await
    }
}

/// Says that a test was skipped for want of a program, or fails where none may be missing.
pub fn skipped(why: &str) {
    assert!(
        std::env::var_os("ASSAY_REQUIRE_PEERS").is_none_or(|v| v != "1"),
        "ASSAY_REQUIRE_PEERS is set: {why}"
    );
    unable(why);
}

/// Says that this machine does not let a test do what it needs (a mount namespace).
pub fn unable(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
