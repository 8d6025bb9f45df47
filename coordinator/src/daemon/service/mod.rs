//! The gRPC services, behind TLS.
//!
//! Invariant: who calls is the key of the client's certificate, proven in the handshake; a worker's
//! calls need its enrolment, a client's the configuration. Messages become domain types at one
//! boundary (`proto::convert`), before anything else looks at them.

mod admin;
mod count;
mod images;
mod watches;
mod workers;

use super::{Core, DaemonError, listen};
use crate::tls::{self, PeerKey};
use proto::{
    DESCRIPTORS, MESSAGE_BYTES_MAX,
    v1::{
        admin_service_server::AdminServiceServer, image_service_server::ImageServiceServer,
        worker_service_server::WorkerServiceServer,
    },
};
use rustls::ServerConfig;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    transport::{
        Server,
        server::{TcpConnectInfo, TlsConnectInfo},
    },
};

/// Calls that one connection may have open.
const CALLS_PER_CONNECTION_MAX: u32 = 64;

/// Serves until it is told to stop.
pub async fn serve(
    core: Arc<Core>,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    stop: CancellationToken,
) -> Result<(), DaemonError> {
    let failed = |error: &dyn std::fmt::Display| DaemonError::Serve(format!("gRPC: {error}"));
    let connections = core.loaded.config.limits.connections_max;
    let note = listen::Note::of(&core, "grpc");
    let incoming = listen::incoming(listener, tls, connections, note, stop.clone());
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<WorkerServiceServer<workers::Workers>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()
        .map_err(|e| failed(&e))?;
    let workers = WorkerServiceServer::new(workers::Workers { core: Arc::clone(&core) })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let images = ImageServiceServer::new(images::Images { core: Arc::clone(&core) })
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let admin = AdminServiceServer::new(admin::Admin { core: Arc::clone(&core) });
    let counted =
        tower::layer::layer_fn(move |inner| count::Counted::new(inner, Arc::clone(&core)));
    Server::builder()
        .layer(counted)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX as usize)
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(30)))
        .add_service(health)
        .add_service(reflection)
        .add_service(workers)
        .add_service(images)
        .add_service(admin)
        .serve_with_incoming_shutdown(incoming, stop.cancelled())
        .await
        .map_err(|e| failed(&e))
}

/// The key of the caller's certificate.
fn peer<T>(request: &Request<T>) -> Result<PeerKey, Status> {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let certificates = info.and_then(TlsConnectInfo::peer_certs);
    tls::peer_key(certificates.as_ref().map(|c| c.as_slice())).ok_or_else(|| {
        Status::unauthenticated("expected a client certificate with a P-256 key, found none")
    })
}

/// The name of the client, if the configuration knows it.
fn client<T>(
    core: &Core,
    request: &Request<T>,
) -> Result<crate::setup::config::ClientRule, Status> {
    let key = peer(request)?;
    let known = core.loaded.config.clients.iter().find(|rule| rule.key == key.0);
    known.cloned().ok_or_else(|| {
        proto::status::refused(format!(
            "the configuration has no [[client]] with key {}; add one to let it in",
            key.0
        ))
    })
}

/// What a failure of the store means for a caller.
fn store_status(error: &crate::store::StoreError) -> Status {
    use crate::{queue::Refusal, store::StoreError};
    if let Some(ms) = error.retry_after_ms() {
        let wait = std::time::Duration::from_millis(ms.max(1000));
        return proto::status::exhausted(error, wait);
    }
    match error {
        StoreError::Refused(Refusal::UnknownJob(_)) => proto::status::missing(error),
        StoreError::Refused(_) => proto::status::precondition(error),
        other => {
            tracing::error!(error = %other, "the store failed");
            proto::status::unavailable("the coordinator's store failed; its log says how")
        }
    }
}

/// What a refusal of the queue means for a caller.
fn refusal_status(refusal: crate::queue::Refusal) -> Status {
    store_status(&crate::store::StoreError::Refused(refusal))
}
