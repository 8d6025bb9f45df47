//! A small registry in this process (OCI distribution-spec 1.1), for the demo and for tests.
//!
//! It keeps everything in memory, and can be filled from a layout and saved as one. It serves and
//! accepts manifests, blobs (in one piece), tags, referrers with pages, deletion.
//! Invariant: what is stored under a digest has this digest; a manifest is stored only if it is
//! one and, as Debian's registry insists, what it names is there.
//! It does no authentication and no TLS, keeps no quota, and must never listen beyond loopback in
//! the demo: it is no registry to run.

mod answer;
mod store;

pub use store::Store;

use self::answer::{Failed, plain};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::Response,
};
use bytes::Bytes;

/// How the registry behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeOptions {
    /// Answers the referrers API; without it, clients use the `sha256-<hex>` tags.
    pub referrers_api: bool,
    /// Entries of one page of the referrers API.
    pub referrers_page: usize,
    /// Tags of one page of the list.
    pub tags_page: usize,
    /// Deletes manifests.
    pub deletion: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { referrers_api: true, referrers_page: 100, tags_page: 100, deletion: true }
    }
}

/// Largest upload: 1 GiB, it is kept in memory.
const UPLOAD_BYTES_MAX: usize = 1 << 30;

#[derive(Debug, Clone)]
struct Server {
    store: Store,
    options: ServeOptions,
}

/// The registry's routes over a store. Give it to `axum::serve` with a loopback listener.
pub fn router(store: Store, options: ServeOptions) -> Router {
    Router::new().fallback(handle).with_state(Server { store, options })
}

/// One path of the API below `/v2/<name>/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Manifest(&'a str),
    Blob(&'a str),
    Uploads,
    Upload(&'a str),
    Referrers(&'a str),
    Tags,
}

/// Splits a path into the repository and what is asked of it.
fn route(path: &str) -> Option<(&str, Route<'_>)> {
    let path = path.strip_prefix("/v2/")?;
    if let Some(name) = path.strip_suffix("/blobs/uploads/").or(path.strip_suffix("/blobs/uploads"))
    {
        return Some((name, Route::Uploads));
    }
    if let Some(name) = path.strip_suffix("/tags/list") {
        return Some((name, Route::Tags));
    }
    let (rest, last) = path.rsplit_once('/')?;
    let (name, kind) = rest.rsplit_once('/')?;
    Some(match kind {
        "manifests" => (name, Route::Manifest(last)),
        "blobs" => (name, Route::Blob(last)),
        "referrers" => (name, Route::Referrers(last)),
        "uploads" => (name.strip_suffix("/blobs")?, Route::Upload(last)),
        _ => return None,
    })
}

async fn handle(
    State(server): State<Server>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if matches!(uri.path(), "/v2/" | "/v2") {
        return plain(StatusCode::OK, Bytes::from_static(b"{}"));
    }
    let Ok(body) = to_bytes(body, UPLOAD_BYTES_MAX).await else {
        return Failed::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID").into();
    };
    let found = match route(uri.path()) {
        Some((name, route)) => {
            let query = uri.query().unwrap_or_default();
            server.serve(&method, name, route, query, &headers, body)
        }
        None => Err(Failed::new(StatusCode::NOT_FOUND, "UNSUPPORTED")),
    };
    let mut response = found.unwrap_or_else(Response::from);
    if method == Method::HEAD {
        // The length of what GET would send stays in the header.
        let length = response.headers().get(header::CONTENT_LENGTH).cloned();
        *response.body_mut() = Body::empty();
        if let Some(length) = length {
            response.headers_mut().insert(header::CONTENT_LENGTH, length);
        }
    }
    response
}

impl Server {
    fn serve(
        &self,
        method: &Method,
        name: &str,
        route: Route<'_>,
        query: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response, Failed> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match route {
            Route::Manifest(reference) if reads => {
                let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
                self.get_manifest(name, reference, known)
            }
            Route::Manifest(reference) if method == Method::PUT => {
                self.put_manifest(name, reference, headers, &body)
            }
            Route::Manifest(reference) if method == Method::DELETE => {
                self.delete_manifest(name, reference)
            }
            Route::Blob(digest) if reads => self.get_blob(digest),
            Route::Uploads if method == Method::POST => Ok(self.start_upload(name)),
            Route::Upload(id) if method == Method::PATCH => self.append_upload(name, id, &body),
            Route::Upload(id) if method == Method::PUT => {
                self.finish_upload(name, id, query, &body)
            }
            Route::Referrers(digest) if reads && self.options.referrers_api => {
                self.get_referrers(name, digest, query)
            }
            Route::Referrers(_) => Err(Failed::new(StatusCode::NOT_FOUND, "UNSUPPORTED")),
            Route::Tags if reads => self.get_tags(name, query),
            _ => Err(Failed::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_at_their_ends() {
        for (path, expected) in [
            ("/v2/a/b/manifests/latest", Some(("a/b", Route::Manifest("latest")))),
            ("/v2/manifests/manifests/x", Some(("manifests", Route::Manifest("x")))),
            ("/v2/a/blobs/sha256:0", Some(("a", Route::Blob("sha256:0")))),
            ("/v2/a/blobs/uploads/", Some(("a", Route::Uploads))),
            ("/v2/a/b/blobs/uploads/7", Some(("a/b", Route::Upload("7")))),
            ("/v2/a/referrers/sha256:0", Some(("a", Route::Referrers("sha256:0")))),
            ("/v2/a/tags/list", Some(("a", Route::Tags))),
            ("/v2/a", None),
            ("/v1/a/manifests/x", None),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }
}
