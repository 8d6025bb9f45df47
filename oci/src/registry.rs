//! Registries, read over HTTP (OCI distribution-spec 1.1).
//!
//! Our own requests on reqwest, because oci-client reads manifests and referrers without limits,
//! follows no pages, retries nothing, sends credentials to any realm and reads some errors as "no
//! referrers". It still parses references and gives the media types.
//! Invariant: every answer is bounded and compared with the digest it was asked by; 404 is the
//! only "there is none", and only where the specification gives it that meaning.
//! It must never follow the `urls` of a layer, nor decide by a header what can be probed.

mod auth;
mod challenge;
mod credentials;
pub mod fetch;
mod http;
mod options;
mod referrers;
mod tags;
mod write;

pub use credentials::Credentials;
pub use http::Timing;
pub use options::SourceOptions;
pub use tags::Tags;
pub use write::Deleted;

use self::{
    auth::{Action, Scope, Tokens},
    http::{Answer, Ask, Backoff, Failure, Http},
};
use crate::{
    blob::BlobReader,
    error::Error,
    manifest::{self, Descriptor},
    media,
    reference::{self, Target},
    resolved::Resolved,
};
use attest::{Digest, Repository};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::{
    Method, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use url::Url;

/// The manifest types we ask for.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// Uploads up to here have the time of a small answer.
const UPLOAD_BYTES_SMALL: usize = 1 << 20;
/// The header with the digest that a registry computed.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A client for registries. Cheap to clone; connections and tokens are shared.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    credentials: Credentials,
    tokens: Tokens,
}

/// A small answer: headers and the whole body.
#[derive(Debug)]
struct Small {
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Small {
    fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Where a repository is.
#[derive(Debug, Clone)]
struct Place {
    base: Url,
    scope: Scope,
}

impl Place {
    fn url(&self, rest: &str) -> Result<Url, Error> {
        let path = format!("v2/{}/{rest}", self.scope.path);
        self.base.join(&path).map_err(|error| {
            Error::malformed(path, "a path that a URL can hold", error.to_string())
        })
    }
}

/// One request to a repository, with its limit.
struct Request<'a> {
    method: Method,
    url: Url,
    what: &'a str,
    headers: HeaderMap,
    body: Option<Bytes>,
    bytes_max: u64,
}

impl<'a> Request<'a> {
    fn get(url: Url, what: &'a str, bytes_max: u64) -> Self {
        let headers = HeaderMap::new();
        Self { method: Method::GET, url, what, headers, body: None, bytes_max }
    }

    fn accept(mut self, types: &'static str) -> Self {
        self.headers.insert(header::ACCEPT, HeaderValue::from_static(types));
        self
    }

    /// True if repeating the request changes nothing.
    fn is_idempotent(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::DELETE)
    }
}

impl Registry {
    /// A client; nothing is spoken to yet.
    pub fn new(options: &SourceOptions) -> Self {
        let http = Http::new(options.network.clone(), options.timing.clone());
        let credentials = options.credentials.clone();
        Self { inner: Arc::new(Inner { http, credentials, tokens: Tokens::default() }) }
    }

    /// The manifest or index that a tag or digest names.
    pub async fn resolve(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Resolved, Error> {
        match target {
            Target::Tag(tag) => self.get_manifest(repository, tag.as_str(), None).await,
            Target::Digest(digest) => self.manifest(repository, digest).await,
        }
    }

    /// A manifest or index by digest.
    pub async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Resolved, Error> {
        self.get_manifest(repository, &digest.to_string(), Some(*digest)).await
    }

    /// A blob as a stream that checks itself at its end.
    pub async fn blob_reader(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<BlobReader, Error> {
        let what = format!("blob {repository}@{}", descriptor.digest);
        let place = self.place(repository, Action::Pull)?;
        let url = place.url(&format!("blobs/{}", descriptor.digest))?;
        let request = Request::get(url, &what, descriptor.size);
        let answer = self.answer(&place.scope, &request, self.inner.http.timing.blob).await?;
        let announced = answer.response.content_length();
        if let Some(found) = announced.filter(|announced| *announced != descriptor.size) {
            let (expected, found) = (descriptor.size, found.to_string());
            return Err(Error::WrongSize { what, expected, found });
        }
        let seen = AtomicU64::new(0);
        let name = what.clone();
        let size = descriptor.size;
        let stream = answer.response.bytes_stream().map(move |chunk| match chunk {
            Ok(chunk) => {
                seen.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                Ok(chunk)
            }
            Err(error) => {
                let found = seen.load(Ordering::Relaxed);
                Err(io::Error::other(http::cut(error, Some(size), found, &name).error))
            }
        });
        let reader = tokio_util::io::StreamReader::new(stream.into_stream());
        Ok(BlobReader::new(reader, descriptor, what))
    }

    async fn get_manifest(
        &self,
        repository: &Repository,
        name: &str,
        digest: Option<Digest>,
    ) -> Result<Resolved, Error> {
        let joint = if digest.is_some() { '@' } else { ':' };
        let what = format!("{repository}{joint}{name}");
        let place = self.place(repository, Action::Pull)?;
        let url = place.url(&format!("manifests/{name}"))?;
        let request = Request::get(url, &what, media::MANIFEST_BYTES_MAX).accept(ACCEPT);
        let small = self.small(&place.scope, &request).await?;
        let found = Digest::of(&small.bytes);
        let said = small.header(CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok());
        if let Some(expected) = digest.or(said).filter(|expected| *expected != found) {
            return Err(Error::WrongDigest { what, expected, found });
        }
        let declared = small.header(header::CONTENT_TYPE).map(bare_type);
        let declared = declared.filter(|t| media::is_index(t) || media::is_manifest(t));
        let (media_type, _) = manifest::read(&small.bytes, declared, &what)?;
        Ok(Resolved {
            repository: repository.clone(),
            digest: found,
            media_type,
            bytes: small.bytes,
        })
    }

    fn place(&self, repository: &Repository, action: Action) -> Result<Place, Error> {
        let Some((host, path)) = reference::host_and_path(repository) else {
            let what = format!("repository {repository}");
            return Err(Error::malformed(what, "a host first", "none"));
        };
        // Docker Hub's name in references is not the host that serves them.
        let served = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let base = self.inner.http.policy.base_url(served)?;
        let scope = Scope { host: host.to_owned(), path: path.to_owned(), action };
        Ok(Place { base, scope })
    }

    /// Makes a request until it has an answer that is not "not now", and reads the body. Any
    /// status but success is an error.
    async fn small(&self, scope: &Scope, request: &Request<'_>) -> Result<Small, Error> {
        let timing = &self.inner.http.timing;
        // An upload takes the time that its bytes take.
        let large = request.body.as_ref().is_some_and(|body| body.len() > UPLOAD_BYTES_SMALL);
        let whole = if large { timing.blob } else { timing.answer };
        let mut backoff = Backoff::new(timing);
        loop {
            let failure = match self.answer_once(scope, request, whole).await {
                Ok(answer) => match read_small(answer, request).await {
                    Ok(small) => return Ok(small),
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            self.wait(&mut backoff, request, failure).await?;
        }
    }

    /// The same, but the body is left to be read.
    async fn answer(
        &self,
        scope: &Scope,
        request: &Request<'_>,
        whole: std::time::Duration,
    ) -> Result<Answer, Error> {
        let mut backoff = Backoff::new(&self.inner.http.timing);
        loop {
            match self.answer_once(scope, request, whole).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.wait(&mut backoff, request, failure).await?,
            }
        }
    }

    async fn wait(
        &self,
        backoff: &mut Backoff<'_>,
        request: &Request<'_>,
        (failure, after): (Failure, Option<std::time::Duration>),
    ) -> Result<(), Error> {
        if failure.again && request.is_idempotent() {
            backoff.wait(failure.error, after).await
        } else {
            Err(failure.error)
        }
    }

    /// One attempt, with the answer to a 401 inside.
    async fn answer_once(
        &self,
        scope: &Scope,
        request: &Request<'_>,
        whole: std::time::Duration,
    ) -> Result<Answer, (Failure, Option<std::time::Duration>)> {
        let now = |failure: Failure| (failure, None);
        let Inner { http, credentials, tokens } = &*self.inner;
        let mut ask = Ask {
            method: request.method.clone(),
            url: request.url.clone(),
            what: request.what,
            headers: request.headers.clone(),
            body: request.body.clone(),
            authorization: tokens.get(scope),
            whole,
        };
        let mut answer = http.send(&ask).await.map_err(now)?;
        let mut note = String::new();
        let own = http.policy.check(&request.url, request.what).map_err(|e| now(e.into()))?;
        if answer.response.status() == StatusCode::UNAUTHORIZED && answer.origin == own {
            let (value, why) = auth::answer(http, credentials, tokens, &answer, scope)
                .await
                .map_err(|error| now(error.into()))?;
            note = why;
            if value.is_some() {
                ask.authorization = value;
                answer = http.send(&ask).await.map_err(now)?;
            }
        }
        let status = answer.response.status();
        if status.is_success() {
            return Ok(answer);
        }
        let after = http::retry_after(answer.response.headers());
        let error = match http::status_error(answer, request.what).await {
            Error::Denied { what, status, detail } => {
                Error::Denied { what, status, detail: format!("{detail}{note}") }
            }
            other => other,
        };
        Err((Failure { error, again: http::is_transient(status) }, after))
    }
}

async fn read_small(
    mut answer: Answer,
    request: &Request<'_>,
) -> Result<Small, (Failure, Option<std::time::Duration>)> {
    let headers = answer.response.headers().clone();
    let bytes = if request.method == Method::HEAD {
        Vec::new()
    } else {
        http::body(&mut answer.response, request.bytes_max, request.what)
            .await
            .map_err(|failure| (failure, None))?
    };
    Ok(Small { headers, bytes })
}

/// A media type without its parameters.
fn bare_type(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}
