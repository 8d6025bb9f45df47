//! A real coordinator of the built binary in a process of its own, and what administrators and
//! operators do with it, as OPERATING.md has it.

use super::{Bench, Run, command};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
};

/// The coordinator.
pub struct Fleet {
    /// Its folder.
    pub folder: PathBuf,
    /// `https://127.0.0.1:PORT` of its gRPC.
    pub address: String,
    /// `https://127.0.0.1:PORT` of its HTTP.
    pub http: String,
    child: Child,
    connection: Vec<String>,
}

impl Fleet {
    /// Makes a coordinator's folder with the bench's policy and starts it.
    pub async fn start(bench: &Bench, more: &str) -> Self {
        let folder = bench.path("coordinator");
        let dir = folder.to_str().unwrap();
        let listen = ["--listen", "127.0.0.1:0", "--listen-http", "127.0.0.1:0"];
        let made = bench.assay(&[&["coordinator", "init", dir][..], &listen].concat()).await;
        assert_eq!(made.code, Some(0), "{made:?}");
        let policy = bench.policy("coordinator-policy.toml", more);
        fs::copy(policy, folder.join("policy.toml")).unwrap();
        fs::copy(bench.path("publisher.pub"), folder.join("publisher.pub")).unwrap();
        let (child, address, http) = spawn(bench, &folder).await;
        let connection = connection(&folder, &address);
        Self { folder, address, http, child, connection }
    }

    /// `--coordinator … --ca … --key …` of the administrator.
    pub fn connection(&self) -> Vec<&str> {
        self.connection.iter().map(String::as_str).collect()
    }

    /// Kills it, as a power loss would.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again over the same folder.
    pub async fn restart(&mut self, bench: &Bench) {
        (self.child, self.address, self.http) = spawn(bench, &self.folder).await;
        self.connection = connection(&self.folder, &self.address);
    }

    /// A worker's folder, as `worker init` makes it.
    pub async fn worker(&self, bench: &Bench, operator: &str, policy: &str) -> PathBuf {
        let folder = bench.path(&format!("worker-{operator}"));
        let (ca, key) = (self.folder.join("ca.pem"), self.folder.join("verdict.pub"));
        let made = init_worker(bench, &folder, &self.address, (&ca, &key), operator, policy).await;
        assert_eq!(made.code, Some(0), "{made:?}");
        folder
    }

    /// An operator's root key.
    async fn root_key(&self, bench: &Bench, name: &str, dir: &str) -> String {
        let folder = bench.path(dir);
        fs::create_dir_all(&folder).unwrap();
        let key = folder.join(format!("{name}.key"));
        if !key.exists() {
            let dir = folder.to_str().unwrap();
            let made = bench.assay(&["operator", "keygen", name, "--dir", dir]).await;
            assert_eq!(made.code, Some(0), "{made:?}");
        }
        key.to_str().unwrap().to_owned()
    }

    async fn operator(&self, bench: &Bench, words: &[&str], key: &str) -> Run {
        let arguments = [&["operator"][..], words, &["--root-key", key], &self.connection()];
        bench.assay(&arguments.concat()).await
    }

    /// Adds an operator with a new root key.
    pub async fn add_operator(&self, bench: &Bench, name: &str) {
        let key = self.root_key(bench, name, "roots").await;
        let added = self.operator(bench, &["add", name], &key).await;
        assert_eq!(added.code, Some(0), "{added:?}");
    }

    /// The same name with another root key.
    pub async fn add_operator_again(&self, bench: &Bench, name: &str) -> Run {
        let key = self.root_key(bench, name, "other-roots").await;
        self.operator(bench, &["add", name], &key).await
    }

    /// Vouches for a worker.
    pub async fn enrol(&self, bench: &Bench, name: &str, worker: &Path) -> Run {
        let key = self.root_key(bench, name, "roots").await;
        let words = ["enroll-worker", worker.to_str().unwrap(), "--operator", name];
        self.operator(bench, &words, &key).await
    }

    /// Takes a worker's key back.
    pub async fn revoke(&self, bench: &Bench, name: &str, worker: &Path) -> Run {
        let key = self.root_key(bench, name, "roots").await;
        let words = ["revoke", worker.to_str().unwrap(), "--operator", name];
        self.operator(bench, &words, &key).await
    }
}

/// `worker init`.
pub async fn init_worker(
    bench: &Bench,
    folder: &Path,
    address: &str,
    (ca, key): (&Path, &Path),
    operator: &str,
    policy: &str,
) -> Run {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (folder, ca, key) = (path(folder), path(ca), path(key));
    bench
        .assay(&[
            "worker",
            "init",
            &folder,
            "--coordinator",
            address,
            "--coordinator-key",
            &key,
            "--ca",
            &ca,
            "--policy",
            policy,
            "--operator",
            operator,
        ])
        .await
}

fn connection(folder: &Path, address: &str) -> Vec<String> {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let words = ["--coordinator", address, "--ca", &path("ca.pem"), "--key", &path("admin.key")];
    words.map(str::to_owned).to_vec()
}

/// Starts the coordinator and reads where it listens.
async fn spawn(bench: &Bench, folder: &Path) -> (Child, String, String) {
    let mut command = command(bench.folder.path());
    command.args(["coordinator", "run"]).arg(folder).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((grpc, http)) =
            line.strip_prefix("gRPC on ").and_then(|rest| rest.split_once(", HTTPS on "))
        {
            let (grpc, http) = (format!("https://{grpc}"), format!("https://{http}"));
            // Whatever it says later must not fill the pipe.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (child, grpc, http);
        }
        said.push(line);
    }
    panic!("the coordinator did not start: {said:?}")
}
