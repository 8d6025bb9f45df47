//! The connection to the coordinator: TLS 1.3 with the worker's certificate.
//!
//! Invariant: without the authority that the configuration names there is no connection; plain
//! HTTP is never spoken. What comes over it is still checked by its signatures.

use super::{config::Loaded, identity::Identity};
use proto::{MESSAGE_BYTES_MAX, v1::worker_service_client::WorkerServiceClient};
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

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

/// An endpoint that connects when it is first used, and again after a loss.
pub fn channel(
    address: &str,
    ca_pem: Option<&str>,
    identity: &Identity,
) -> Result<Channel, ConnectError> {
    if !address.starts_with("https://") {
        return Err(ConnectError::Address(address.to_owned()));
    }
    let mut tls = ClientTlsConfig::new().identity(identity.tls());
    tls = match ca_pem {
        Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
        None => tls.with_enabled_roots(),
    };
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|_| ConnectError::Address(address.to_owned()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_while_idle(true)
        .tls_config(tls)
        .map_err(|error| ConnectError::Transport {
            address: address.to_owned(),
            problem: chain(&error),
        })?;
    Ok(endpoint.connect_lazy())
}

/// The worker service of the coordinator.
pub fn client(loaded: &Loaded, identity: &Identity) -> Result<Client, ConnectError> {
    let channel = channel(&loaded.config.coordinator, loaded.ca_pem.as_deref(), identity)?;
    Ok(WorkerServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
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
