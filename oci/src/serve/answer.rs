//! What the registry answers to each request.
//!
//! Invariant: errors have the specification's JSON form and its codes; every answer with bytes of
//! a manifest or blob names their digest.

use super::{Server, store::PutError};
use crate::{
    manifest::Descriptor,
    media,
    reference::{Tag, Target},
};
use attest::Digest;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use serde_json::{Value, json};
use url::form_urlencoded;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// A request that was not fulfilled.
#[derive(Debug)]
pub(super) struct Failed {
    status: StatusCode,
    code: &'static str,
}

impl Failed {
    pub(super) fn new(status: StatusCode, code: &'static str) -> Self {
        Self { status, code }
    }

    fn not_found(code: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code)
    }
}

impl From<Failed> for Response {
    fn from(failed: Failed) -> Self {
        let message = failed.code.to_lowercase().replace('_', " ");
        let body = json!({ "errors": [{ "code": failed.code, "message": message }] });
        plain(failed.status, Bytes::from(body.to_string()))
    }
}

/// A JSON answer.
pub(super) fn plain(status: StatusCode, bytes: Bytes) -> Response {
    with_type(status, "application/json", bytes)
}

fn with_type(status: StatusCode, media_type: &str, bytes: Bytes) -> Response {
    let length = bytes.len();
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(value) = HeaderValue::from_str(media_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    response
}

fn with_header(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

fn created(location: &str, digest: &Digest) -> Response {
    let response = plain(StatusCode::CREATED, Bytes::new());
    let response = with_header(response, header::LOCATION, location);
    with_header(response, CONTENT_DIGEST, &digest.to_string())
}

fn target(reference: &str) -> Result<Target, Failed> {
    if let Ok(digest) = reference.parse() {
        return Ok(Target::Digest(digest));
    }
    reference.parse::<Tag>().map(Target::Tag).map_err(|_| Failed::not_found("MANIFEST_UNKNOWN"))
}

/// A parameter of a query.
fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, v)| v.into())
}

impl Server {
    pub(super) fn get_manifest(
        &self,
        name: &str,
        reference: &str,
        known: Option<&str>,
    ) -> Result<Response, Failed> {
        let found = self.store.manifest(name, &target(reference)?);
        let (digest, media_type, bytes) =
            found.ok_or_else(|| Failed::not_found("MANIFEST_UNKNOWN"))?;
        if known.is_some_and(|known| known == format!("\"{digest}\"")) {
            return Ok(plain(StatusCode::NOT_MODIFIED, Bytes::new()));
        }
        let response = with_type(StatusCode::OK, &media_type, bytes);
        let response = with_header(response, header::ETAG, &format!("\"{digest}\""));
        Ok(with_header(response, CONTENT_DIGEST, &digest.to_string()))
    }

    pub(super) fn put_manifest(
        &self,
        name: &str,
        reference: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response, Failed> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let media_type = text(header::CONTENT_TYPE).unwrap_or_default();
        let only_if = text(header::IF_MATCH).map(|tag| tag.trim_matches('"').to_owned());
        let put =
            self.store.put_manifest(name, &target(reference)?, media_type, body.clone(), only_if);
        let stored = put.map_err(|error| match error {
            PutError::Malformed => Failed::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            PutError::TooLarge => Failed::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            PutError::WrongDigest => Failed::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            PutError::Lacking => Failed::new(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            PutError::Changed => Failed::new(StatusCode::PRECONDITION_FAILED, "DENIED"),
        })?;
        let response = created(&format!("/v2/{name}/manifests/{}", stored.digest), &stored.digest);
        Ok(match stored.subject.filter(|_| self.options.referrers_api) {
            Some(subject) => with_header(response, OCI_SUBJECT, &subject.to_string()),
            None => response,
        })
    }

    pub(super) fn delete_manifest(&self, name: &str, reference: &str) -> Result<Response, Failed> {
        if !self.options.deletion {
            return Err(Failed::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"));
        }
        if self.store.delete(name, &target(reference)?) {
            Ok(plain(StatusCode::ACCEPTED, Bytes::new()))
        } else {
            Err(Failed::not_found("MANIFEST_UNKNOWN"))
        }
    }

    pub(super) fn get_blob(&self, digest: &str) -> Result<Response, Failed> {
        let found = digest.parse().ok().and_then(|digest| self.store.blob(&digest));
        let bytes = found.ok_or_else(|| Failed::not_found("BLOB_UNKNOWN"))?;
        let response = with_type(StatusCode::OK, "application/octet-stream", bytes);
        Ok(with_header(response, CONTENT_DIGEST, digest))
    }

    pub(super) fn start_upload(&self, name: &str) -> Response {
        let id = self.store.start_upload();
        let response = plain(StatusCode::ACCEPTED, Bytes::new());
        with_header(response, header::LOCATION, &format!("/v2/{name}/blobs/uploads/{id}"))
    }

    pub(super) fn append_upload(
        &self,
        name: &str,
        id: &str,
        body: &Bytes,
    ) -> Result<Response, Failed> {
        let id: u64 = id.parse().map_err(|_| Failed::not_found("BLOB_UPLOAD_UNKNOWN"))?;
        let length = self.store.append_upload(id, body);
        let length = length.ok_or_else(|| Failed::not_found("BLOB_UPLOAD_UNKNOWN"))?;
        let response = plain(StatusCode::ACCEPTED, Bytes::new());
        let range = format!("0-{}", length.saturating_sub(1));
        let response = with_header(response, header::RANGE, &range);
        Ok(with_header(response, header::LOCATION, &format!("/v2/{name}/blobs/uploads/{id}")))
    }

    pub(super) fn finish_upload(
        &self,
        name: &str,
        id: &str,
        query: &str,
        body: &Bytes,
    ) -> Result<Response, Failed> {
        let id: u64 = id.parse().map_err(|_| Failed::not_found("BLOB_UPLOAD_UNKNOWN"))?;
        let expected = parameter(query, "digest").and_then(|text| text.parse::<Digest>().ok());
        let expected =
            expected.ok_or_else(|| Failed::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID"))?;
        match self.store.finish_upload(id, body, &expected) {
            None => Err(Failed::not_found("BLOB_UPLOAD_UNKNOWN")),
            Some(false) => Err(Failed::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID")),
            Some(true) => Ok(created(&format!("/v2/{name}/blobs/{expected}"), &expected)),
        }
    }

    pub(super) fn get_referrers(
        &self,
        name: &str,
        digest: &str,
        query: &str,
    ) -> Result<Response, Failed> {
        let subject: Digest =
            digest.parse().map_err(|_| Failed::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID"))?;
        let all = self.store.referrers(name, &subject);
        let start = parameter(query, "start").and_then(|text| text.parse().ok()).unwrap_or(0usize);
        let size = self.options.referrers_page.max(1);
        let page: Vec<Value> = all.iter().skip(start).take(size).map(Descriptor::to_json).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": page });
        let response = with_type(StatusCode::OK, media::OCI_INDEX, index.to_string().into());
        let end = start.saturating_add(size);
        if end >= all.len() {
            return Ok(response);
        }
        let link = format!("</v2/{name}/referrers/{subject}?start={end}>; rel=\"next\"");
        Ok(with_header(response, header::LINK, &link))
    }

    pub(super) fn get_tags(&self, name: &str, query: &str) -> Result<Response, Failed> {
        if !self.store.has(name) {
            return Err(Failed::not_found("NAME_UNKNOWN"));
        }
        let all = self.store.tags(name);
        let last = parameter(query, "last").unwrap_or_default();
        let asked = parameter(query, "n").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
        let size = asked.min(self.options.tags_page.max(1));
        let rest: Vec<&String> = all.iter().filter(|tag| **tag > last).collect();
        let page = &rest[..size.min(rest.len())];
        let body = json!({ "name": name, "tags": page });
        let response = plain(StatusCode::OK, body.to_string().into());
        let Some(end) = page.last().filter(|_| rest.len() > size) else { return Ok(response) };
        let link = format!("</v2/{name}/tags/list?n={size}&last={end}>; rel=\"next\"");
        Ok(with_header(response, header::LINK, &link))
    }
}
