//! The index of an image, made from what was rebuilt of its platforms.
//!
//! Invariant: it follows only where every platform was rebuilt, nothing else stands in the index,
//! and the bytes are the published ones.

use super::{attempt::IndexPart, examine::Examined};
use crate::report::PlatformReport;
use rebuild::apko::IndexEntry;

/// True when the index's bytes follow from what was rebuilt: its platforms, and annotations that
/// every platform's configuration agrees on.
pub fn index_follows(
    examined: &Examined,
    parts: &[Option<IndexPart>],
    platforms: &[PlatformReport],
) -> bool {
    let parts: Option<Vec<&IndexPart>> = parts.iter().map(Option::as_ref).collect();
    let Some(parts) = parts.filter(|p| p.len() == platforms.len()) else { return false };
    let Some(first) = parts.first() else { return false };
    if examined.image.index.is_none() || !examined.image.attestations.is_empty() {
        return false;
    }
    let agree = |part: &&IndexPart| {
        part.config.annotations == first.config.annotations
            && part.config.vcs_url == first.config.vcs_url
            && part.behaviour == first.behaviour
    };
    if !parts.iter().all(agree) {
        return false;
    }
    let entries: Vec<IndexEntry> = parts.iter().map(|part| part.entry.clone()).collect();
    let option = parts.iter().map(|part| part.epoch_option).max().unwrap_or(0);
    let made = rebuild::apko::index(&first.config, &entries, &first.behaviour, option);
    made.is_ok_and(|bytes| bytes == examined.image.root.bytes)
}
