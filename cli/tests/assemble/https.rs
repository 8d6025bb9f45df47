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
        other => fs::read(folder.join(other)).ok(),
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

#[test]
fn over_https_and_from_a_mirror_the_same_bytes() {
    let working = tempfile::tempdir().unwrap();
    let packages = published().join("packages");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (config, ca) = server_config();
    let folder = packages.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, folder) = (Arc::clone(&config), folder.clone());
            std::thread::spawn(move || answer(stream, config, folder, port));
        }
    });
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
