//! Which behaviours a search has to try where the provenance names no version.
//!
//! Invariant: two behaviours that cannot differ for a configuration are tried once. A search only
//! chooses among outputs of real versions; it must never mix capabilities of several.

use super::{Behaviour, Capabilities, Capability, NEWEST, OLDEST, table::TABLE};
use crate::{
    apk::package::Package,
    apko::{config::ImageConfiguration, fs::path},
};
use std::sync::Arc;

/// What the packages of an image bring that decides whether a capability can matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackageFacts {
    /// A package installs `etc/ld.so.conf`.
    pub ld_so_conf: bool,
    /// A package installs one of the CA bundles or the Java trust store.
    pub ca_bundle: bool,
    /// A package provides `merged-lib`.
    pub merged_lib: bool,
}

impl PackageFacts {
    /// What these packages bring. A file counts by its name alone, in whatever folder, so that
    /// links between folders hide nothing.
    pub fn of(packages: &[Arc<Package>]) -> Self {
        let mut facts = Self::default();
        for package in packages {
            facts.merged_lib |= package.info.provides.iter().any(|name| name == "merged-lib");
            for entry in &package.entries {
                match path::base(&entry.header.name) {
                    b"ld.so.conf" => facts.ld_so_conf = true,
                    b"ca-certificates.crt" | b"tls-ca-bundle.pem" | b"cacerts" => {
                        facts.ca_bundle = true;
                    }
                    _ => {}
                }
            }
        }
        facts
    }
}

impl Behaviour {
    /// Every behaviour that differs from its neighbours, newest first. Each carries the first
    /// version that behaves so.
    pub fn rows() -> Vec<Self> {
        let mut versions: Vec<_> = TABLE
            .iter()
            .flat_map(|row| row.intervals)
            .flat_map(|interval| [Some(interval.from), interval.until])
            .flatten()
            .chain([OLDEST])
            .filter(|version| (OLDEST..=NEWEST).contains(version))
            .collect();
        versions.sort_unstable();
        versions.dedup();
        versions.into_iter().rev().map(Self::at).collect()
    }

    /// The behaviours to try for one configuration, newest first: of those that give the same
    /// bytes for it, only the newest.
    pub fn candidates(config: &ImageConfiguration, packages: PackageFacts) -> Vec<Self> {
        let relevant = relevant(config, packages);
        let mut seen: Vec<Capabilities> = Vec::new();
        let mut rows = Self::rows();
        rows.retain(|row| {
            let distinct = row.capabilities().and(relevant);
            let new = config.unknown_to(row).is_empty() && !seen.contains(&distinct);
            if new {
                seen.push(distinct);
            }
            new
        });
        rows
    }
}

/// The capabilities that can change a byte of this image's manifest.
fn relevant(config: &ImageConfiguration, packages: PackageFacts) -> Capabilities {
    use Capability as C;
    let users = !config.accounts.users.is_empty();
    let certificates = config.certificates.is_some();
    let layered = config.layering.as_ref().is_some_and(|layering| layering.is_active());
    let in_play = |capability: C| match capability {
        C::GidPlain | C::GidNullable | C::Shadow | C::UserShell | C::UserHome => users,
        C::LdCache | C::LdCacheAllDirectories | C::LdCacheMode | C::LdCacheLibraryOrder => {
            packages.ld_so_conf
        }
        C::CaSidecars => packages.ca_bundle,
        C::MergedLib => packages.merged_lib,
        C::KanikoBundle => packages.ca_bundle || certificates,
        C::JavaTrustStore => certificates,
        C::SpecialBits | C::NullableIds | C::RecursiveAll => !config.paths.is_empty(),
        C::LayerDatabaseAtEnd | C::LayerDatabaseInWalk | C::BuildRepositoriesInLayered => layered,
        C::TitleComment => !config.annotations.is_empty(),
        C::VolumesLost => !config.volumes.is_empty(),
        C::VcsPerArchitecture => !config.vcs_url.is_empty(),
        // These change only what a configuration may say, how it is locked, or the index.
        C::Layering | C::EmptyLayering | C::BuildRepositories | C::RuntimeRepositories => false,
        C::RuntimeKeyring | C::Certificates | C::CertificateProviders => false,
        C::CertificateNameDot | C::StrictFields | C::Locked | C::LockSortedAsText => false,
        C::SetsSorted | C::LockfileOrder | C::LockfileEmpty | C::ArtifactType => false,
        _ => true,
    };
    TABLE
        .iter()
        .map(|row| row.capability)
        .filter(|capability| in_play(*capability))
        .fold(Capabilities::default(), Capabilities::with)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_distinct_and_newest_first() {
        let rows = Behaviour::rows();
        assert!(rows.len() > 30, "{}", rows.len());
        for pair in rows.windows(2) {
            assert!(pair[0].version() > pair[1].version());
            assert!(!pair[0].capabilities().difference(pair[1].capabilities()).is_empty());
        }
        assert_eq!(rows.last().map(Behaviour::version), Some(OLDEST));
        assert_eq!(rows[0].capabilities(), Behaviour::newest().capabilities());
    }

    #[test]
    fn a_plain_configuration_needs_few() {
        let plain = ImageConfiguration::default();
        let few = Behaviour::candidates(&plain, PackageFacts::default()).len();
        let all = PackageFacts { ld_so_conf: true, ca_bundle: true, merged_lib: true };
        assert!(few < Behaviour::candidates(&plain, all).len());
        assert!(few < Behaviour::rows().len() / 2 + 10, "{few}");
    }
}
