//! What is attached to a digest in a registry (distribution-spec 1.1, "Listing Referrers" and
//! "Referrers Tag Schema").
//!
//! Invariant: the API is asked first and believed if it answers; only the answers by which
//! registries say that they have no such API lead to the `sha256-<hex>` tag; any other failure is
//! an error. Pages are followed at the same origin only, and counted.

use super::{Place, Registry, Request, auth::Action, bare_type, http};
use crate::{
    error::Error,
    manifest::{self, Descriptor},
    media,
    reference::Tag,
};
use attest::{Digest, Repository};
use reqwest::header;
use url::Url;

/// Pages that are followed: 256 referrers come in one or two.
const PAGES_MAX: usize = 32;

impl Registry {
    /// The descriptors of what says that it is about `digest`.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        match self.referrers_api(repository, digest).await? {
            Some(found) => Ok(found),
            None => self.referrers_by_tag(repository, digest).await,
        }
    }

    /// The API's answer; none if the registry has no such API.
    pub async fn referrers_api(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let what = format!("the referrers of {repository}@{digest}");
        let place = self.place(repository, Action::Pull)?;
        let first = place.url(&format!("referrers/{digest}"))?;
        let mut next = Some(first.clone());
        let mut found: Vec<Descriptor> = Vec::new();
        for page in 0..PAGES_MAX {
            let Some(url) = next.take() else { return Ok(Some(found)) };
            let request = Request::get(url.clone(), &what, media::MANIFEST_BYTES_MAX)
                .accept(media::OCI_INDEX);
            let small = match self.small(&place.scope, &request).await {
                Ok(small) => small,
                Err(error) if page == 0 && says_unsupported(&error) => return Ok(None),
                // A page that the registry announced itself cannot be "none".
                Err(Error::NotFound { what, detail }) => {
                    let cause = format!("HTTP status 404 for page {}{detail}", page + 1);
                    return Err(Error::Unavailable {
                        what,
                        cause,
                        status: Some(404),
                        retry_after: None,
                    });
                }
                Err(error) => return Err(error),
            };
            let declared = small.header(header::CONTENT_TYPE).map(bare_type);
            let declared = declared.filter(|t| media::is_index(t) || media::is_manifest(t));
            let index = manifest::read_image_index(&small.bytes, declared, &what)?;
            found.extend(index.entries);
            if found.len() > media::REFERRERS_MAX {
                let max = media::REFERRERS_MAX as u64;
                return Err(Error::too_large(what, max, "entries", found.len()));
            }
            next = next_page(&url, small.header(header::LINK), &place, &what)?;
        }
        match next {
            None => Ok(Some(found)),
            Some(_) => Err(Error::too_large(what, PAGES_MAX as u64, "pages", "more")),
        }
    }

    /// What the tag `sha256-<hex>` names, whether there is the API or not.
    pub async fn referrers_by_tag(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let tag = Tag::fallback_of(digest);
        let resolved = match self.get_manifest(repository, tag.as_str(), None).await {
            Ok(resolved) => resolved,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let what = format!("{repository}:{tag}");
        let index = manifest::read_image_index(&resolved.bytes, Some(&resolved.media_type), &what)?;
        Ok(index.entries)
    }
}

/// How registries without the API answer: 404 mostly, 405 or 501, or 400 with the code.
fn says_unsupported(error: &Error) -> bool {
    match error {
        Error::NotFound { .. } => true,
        Error::Unavailable { status: Some(405 | 501), .. } => true,
        Error::Unavailable { status: Some(400), cause, .. } => cause.contains("UNSUPPORTED"),
        _ => false,
    }
}

/// The page that `Link: <…>; rel="next"` names (RFC 8288).
pub(super) fn next_page(
    from: &Url,
    link: Option<&str>,
    place: &Place,
    what: &str,
) -> Result<Option<Url>, Error> {
    let Some(link) = link else { return Ok(None) };
    let bad = || Error::malformed(what, "a Link header like <URL>; rel=\"next\"", link);
    let (target, parameters) =
        link.trim().strip_prefix('<').and_then(|l| l.split_once('>')).ok_or_else(bad)?;
    let is_next = parameters.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
    if !is_next {
        return Ok(None);
    }
    let next = from.join(target).map_err(|_| bad())?;
    if next.origin() != place.base.origin() {
        let found = http::shown(&next);
        return Err(Error::NetworkRefused { what: format!("the next page of {what}"), found });
    }
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::auth::Scope;

    #[test]
    fn next_pages_stay_at_their_registry() {
        let base = Url::parse("https://r.example/").unwrap();
        let scope = Scope { host: "r.example".into(), path: "a".into(), action: Action::Pull };
        let place = Place { base, scope };
        let from = Url::parse("https://r.example/v2/a/referrers/sha256:0").unwrap();
        let next = |link: &str| next_page(&from, Some(link), &place, "the test");
        let found = next("</v2/a/referrers/x?n=2>; rel=\"next\"").unwrap().unwrap();
        assert_eq!(found.as_str(), "https://r.example/v2/a/referrers/x?n=2");
        assert!(next("<x>; rel=\"prev\"").unwrap().is_none());
        assert!(next("<https://evil.example/x>; rel=\"next\"").is_err());
        assert!(next("<http://r.example/x>; rel=\"next\"").is_err());
        assert!(next("</x").is_err());
    }
}
