//! From the TOML text to a [`Policy`]: who signs, whose packages, whose mirrors, who operates.
//!
//! Invariant: every error names the line; a name or key that could let one party count as two is
//! refused. Nothing is corrected or guessed: a value that means nothing is an error.

use super::{
    KeySource, LIST_ENTRIES_MAX, Mirror, Operator, POLICY_BYTES_MAX, PackageRepository, Policy,
    PolicyError, Publisher, RegistryException, SignerRule, Transparency, read_rules,
    reader::Reader,
    wire::{self, Text, WireKeys},
};
use crate::{Digest, key::PublicKey};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn policy(
    text: &str,
    read_key: &dyn Fn(&str) -> Result<Vec<u8>, String>,
) -> Result<Policy, PolicyError> {
    if text.len() > POLICY_BYTES_MAX {
        return Err(PolicyError::TooLarge { max: POLICY_BYTES_MAX, found: text.len() });
    }
    let reader = Reader::new(text, read_key);
    let wire: wire::WirePolicy = toml::from_str(text).map_err(|error| PolicyError::Toml {
        line: reader.line(&error.span().unwrap_or_default()),
        message: error.message().lines().collect::<Vec<_>>().join("; "),
    })?;
    check_lengths(&wire)?;
    let mut policy = Policy {
        publishers: reader.each(wire.publisher, Reader::publisher)?,
        package_repositories: reader.each(wire.package_repository, Reader::package_repository)?,
        registries: reader.each(wire.registry, Reader::registry)?,
        mirrors: reader.each(wire.mirror, Reader::mirror)?,
        ..Policy::default()
    };
    policy.operators = reader.operators(wire.operator, &policy.publishers)?;
    if let Some(coordinator) = &wire.coordinator {
        policy.coordinator = Some(reader.coordinator(&coordinator.key, &policy)?);
    }
    if let Some(quorum) = wire.quorum {
        policy.quorum = Some(read_rules::quorum(&reader, quorum, &policy.operators)?);
    }
    if let Some(log) = wire.log {
        policy.log = read_rules::log(&reader, log)?;
    }
    if let Some(gate) = wire.gate {
        policy.gate = read_rules::gate(&reader, gate)?;
    }
    policy.overrides = read_rules::overrides(&reader, wire.overrides, &policy.gate)?;
    policy.waivers = reader.each(wire.waiver, read_rules::waiver)?;
    Ok(policy)
}

fn check_lengths(wire: &wire::WirePolicy) -> Result<(), PolicyError> {
    for (key, found) in [
        ("publisher", wire.publisher.len()),
        ("package_repository", wire.package_repository.len()),
        ("registry", wire.registry.len()),
        ("mirror", wire.mirror.len()),
        ("operator", wire.operator.len()),
        ("override", wire.overrides.len()),
        ("waiver", wire.waiver.len()),
    ] {
        if found > LIST_ENTRIES_MAX {
            return Err(PolicyError::TooMany { key, max: LIST_ENTRIES_MAX, found });
        }
    }
    Ok(())
}

impl Reader<'_> {
    fn publisher(
        &self,
        wire: toml::Spanned<wire::WirePublisher>,
    ) -> Result<Publisher, PolicyError> {
        let line = self.line(&wire.span());
        let wire = wire.into_inner();
        let repositories =
            self.some(&wire.repositories, "publisher", "repositories with an entry")?;
        let repositories = repositories
            .iter()
            .map(|text| {
                let expected = "a pattern like registry.example/demo/* or oci:*";
                self.value(text, "publisher.repositories", expected)
            })
            .collect::<Result<_, _>>()?;
        let signer = match (&wire.key, wire.identity, wire.issuer) {
            (Some(path), None, None) => SignerRule::Key(self.public_key(path, "publisher.key")?),
            (None, Some(identity), Some(issuer)) => SignerRule::Keyless {
                identity: self.not_empty(identity, "publisher.identity")?,
                issuer: self.not_empty(issuer, "publisher.issuer")?,
            },
            _ => {
                let expected = "either key, or identity and issuer".to_owned();
                return Err(PolicyError::Table { line, table: "publisher", expected });
            }
        };
        let transparency = match (&wire.transparency, &signer) {
            (Some(word), _) => Transparency::from_word(word.get_ref()).ok_or_else(|| {
                self.wrong(word, "publisher.transparency", Transparency::EXPECTED)
            })?,
            (None, SignerRule::Key(_)) => Transparency::None,
            (None, SignerRule::Keyless { .. }) => Transparency::Rekor,
        };
        Ok(Publisher { repositories, signer, transparency })
    }

    fn package_repository(
        &self,
        wire: toml::Spanned<wire::WirePackageRepository>,
    ) -> Result<PackageRepository, PolicyError> {
        let line = self.line(&wire.span());
        let wire = wire.into_inner();
        let expected = "a URL pattern like https://packages.example/*, with the whole host";
        let url = self.value(&wire.url, "package_repository.url", expected)?;
        let keys = match wire.keys {
            None => KeySource::Discovery,
            Some(keys) => self.key_source(keys)?,
        };
        let pins = wire
            .pins
            .iter()
            .map(|pin| self.value(pin, "package_repository.pins", "sha256:<64 hex digits>"))
            .collect::<Result<BTreeSet<Digest>, _>>()?;
        if wire.complete && pins.is_empty() && keys == KeySource::Discovery {
            let expected = "pins or key files where complete = true: discovery alone changes with \
                            time, so it cannot say that no other key is right"
                .to_owned();
            return Err(PolicyError::Table { line, table: "package_repository", expected });
        }
        if keys != KeySource::Discovery && (wire.archived || !wire.jwks_hosts.is_empty()) {
            let expected =
                "keys = \"discovery\" where jwks_hosts or archived are given: key files \
                            are the whole list"
                    .to_owned();
            return Err(PolicyError::Table { line, table: "package_repository", expected });
        }
        let mut jwks_hosts = BTreeSet::new();
        for host in &wire.jwks_hosts {
            if !is_host(host.get_ref()) || host.get_ref().ends_with(":443") {
                let expected = "a host like keys.example, without scheme or path, and with its port \
                                only where that is not 443";
                return Err(self.wrong(host, "package_repository.jwks_hosts", expected));
            }
            jwks_hosts.insert(host.get_ref().clone());
        }
        let (complete, archived) = (wire.complete, wire.archived);
        Ok(PackageRepository { url, keys, pins, complete, jwks_hosts, archived })
    }

    fn key_source(&self, keys: toml::Spanned<WireKeys>) -> Result<KeySource, PolicyError> {
        const KEY: &str = "package_repository.keys";
        let span = keys.span();
        let spanned = |text: &str| toml::Spanned::new(span.clone(), text.to_owned());
        match keys.into_inner() {
            WireKeys::Word(word) if word == "discovery" => Ok(KeySource::Discovery),
            WireKeys::Word(word) => {
                Err(self.wrong(&spanned(&word), KEY, "\"discovery\" or a list of files"))
            }
            WireKeys::Files(paths) => {
                let mut files = BTreeMap::new();
                for path in &paths {
                    let text = spanned(path);
                    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
                    if name.is_empty() || name == ".." {
                        return Err(self.wrong(&text, KEY, "the path of a key file"));
                    }
                    if files.insert(name.to_owned(), self.file(&text, KEY)?).is_some() {
                        let expected = "key files with different names";
                        return Err(self.wrong(&text, KEY, expected));
                    }
                }
                Ok(KeySource::Files(files.into_iter().collect()))
            }
        }
    }

    fn registry(&self, wire: wire::WireRegistry) -> Result<RegistryException, PolicyError> {
        if !is_host(wire.host.get_ref()) {
            let expected = "a host like 127.0.0.1:5000, without scheme or path";
            return Err(self.wrong(&wire.host, "registry.host", expected));
        }
        let ca = wire.ca.as_ref().map(|path| self.file(path, "registry.ca")).transpose()?;
        Ok(RegistryException { host: wire.host.into_inner(), plain_http: wire.plain_http, ca })
    }

    fn mirror(&self, wire: wire::WireMirror) -> Result<Mirror, PolicyError> {
        if !wire.prefix.get_ref().contains("://") || !wire.prefix.get_ref().ends_with('/') {
            let expected = "a URL prefix that ends with /, like https://packages.example/";
            return Err(self.wrong(&wire.prefix, "mirror.prefix", expected));
        }
        let url = self.not_empty(wire.url, "mirror.url")?;
        Ok(Mirror { prefix: wire.prefix.into_inner(), url, complete: wire.complete })
    }

    fn operators(
        &self,
        wires: Vec<wire::WireOperator>,
        publishers: &[Publisher],
    ) -> Result<Vec<Operator>, PolicyError> {
        let mut names = BTreeSet::new();
        let mut keys: BTreeSet<Digest> = publisher_keys(publishers).collect();
        let mut operators = Vec::new();
        for wire in wires {
            let expected = "an operator name (1 to 64 of a-z 0-9 . _ -)";
            let name: crate::id::OperatorId = self.value(&wire.name, "operator.name", expected)?;
            if !names.insert(name.clone()) {
                let (key, expected) = ("operator.name", "each operator once");
                return Err(self.twice(&wire.name, key, expected, &name));
            }
            let root_key = self.p256(&wire.root_key, "operator.root_key")?;
            if !keys.insert(root_key.id()) {
                let (key, expected) = ("operator.root_key", "a key of its own for each operator");
                return Err(self.twice(&wire.root_key, key, expected, &root_key.id()));
            }
            operators.push(Operator { name, root_key, affiliations: wire.affiliations });
        }
        Ok(operators)
    }

    fn coordinator(&self, path: &Text, policy: &Policy) -> Result<PublicKey, PolicyError> {
        let key = self.p256(path, "coordinator.key")?;
        let taken = publisher_keys(&policy.publishers)
            .chain(policy.operators.iter().map(|operator| operator.root_key.id()))
            .any(|id| id == key.id());
        if taken {
            let expected = "a key that is neither a publisher's nor an operator's";
            return Err(self.twice(path, "coordinator.key", expected, &key.id()));
        }
        Ok(key)
    }
}

fn publisher_keys(publishers: &[Publisher]) -> impl Iterator<Item = Digest> {
    publishers.iter().filter_map(|publisher| match &publisher.signer {
        SignerRule::Key(key) => Some(key.id()),
        SignerRule::Keyless { .. } => None,
    })
}

/// A host in lower case, with its port if it has one.
fn is_host(host: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:[]".contains(&b);
    !host.is_empty() && host.len() <= 255 && host.bytes().all(allowed)
}
