//! Evidence from a coordinator, over HTTP.
//!
//! ```text
//! GET <base>/v1/evidence?source=registry&repository=<repository>&manifest=sha256:<hex>
//!                       &platform=linux/amd64
//! 200 application/json   the set (assay/evidence/v1) about exactly this image
//! 404                    the coordinator knows nothing about it
//! ```
//! `source` is `registry` or `layout`; `manifest` is the platform's manifest, never the index.
//! Invariant: everything but 200 and 404 is an error. The answer is bounded, and a set about
//! another image is refused. No credentials are sent: what a coordinator serves here is public.

use crate::error::GateError;
use attest::{
    Subject,
    evidence_set::{EVIDENCE_SET_BYTES_MAX, EvidenceSet},
    policy::Source,
};
use oci::fetch::Fetcher;
use url::Url;

/// The path below a coordinator's base URL.
pub const EVIDENCE_PATH: &str = "v1/evidence";

/// The URL of the evidence about one image.
pub fn url(base: &Url, source: Source, subject: &Subject) -> Url {
    let mut url = base.clone();
    let path = format!("{}/{EVIDENCE_PATH}", base.path().trim_end_matches('/'));
    url.set_path(&path);
    let source = match source {
        Source::Registry => "registry",
        Source::Layout => "layout",
    };
    url.query_pairs_mut()
        .clear()
        .append_pair("source", source)
        .append_pair("repository", subject.repository.as_str())
        .append_pair("manifest", &subject.digest.to_string())
        .append_pair("platform", &subject.platform.to_string());
    url
}

/// Asks; none where the coordinator knows nothing.
pub async fn get(
    fetcher: &Fetcher,
    base: &Url,
    source: Source,
    subject: &Subject,
) -> Result<Option<(String, EvidenceSet)>, GateError> {
    let uri = url(base, source, subject).to_string();
    let Some(body) = fetcher.get(&uri, EVIDENCE_SET_BYTES_MAX as u64).await? else {
        return Ok(None);
    };
    let bytes = body.into_bytes().await?;
    match EvidenceSet::parse(&bytes) {
        Ok(set) => Ok(Some((uri, set))),
        Err(error) => Err(GateError::Evidence { uri, error }),
    }
}
