//! Counts calls by method and code, as a layer around all services.
//!
//! Invariant: only methods of the contract become labels: whatever else a client asks for is
//! counted as `other`, so that no client can grow the table.

use crate::daemon::Core;
use axum::http::{Request, Response};
use futures::future::BoxFuture;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::Service;

/// Packages whose methods are labels.
const PACKAGES: [&str; 3] =
    ["/assay.v1.WorkerService/", "/assay.v1.ImageService/", "/assay.v1.AdminService/"];
/// Every method of the contract: only these become labels. A stranger's path is refused before
/// anybody knows whether it exists, so that a status says nothing about it.
const METHODS: [&str; 20] = [
    "Sync",
    "Accept",
    "Decline",
    "FetchJob",
    "Submit",
    "Watch",
    "Get",
    "History",
    "Evidence",
    "AddWatch",
    "ListWatches",
    "RemoveWatch",
    "AddOperator",
    "EnrollWorker",
    "Revoke",
    "ListOperators",
    "DrainWorker",
    "Unpark",
    "Publish",
    "Status",
];

/// A service whose calls are counted.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    core: Arc<Core>,
}

impl<S> Counted<S> {
    /// Around a service.
    pub fn new(inner: S, core: Arc<Core>) -> Self {
        Self { inner, core }
    }
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let (core, began) = (Arc::clone(&self.core), Instant::now());
        let call = self.inner.call(request);
        Box::pin(async move {
            let answer = call.await;
            if let Ok(response) = &answer {
                let code = code(response);
                // What is not there has no method: a path that somebody made up.
                let method = if code == "unimplemented" { "other" } else { method(&path) };
                core.metrics.called(method, code, began.elapsed().as_secs_f64());
            }
            answer
        })
    }
}

/// The method of a path; `other` for what anybody may have made up, so that labels stay few.
fn method(path: &str) -> &'static str {
    let found = PACKAGES.iter().find_map(|package| path.strip_prefix(package));
    METHODS.into_iter().find(|name| Some(*name) == found).unwrap_or("other")
}

/// The status of a refused call stands in the headers; a call that succeeds has it in its trailers.
fn code<R>(response: &Response<R>) -> &'static str {
    let status = response.headers().get("grpc-status").and_then(|v| v.to_str().ok());
    let code = status.and_then(|text| text.parse::<i32>().ok()).unwrap_or(0);
    match tonic::Code::from_i32(code) {
        tonic::Code::Ok => "ok",
        tonic::Code::Cancelled => "cancelled",
        tonic::Code::InvalidArgument => "invalid-argument",
        tonic::Code::DeadlineExceeded => "deadline-exceeded",
        tonic::Code::NotFound => "not-found",
        tonic::Code::PermissionDenied => "permission-denied",
        tonic::Code::ResourceExhausted => "resource-exhausted",
        tonic::Code::FailedPrecondition => "failed-precondition",
        tonic::Code::Unimplemented => "unimplemented",
        tonic::Code::Internal => "internal",
        tonic::Code::Unavailable => "unavailable",
        tonic::Code::Unauthenticated => "unauthenticated",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_of_the_contract_are_labels() {
        assert_eq!(method("/assay.v1.WorkerService/Sync"), "Sync");
        assert_eq!(method("/made.up/Thing"), "other");
        // A stranger can't make labels, however short.
        assert_eq!(method("/assay.v1.WorkerService/Made"), "other");
        for file in &<prost_types::FileDescriptorSet as prost::Message>::decode(proto::DESCRIPTORS)
            .unwrap()
            .file
        {
            for (service, rpc) in
                file.service.iter().flat_map(|s| s.method.iter().map(move |m| (s, m)))
            {
                let path = format!("/assay.v1.{}/{}", service.name(), rpc.name());
                assert_eq!(method(&path), rpc.name(), "{path}");
            }
        }
        let refused = Response::builder().header("grpc-status", "8").body(()).unwrap();
        assert_eq!(code(&refused), "resource-exhausted");
        assert_eq!(code(&Response::new(())), "ok");
    }
}
