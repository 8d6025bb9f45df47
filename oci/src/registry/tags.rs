//! Which tags a repository has, and what they name (distribution-spec 1.1, "Listing Tags" and
//! "Checking if content exists").
//!
//! Invariant: pages are followed at the same origin only, and counted; a list that was not read to
//! its end says so, and is never taken for the whole. What a tag names is asked by HEAD; with
//! `If-None-Match` where the digest is known, so that a registry may answer with nothing at all.

use super::{ACCEPT, CONTENT_DIGEST, Registry, Request, auth::Action, referrers::next_page};
use crate::{error::Error, media, reference::Tag};
use attest::{Digest, Repository};
use reqwest::{
    Method, StatusCode,
    header::{self, HeaderValue},
};
use serde::Deserialize;

/// Pages that are followed: 64,000 tags at the size that is asked for.
const PAGES_MAX: usize = 64;
/// Tags that one page is asked to have; registries give fewer.
const PAGE_TAGS: usize = 1000;

/// Tags of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    /// Those that were wanted, in the registry's order.
    pub tags: Vec<Tag>,
    /// False where there are more than were read.
    pub complete: bool,
}

#[derive(Deserialize)]
struct Page {
    /// `null` at some registries, for a repository without tags.
    tags: Option<Vec<String>>,
}

impl Registry {
    /// The tags of a repository that `wanted` says yes to, at most `tags_max`.
    pub async fn tags(
        &self,
        repository: &Repository,
        tags_max: usize,
        wanted: impl Fn(&Tag) -> bool,
    ) -> Result<Tags, Error> {
        let what = format!("the tags of {repository}");
        let place = self.place(repository, Action::Pull)?;
        let mut next = Some(place.url(&format!("tags/list?n={PAGE_TAGS}"))?);
        let mut tags = Vec::new();
        for _ in 0..PAGES_MAX {
            let Some(url) = next.take() else { return Ok(Tags { tags, complete: true }) };
            let request = Request::get(url.clone(), &what, media::MANIFEST_BYTES_MAX);
            let small = self.small(&place.scope, &request).await?;
            let page: Page = serde_json::from_slice(&small.bytes).map_err(|error| {
                Error::malformed(&what, "JSON with a list of tags", error.to_string())
            })?;
            for name in page.tags.unwrap_or_default() {
                let tag: Tag = name.parse().map_err(|_| Error::malformed(&what, "tags", &name))?;
                if !wanted(&tag) {
                    continue;
                }
                if tags.len() >= tags_max {
                    return Ok(Tags { tags, complete: false });
                }
                tags.push(tag);
            }
            next = next_page(&url, small.header(header::LINK), &place, &what)?;
        }
        Ok(Tags { tags, complete: next.is_none() })
    }

    /// The digest that a tag names now; none if the registry says 404.
    pub async fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, Error> {
        self.tag_unless(repository, tag, None).await
    }

    /// The same, for somebody who knows what the tag named before: the registry may say "still".
    pub async fn tag_unless(
        &self,
        repository: &Repository,
        tag: &Tag,
        known: Option<Digest>,
    ) -> Result<Option<Digest>, Error> {
        let what = format!("{repository}:{tag}");
        let place = self.place(repository, Action::Pull)?;
        let url = place.url(&format!("manifests/{tag}"))?;
        let mut request = Request::get(url, &what, 0).accept(ACCEPT);
        request.method = Method::HEAD;
        let etag = known.and_then(|known| HeaderValue::from_str(&format!("\"{known}\"")).ok());
        if let Some(etag) = etag {
            request.headers.insert(header::IF_NONE_MATCH, etag);
        }
        let small = match self.small(&place.scope, &request).await {
            Ok(small) => small,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if known.is_some() && says_still(&error) => return Ok(known),
            Err(error) => return Err(error),
        };
        match small.header(CONTENT_DIGEST).and_then(|text| text.parse().ok()) {
            Some(digest) => Ok(Some(digest)),
            // Some registries give no digest to HEAD; the bytes always have one.
            None => match self.get_manifest(repository, tag.as_str(), None).await {
                Ok(resolved) => Ok(Some(resolved.digest)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            },
        }
    }
}

fn says_still(error: &Error) -> bool {
    let still = StatusCode::NOT_MODIFIED.as_u16();
    matches!(error, Error::Unavailable { status: Some(status), .. } if *status == still)
}
