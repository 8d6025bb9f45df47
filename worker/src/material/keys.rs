//! Which keys may sign packages, and lie in `etc/apk/keys` of the image.
//!
//! apko finds them itself (apko-assembly, 6.3): `GET <repository>/apk-configuration` names a
//! `jwks_uri`, each RSA key of which becomes `<kid>.rsa.pub`. Here the same is done, and each key
//! must be pinned by the policy, or come over TLS from the repository's own host.
//! Invariant: a key never comes from the published image. A key that came through a mirror counts
//! only if the policy pins it: a mirror changes where bytes come from, not who is trusted.

use super::{Material, MaterialError, Places};
use attest::{
    Digest, Gap, GapCode,
    policy::{KeySource, PackageRepository, Policy},
};
use rebuild::apk::key::{JWKS_BYTES_MAX, KEY_FILE_BYTES_MAX, KeyRing, PublicKey, keys_from_jwks};
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
    /// True if the recipe itself lists it (its `keyring`): it is in the image whatever discovery
    /// says.
    pub configured: bool,
}

/// The keys of all repositories of a recipe.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// What may sign packages.
    pub ring: KeyRing,
    /// Every key that discovery gave or the policy listed, by file name.
    pub known: BTreeMap<String, DiscoveredKey>,
    /// True if every repository's list is said to be complete and was there: a key in the image that
    /// is not in `known` is then a divergence, otherwise a gap.
    pub complete: bool,
    /// Pins of the policy for these repositories. A pinned key that discovery does not give today
    /// was given on another day: in an image it is no divergence.
    pub pins: BTreeSet<Digest>,
    /// Keys that discovery gave and nobody vouches for: where they were, with their names.
    pub refused: Vec<String>,
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
                        keys.add(name, bytes, repository, from, "listed by the policy", false)?;
                    }
                }
            }
        }
        Ok(keys)
    }

    /// The policy's pins of keys that nobody gave today.
    pub fn pins_not_given(&self) -> BTreeSet<Digest> {
        let given: BTreeSet<Digest> = self.known.values().map(|known| known.key.pin()).collect();
        self.pins.difference(&given).copied().collect()
    }

    async fn by_discovery(
        &mut self,
        rule: &PackageRepository,
        places: &Places,
        repository: &str,
    ) -> Result<(), MaterialError> {
        let uri = format!("{repository}/apk-configuration");
        let Some((bytes, _)) = self.there(places.read(&uri, CONFIGURATION_BYTES_MAX).await)? else {
            return Ok(());
        };
        let parsed: AlpineConfiguration =
            serde_json::from_slice(&bytes).map_err(|error| MaterialError::Unproven {
                uri: uri.clone(),
                problem: format!("expected JSON with a jwks_uri: {error}"),
            })?;
        let Some(jwks_uri) = parsed.jwks_uri.filter(|u| !u.is_empty()) else { return Ok(()) };
        let read = places.read(&jwks_uri, JWKS_BYTES_MAX as u64).await;
        let Some((bytes, from)) = self.there(read)? else { return Ok(()) };
        let unproven = |problem: String| MaterialError::Unproven { uri: jwks_uri.clone(), problem };
        let found = keys_from_jwks(&bytes).map_err(|error| unproven(error.to_string()))?;
        let same_host = host(&jwks_uri).is_some() && host(&jwks_uri) == host(repository);
        let over_tls = from == jwks_uri && jwks_uri.starts_with("https://");
        for key in found {
            let verified_by = if rule.pins.contains(&key.pin()) {
                "pinned by the policy"
            } else if over_tls && same_host {
                "discovered at its host over TLS"
            } else {
                // A key that nobody vouches for is not taken; what it signs stays unproven.
                self.refused.push(format!("{jwks_uri}#{}", key.name()));
                continue;
            };
            self.add(key.name(), key.file(), &jwks_uri, from.clone(), verified_by, false)?;
        }
        Ok(())
    }

    /// A part of discovery that is certainly not there gives no key, as for apko. That is no input
    /// that is gone: what the missing keys signed is unproven, and nobody knows which they were.
    fn there<T>(&mut self, read: Result<T, MaterialError>) -> Result<Option<T>, MaterialError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(MaterialError::Gone { .. }) => {
                self.complete = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
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
            self.add(name, &bytes, uri, from, verified_by, true)?;
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
        configured: bool,
    ) -> Result<(), MaterialError> {
        let unproven = |error: rebuild::apk::key::KeyError| MaterialError::Unproven {
            uri: uri.to_owned(),
            problem: error.to_string(),
        };
        let key = PublicKey::from_file(name, bytes).map_err(unproven)?;
        self.ring.add(key.clone()).map_err(unproven)?;
        let material = Material {
            uri: format!("{uri}#{name}"),
            digest: Digest::of(bytes),
            from,
            verified_by: verified_by.to_owned(),
        };
        self.known.entry(name.to_owned()).or_insert(DiscoveredKey { key, material, configured });
        Ok(())
    }
}

fn host(uri: &str) -> Option<String> {
    let url = url::Url::parse(uri).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}
