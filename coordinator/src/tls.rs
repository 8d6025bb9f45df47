//! TLS of the coordinator's own sockets, and who is at the other end.
//!
//! Workers and clients show a self-signed certificate of their own P-256 key. Its signature over the
//! handshake proves that they hold the key; nothing else in the certificate is looked at. Who the
//! key belongs to is decided later: a worker by its enrolment, a client by the configuration.
//! Invariant: TLS 1.3 only, a client certificate is always asked for and, where one is shown, its
//! key was proven. It admits a connection; it never authenticates a result.

use attest::{Digest, key::PublicKey};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::sync::Arc;

/// The identity of the key of a client's certificate: SHA-256 of its SPKI DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub Digest);

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificate or key do not parse.
    #[error("expected a certificate and its key in PEM: {0}")]
    Pem(String),
    /// They do not fit.
    #[error("expected a certificate that fits its key: {0}")]
    Rustls(#[from] Error),
}

/// The configuration of both listeners.
pub fn server_config(
    certificate_pem: &str,
    key_pem: &str,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(certificate_pem.as_bytes()).collect();
    let chain = chain.map_err(|e| TlsError::Pem(e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|e| TlsError::Pem(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AnyKey(provider)))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The key of the certificate that a peer showed; none where it showed none or one of another kind.
pub fn peer_key(certificates: Option<&[CertificateDer<'_>]>) -> Option<PeerKey> {
    public_key(certificates?.first()?).map(|key| PeerKey(key.id()))
}

/// The P-256 key of a certificate (RFC 5280, 4.1).
fn public_key(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let key = PublicKey::from_spki_der(parsed.subject_public_key_info().as_ref()).ok()?;
    key.is_p256().then_some(key)
}

/// Accepts any key that proves itself in the handshake.
#[derive(Debug)]
struct AnyKey(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyKey {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match public_key(end_entity) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(Error::General("expected a certificate with a P-256 key".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("expected TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
