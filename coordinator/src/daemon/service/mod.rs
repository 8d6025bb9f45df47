//! The gRPC services, behind TLS.
//!
//! Invariant: who calls is the key of the client's certificate, proven in the handshake; a worker's
//! calls need its enrolment, a client's the configuration. Messages become domain types at one
//! boundary (`proto::convert`), before anything else looks at them.

mod admin;
mod count;
mod images;
mod quota;
mod taking_in;
mod watches;
mod workers;

use super::{
    Core, DaemonError,
    net::{Gate, Peer, incoming},
};
use crate::tls::PeerKey;
use proto::{
    DESCRIPTORS, MESSAGE_BYTES_MAX,
    v1::{
        admin_service_server::AdminServiceServer, image_service_server::ImageServiceServer,
        worker_service_server::WorkerServiceServer,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, service::interceptor::InterceptedService, transport::Server};

/// Calls that one connection may have open.
const CALLS_PER_CONNECTION_MAX: u32 = 64;
/// Unread bytes of one call, and of one connection: a result of 4 MiB takes 16 round trips, and
/// 20,000 connections of strangers at most 10 GB of address space, none of it before they send.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;
/// Names and values of one call's headers: gRPC needs some 500 bytes.
const HEADER_BYTES_MAX: u32 = 8 << 10;
/// A result: an envelope and an explanation, each within its own limit.
const WORKER_REQUEST_BYTES_MAX: usize =
    attest::dsse::ENVELOPE_BYTES_MAX + workers::EXPLANATION_BYTES_MAX + (64 << 10);
/// Largest question about an image: a reference, a digest, a cursor.
const IMAGE_REQUEST_BYTES_MAX: usize = 64 << 10;
/// Largest record of an operator, worker or revocation.
const ADMIN_REQUEST_BYTES_MAX: usize = 256 << 10;
/// Largest question to the health and reflection services.
const SMALL_REQUEST_BYTES_MAX: usize = 4 << 10;
/// No connection is older: what a peer holds by not reading its answers (64 of them, an HTTP/2
/// stream each, which pings do not tell from a slow one) comes back after an hour.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(3600);
/// A peer that answers no ping is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_ANSWER_MAX: Duration = Duration::from_secs(20);

/// Serves until it is told to stop; then calls have [`Patience::grace`] to end, and are cut off.
///
/// [`Patience::grace`]: super::net::listen::Patience::grace
pub async fn serve(
    core: Arc<Core>,
    listener: TcpListener,
    gate: Gate,
    stop: CancellationToken,
) -> Result<(), DaemonError> {
    let failed = |error: &dyn std::fmt::Display| DaemonError::Serve(format!("gRPC: {error}"));
    let (seats, patience) = (Arc::clone(&gate.seats), gate.patience);
    let incoming = incoming(listener, gate, stop.clone());
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<WorkerServiceServer<workers::Workers>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()
        .map_err(|e| failed(&e))?;
    let workers = WorkerServiceServer::new(workers::Workers { core: Arc::clone(&core) })
        .max_decoding_message_size(WORKER_REQUEST_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let images = ImageServiceServer::new(images::Images::new(Arc::clone(&core)))
        .max_decoding_message_size(IMAGE_REQUEST_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let admin = AdminServiceServer::new(admin::Admin::new(Arc::clone(&core)))
        .max_decoding_message_size(ADMIN_REQUEST_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    // Strangers are refused by the headers of a call, before any of its message is read.
    let worker_only = Arc::clone(&core);
    let enrolled =
        move |request: Request<()>| workers::enrolled(&worker_only, &request).map(|_| request);
    let counting = Arc::clone(&core);
    let counted =
        tower::layer::layer_fn(move |inner| count::Counted::new(inner, Arc::clone(&counting)));
    let client_only = move |request: Request<()>| client(&core, &request).map(|_| request);
    let server = Server::builder()
        .layer(counted)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX as usize)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .timeout(patience.call)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .max_connection_age(CONNECTION_AGE_MAX)
        .max_connection_age_grace(2 * patience.call)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_ANSWER_MAX))
        .add_service(health.max_decoding_message_size(SMALL_REQUEST_BYTES_MAX))
        .add_service(reflection.max_decoding_message_size(SMALL_REQUEST_BYTES_MAX))
        .add_service(InterceptedService::new(workers, enrolled))
        .add_service(InterceptedService::new(images, client_only.clone()))
        .add_service(InterceptedService::new(admin, client_only))
        .serve_with_incoming_shutdown(incoming, stop.cancelled());
    let served = tokio::select! {
        served = server => served.map_err(|e| failed(&e)),
        () = super::net::cut_after(&seats, &stop, patience.grace, "gRPC") => Ok(()),
    };
    stop.cancel();
    served
}

/// The key of the caller's certificate.
fn peer<T>(request: &Request<T>) -> Result<PeerKey, Status> {
    request.extensions().get::<Peer>().and_then(|peer| peer.0).ok_or_else(|| {
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
        let wait = Duration::from_millis(ms.max(1000));
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
