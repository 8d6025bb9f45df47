//! A real daemon in a temporary folder, and peers of all kinds.

use attest::{
    id::OperatorId,
    key::SigningKey,
    record::{Capabilities, EnvironmentClass, OperatorRecord, Record, Validity, WorkerRecord},
    time::Timestamp,
};
use coordinator::{
    daemon::{Core, Daemon, DaemonError, net::listen::Patience, roster::Roster},
    queue::Limits,
    setup::{InitOptions, Loaded, init},
};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Nothing takes so long; whoever waits this long waits for ever.
pub const HANG: Duration = Duration::from_secs(60);

/// Patience for tests: what is waited for comes soon, what must not end early has time.
pub fn patience() -> Patience {
    Patience {
        handshake: Duration::from_millis(300),
        opening: Duration::from_millis(300),
        stall: Duration::from_millis(500),
        call: Duration::from_secs(75),
        grace: Duration::from_millis(500),
    }
}

/// A coordinator that runs.
pub struct Running {
    /// Where gRPC listens.
    pub grpc: SocketAddr,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// What its parts share.
    pub core: Arc<Core>,
    /// Stops it.
    pub stop: CancellationToken,
    home: PathBuf,
    task: JoinHandle<Result<(), DaemonError>>,
    _folder: tempfile::TempDir,
}

impl Running {
    /// Starts one with these lines in `[limits]`.
    pub async fn start(limits: &str, patience: Patience) -> Self {
        Self::start_with(limits, "", patience).await
    }

    /// The same with a policy.
    pub async fn start_with(limits: &str, policy: &str, patience: Patience) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("coordinator");
        let loopback = "127.0.0.1:0".parse().unwrap();
        let options = InitOptions {
            listen: loopback,
            listen_http: loopback,
            names: vec!["localhost".into(), "127.0.0.1".into()],
            verifier_id: "https://coordinator.test/assay".into(),
            publish: None,
        };
        init(&home, &options).unwrap();
        let path = home.join("coordinator.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{limits}\n")).unwrap();
        fs::write(home.join("policy.toml"), policy).unwrap();
        let loaded = Loaded::read(&home).unwrap();
        let daemon = Daemon::open(loaded, Limits::default()).await.unwrap();
        let daemon = daemon.with_patience(patience);
        let (grpc, http, core) = (daemon.grpc, daemon.http, daemon.core());
        let stop = CancellationToken::new();
        let task = tokio::spawn(daemon.run(stop.clone()));
        Self { grpc, http, core, stop, home, task, _folder: folder }
    }

    /// Stops it and waits for the end; gives the folder, in which everything is on disk.
    pub async fn stopped(self) -> (PathBuf, tempfile::TempDir) {
        self.stop.cancel();
        in_time(self.task).await.unwrap().unwrap();
        (self.home, self._folder)
    }

    /// TLS to an address of this coordinator, nothing more.
    pub async fn tls(&self, address: SocketAddr, protocol: &[u8]) -> TlsStream<TcpStream> {
        self.try_tls(address, protocol).await.unwrap()
    }

    /// The same, where it may be refused.
    pub async fn try_tls(
        &self,
        address: SocketAddr,
        protocol: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        // Small, so that a peer that reads nothing is noticed soon.
        socket.set_recv_buffer_size(8 << 10)?;
        let stream = in_time(socket.connect(address)).await?;
        let authority = fs::read(self.home.join("ca.pem"))?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = "localhost".try_into().unwrap();
        in_time(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }

    /// A gRPC connection with the certificate of this key.
    pub async fn channel(&self, key: &SigningKey) -> Channel {
        let pair = rcgen::KeyPair::from_pem(&key.to_pem()).unwrap();
        let params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        let certificate = params.self_signed(&pair).unwrap();
        let authority = fs::read_to_string(self.home.join("ca.pem")).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority))
            .identity(Identity::from_pem(certificate.pem(), key.to_pem()));
        let endpoint = Endpoint::from_shared(format!("https://{}", self.grpc)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }

    /// The administrator's key.
    pub fn admin(&self) -> SigningKey {
        SigningKey::from_pem(&fs::read_to_string(self.home.join("admin.key")).unwrap()).unwrap()
    }

    /// An operator with a worker; gives the worker's key.
    pub async fn enrolled(&self, name: &str) -> (OperatorId, SigningKey) {
        let (root, key) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let operator: OperatorId = name.parse().unwrap();
        let from = Timestamp::from_unix(now() - 3600).unwrap();
        let valid = Validity { from, until: Timestamp::from_unix(now() + 86_400).unwrap() };
        let record = OperatorRecord {
            operator: operator.clone(),
            root_key: root.public().clone(),
            organisation: name.into(),
            affiliations: vec![],
            contact: String::new(),
            valid,
        };
        let worker = WorkerRecord {
            operator: operator.clone(),
            key: key.public().clone(),
            capabilities: Capabilities::default(),
            environment: EnvironmentClass::default(),
            valid,
        };
        let mut roster = Roster::clone(&self.core.roster());
        let records = vec![
            roster.take_operator(&record.sign(&root).unwrap()).unwrap(),
            roster.take_worker(&worker.sign(&root).unwrap()).unwrap(),
        ];
        self.core.store.append(records).await.unwrap();
        self.core.go_on_with(roster);
        (operator, key)
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// What must happen; a hang fails the test.
pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.expect("expected it to happen, found a hang")
}

/// Waits until the other side has closed; whatever it sends before is read.
pub async fn closed(mut stream: impl AsyncRead + Unpin) {
    let mut buffer = [0; 4096];
    in_time(async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} }).await;
}
