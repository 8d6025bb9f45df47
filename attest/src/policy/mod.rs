//! The policy: who counts, how many, how fresh, at which level (design: command line, "One policy
//! file"). TOML, unknown keys refused; key files are read by the caller's function.
//!
//! Invariant: a policy that parses means exactly what `explain` says. What it asks for and this
//! version cannot check is reported by [`Policy::unsupported`] and must be refused by whoever
//! evaluates it; it is never skipped. A policy must never be changed by anything it judges.

mod digest;
mod draft;
mod error;
mod explain;
mod gate;
mod pattern;
mod read;
mod read_rules;
mod reader;
mod wire;

pub use draft::{Draft, FoundSigner};
pub use error::PolicyError;
pub use gate::{GatePolicy, Mode, Override, UnknownRule, Waiver, WaiverTarget};
pub use pattern::{
    PATTERN_BYTES_MAX, PatternError, RepositoryPattern, Source, TagPattern, UrlPattern,
};

use crate::{Digest, Level, Platform, Repository, id::OperatorId, key::PublicKey, recipe::Tier};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Largest policy file: 1,000 publishers of 200 bytes and as many operators are 400 KB.
pub const POLICY_BYTES_MAX: usize = 1024 * 1024;
/// Most entries of one list of a policy.
pub const LIST_ENTRIES_MAX: usize = 4096;
/// What may be taken from the published image, if the policy says so (`quorum.hints`).
pub const HINTS: &[&str] = &["epoch", "install-order", "install-order-conflicts", "key-set"];
/// In which facts of their environment the counted operators can be asked to differ.
pub const DIVERSITY: &[&str] =
    &["architecture", "cpu-vendor", "cpus", "filesystem", "kernel", "locale", "timezone"];

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident $what:literal {
        $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+
    })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The word as the policy file writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            pub(crate) const EXPECTED: &'static str = $what;

            pub(crate) fn from_word(word: &str) -> Option<Self> {
                match word { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+};
}
pub(crate) use words;

words! {
    /// Whether a publisher's signatures must be in a transparency log.
    Transparency "none, rekor or any" {
        /// No log is asked for; log entries that are there are not looked at.
        None = "none",
        /// An entry in a Rekor log, proven.
        Rekor = "rekor",
        /// An entry in any trusted log, proven.
        Any = "any",
    }
    /// Whether records must be proven to be in the fleet's log.
    Inclusion "none or required" {
        /// Not asked for.
        None = "none",
        /// Every counted record.
        Required = "required",
    }
    /// Whether the log must have been read completely, so that nothing is hidden.
    FullScan "none, monitor or required" {
        /// Not asked for.
        None = "none",
        /// By a monitor that the operators trust.
        Monitor = "monitor",
        /// By whoever evaluates.
        Required = "required",
    }
}

/// Who may speak for a publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerRule {
    /// The holder of this key.
    Key(PublicKey),
    /// Certificates for this identity by this issuer (patterns). Not supported in this version.
    Keyless {
        /// Subject alternative name.
        identity: String,
        /// OIDC issuer.
        issuer: String,
    },
}

/// Whose word about a recipe counts, for which repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// For these.
    pub repositories: Vec<RepositoryPattern>,
    /// Who signs.
    pub signer: SignerRule,
    /// Whether a log must know the signature.
    pub transparency: Transparency,
}

impl Publisher {
    /// Why this version cannot evaluate this rule, if it cannot.
    pub fn unsupported(&self) -> Option<String> {
        match (&self.signer, self.transparency) {
            (SignerRule::Keyless { identity, .. }, _) => {
                Some(format!("publisher.identity = {identity:?} (keyless signatures)"))
            }
            (_, Transparency::None) => None,
            (_, other) => Some(format!("publisher.transparency = \"{other}\"")),
        }
    }
}

/// Where the trusted keys of a package repository come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The repository's own discovery over TLS.
    Discovery,
    /// These files, by the name that they have in `etc/apk/keys`.
    Files(Vec<(String, Vec<u8>)>),
}

/// Whose packages may be inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRepository {
    /// URLs of the repository.
    pub url: UrlPattern,
    /// Where its keys come from.
    pub keys: KeySource,
    /// SHA-256 of key files, as they lie in `etc/apk/keys`.
    pub pins: BTreeSet<Digest>,
    /// True: no other key may be in an image (archived ones may, where those count). False: an
    /// unknown key is a gap.
    pub complete: bool,
    /// Hosts whose JWKS counts like one of the repository's own host, over TLS as well:
    /// `keys.example`, with its port if that is not 443.
    pub jwks_hosts: BTreeSet<String>,
    /// True: a key that counted when a worker's content store kept it, and would count by this
    /// policy, counts there also when discovery does not give it any more.
    pub archived: bool,
}

/// An exception for network safety.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryException {
    /// Host, with its port if it has one: `127.0.0.1:5000`.
    pub host: String,
    /// Plain HTTP is allowed there.
    pub plain_http: bool,
    /// PEM of a private certificate authority.
    pub ca: Option<Vec<u8>>,
}

/// Another place for materials whose URI starts with `prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// What the URI starts with; ends with `/`, so that it names whole path components.
    pub prefix: String,
    /// Where the bytes are: `file:///…`, `http://127.0.0.1:…`, `https://…`, or a folder.
    pub url: String,
    /// Only then "not there" means that the material is gone.
    pub complete: bool,
}

impl Mirror {
    /// The place of a material at this mirror, or none where the prefix is another.
    pub fn locate(&self, uri: &str) -> Option<String> {
        let rest = uri.strip_prefix(&self.prefix)?;
        Some(format!("{}/{rest}", self.url.trim_end_matches('/')))
    }
}

/// The only binding of an operator's name to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The name, unique in the policy.
    pub name: OperatorId,
    /// The key that vouches for its workers, unique in the policy.
    pub root_key: PublicKey,
    /// Publishers that it belongs to.
    pub affiliations: Vec<String>,
}

/// How many, of whom, at which strength.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// Who counts: n is their number.
    pub operators: Vec<OperatorId>,
    /// k distinct operators; 1 to n.
    pub reproduced: u32,
    /// The weakest level that counts.
    pub level: Level,
    /// The weakest tier that counts.
    pub tier: Tier,
    /// What may have been taken from the published image.
    pub hints: BTreeSet<String>,
    /// URLs of operators that are asked directly.
    pub dissent_sources: Vec<String>,
    /// Facts in which the k must differ.
    pub diversity: Vec<String>,
}

/// What is asked of the fleet's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPolicy {
    /// The origin line of its checkpoints.
    pub origin: Option<String>,
    /// The key of its checkpoints.
    pub key: Option<PublicKey>,
    /// Whether records must be in it.
    pub inclusion: Inclusion,
    /// The witness policy (tlog-policy), as its file has it.
    pub witnesses: Option<String>,
    /// Whether it must have been read completely.
    pub full_scan: FullScan,
}

impl Default for LogPolicy {
    fn default() -> Self {
        Self {
            origin: None,
            key: None,
            inclusion: Inclusion::None,
            witnesses: None,
            full_scan: FullScan::None,
        }
    }
}

/// A policy, understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Whose word about a recipe counts.
    pub publishers: Vec<Publisher>,
    /// Whose packages may be inputs.
    pub package_repositories: Vec<PackageRepository>,
    /// Exceptions for network safety.
    pub registries: Vec<RegistryException>,
    /// Other places for materials.
    pub mirrors: Vec<Mirror>,
    /// Names and keys of operators.
    pub operators: Vec<Operator>,
    /// Who is counted, and how many are needed. Without it no fleet's verdict is good.
    pub quorum: Option<Quorum>,
    /// Whose leases count.
    pub coordinator: Option<PublicKey>,
    /// What is asked of the log.
    pub log: LogPolicy,
    /// What a gate does with an outcome.
    pub gate: GatePolicy,
    /// Exceptions from the gate's mode.
    pub overrides: Vec<Override>,
    /// Images that pass for a time in spite of their outcome.
    pub waivers: Vec<Waiver>,
}

impl Policy {
    /// Reads a policy. `read_key` returns the bytes of a file that the policy names, relative to
    /// the policy's own folder; what it says on failure goes into the error.
    pub fn parse(
        text: &str,
        read_key: &dyn Fn(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Self, PolicyError> {
        read::policy(text, read_key)
    }

    /// SHA-256 of the policy's canonical form, contents of key files inlined: two files with the
    /// same meaning have the same digest, whatever their comments, order of tables or paths.
    pub fn digest(&self) -> Digest {
        digest::of(self)
    }

    /// The policy in words, a sentence a line.
    pub fn explain(&self) -> String {
        explain::policy(self)
    }

    /// The publishers whose word counts for an image of this repository, read from this source.
    pub fn publishers_for<'a>(
        &'a self,
        source: Source,
        repository: &'a Repository,
    ) -> impl Iterator<Item = &'a Publisher> {
        self.publishers.iter().filter(move |publisher| {
            publisher.repositories.iter().any(|pattern| pattern.matches(source, repository))
        })
    }

    /// The gate's rule for this image: the first override that matches decides the mode.
    pub fn gate_for(
        &self,
        source: Source,
        repository: &Repository,
        platform: &Platform,
    ) -> GatePolicy {
        let matching = self.overrides.iter().find(|o| o.applies(source, repository, platform));
        GatePolicy { mode: matching.map_or(self.gate.mode, |o| o.mode), ..self.gate.clone() }
    }

    /// The waivers for an image, found by its repository or by one of its digests (platform and
    /// index). Whether they have expired, and for which outcomes they are, is on them.
    pub fn waivers_for<'a>(
        &'a self,
        source: Source,
        repository: &'a Repository,
        digests: &'a [Digest],
    ) -> impl Iterator<Item = &'a Waiver> {
        self.waivers.iter().filter(move |waiver| waiver.covers(source, repository, digests))
    }

    /// The first rule about packages from this URL: of a repository, with or without its last
    /// `/`, or of something in it.
    pub fn package_repository_for(&self, url: &str) -> Option<&PackageRepository> {
        let folder = format!("{url}/");
        self.package_repositories
            .iter()
            .find(|repository| repository.url.matches(url) || repository.url.matches(&folder))
    }

    /// The operator of this name.
    pub fn operator(&self, name: &OperatorId) -> Option<&Operator> {
        self.operators.iter().find(|operator| operator.name == *name)
    }

    /// The publishers' rules that could matter for this image and that this version cannot check.
    /// Whoever rebuilds or verifies must refuse while this is not empty.
    pub fn unsupported_publishers(&self, source: Source, repository: &Repository) -> Vec<String> {
        self.publishers_for(source, repository).filter_map(Publisher::unsupported).collect()
    }

    /// Everything that the policy asks of a verdict about this image and that this version cannot
    /// check, by key and value: publishers' rules, the log, sources of dissent. Whoever counts
    /// operators must refuse while this is not empty.
    pub fn unsupported(&self, source: Source, repository: &Repository) -> Vec<String> {
        let mut found = self.unsupported_publishers(source, repository);
        found.extend(self.unsupported_of_all());
        found
    }

    /// The same of every image that the policy could be asked about.
    pub fn unsupported_of_any(&self) -> Vec<String> {
        let mut found: Vec<String> =
            self.publishers.iter().filter_map(Publisher::unsupported).collect();
        found.extend(self.unsupported_of_all());
        found
    }

    fn unsupported_of_all(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.log.inclusion != Inclusion::None {
            found.push(format!("log.inclusion = \"{}\"", self.log.inclusion));
        }
        if self.log.full_scan != FullScan::None {
            found.push(format!("log.full_scan = \"{}\"", self.log.full_scan));
        }
        if self.log.witnesses.is_some() {
            found.push("log.witnesses".to_owned());
        }
        if self.quorum.as_ref().is_some_and(|quorum| !quorum.dissent_sources.is_empty()) {
            found.push("quorum.dissent_sources".to_owned());
        }
        found
    }

    /// [`Policy::unsupported_publishers`] as an error that names the first of them.
    pub fn refuse_unsupported_publishers(
        &self,
        source: Source,
        repository: &Repository,
    ) -> Result<(), PolicyError> {
        refuse(self.unsupported_publishers(source, repository))
    }

    /// [`Policy::unsupported`] as an error that names the first of them.
    pub fn refuse_unsupported(
        &self,
        source: Source,
        repository: &Repository,
    ) -> Result<(), PolicyError> {
        refuse(self.unsupported(source, repository))
    }
}

fn refuse(unsupported: Vec<String>) -> Result<(), PolicyError> {
    match unsupported.into_iter().next() {
        Some(what) => Err(PolicyError::Unsupported { what }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
