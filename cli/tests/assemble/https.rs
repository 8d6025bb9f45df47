//! A repository over HTTPS, keys by discovery: the same bytes as from a mirror of it on disk.

use super::support::{Call, published};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
};

/// A server for 127.0.0.1, and the authority of its certificate.
fn server_config() -> (Arc<ServerConfig>, String) {
    let names = || vec!["127.0.0.1".to_owned()];
    let mut authority = rcgen::CertificateParams::new(names()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::from_params(&authority, &authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(names()).unwrap().signed_by(&key, &issuer).unwrap();
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], secret)
        .unwrap();
    (Arc::new(config), pem)
}

/// Answers one request after another on a connection of its own.
fn answer(stream: TcpStream, config: Arc<ServerConfig>, folder: PathBuf, port: u16) {
    let Ok(connection) = ServerConnection::new(config) else { return };
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let mut request = String::new();
    if reader.read_line(&mut request).is_err() {
        return;
    }
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        line.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let body = match path.as_str() {
        "os/apk-configuration" => {
            Some(format!("{{\"jwks_uri\":\"https://127.0.0.1:{port}/jwks.json\"}}").into_bytes())
        }
        "releases.json" => Some(release_list(port).into_bytes()),
        "alpine/v3.20/os/apk-configuration" => None,
        other => {
            let other = other.strip_prefix("alpine/v3.20/").unwrap_or(other);
            fs::read(folder.join(other)).ok()
        }
    };
    let (status, body) = body.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let stream = reader.get_mut();
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    if sent.and_then(|()| stream.flush()).is_ok() {
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}

/// A list like Alpine's: one branch, the fixtures' key, and one that was deprecated long ago and is
/// not there any more.
fn release_list(port: u16) -> String {
    let key = |name: &str| format!("https://127.0.0.1:{port}/{name}");
    let good = serde_json::json!({"url": key("assay-test-6a1f.rsa.pub")});
    let old = serde_json::json!({"url": key("old.rsa.pub"), "deprecated_since": "2020-01-31"});
    let keys = serde_json::json!({"x86_64": [old, good], "aarch64": [good]});
    let edge = serde_json::json!({"rel_branch": "edge", "keys": {"x86_64": [old]}});
    let branch = serde_json::json!({"rel_branch": "v3.20", "keys": keys});
    serde_json::json!({"release_branches": [edge, branch]}).to_string()
}

/// The fixtures' packages over HTTPS; the port, and the authority of its certificate.
fn serve() -> (u16, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (config, ca) = server_config();
    let folder = published().join("packages");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, folder) = (Arc::clone(&config), folder.clone());
            std::thread::spawn(move || answer(stream, config, folder, port));
        }
    });
    (port, ca)
}

#[test]
fn keys_of_alpines_release_list() {
    let working = tempfile::tempdir().unwrap();
    let (port, ca) = serve();
    let here = format!("https://127.0.0.1:{port}");
    fs::write(working.path().join("ca.pem"), ca).unwrap();
    let yaml = fs::read_to_string(published().join("configs/hello.yaml")).unwrap();
    let yaml = yaml.replace("https://packages.assay.test", &format!("{here}/alpine/v3.20"));
    fs::write(working.path().join("a.yaml"), yaml).unwrap();
    let registry = format!("[[registry]]\nhost = \"127.0.0.1:{port}\"\nca = \"ca.pem\"\n");
    fs::write(working.path().join("https.toml"), &registry).unwrap();
    let call = || Call::new(working.path(), "a.yaml").args(&["--policy", "https.toml"]);
    let list = format!("{here}/releases.json");
    let made = call().args(&["--alpine-releases", &list]).run();
    let index = made.index().unwrap();
    assert!(made.out.contains("named by Alpine's release list, both over TLS"), "{}", made.out);
    assert!(!made.out.contains("old.rsa.pub"), "{}", made.out);
    // The key is in the image as if it were in the keyring, apart from what names the keyring.
    let key = working.path().join("assay-test-6a1f.rsa.pub");
    fs::copy(published().join("packages/assay-test-6a1f.rsa.pub"), &key).unwrap();
    let key = key.to_str().unwrap();
    assert_ne!(call().args(&["--keyring", key]).run().index().unwrap(), index);
    // Without the list nobody vouches for the index, and a remark says what apko would do.
    let without = call().run();
    assert_eq!(without.code, Some(14), "{}", without.said);
    assert!(without.said.contains("--alpine-releases"), "{}", without.said);
    // A list from a mirror vouches for nothing; a pinned key needs no list that does.
    let served = tempfile::tempdir().unwrap();
    fs::write(served.path().join("releases.json"), release_list(port)).unwrap();
    let mirror = format!("{here}/={}", served.path().display());
    let mirrored = || call().args(&["--alpine-releases", &list, "--mirror", &mirror]);
    let unproven = mirrored().run();
    assert_eq!(unproven.code, Some(14), "{}", unproven.said);
    assert!(unproven.said.contains("release list"), "{}", unproven.said);
    let pins = format!(
        "{registry}\n[[package_repository]]\nurl = \"{here}/*\"\nkeys = \"discovery\"\n\
         pins = [\"{}\"]\ncomplete = true\n",
        attest::Digest::of(&fs::read(key).unwrap())
    );
    fs::write(working.path().join("https.toml"), pins).unwrap();
    assert_eq!(mirrored().run().index().unwrap(), index);
    // What is not such a list ends the build, as a list that is not there does.
    for (name, code) in [("jwks.json", 1), ("nothing.json", 2)] {
        let list = format!("{here}/{name}");
        let run = call().args(&["--alpine-releases", &list]).run();
        assert_eq!(run.code, Some(code), "{name}: {}", run.said);
    }
}

#[test]
fn over_https_and_from_a_mirror_the_same_bytes() {
    let working = tempfile::tempdir().unwrap();
    let packages = published().join("packages");
    let (port, ca) = serve();
    fs::write(working.path().join("ca.pem"), ca).unwrap();
    let key = fs::read(packages.join("assay-test-6a1f.rsa.pub")).unwrap();
    fs::write(working.path().join("key.rsa.pub"), &key).unwrap();
    let yaml = fs::read_to_string(published().join("configs/hello.yaml")).unwrap();
    let here = format!("https://127.0.0.1:{port}");
    fs::write(working.path().join("a.yaml"), yaml.replace("https://packages.assay.test", &here))
        .unwrap();
    let registry = format!("[[registry]]\nhost = \"127.0.0.1:{port}\"\nca = \"ca.pem\"\n");
    fs::write(working.path().join("https.toml"), &registry).unwrap();
    let over_https = Call::new(working.path(), "a.yaml").args(&["--policy", "https.toml"]).run();
    let index = over_https.index().unwrap();
    assert!(over_https.out.contains("discovered at its host over TLS"), "{}", over_https.out);

    // Without the exception a private address is not spoken to: an error, not a verdict.
    let refused = Call::new(working.path(), "a.yaml").run();
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    assert!(!refused.output.exists());

    // From a mirror the same, if the policy pins the key; else nothing vouches for it.
    let served = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(packages.join("jwks.json"), served.path().join("jwks.json"))
        .unwrap();
    fs::create_dir(served.path().join("os")).unwrap();
    let configuration = format!("{{\"jwks_uri\":\"{here}/jwks.json\"}}");
    fs::write(served.path().join("os/apk-configuration"), configuration).unwrap();
    for name in ["x86_64", "aarch64"] {
        let to = served.path().join("os").join(name);
        std::os::unix::fs::symlink(packages.join("os").join(name), to).unwrap();
    }
    let mirror = format!("{here}/={}", served.path().display());
    let pins = format!(
        "[[package_repository]]\nurl = \"{here}/*\"\nkeys = \"discovery\"\npins = [\"{}\"]\n\
         complete = true\n",
        attest::Digest::of(&key)
    );
    fs::write(working.path().join("pins.toml"), pins).unwrap();
    let call = || Call::new(working.path(), "a.yaml").args(&["--mirror", &mirror]);
    assert_eq!(call().args(&["--policy", "pins.toml"]).run().index().unwrap(), index);
    let unproven = call().run();
    assert_eq!(unproven.code, Some(14), "{}", unproven.said);
}
