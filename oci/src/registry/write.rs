//! Writing into a registry: blobs, manifests, tags, deletion (distribution-spec 1.1, "Push").
//!
//! Our own, not oci-client's: its client can be pinned neither to checked addresses nor to one
//! host (it follows an upload's `Location` and a token's realm anywhere, with credentials).
//! Invariant: everything goes to the registry's own origin; redirects of writes are not followed.
//! A manifest is put only after the caller put what it names.

use super::{CONTENT_DIGEST, Place, Registry, Request, auth::Action, http};
use crate::{error::Error, media, reference::Target};
use attest::{Digest, Repository};
use bytes::Bytes;
use reqwest::{
    Method,
    header::{self, HeaderMap, HeaderValue},
};
use url::Url;

/// What registries say to a write; nothing in it is needed.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Done,
    /// It was not there.
    Missing,
    /// This registry deletes nothing.
    Unsupported,
}

impl Registry {
    /// Uploads a blob in one piece, unless the repository has it.
    pub async fn push_blob(&self, repository: &Repository, bytes: Bytes) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        let what = format!("blob {repository}@{digest}");
        let place = self.place(repository, Action::Push)?;
        let mut head = Request::get(place.url(&format!("blobs/{digest}"))?, &what, 0);
        head.method = Method::HEAD;
        match self.small(&place.scope, &head).await {
            Ok(_) => return Ok(digest),
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let upload = format!("an upload to {repository}");
        let mut post = Request::get(place.url("blobs/uploads/")?, &upload, ANSWER_BYTES_MAX);
        post.method = Method::POST;
        post.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        let started = self.small(&place.scope, &post).await?;
        let mut url = upload_url(&place, &post.url, started.header(header::LOCATION), &upload)?;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let mut put = Request::get(url, &what, ANSWER_BYTES_MAX);
        put.method = Method::PUT;
        let kind = HeaderValue::from_static("application/octet-stream");
        put.headers.insert(header::CONTENT_TYPE, kind);
        put.body = Some(bytes);
        self.small(&place.scope, &put).await?;
        Ok(digest)
    }

    /// Puts a manifest or index under a tag, or under its own digest. With `replaces`, only if the
    /// tag still names that digest, as far as the registry honours `If-Match`.
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        target: &Target,
        media_type: &str,
        bytes: Bytes,
        replaces: Option<Digest>,
    ) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        let name = match target {
            Target::Tag(tag) => tag.to_string(),
            Target::Digest(target) if *target == digest => digest.to_string(),
            Target::Digest(expected) => {
                let what = format!("the manifest to be pushed to {repository}");
                return Err(Error::WrongDigest { what, expected: *expected, found: digest });
            }
        };
        if bytes.len() as u64 > media::MANIFEST_BYTES_MAX {
            let what = format!("the manifest to be pushed to {repository}");
            return Err(Error::too_large(what, media::MANIFEST_BYTES_MAX, "bytes", bytes.len()));
        }
        let what = format!("{repository}:{name} (writing)");
        let place = self.place(repository, Action::Push)?;
        let mut headers = HeaderMap::new();
        let bad = |_| Error::malformed(&what, "a media type for a header", media_type);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(media_type).map_err(bad)?);
        if let Some(old) = replaces {
            let tag = HeaderValue::from_str(&format!("\"{old}\"")).map_err(bad)?;
            headers.insert(header::IF_MATCH, tag);
        }
        let url = place.url(&format!("manifests/{name}"))?;
        let method = Method::PUT;
        let bytes_max = ANSWER_BYTES_MAX;
        let put = Request { method, url, what: &what, headers, body: Some(bytes), bytes_max };
        let answer = self.small(&place.scope, &put).await?;
        match answer.header(CONTENT_DIGEST).and_then(|text| text.parse().ok()) {
            Some(found) if found != digest => {
                Err(Error::WrongDigest { what, expected: digest, found })
            }
            _ => Ok(digest),
        }
    }

    /// Deletes a manifest by digest.
    pub async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deleted, Error> {
        let what = format!("{repository}@{digest} (deleting)");
        let place = self.place(repository, Action::Push)?;
        let url = place.url(&format!("manifests/{digest}"))?;
        let mut request = Request::get(url, &what, ANSWER_BYTES_MAX);
        request.method = Method::DELETE;
        match self.small(&place.scope, &request).await {
            Ok(_) => Ok(Deleted::Done),
            Err(Error::NotFound { .. }) => Ok(Deleted::Missing),
            Err(Error::Unavailable { status: Some(400 | 405 | 501), .. }) => {
                Ok(Deleted::Unsupported)
            }
            Err(error) => Err(error),
        }
    }
}

/// Where an upload goes on: at the same origin, or not at all.
fn upload_url(place: &Place, from: &Url, location: Option<&str>, what: &str) -> Result<Url, Error> {
    let bad = |found: &str| Error::malformed(what, "a Location to upload to", found);
    let location = location.ok_or_else(|| bad("none"))?;
    let url = from.join(location).map_err(|_| bad(location))?;
    if url.origin() != place.base.origin() {
        return Err(Error::NetworkRefused { what: what.to_owned(), found: http::shown(&url) });
    }
    Ok(url)
}
