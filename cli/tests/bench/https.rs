//! A repository of packages over HTTPS on 127.0.0.1, with an authority made for the test.
//!
//! Invariant: what it answers is what the test says for the path; keys live in memory only.

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

/// What is at a path: status and body.
pub type Answers = dyn Fn(&str) -> (u16, Vec<u8>) + Send + Sync;

/// A server, listening.
pub struct HttpsServer {
    /// `https://127.0.0.1:PORT`.
    pub address: String,
    /// `127.0.0.1:PORT`.
    pub host: String,
    /// PEM of the authority of its certificate.
    pub ca: String,
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

impl HttpsServer {
    /// Listens; the answers may need to know where.
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (config, ca) = server_config();
        Self { address: format!("https://{host}"), host, ca, listener, config }
    }

    /// Answers from now on.
    pub fn serve(&self, answers: Arc<Answers>) {
        let (listener, config) = (self.listener.try_clone().unwrap(), Arc::clone(&self.config));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, answers) = (Arc::clone(&config), Arc::clone(&answers));
                std::thread::spawn(move || answer(stream, config, &*answers));
            }
        });
    }
}

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

/// Answers the one request of a connection.
fn answer(stream: TcpStream, config: Arc<ServerConfig>, answers: &Answers) {
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
    let (status, body) = answers(&path);
    let size = body.len();
    let head =
        format!("HTTP/1.1 {status} Test\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n");
    let stream = reader.get_mut();
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    if sent.and_then(|()| stream.flush()).is_ok() {
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}
