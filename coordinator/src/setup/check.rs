//! `assay coordinator check-config DIR`: what is wrong with a coordinator's folder, and what to do.
//!
//! Invariant: nothing is changed and nothing is signed; ports are bound for a moment only, so that a
//! running coordinator is found and not disturbed. A *bad* check stops a coordinator from starting or
//! from ever reaching a verdict; a *doubt* is worth knowing.

use super::config::{Loaded, PublishTarget};
use crate::tls;
use attest::{Repository, policy::Inclusion};
use nix::sys::{
    resource::{Resource, getrlimit},
    statvfs::statvfs,
};
use oci::{HostException, NetworkPolicy, Registry, SourceOptions, Tag};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

/// Room below which a journal of any use does not fit: 1 GiB, some hundred thousand observations.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// Descriptors that a coordinator needs beside its connections: segments, index, registries.
const DESCRIPTORS_BESIDE: u64 = 256;
/// How long the target of publications may take to answer.
const PUBLISH_MAX: Duration = Duration::from_secs(10);

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Good,
    /// Works, but probably not as it was meant.
    Doubt,
    /// Does not work.
    Bad,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty where nothing is to be done.
    pub hint: String,
}

/// Collects checks.
#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn good(&mut self, name: &'static str, found: impl Into<String>) {
        self.add(name, State::Good, found, "");
    }

    fn doubt(&mut self, name: &'static str, found: impl Into<String>, hint: &str) {
        self.add(name, State::Doubt, found, hint);
    }

    fn bad(&mut self, name: &'static str, found: impl Into<String>, hint: &str) {
        self.add(name, State::Bad, found, hint);
    }

    fn add(&mut self, name: &'static str, state: State, found: impl Into<String>, hint: &str) {
        self.0.push(Check { name, state, found: found.into(), hint: hint.to_owned() });
    }
}

/// Looks at everything that a read configuration names.
pub async fn examine(loaded: &Loaded) -> Vec<Check> {
    let mut checks = Checks::default();
    keys(loaded, &mut checks);
    certificate(loaded, &mut checks);
    ports(loaded, &mut checks);
    clients(loaded, &mut checks);
    publishers(loaded, &mut checks);
    quorum(loaded, &mut checks);
    data(loaded, &mut checks);
    limits(loaded, &mut checks);
    identity(loaded, &mut checks);
    publication(loaded, &mut checks).await;
    checks.0
}

/// Reading the configuration refuses verdict.key and tls.key that others can read.
fn keys(loaded: &Loaded, checks: &mut Checks) {
    let folder = &loaded.folder;
    checks.good("keys", "verdict.key and tls.key can be read by their owner only");
    let admin = folder.join("admin.key");
    if let Ok(metadata) = fs::metadata(&admin) {
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            checks.bad(
                "admin key",
                format!("admin.key has mode {mode:04o}"),
                "chmod 600 it, and replace the key if others may have read it",
            );
        } else {
            checks.doubt(
                "admin key",
                "admin.key lies beside the coordinator's keys",
                "move it to the administrator's own machine: the coordinator never needs it",
            );
        }
    }
    if let Ok(metadata) = fs::metadata(folder) {
        let mode = metadata.mode() & 0o777;
        if mode & 0o022 != 0 {
            checks.bad(
                "folder",
                format!("others can write to {}: mode {mode:04o}", folder.display()),
                "chmod go-w it: who can write there can put another key in place",
            );
        }
    }
}

fn certificate(loaded: &Loaded, checks: &mut Checks) {
    match tls::server_config(&loaded.certificate_pem, &loaded.tls_key_pem, &[b"h2"]) {
        Ok(_) => checks.good("certificate", "tls.crt fits tls.key"),
        Err(error) => checks.bad(
            "certificate",
            error.to_string(),
            "give a chain and its key in PEM; `assay coordinator init` makes a pair",
        ),
    }
}

fn ports(loaded: &Loaded, checks: &mut Checks) {
    let (grpc, http) = (loaded.config.listen, loaded.config.listen_http);
    if grpc == http && grpc.port() != 0 {
        let hint = "choose two ports: both listeners need one of their own";
        checks.bad("ports", format!("listen and listen_http are both {grpc}"), hint);
        return;
    }
    for (name, address) in [("listen", grpc), ("listen_http", http)] {
        match TcpListener::bind(address) {
            Ok(_) => checks.good(name, format!("{address} is free")),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => checks.doubt(
                name,
                format!("{address} is taken"),
                "fine if this coordinator is running; else choose another port",
            ),
            Err(error) => {
                checks.bad(name, format!("{address}: {error}"), hint_for(address));
            }
        }
    }
}

fn hint_for(address: SocketAddr) -> &'static str {
    if address.port() < 1024 {
        "ports below 1024 need a capability (CAP_NET_BIND_SERVICE); a higher one needs none"
    } else {
        "give an address of this machine, or 0.0.0.0 for all of them"
    }
}

fn clients(loaded: &Loaded, checks: &mut Checks) {
    let clients = &loaded.config.clients;
    let names: BTreeSet<&str> = clients.iter().map(|c| c.name.as_str()).collect();
    let keys: BTreeSet<_> = clients.iter().map(|c| c.key).collect();
    if names.len() < clients.len() || keys.len() < clients.len() {
        checks.bad(
            "clients",
            "two [[client]] tables have the same name or the same key",
            "only the first of two with one key is ever found: give each its own",
        );
    } else if clients.is_empty() {
        let hint = "add [[client]] tables: without one nobody can submit or administer";
        checks.bad("clients", "there is none", hint);
    } else if !clients.iter().any(|client| client.administrator) {
        let hint = "set administrator = true for one: operators and workers are added by it";
        checks.doubt("clients", format!("{} and no administrator", clients.len()), hint);
    } else {
        checks.good("clients", format!("{}, administrators among them", clients.len()));
    }
}

fn publishers(loaded: &Loaded, checks: &mut Checks) {
    let publishers = &loaded.policy.publishers;
    if publishers.is_empty() {
        let hint = "add [[publisher]] tables (`assay policy init IMAGE` drafts them)";
        checks.bad("publishers", "there is none: every image is untrusted", hint);
        return;
    }
    let unsupported: Vec<String> = publishers.iter().filter_map(|p| p.unsupported()).collect();
    match unsupported.first() {
        Some(what) => checks.bad(
            "publishers",
            format!("{what} cannot be checked by this version"),
            "images of that publisher are refused; use a key and transparency = \"none\"",
        ),
        None => checks.good("publishers", publishers.len().to_string()),
    }
    if loaded.policy.package_repositories.is_empty() {
        let hint = "add [[package_repository]] tables: no package may be an input without one";
        checks.bad("package repositories", "there is none", hint);
    }
}

fn quorum(loaded: &Loaded, checks: &mut Checks) {
    let policy = &loaded.policy;
    let Some(quorum) = &policy.quorum else {
        let hint = "add [quorum] with operators and reproduced = k";
        checks.bad("quorum", "there is none: nothing is ever reproduced", hint);
        return;
    };
    let (k, m) = (quorum.reproduced, loaded.config.observations_wanted);
    let n = quorum.operators.len();
    if m < k {
        checks.bad(
            "quorum",
            format!("{m} observations are wanted, {k} operators are needed"),
            "set observations_wanted to at least `reproduced`",
        );
    } else if (n as u64) < u64::from(m) {
        checks.doubt(
            "quorum",
            format!("{m} observations are wanted of {n} operators"),
            "a job waits for operators that do not exist, then is judged without: name more, or \
             want fewer",
        );
    } else if k < 2 {
        let hint = "one operator's word decides; 2 of 3 is the usual minimum";
        checks.doubt("quorum", format!("{k} of {n}"), hint);
    } else {
        checks.good("quorum", format!("{k} of {n} operators, {m} asked at first"));
    }
    let idle: Vec<&str> = policy
        .operators
        .iter()
        .filter(|operator| !quorum.operators.contains(&operator.name))
        .map(|operator| operator.name.as_str())
        .collect();
    if idle.is_empty() {
        checks.good("operators", format!("{} are named, and all count", policy.operators.len()));
    } else {
        let hint = "name them in [quorum] operators, or take their [[operator]] tables out";
        checks.doubt("operators", format!("not counted: {}", idle.join(", ")), hint);
    }
    if policy.log.inclusion == Inclusion::Required {
        checks.bad(
            "log",
            "inclusion = \"required\", and this version has no log",
            "set it to \"none\": until there is a log every verdict is inconclusive",
        );
    }
    match &policy.coordinator {
        Some(key) if key != loaded.public_key() => checks.bad(
            "coordinator key",
            "[coordinator] key is not the key that this coordinator signs leases with",
            "give verdict.pub of this folder: no observation under its leases counts otherwise",
        ),
        Some(_) => checks.good("coordinator key", "the policy pins this coordinator's key"),
        None => checks.doubt(
            "coordinator key",
            "the policy does not say whose leases count",
            "add [coordinator] key = \"verdict.pub\"",
        ),
    }
}

fn data(loaded: &Loaded, checks: &mut Checks) {
    let folder = loaded.data_folder();
    if let Err(error) = probe(&folder) {
        let hint = "make it, owned by the user that runs the coordinator";
        checks.bad("data", format!("{}: {error}", folder.display()), hint);
        return;
    }
    match statvfs(&folder) {
        Ok(stat) => {
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            let found = format!("{} MiB free in {}", free >> 20, folder.display());
            if free < FREE_BYTES_MIN {
                checks.doubt("data", found, "a full disk stops intake and receipts: give it room");
            } else {
                checks.good("data", found);
            }
        }
        Err(error) => checks.doubt("data", error.to_string(), "look at the disk"),
    }
}

/// True if files can be made there.
fn probe(folder: &Path) -> std::io::Result<()> {
    let file = folder.join(format!(".check-{}", std::process::id()));
    fs::write(&file, b"")?;
    fs::remove_file(&file)
}

fn limits(loaded: &Loaded, checks: &mut Checks) {
    let connections = loaded.config.limits.connections_max as u64;
    let needed = 2 * connections + DESCRIPTORS_BESIDE;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if soft < needed => checks.doubt(
            "descriptors",
            format!("{soft} open files are allowed, {connections} connections are"),
            "raise LimitNOFILE (ulimit -n), or lower connections_max: beyond it connections wait",
        ),
        Ok((soft, _)) => checks.good("descriptors", format!("{soft} open files are allowed")),
        Err(error) => checks.doubt("descriptors", error.to_string(), "look at ulimit -n"),
    }
}

fn identity(loaded: &Loaded, checks: &mut Checks) {
    let id = &loaded.config.verifier_id;
    if !id.contains(':') {
        let hint = "attestations name a URI as their verifier: https://…, or urn:…";
        checks.bad("verifier id", format!("{id:?} is no URI"), hint);
    } else if id.contains("localhost") {
        let hint = "choose a URI that you own: gates compare it, and it cannot be changed later";
        checks.doubt("verifier id", id.clone(), hint);
    } else {
        checks.good("verifier id", id.clone());
    }
}

async fn publication(loaded: &Loaded, checks: &mut Checks) {
    const NAME: &str = "publication";
    match &loaded.config.publish {
        None => checks.good(NAME, "attestations are served over HTTPS only"),
        Some(PublishTarget::Beside) => {
            checks.good(NAME, "attestations go into each image's own repository");
        }
        Some(PublishTarget::Folder { path }) => {
            let folder = loaded.folder.join(path);
            match fs::create_dir_all(&folder).and_then(|()| probe(&folder)) {
                Ok(()) => checks.good(NAME, format!("an OCI layout in {}", folder.display())),
                Err(error) => checks.bad(
                    NAME,
                    format!("{}: {error}", folder.display()),
                    "make the folder writable for the coordinator",
                ),
            }
        }
        Some(PublishTarget::Sidecar { repository }) => {
            sidecar(loaded, repository, checks).await;
        }
    }
}

async fn sidecar(loaded: &Loaded, pattern: &str, checks: &mut Checks) {
    const NAME: &str = "publication";
    let repository = pattern.replace("{repository}", "check/config").replace("{host}", "host");
    let Ok(repository) = repository.parse::<Repository>() else {
        let hint = "write registry.example/assay/{host}/{repository}";
        checks.bad(NAME, format!("{pattern:?} is no repository"), hint);
        return;
    };
    let hosts = loaded.policy.registries.iter().map(|registry| HostException {
        host: registry.host.clone(),
        plain_http: registry.plain_http,
        ca_pem: registry.ca.as_ref().map(|pem| String::from_utf8_lossy(pem).into_owned()),
    });
    let network = NetworkPolicy { hosts: hosts.collect() };
    let mut options = SourceOptions { network, ..SourceOptions::default() };
    options.timing.attempts = 1;
    let Ok(tag) = "check-config".parse::<Tag>() else { return };
    let asked = Registry::new(&options);
    match tokio::time::timeout(PUBLISH_MAX, asked.tag(&repository, &tag)).await {
        Ok(Ok(_)) => checks.good(NAME, format!("{pattern} answers")),
        Ok(Err(error)) => checks.doubt(NAME, error.to_string(), error.hint()),
        Err(_) => {
            let found = format!("no answer from {pattern} within {} s", PUBLISH_MAX.as_secs());
            checks.doubt(NAME, found, "look whether the registry can be reached from here");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::{InitOptions, init};

    fn made(dir: &Path) -> std::path::PathBuf {
        let options = InitOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            listen_http: "127.0.0.1:0".parse().unwrap(),
            names: vec!["localhost".into()],
            verifier_id: "https://coordinator.test/assay".into(),
            publish: None,
        };
        let home = dir.join("coordinator");
        init(&home, &options).unwrap();
        home
    }

    fn state(checks: &[Check], name: &str) -> State {
        checks.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no {name}")).state
    }

    #[tokio::test]
    async fn a_fresh_folder_is_told_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let home = made(dir.path());
        let checks = examine(&Loaded::read(&home).unwrap()).await;
        for name in ["publishers", "quorum"] {
            assert_eq!(state(&checks, name), State::Bad, "{checks:?}");
        }
        for name in ["keys", "certificate", "clients", "listen", "verifier id", "publication"] {
            assert_eq!(state(&checks, name), State::Good, "{checks:?}");
        }
        assert_eq!(state(&checks, "admin key"), State::Doubt);
        assert!(checks.iter().all(|c| c.state == State::Good || !c.hint.is_empty()));
    }

    #[tokio::test]
    async fn each_mistake_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let home = made(dir.path());
        let file = home.join("coordinator.toml");
        let text = fs::read_to_string(&file).unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let text = text
            .replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1)
            .replace("https://coordinator.test/assay", "not a uri")
            .replace("# publish = { to = \"folder\"", "publish = { to = \"folder\"")
            .replace("[[client]]", "[[client]]\nname = \"twin\"\nkey = \"KEY\"\n\n[[client]]");
        let key = text.lines().filter_map(|l| l.strip_prefix("key = ")).next_back().unwrap();
        let text = text.replace("key = \"KEY\"", &format!("key = {key}"));
        fs::write(&file, text).unwrap();
        fs::write(home.join("published"), "a file where a folder should be").unwrap();
        fs::remove_dir_all(home.join("data")).unwrap();
        let root = attest::key::SigningKey::generate().unwrap();
        fs::write(home.join("acme.pub"), root.public().to_pem()).unwrap();
        let other = attest::key::SigningKey::generate().unwrap();
        fs::write(home.join("other.pub"), other.public().to_pem()).unwrap();
        let policy = "[coordinator]\nkey = \"other.pub\"\n\n[[operator]]\nname = \"acme\"\n\
                      root_key = \"acme.pub\"\n\n[quorum]\noperators = [\"acme\"]\nreproduced = 1\n\n\
                      [log]\ninclusion = \"required\"\norigin = \"log.test\"\nkey = \"acme.pub\"\n";
        fs::write(home.join("policy.toml"), policy).unwrap();
        let checks = examine(&Loaded::read(&home).unwrap()).await;
        let bad = ["clients", "verifier id", "publication", "data", "coordinator key", "log"];
        for name in bad {
            assert_eq!(state(&checks, name), State::Bad, "{name}: {checks:?}");
        }
        assert_eq!(state(&checks, "operators"), State::Good);
        for name in ["listen", "quorum"] {
            assert_eq!(state(&checks, name), State::Doubt, "{name}: {checks:?}");
        }
    }
}
