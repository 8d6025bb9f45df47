//! HTTPS for everybody: evidence, attestations, health, metrics.
//!
//! Invariant: GET only, and nothing written; what is served is signed by others or by the verdict
//! key, so that a reader trusts no transport. What is known belongs to (repository, digest):
//! nothing is found by digest alone.

use super::{
    Core, DaemonError, evidence,
    net::{Gate, cut_after, incoming},
    publish::speaks,
    served::{self, Turns},
};
use crate::journal::Kind;
use attest::{
    Digest, Platform, Repository,
    evidence_set::{EvidenceSet, EvidenceSetError},
};
use axum::{
    Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde::Deserialize;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

/// Longest head of a request: a path with a repository, a digest and a platform takes 500 bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Serves until it is told to stop; then answers that are under way have the gate's grace to end.
pub async fn serve(
    core: Arc<Core>,
    listener: TcpListener,
    gate: Gate,
    stop: CancellationToken,
) -> Result<(), DaemonError> {
    let router = router(core);
    let (seats, patience) = (Arc::clone(&gate.seats), gate.patience);
    let mut incoming = incoming(listener, gate, stop.clone());
    while let Some(Ok(stream)) = incoming.next().await {
        let service = TowerToHyperService::new(router.clone());
        let stop = stop.clone();
        tokio::spawn(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
            // Also the time that a connection may idle between two requests.
            builder.http1().timer(TokioTimer::new()).header_read_timeout(patience.opening);
            builder.http1().max_buf_size(HEAD_BYTES_MAX);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP connection ended");
            }
        });
    }
    cut_after(&seats, &stop, patience.grace, "HTTP").await;
    Ok(())
}

fn router(core: Arc<Core>) -> Router {
    let turns = Turns::default();
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/evidence", get(move |state, query| evidence_of(turns, state, query)))
        .route("/v1/attestation", get(attestation_of))
        .with_state(core)
}

#[derive(Deserialize)]
struct ImageQuery {
    repository: String,
    manifest: String,
    #[serde(default)]
    platform: Option<String>,
}

fn json(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

fn problem(status: StatusCode, text: impl std::fmt::Display) -> Response {
    let body = serde_json::json!({"schema": "assay/error/v1", "error": text.to_string()});
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, body.to_string()).into_response()
}

struct Asked {
    repository: Repository,
    manifest: Digest,
    platform: Option<Platform>,
}

fn read(query: &ImageQuery) -> Result<Asked, Box<Response>> {
    let bad = |error: &dyn std::fmt::Display| Box::new(problem(StatusCode::BAD_REQUEST, error));
    Ok(Asked {
        repository: query.repository.parse().map_err(|e: attest::name::NameError| bad(&e))?,
        manifest: query.manifest.parse().map_err(|e: attest::digest::DigestError| bad(&e))?,
        platform: query
            .platform
            .as_ref()
            .map(|p| p.parse().map_err(|e: attest::name::NameError| bad(&e)))
            .transpose()?,
    })
}

async fn evidence_of(
    turns: Turns,
    State(core): State<Arc<Core>>,
    Query(query): Query<ImageQuery>,
) -> Response {
    let asked = match read(&query) {
        Ok(asked) => asked,
        Err(response) => return *response,
    };
    let Some(turn) = turns.wait().await else {
        return served::later(problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "as many as can be served at a time are reading evidence; ask again in a while",
        ));
    };
    match turn.make(move || evidence_about(&core, &asked)).await {
        Ok((Ok(bytes), turn)) => {
            // With its length: who gets less knows that it is not all.
            let length = bytes.len().to_string();
            let head =
                [(header::CONTENT_TYPE, "application/json"), (header::CONTENT_LENGTH, &length)];
            (head, served::body(bytes, turn)).into_response()
        }
        Ok((Err(response), _)) => *response,
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

fn evidence_about(core: &Core, asked: &Asked) -> Result<Vec<u8>, Box<Response>> {
    let answer = |status, error: &dyn std::fmt::Display| Box::new(problem(status, error));
    let failed = |error: &dyn std::fmt::Display| answer(StatusCode::SERVICE_UNAVAILABLE, error);
    let jobs = core.store.jobs_of(&asked.repository, &asked.manifest).map_err(|e| failed(&e))?;
    let mut merged: Option<EvidenceSet> = None;
    for job in jobs {
        let Some(set) = evidence::set_of(core, &job).map_err(|e| failed(&e))? else { continue };
        if asked.platform.as_ref().is_some_and(|p| *p != set.subject.platform) {
            continue;
        }
        match &mut merged {
            None => merged = Some(set),
            Some(there) => there.merge(set).map_err(|error| match error {
                EvidenceSetError::OtherSubject { .. } => {
                    let why = "several platforms have this manifest: name one (platform=)";
                    answer(StatusCode::BAD_REQUEST, &why)
                }
                other => failed(&other),
            })?,
        }
    }
    let nothing = || answer(StatusCode::NOT_FOUND, &"nothing is known of this image");
    merged.ok_or_else(nothing)?.to_canonical_json().map_err(|e| failed(&e))
}

async fn attestation_of(
    State(core): State<Arc<Core>>,
    Query(query): Query<ImageQuery>,
) -> Response {
    let asked = match read(&query) {
        Ok(asked) => asked,
        Err(response) => return *response,
    };
    let failed = |error: &dyn std::fmt::Display| problem(StatusCode::SERVICE_UNAVAILABLE, error);
    let newest = match speaks::about(&core, &asked.repository, &asked.manifest) {
        Ok(newest) => newest,
        Err(error) => return failed(&error),
    };
    let index = evidence::about_image(&asked.repository, &asked.manifest);
    let of_index = match core.store.newest_about(Kind::PUBLICATION, &index) {
        Ok(found) => found,
        Err(error) => return failed(&error),
    };
    for stored in newest.iter().chain(&of_index) {
        if let Some(attestation) = super::publish::attestation(&stored.body) {
            return json(attestation.to_vec());
        }
    }
    problem(StatusCode::NOT_FOUND, "nothing was attested about this image")
}

async fn ready(State(core): State<Arc<Core>>) -> Response {
    let readiness = super::readiness::look(&core).await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, readiness.report.to_string()).into_response()
}

/// OpenMetrics text, which Prometheus reads.
async fn metrics(State(core): State<Arc<Core>>) -> Response {
    const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match core.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, KIND)], text).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}
