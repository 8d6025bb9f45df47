//! Credentials from the Docker configuration file and its helpers (docker/cli configuration file
//! reference; docker-credential-helpers protocol).
//!
//! Invariant: a credential is looked up for one host, as that host asked for it, and never shown:
//! its `Debug` is redacted, it is in no error and in no log. A helper that is missing or fails
//! means "anonymous", with a note for the error that may follow: fewer rights, never more.

use base64::Engine as _;
use serde_json::Value;
use std::{
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Configuration files hold some hosts; 1 MiB is thousands of them.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// A helper answers with one small JSON object.
const HELPER_BYTES_MAX: u64 = 64 << 10;
/// A helper may ask a person to unlock a key ring.
const HELPER_TIME_MAX: Duration = Duration::from_secs(30);
/// Docker Hub's key in the configuration file.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Where credentials come from.
#[derive(Clone, Default)]
pub enum Credentials {
    /// The Docker configuration file: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    #[default]
    Docker,
    /// A configuration file in this folder.
    DockerIn(PathBuf),
    /// None: everything is read anonymously.
    Anonymous,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::DockerIn(_) => "DockerIn",
            Self::Anonymous => "Anonymous",
        })
    }
}

/// What was found for one host.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// A user name and a password or access token.
    Password { user: String, password: String },
    /// A refresh token, to be turned into an access token at the realm.
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(redacted)",
            Self::IdentityToken(_) => "IdentityToken(redacted)",
        })
    }
}

/// A credential, and why there is none where one was expected.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    pub(super) credential: Option<Credential>,
    pub(super) note: Option<String>,
}

impl Lookup {
    fn note(text: impl Into<String>) -> Self {
        Self { credential: None, note: Some(text.into()) }
    }
}

impl Credentials {
    /// The credential for a registry's host (with its port) as references write it.
    pub(super) async fn for_host(&self, host: &str) -> Lookup {
        let folder = match self {
            Self::Anonymous => return Lookup::default(),
            Self::DockerIn(folder) => Some(folder.clone()),
            Self::Docker => default_folder(),
        };
        let Some(folder) = folder else { return Lookup::default() };
        let config = match read_config(&folder.join("config.json")).await {
            Ok(Some(config)) => config,
            Ok(None) => return Lookup::default(),
            Err(note) => return Lookup::note(note),
        };
        let mut note = None;
        if let Some(helper) = helper_for(&config, host) {
            match ask_helper(helper, key_of(host)).await {
                Ok(Some(credential)) => return Lookup { credential: Some(credential), note: None },
                Ok(None) => {}
                Err(text) => note = Some(text),
            }
        }
        Lookup { credential: from_file(&config, host), note }
    }
}

fn default_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    match set("DOCKER_CONFIG") {
        Some(folder) => Some(PathBuf::from(folder)),
        None => Some(PathBuf::from(set("HOME")?).join(".docker")),
    }
}

/// The key that Docker's programs use for a host.
fn key_of(host: &str) -> &str {
    if matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io") {
        HUB_KEY
    } else {
        host
    }
}

async fn read_config(path: &Path) -> Result<Option<Value>, String> {
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("the Docker configuration could not be read: {error}")),
    };
    let mut bytes = Vec::new();
    let read = file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).await;
    match read {
        Ok(_) if bytes.len() as u64 <= CONFIG_BYTES_MAX => {}
        _ => return Err("the Docker configuration is too large or cannot be read".into()),
    }
    // serde_json's own message quotes no values beyond types, but the file holds secrets: say less.
    let parsed = serde_json::from_slice(&bytes);
    parsed
        .map(Some)
        .map_err(|error| format!("the Docker configuration is not JSON at line {}", error.line()))
}

fn helper_for<'a>(config: &'a Value, host: &str) -> Option<&'a str> {
    let own = config.get("credHelpers").and_then(|all| all.get(key_of(host)).or(all.get(host)));
    own.or(config.get("credsStore")).and_then(Value::as_str).filter(|name| !name.is_empty())
}

/// Runs `docker-credential-NAME get` with the host on its standard input.
async fn ask_helper(name: &str, key: &str) -> Result<Option<Credential>, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.len() > 64 || !name.bytes().all(plain) {
        return Err("the credential helper's name is not a plain word".into());
    }
    let program = format!("docker-credential-{name}");
    match tokio::time::timeout(HELPER_TIME_MAX, run_helper(&program, key)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("{program} failed: {error}")),
        Err(_) => Err(format!("{program} did not answer in {} s", HELPER_TIME_MAX.as_secs())),
    }
}

async fn run_helper(program: &str, key: &str) -> std::io::Result<Option<Credential>> {
    let other = |text: &str| std::io::Error::other(text.to_owned());
    let mut child = tokio::process::Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(key.as_bytes()).await?;
    }
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(HELPER_BYTES_MAX).read_to_end(&mut answer).await?;
    }
    if !child.wait().await?.success() {
        // Helpers report "credentials not found" on standard output and fail.
        let text = String::from_utf8_lossy(&answer);
        return if text.contains("not found") { Ok(None) } else { Err(other("exit status")) };
    }
    let value: Value = serde_json::from_slice(&answer).map_err(|_| other("no JSON answer"))?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (user, password) = (text("Username"), text("Secret"));
    Ok(match (user.as_str(), password.is_empty()) {
        (_, true) => None,
        ("<token>", false) => Some(Credential::IdentityToken(password)),
        _ => Some(Credential::Password { user, password }),
    })
}

fn from_file(config: &Value, host: &str) -> Option<Credential> {
    let auths = config.get("auths")?.as_object()?;
    let entry = auths.get(key_of(host)).or_else(|| {
        auths.iter().find(|(key, _)| host_of_key(key) == host).map(|(_, entry)| entry)
    })?;
    let text = |key: &str| {
        entry.get(key).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned)
    };
    if let Some(token) = text("identitytoken") {
        return Some(Credential::IdentityToken(token));
    }
    if let Some(auth) = text("auth") {
        let decoded = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (user, password) = decoded.split_once(':')?;
        let password = password.trim_end_matches('\0').to_owned();
        return Some(Credential::Password { user: user.to_owned(), password });
    }
    Some(Credential::Password { user: text("username")?, password: text("password")? })
}

/// Keys are hosts, or URLs with a path as older versions wrote them.
fn host_of_key(key: &str) -> &str {
    let key = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
    key.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    async fn lookup(config: &str, host: &str) -> Lookup {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), config).unwrap();
        Credentials::DockerIn(folder.path().to_owned()).for_host(host).await
    }

    fn password(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { user: user.into(), password: password.into() })
    }

    #[tokio::test]
    async fn the_file_and_its_older_forms() {
        let config = r#"{"auths":{
            "registry.example:5000":{"auth":"dTpwOnc="},
            "https://old.example/v1/":{"username":"u","password":"p"},
            "https://index.docker.io/v1/":{"auth":"aHViOng="},
            "id.example":{"identitytoken":"t"}, "empty.example":{}, "bad.example":{"auth":"%"}}}"#;
        let found = async |host: &str| lookup(config, host).await.credential;
        assert_eq!(found("registry.example:5000").await, password("u", "p:w"));
        assert_eq!(found("old.example").await, password("u", "p"));
        assert_eq!(found("docker.io").await, password("hub", "x"));
        assert_eq!(found("id.example").await, Some(Credential::IdentityToken("t".into())));
        for host in ["registry.example", "example", "empty.example", "bad.example", "v1"] {
            assert_eq!(found(host).await, None, "{host}");
        }
        assert!(!format!("{:?}", lookup(config, "docker.io").await).contains("hub"));
        assert!(lookup("{", "docker.io").await.note.unwrap().contains("not JSON"));
    }

    #[tokio::test]
    async fn helpers_are_asked_and_may_fail() {
        let folder = tempfile::tempdir().unwrap();
        let helper = folder.path().join("docker-credential-assaytest");
        let script = "#!/bin/sh\nread host\n[ \"$1\" = get ] || exit 3\ncase $host in\n\
            good.example) echo '{\"Username\":\"u\",\"Secret\":\"s\"}';;\n\
            token.example) echo '{\"Username\":\"<token>\",\"Secret\":\"s\"}';;\n\
            none.example) echo 'credentials not found in native keychain'; exit 1;;\n\
            *) exit 2;; esac\n";
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let program = helper.display().to_string();
        let found = run_helper(&program, "good.example\n").await.unwrap();
        assert_eq!(found, password("u", "s"));
        let found = run_helper(&program, "token.example\n").await.unwrap();
        assert_eq!(found, Some(Credential::IdentityToken("s".into())));
        assert_eq!(run_helper(&program, "none.example\n").await.unwrap(), None);
        assert!(run_helper(&program, "other.example\n").await.is_err());

        let config = r#"{"credsStore":"assaytest-missing","auths":{"x.example":{"auth":"dTpw"}}}"#;
        let found = lookup(config, "x.example").await;
        assert_eq!(found.credential, password("u", "p"));
        assert!(found.note.unwrap().contains("failed"));
        let evil = lookup(r#"{"credHelpers":{"x.example":"../../bin/sh"}}"#, "x.example").await;
        assert!(evil.note.unwrap().contains("plain word"));
    }
}
