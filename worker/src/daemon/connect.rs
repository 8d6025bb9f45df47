//! The connection to the coordinator: TLS 1.3 with the worker's certificate.
//!
//! Invariant: without the authority that the configuration names there is no connection; plain
//! HTTP is never spoken. What comes over it is still checked by its signatures.

use super::identity::Identity;
use hyper_util::rt::TokioIo;
use proto::{MESSAGE_BYTES_MAX, v1::worker_service_client::WorkerServiceClient};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri};

/// A call that is held for new work ends after 60 s on the other side.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(20);

/// The client of the worker service.
pub type Client = WorkerServiceClient<Channel>;

/// The connection could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not `https://host:port`.
    #[error("expected an address like https://coordinator.example:7443, found {0:?}")]
    Address(String),
    /// TLS or network.
    #[error("expected to connect to {address}: {problem}")]
    Transport {
        /// The coordinator.
        address: String,
        /// What went wrong, with its causes.
        problem: String,
    },
}

/// Counts connections as they are begun: behind the next one may be another process, with another
/// journal. Where calls come one after the other, an answer came over the newest that was counted
/// when it came.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<AtomicU64>);

impl Connections {
    /// The number of the newest; 0 before the first.
    pub fn newest(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    async fn connect(self, address: Uri) -> io::Result<TokioIo<TcpStream>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let host = address.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, address.port_u16().unwrap_or(443))).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    }
}

/// A channel that connects when it is first used, and again after a loss.
pub fn channel(
    address: &str,
    ca_pem: Option<&str>,
    identity: &Identity,
) -> Result<Channel, ConnectError> {
    Ok(endpoint(address, ca_pem, identity)?.connect_lazy())
}

/// Refuses what is not `https://host:port`.
pub fn check_address(address: &str) -> Result<(), ConnectError> {
    let bad = || ConnectError::Address(address.to_owned());
    let uri: Uri = address.parse().map_err(|_| bad())?;
    let host = uri.host().is_some_and(|host| !host.is_empty());
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let good = uri.scheme_str() == Some("https") && host && bare && !user;
    good.then_some(()).ok_or_else(bad)
}

/// Refuses a text without certificates, and one with a certificate that cannot be read.
pub fn check_authority(pem: &str) -> Result<(), String> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(certificates) if certificates.is_empty() => {
            Err("expected certificates in PEM, found none".to_owned())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("expected certificates in PEM: {error}")),
    }
}

fn endpoint(
    address: &str,
    ca_pem: Option<&str>,
    identity: &Identity,
) -> Result<Endpoint, ConnectError> {
    check_address(address)?;
    let mut tls = ClientTlsConfig::new().identity(identity.tls());
    tls = match ca_pem {
        Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
        None => tls.with_enabled_roots(),
    };
    Endpoint::from_shared(address.to_owned())
        .map_err(|_| ConnectError::Address(address.to_owned()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_while_idle(true)
        .tls_config(tls)
        .map_err(|error| ConnectError::Transport {
            address: address.to_owned(),
            problem: chain(&error),
        })
}

/// The worker service of the coordinator, and the count of its connections.
pub fn client(
    address: &str,
    ca_pem: Option<&str>,
    identity: &Identity,
) -> Result<(Client, Connections), ConnectError> {
    let endpoint = endpoint(address, ca_pem, identity)?;
    let connections = Connections::default();
    let counted = connections.clone();
    let connect = tower::service_fn(move |address| counted.clone().connect(address));
    let client = WorkerServiceClient::new(endpoint.connect_with_connector_lazy(connect))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Ok((client, connections))
}

/// An error with all its causes in one line: transport errors hide the reason in their sources.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_with_a_host_is_an_address() {
        for good in ["https://coordinator.example:7443", "https://[::1]:7443", "https://c/"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "coordinator.example:7443",
            "http://coordinator.example:7443",
            "https://",
            "https://coordinator.example:7443/path",
            "https://user@coordinator.example",
            "https://two words",
        ] {
            assert!(matches!(check_address(bad), Err(ConnectError::Address(_))), "{bad}");
        }
    }

    #[test]
    fn an_authority_has_certificates() {
        for bad in ["", "text", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert!(check_authority(bad).unwrap_err().contains("expected certificates"), "{bad}");
        }
    }
}
