//! Which hosts may be spoken to.
//!
//! Invariant: without an exception only public addresses, only over HTTPS.

/// Exceptions for network safety, as the policy's `[[registry]]` tables say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkPolicy {
    /// The exceptions.
    pub hosts: Vec<HostException>,
}

/// One host that may be private, loopback, plain HTTP, or signed by a private authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostException {
    /// Host and port as in references: `127.0.0.1:5000`; without a port, the scheme's.
    pub host: String,
    /// Plain HTTP instead of TLS.
    pub plain_http: bool,
    /// PEM of the authority that signs the host's certificate, instead of the public ones.
    pub ca_pem: Option<String>,
}
