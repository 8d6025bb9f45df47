//! Programs of the machine that tests run against.
//!
//! A test runs where its programs are found and otherwise says what it skipped; with
//! `ASSAY_REQUIRE_PEERS=1` a missing program is a failure.

use oci::{Credentials, HostException, NetworkPolicy, Registry, SourceOptions};
use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A program; none, and a line that says so, if it is not there.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        skipped(&format!("{name} is not installed"));
    }
    found
}

// A person who reads the test's output has to see what was not tested.
#[allow(clippy::print_stdout)]
fn skipped(why: &str) {
    assert!(std::env::var("ASSAY_REQUIRE_PEERS").is_err(), "required, but {why}");
    println!("skipped: {why}");
}

/// A child that ends with its test.
pub struct Peer {
    child: Child,
    /// Where it listens.
    pub host: String,
    _folder: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// A client that may talk to it.
    pub fn client(&self) -> Registry {
        let host = HostException { host: self.host.clone(), plain_http: true, ca_pem: None };
        let network = NetworkPolicy { hosts: vec![host] };
        let credentials = Credentials::Anonymous;
        Registry::new(&SourceOptions { network, credentials, ..SourceOptions::default() })
    }
}

/// Debian's `docker-registry`, at a port that was free just now.
pub async fn debian_registry() -> Option<Peer> {
    let program = program("docker-registry")?;
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {host}\n",
            folder.path().join("data").display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(&program);
        command.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        let mut peer = Peer { child: command.spawn().unwrap(), host, _folder: folder };
        for _ in 0..100 {
            if peer.child.try_wait().unwrap().is_some() {
                break;
            }
            if tokio::net::TcpStream::connect(&peer.host).await.is_ok() {
                return Some(peer);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    panic!("docker-registry did not come up");
}
