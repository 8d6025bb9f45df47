//! Where packages are looked for, and what one is asked by.
//!
//! Invariant: a name or version that would change the URL it becomes part of is refused before
//! anything is spoken to. It must never open a package: that is for who verifies it.

use super::super::{ContentStore, Material, MaterialError, Origins, Places, keys::Keys};
use rebuild::apk::package::Package;
use std::{path::Path, sync::Arc};

/// A package that the recipe names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageRequest {
    /// `busybox`.
    pub name: String,
    /// `1.38.0-r1`.
    pub version: String,
}

/// Where packages are looked for.
pub struct Shelf<'a> {
    /// Mirrors and network.
    pub places: &'a Places,
    /// Where files are kept.
    pub store: &'a Arc<ContentStore>,
    /// Who may sign.
    pub keys: &'a Keys,
    /// For unpacked data that is not kept.
    pub spool: &'a Path,
    /// Files of this machine go into the store too.
    pub escrow_local: bool,
    /// Where repositories and packages may be.
    pub origins: Origins,
}

/// Where the packages of one architecture, in apk's words, are.
pub(super) struct Bases<'a> {
    pub(super) arch: &'a str,
    pub(super) folders: Vec<String>,
}

/// A package with what vouches for it.
pub(super) struct Proven {
    pub(super) package: Arc<Package>,
    pub(super) material: Material,
    pub(super) indexed: bool,
}

/// A name or version that would change the URL it becomes part of is refused.
pub(super) fn check_request(request: &PackageRequest) -> Result<(), MaterialError> {
    let plain = |text: &str| {
        (1..=200).contains(&text.len())
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-~:".contains(&b))
    };
    if plain(&request.name) && plain(&request.version) {
        return Ok(());
    }
    let PackageRequest { name, version } = request;
    let problem = format!("expected a plain package name and version, found {name:?} {version:?}");
    Err(MaterialError::Limit { uri: "package".to_owned(), problem })
}
