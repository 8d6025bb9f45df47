//! Faults: what a broken, overloaded or hostile registry answers.
//!
//! Invariant: a fault acts on the requests whose method and path it names, as often as it says,
//! after letting the first few through; every other request is answered rightly.

use attest::Digest;
use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use oci::{Tag, serve::Store};
use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum What {
    /// This status, with the registry's usual error body.
    Status(u16),
    /// This status with `Retry-After: <seconds>`.
    RetryAfter(u16, u64),
    /// Half of the body, then the connection breaks.
    Truncated,
    /// The last byte of the body is another one; headers stay.
    WrongBytes,
    /// A body of this many spaces, announced by its length.
    Oversized(usize),
    /// Spaces without end, and without a length.
    Endless,
    /// The right body, a byte at a time, with this pause between two.
    Slow(Duration),
    /// No answer at all.
    Hang,
    /// 307 to this URL.
    Redirect(String),
    /// 202 with this `Location`, as an upload is begun.
    UploadTo(String),
    /// 200 with this media type and these bytes, whatever was asked.
    Instead(String, Vec<u8>),
    /// The right answer without these headers.
    Without(&'static [&'static str]),
    /// The right answer; then the tag of this repository names this manifest.
    ThenMoveTag(String, Tag, Digest),
}

/// A fault and the requests it is for.
#[derive(Debug, Clone)]
pub struct Fault {
    /// `GET`; none: every method.
    pub method: Option<&'static str>,
    /// Text in the path and query; empty: every path.
    pub path: String,
    /// How many matching requests pass unharmed before it acts.
    pub after: usize,
    /// How many requests it acts on; none: all.
    pub times: Option<usize>,
    /// What goes wrong.
    pub what: What,
}

impl Fault {
    /// On every `GET` whose path contains this text.
    pub fn get(path: impl Into<String>, what: What) -> Self {
        Self { method: Some("GET"), path: path.into(), after: 0, times: None, what }
    }

    /// On every request whose path contains this text.
    pub fn any(path: impl Into<String>, what: What) -> Self {
        Self { method: None, ..Self::get(path, what) }
    }

    /// Only so many times.
    pub fn times(self, times: usize) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Only after so many matching requests.
    pub fn after(self, after: usize) -> Self {
        Self { after, ..self }
    }
}

/// The faults of one registry.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    active: Arc<Mutex<Vec<Fault>>>,
    store: Store,
}

impl Faults {
    pub(super) fn new(store: Store) -> Self {
        Self { active: Arc::default(), store }
    }

    pub(super) fn add(&self, fault: Fault) {
        self.active.lock().expect("no test panics while it holds this").push(fault);
    }

    pub(super) fn clear(&self) {
        self.active.lock().expect("no test panics while it holds this").clear();
    }

    /// The fault that acts on this request, counted down.
    fn take(&self, method: &str, path: &str) -> Option<What> {
        let mut active = self.active.lock().expect("no test panics while it holds this");
        for fault in active.iter_mut() {
            let matches = fault.method.is_none_or(|m| m == method) && path.contains(&fault.path);
            if !matches || fault.times == Some(0) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            fault.times = fault.times.map(|times| times - 1);
            return Some(fault.what.clone());
        }
        None
    }
}

pub(super) async fn inject(State(faults): State<Faults>, request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query().map_or(String::new(), ToString::to_string);
    let Some(what) = faults.take(request.method().as_str(), &path) else {
        return next.run(request).await;
    };
    match what {
        What::Status(status) => refused(status),
        What::RetryAfter(status, seconds) => {
            let mut response = refused(status);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
        What::Oversized(bytes) => Body::from(" ".repeat(bytes)).into_response(),
        What::Endless => {
            let page = Bytes::from(vec![b' '; 64 << 10]);
            let forever = stream::repeat_with(move || Ok::<_, io::Error>(page.clone()));
            Body::from_stream(forever).into_response()
        }
        What::Hang => std::future::pending().await,
        What::Redirect(url) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, url)]).into_response()
        }
        What::UploadTo(url) => (StatusCode::ACCEPTED, [(header::LOCATION, url)]).into_response(),
        What::Instead(media_type, bytes) => {
            ([(header::CONTENT_TYPE, media_type)], bytes).into_response()
        }
        What::ThenMoveTag(name, tag, digest) => {
            let response = next.run(request).await;
            assert!(faults.store.set_tag(&name, &tag, digest), "the manifest must be there");
            response
        }
        What::Without(headers) => {
            let mut response = next.run(request).await;
            for name in headers {
                response.headers_mut().remove(*name);
            }
            response
        }
        What::Truncated | What::WrongBytes | What::Slow(_) => {
            spoil(next.run(request).await, &what).await
        }
    }
}

fn refused(status: u16) -> Response {
    let status = StatusCode::from_u16(status).expect("a test names a real status");
    let body = r#"{"errors":[{"code":"TEST","message":"a fault of the test"}]}"#;
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The right answer with a body that goes wrong. The announced length stays.
async fn spoil(response: Response, what: &What) -> Response {
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.expect("a body of our own");
    let body = match what {
        What::Truncated => {
            let half = stream::iter([Ok(bytes.slice(..bytes.len() / 2))]);
            // The pause lets the first half out; without it nothing at all would be sent.
            let broken = stream::once(async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(io::Error::other("the connection breaks here"))
            });
            Body::from_stream(half.chain(broken))
        }
        What::WrongBytes => {
            let mut bytes = bytes.to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            Body::from(bytes)
        }
        What::Slow(pause) => {
            let pause = *pause;
            Body::from_stream(stream::unfold(0usize, move |at| {
                let next = (at < bytes.len()).then(|| bytes.slice(at..at + 1));
                async move {
                    let piece = next?;
                    tokio::time::sleep(pause).await;
                    Some((Ok::<_, io::Error>(piece), at + 1))
                }
            }))
        }
        _ => Body::from(bytes),
    };
    Response::from_parts(parts, body)
}
