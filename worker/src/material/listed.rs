//! Keys by Alpine's release list: the list is read once, and each key that it names once.
//!
//! Invariant: a key counts if list and key came over TLS, each from its own host, or if it is
//! pinned; any other comes back as one that nobody vouches for. What is no list or no key, is too
//! large, or is not there although the list names it, is a source that does not work: it says
//! nothing about any image ([`MaterialError::Unavailable`]). Only a list that is certainly not at
//! its address is [`MaterialError::Gone`]: the address is a setting.

use super::{
    Material, MaterialError, Places,
    release_list::{LIST_BYTES_MAX, ReleaseList, file_name},
};
use attest::Digest;
use rebuild::{
    apk::key::{KEY_FILE_BYTES_MAX, PublicKey},
    apko::config::architecture,
};
use std::collections::{BTreeMap, BTreeSet};

/// A key that the list names.
#[derive(Debug, Clone)]
pub struct ListedKey {
    /// The key and its file.
    pub key: PublicKey,
    /// Where the list says that it is.
    pub uri: String,
    /// Where it came from.
    pub from: String,
    /// What vouches for it; nothing, where it may not be taken.
    pub verified_by: Option<&'static str>,
}

/// The keys of some branches for one architecture.
#[derive(Debug, Clone, Default)]
pub struct ListedKeys {
    /// Those of today, in the list's order.
    pub keys: Vec<ListedKey>,
    /// File names of keys of earlier days.
    pub retired: BTreeSet<String>,
}

/// Alpine's release list, read, and the keys that were read for it.
pub struct ReleaseKeys<'a> {
    /// The list itself, for the record.
    pub material: Material,
    /// Its bytes.
    pub bytes: Vec<u8>,
    places: &'a Places,
    list: ReleaseList,
    over_tls: bool,
    /// `YYYY-MM-DD` in UTC.
    today: String,
    read: BTreeMap<String, (PublicKey, String)>,
}

impl<'a> ReleaseKeys<'a> {
    /// Reads the list.
    pub async fn open(places: &'a Places, uri: &str) -> Result<Self, MaterialError> {
        let (bytes, from) = match places.read(uri, LIST_BYTES_MAX).await {
            Err(error @ MaterialError::Gone { .. }) => return Err(error),
            read => read.map_err(|error| no_source(uri, error))?,
        };
        let list = ReleaseList::parse(&bytes).map_err(|problem| damaged(uri, problem))?;
        let over_tls = from == uri && uri.starts_with("https://");
        let verified_by = if over_tls {
            "read over TLS at the address that was given"
        } else {
            "nothing: only pinned keys count"
        };
        let material = Material {
            uri: uri.to_owned(),
            digest: Digest::of(&bytes),
            from,
            verified_by: verified_by.to_owned(),
        };
        let today = time::OffsetDateTime::now_utc().date().to_string();
        Ok(Self { material, bytes, places, list, over_tls, today, read: BTreeMap::new() })
    }

    /// The keys of these branches for an architecture in OCI's words.
    pub async fn of(
        &mut self,
        branches: &BTreeSet<&str>,
        arch: &str,
        pins: &BTreeSet<Digest>,
    ) -> Result<ListedKeys, MaterialError> {
        let named = self.list.keys(branches, architecture::apk(arch), &self.today);
        let named = named.map_err(|problem| damaged(&self.material.uri, problem))?;
        let mut keys = Vec::with_capacity(named.urls.len());
        for uri in named.urls {
            let (key, from) = self.key(&uri).await?;
            let over_tls = self.over_tls && from == uri && uri.starts_with("https://");
            let verified_by = match (pins.contains(&key.pin()), over_tls) {
                (true, _) => Some("pinned by the policy"),
                (false, true) => Some("named by Alpine's release list, both over TLS"),
                (false, false) => None,
            };
            keys.push(ListedKey { key, uri, from, verified_by });
        }
        Ok(ListedKeys { keys, retired: named.retired })
    }

    async fn key(&mut self, uri: &str) -> Result<(PublicKey, String), MaterialError> {
        if let Some(known) = self.read.get(uri) {
            return Ok(known.clone());
        }
        let read = self.places.read(uri, KEY_FILE_BYTES_MAX as u64).await;
        let (bytes, from) = read.map_err(|error| no_source(uri, error))?;
        let key = PublicKey::from_file(file_name(uri), &bytes)
            .map_err(|error| damaged(uri, error.to_string()))?;
        self.read.insert(uri.to_owned(), (key.clone(), from.clone()));
        Ok((key, from))
    }
}

fn damaged(uri: &str, problem: String) -> MaterialError {
    MaterialError::Unavailable { uri: uri.to_owned(), problem }
}

/// What a source of keys that does not work is: no word about any image.
pub(super) fn no_source(uri: &str, error: MaterialError) -> MaterialError {
    match error {
        error @ (MaterialError::Unavailable { .. } | MaterialError::Store(_)) => error,
        error => damaged(uri, error.to_string()),
    }
}
