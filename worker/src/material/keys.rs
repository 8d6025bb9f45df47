//! Which keys may sign packages, and lie in `etc/apk/keys` of the image.
//!
//! apko finds them itself (apko-assembly, 6.3): `GET <repository>/apk-configuration` names a
//! `jwks_uri`, each RSA key of which becomes `<kid>.rsa.pub`. Here the same is done, and each key
//! must be pinned by the policy, or come over TLS from the repository's own host or one that the
//! policy lists. For repositories of Alpine's shape the keys of Alpine's release list are added
//! where a call says where that list is ([`super::listed`]), and where the policy says so the keys
//! that counted before ([`super::key_archive`]).
//! Invariant: a key never comes from the published image. A key that came through a mirror counts
//! only if the policy pins it: a mirror changes where bytes come from, not who is trusted.

use super::{
    ContentStore, Material, MaterialError, Places, StoreError,
    key_archive::{ArchivedKey, Vouched},
    listed::{ReleaseKeys, no_source},
    release_list::branch_of,
};
use attest::{
    Digest, Gap, GapCode,
    policy::{KeySource, PackageRepository, Policy},
};
use rebuild::apk::key::{
    JWKS_BYTES_MAX, KEY_FILE_BYTES_MAX, KeyError, KeyRing, PublicKey, keys_from_jwks,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Largest `apk-configuration`: one URL.
const CONFIGURATION_BYTES_MAX: u64 = 64 * 1024;

/// A key, with what vouches for it.
#[derive(Debug, Clone)]
pub struct DiscoveredKey {
    /// The key and its file.
    pub key: PublicKey,
    /// For the record.
    pub material: Material,
    /// Who gives it, and so whether an image must have it.
    pub given: Given,
}

/// Who gives a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The recipe itself (its `keyring`): it is in the image whatever discovery says.
    Recipe,
    /// Discovery, or the policy: it is in an image that was built today.
    Today,
    /// Discovery on another day: an image may have it.
    Before,
}

/// The keys of all repositories of a recipe.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// What may sign packages of any repository, as apko takes every key for all of them.
    pub ring: KeyRing,
    /// What may sign packages of one repository beside those: keys of before, which count by its own
    /// rule alone.
    before: BTreeMap<String, KeyRing>,
    /// Every key that discovery gave or the policy listed, by file name; of the archived ones those
    /// whose names nobody gives today.
    pub known: BTreeMap<String, DiscoveredKey>,
    /// Keys that discovery gave and nobody vouches for.
    pub refused: Vec<RefusedKey>,
    /// Release lists that keys came from, with their bytes.
    pub lists: Vec<(Material, Vec<u8>)>,
    complete: bool,
    /// What each repository gave by discovery and its release list: names of keys, and what they
    /// count by.
    gave: BTreeMap<String, BTreeMap<String, Vouched>>,
    /// Repositories that have no discovery of their own.
    silent: BTreeSet<String>,
    pins: BTreeSet<Digest>,
    retired: BTreeSet<String>,
}

/// A key that discovery gave and nobody vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedKey {
    /// Where it was.
    pub uri: String,
    /// Its file name.
    pub name: String,
    /// The digest of its file.
    pub pin: Digest,
}

/// What is known of keys that discovery does not give today, or gives and nobody vouches for.
#[derive(Debug, Clone, Default)]
pub struct OtherKeys {
    /// True if every repository's list is said to be complete and was there: a key in the image that
    /// nobody gave is then a divergence, otherwise a gap.
    pub complete: bool,
    /// The policy's pins of keys that nobody gave today, and the keys that were refused. One of the
    /// first was given on another day, one of the second today: in an image it is no divergence.
    pub pins: BTreeSet<Digest>,
    /// File names of keys that a release list calls deprecated, given until some day before, and of
    /// keys that were refused: an image may have the right one of that name.
    pub names: BTreeSet<String>,
}

#[derive(Deserialize)]
struct AlpineConfiguration {
    jwks_uri: Option<String>,
}

impl Keys {
    /// Discovers and checks the keys of these repositories. A repository that no
    /// `[[package_repository]]` of the policy covers gives no key: what it serves is unproven.
    pub async fn discover(
        policy: &Policy,
        places: &Places,
        repositories: &[String],
    ) -> Result<Self, MaterialError> {
        let mut keys = Self { complete: true, ..Self::default() };
        for repository in repositories {
            let Some(rule) = policy.package_repository_for(repository) else {
                keys.complete = false;
                continue;
            };
            keys.complete &= rule.complete;
            keys.pins.extend(&rule.pins);
            match &rule.keys {
                KeySource::Discovery => keys.by_discovery(rule, places, repository).await?,
                KeySource::Files(files) => {
                    for (name, bytes) in files {
                        let from = format!("policy file {name}");
                        let by = "listed by the policy";
                        keys.add(name, bytes, repository, from, by, Given::Today)?;
                    }
                }
            }
        }
        Ok(keys)
    }

    /// What an image may hold beside these keys.
    pub fn others(&self) -> OtherKeys {
        let given: BTreeSet<Digest> = self.known.values().map(|known| known.key.pin()).collect();
        let refused = self.refused.iter().filter(|key| !given.contains(&key.pin));
        let mut others = OtherKeys {
            complete: self.complete && self.silent.is_empty(),
            pins: self.pins.difference(&given).copied().collect(),
            names: self.retired.clone(),
        };
        for RefusedKey { name, pin, .. } in refused {
            others.names.insert(name.clone());
            others.pins.insert(*pin);
        }
        others
    }

    /// Adds the keys that Alpine's release list names today for those of these repositories that
    /// are of Alpine's shape and whose keys the policy leaves to discovery. A list that cannot be
    /// used says nothing about the image.
    pub async fn add_listed(
        &mut self,
        policy: &Policy,
        places: &Places,
        list: &str,
        repositories: &[String],
        arch: &str,
    ) -> Result<(), MaterialError> {
        let mut branches: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
        let mut pins = BTreeSet::new();
        for repository in repositories {
            let rule = policy.package_repository_for(repository);
            let rule = rule.filter(|rule| rule.keys == KeySource::Discovery);
            if let (Some(branch), Some(rule)) = (branch_of(repository), rule) {
                branches.entry(branch).or_default().push(repository);
                pins.extend(&rule.pins);
            }
        }
        if branches.is_empty() {
            return Ok(());
        }
        let opened = ReleaseKeys::open(places, list).await;
        let mut releases = opened.map_err(|error| no_source(list, error))?;
        for (branch, repositories) in branches {
            let found = releases.of(&[branch].into(), arch, &pins).await?;
            let mut whole = !found.keys.is_empty();
            for listed in found.keys {
                let Some(verified_by) = listed.verified_by else {
                    whole = false;
                    let (name, pin) = (listed.key.name().to_owned(), listed.key.pin());
                    self.refused.push(RefusedKey { uri: listed.uri, name, pin });
                    continue;
                };
                let (name, file) = (listed.key.name().to_owned(), listed.key.file().to_vec());
                self.add(&name, &file, &listed.uri, listed.from, verified_by, Given::Today)?;
                let vouched = match pins.contains(&listed.key.pin()) {
                    true => Vouched::Pin,
                    false => Vouched::ReleaseList(list.to_owned()),
                };
                for repository in &repositories {
                    let gave = self.gave.entry((*repository).clone()).or_default();
                    gave.insert(name.clone(), vouched.clone());
                }
            }
            if whole {
                self.silent.retain(|silent| !repositories.contains(&silent));
            }
            self.retired.extend(found.retired);
        }
        self.lists.push((releases.material, releases.bytes));
        Ok(())
    }

    /// Who may sign what lies in this folder of a repository: `<repository>/<architecture>`.
    pub fn ring_of(&self, folder: &str) -> KeyRing {
        let mut ring = self.ring.clone();
        let repository = folder.rsplit_once('/').map_or(folder, |(repository, _)| repository);
        for key in self.before.get(repository).into_iter().flat_map(KeyRing::iter) {
            // No key of today has its name; had one, that one would be the one that signs.
            let _ = ring.add(key.clone());
        }
        ring
    }

    /// Adds the keys that these repositories gave before, as far as the policy of today and the
    /// release list of this call let them count, and no key of today has their name. An image may
    /// hold any of them; each signs for the repositories alone that the same rule of the policy
    /// covers: what one rule lets count says nothing of what another one is for.
    pub fn add_archived(
        &mut self,
        policy: &Policy,
        store: &ContentStore,
        repositories: &[String],
        list: Option<&str>,
    ) -> Result<(), MaterialError> {
        for repository in repositories {
            let rule = policy.package_repository_for(repository);
            let Some(rule) = rule.filter(|rule| rule.archived) else { continue };
            let mut kept = store.kept_keys(repository)?;
            // Of two under one name the one that was seen last: an image has one of them.
            kept.sort_by_key(|key| std::cmp::Reverse(key.last_seen));
            let ruled_alike = |other: &&String| {
                let other = policy.package_repository_for(other);
                other.is_some_and(|other| std::ptr::eq(other, rule))
            };
            for key in kept {
                let pin = Digest::of(key.file.as_bytes());
                let known = self.known.get(&key.name);
                let of_today = known.is_some_and(|known| known.given != Given::Before);
                if of_today || !key.vouched.counts(rule, &pin, list) {
                    continue;
                }
                let (name, file, uri) = (&key.name, key.file.as_bytes(), repository.as_str());
                let public = public_key(name, file, uri)?;
                for other in repositories.iter().filter(ruled_alike) {
                    // Of another file of the same name the one that came first stays.
                    let _ = self.before.entry(other.clone()).or_default().add(public.clone());
                }
                let (vouched, day) = (key.vouched.as_str(), day(key.last_seen));
                let by = format!("archived: {vouched}, last on {day}");
                self.note(public, uri, key.from, &by, Given::Before);
            }
        }
        Ok(())
    }

    /// Keeps every key and every list in the store, on record with what vouched for it.
    pub fn archive(&self, store: &ContentStore, now: u64) -> Result<(), StoreError> {
        let known = self.known.values().map(|known| (&known.material, known.key.file()));
        let lists = self.lists.iter().map(|(material, bytes)| (material, bytes.as_slice()));
        known.chain(lists).try_for_each(|(material, bytes)| store.archive(material, bytes))?;
        self.keep(store, now);
        Ok(())
    }

    /// Keeps what each repository gave, for when it does not give it any more.
    pub fn keep(&self, store: &ContentStore, now: u64) {
        for (repository, gave) in &self.gave {
            let given = gave.iter().filter_map(|(name, vouched)| {
                let known = self.known.get(name).filter(|known| known.given == Given::Today)?;
                archived(name, known, vouched, now)
            });
            // Who lets archived keys count hears of it when they are read.
            if let Err(error) = store.keep_keys(repository, &given.collect::<Vec<_>>()) {
                tracing::warn!(%error, "the keys of a repository are not kept for later");
            }
        }
    }

    async fn by_discovery(
        &mut self,
        rule: &PackageRepository,
        places: &Places,
        repository: &str,
    ) -> Result<(), MaterialError> {
        // What is certainly not there gives no key, as for apko. That is no input that is gone: what
        // the missing keys signed is unproven, and nobody knows which they were.
        let uri = format!("{repository}/apk-configuration");
        let (bytes, told_by) = match places.read(&uri, CONFIGURATION_BYTES_MAX).await {
            Err(MaterialError::Gone { .. }) => {
                self.silent.insert(repository.to_owned());
                return Ok(());
            }
            read => read?,
        };
        let parsed: AlpineConfiguration =
            serde_json::from_slice(&bytes).map_err(|error| MaterialError::Unavailable {
                uri: uri.clone(),
                // Not the parser's words: they quote what it found.
                problem: format!(
                    "expected JSON with a jwks_uri, found something else at line {}, column {}",
                    error.line(),
                    error.column()
                ),
            })?;
        let Some(jwks_uri) = parsed.jwks_uri.filter(|u| !u.is_empty()) else {
            // Whoever serves this has keys and does not say where: the list is not complete.
            self.complete = false;
            return Ok(());
        };
        let (bytes, from) = match places.read(&jwks_uri, JWKS_BYTES_MAX as u64).await {
            Err(MaterialError::Gone { .. }) => {
                self.complete = false;
                return Ok(());
            }
            read => read?,
        };
        // A page of maintenance, or what else is no set of keys, says nothing about the image.
        let found = keys_from_jwks(&bytes).map_err(|error| MaterialError::Unavailable {
            uri: jwks_uri.clone(),
            problem: error.to_string(),
        })?;
        let own_host = host(&jwks_uri).is_some() && host(&jwks_uri) == host(repository);
        // Others may publish at a listed host, too: the repository itself must name the place.
        let told = told_by == uri && uri.starts_with("https://");
        let listed_host =
            listed_as(&jwks_uri).filter(|host| told && rule.jwks_hosts.contains(host));
        let over_tls = from == jwks_uri && jwks_uri.starts_with("https://");
        for key in found {
            let vouched = match &listed_host {
                _ if rule.pins.contains(&key.pin()) => Vouched::Pin,
                _ if over_tls && own_host => Vouched::OwnHost,
                Some(host) if over_tls => Vouched::ListedHost(host.clone()),
                _ => {
                    // A key that nobody vouches for is not taken; what it signs stays unproven.
                    let (name, pin) = (key.name().to_owned(), key.pin());
                    self.refused.push(RefusedKey { uri: format!("{jwks_uri}#{name}"), name, pin });
                    continue;
                }
            };
            let (name, file) = (key.name(), key.file());
            self.add(name, file, &jwks_uri, from.clone(), vouched.as_str(), Given::Today)?;
            self.gave.entry(repository.to_owned()).or_default().insert(name.to_owned(), vouched);
        }
        Ok(())
    }

    /// Key files that the recipe lists by URL. The recipe is attested, the file behind the URL is
    /// not: it counts if the policy pins it, or if it came from its own host over TLS.
    pub async fn add_keyring(
        &mut self,
        policy: &Policy,
        places: &Places,
        keyring: &[String],
    ) -> Result<(), MaterialError> {
        for uri in keyring {
            if !uri.starts_with("https://") {
                let detail = format!("keyring entry {uri:?} is a file of the builder's machine");
                return Err(MaterialError::Gap(Gap::new(GapCode::LocalContext, detail)));
            }
            let (bytes, from) = places.read(uri, KEY_FILE_BYTES_MAX as u64).await?;
            let pins = policy.package_repositories.iter().flat_map(|r| &r.pins);
            let verified_by = if pins.into_iter().any(|pin| *pin == Digest::of(&bytes)) {
                "pinned by the policy"
            } else if from == *uri {
                "read at its host over TLS"
            } else {
                let problem = "it came through a mirror and the policy does not pin it".to_owned();
                return Err(MaterialError::Unproven { uri: uri.clone(), problem });
            };
            let name = uri.rsplit('/').next().unwrap_or(uri);
            self.add(name, &bytes, uri, from, verified_by, Given::Recipe)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        name: &str,
        bytes: &[u8],
        uri: &str,
        from: String,
        verified_by: &str,
        given: Given,
    ) -> Result<(), MaterialError> {
        let key = public_key(name, bytes, uri)?;
        self.ring.add(key.clone()).map_err(|error| unproven(uri, &error))?;
        self.note(key, uri, from, verified_by, given);
        Ok(())
    }

    /// An image may hold it.
    fn note(&mut self, key: PublicKey, uri: &str, from: String, verified_by: &str, given: Given) {
        let name = key.name().to_owned();
        let material = Material {
            uri: format!("{uri}#{name}"),
            digest: Digest::of(key.file()),
            from,
            verified_by: verified_by.to_owned(),
        };
        self.known.entry(name).or_insert(DiscoveredKey { key, material, given });
    }
}

fn unproven(uri: &str, error: &KeyError) -> MaterialError {
    MaterialError::Unproven { uri: uri.to_owned(), problem: error.to_string() }
}

fn public_key(name: &str, bytes: &[u8], uri: &str) -> Result<PublicKey, MaterialError> {
    PublicKey::from_file(name, bytes).map_err(|error| unproven(uri, &error))
}

/// As it is kept; none of a file that is no text, which would not come back as it was.
fn archived(name: &str, known: &DiscoveredKey, by: &Vouched, now: u64) -> Option<ArchivedKey> {
    let DiscoveredKey { key, material, .. } = known;
    Some(ArchivedKey {
        name: name.to_owned(),
        file: String::from_utf8(key.file().to_vec()).ok()?,
        uri: material.uri.clone(),
        from: material.from.clone(),
        vouched: by.clone(),
        first_seen: now,
        last_seen: now,
    })
}

/// A day in UTC: `2026-11-26`.
fn day(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| attest::time::Timestamp::from_unix(s).ok());
    time.map_or_else(|| format!("{seconds} s"), |time| time.to_string().chars().take(10).collect())
}

/// A host as a policy lists it: its port only where that is not 443.
fn listed_as(uri: &str) -> Option<String> {
    let url = url::Url::parse(uri).ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn host(uri: &str) -> Option<String> {
    let url = url::Url::parse(uri).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

#[cfg(test)]
mod tests;
