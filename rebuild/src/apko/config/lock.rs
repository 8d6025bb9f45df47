//! Locking: from the configuration that a person wrote to the one that one platform is made from.
//!
//! Each apko locks in its own way, or not at all; what it makes of the configuration shows in
//! etc/apk/world and etc/apko.json. Invariant: the packages come from the caller's resolution or
//! lockfile and are never chosen here.

use super::{Accounts, ConfigError, ImageConfiguration, architecture};
use crate::apko::behaviour::{Behaviour, Capability};
use std::collections::BTreeSet;

/// The command of an image of services.
const SERVICE_COMMAND: &str = "/bin/s6-svscan /sv";
/// The package that a service image needs.
const SERVICE_PACKAGE: &str = "s6";

/// One chosen package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedPackage {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// The pin that the request named, without `@`.
    pub pin: Option<String>,
}

impl LockedPackage {
    /// `name=version`, with `@pin` if there is one.
    pub fn entry(&self) -> String {
        let pin = self.pin.as_ref().map(|pin| format!("@{pin}")).unwrap_or_default();
        format!("{}={}{pin}", self.name, self.version)
    }
}

/// What the command line adds to the repositories and keys of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Build repositories.
    pub build_repositories: Vec<String>,
    /// Repositories.
    pub repositories: Vec<String>,
    /// Keys.
    pub keyring: Vec<String>,
}

/// How one platform was locked.
#[derive(Debug, Clone, Copy)]
pub struct Lock<'a> {
    /// The architecture in OCI's words, with variant.
    pub architecture: &'a str,
    /// The chosen packages, in the order of the resolution or of the lockfile.
    pub packages: &'a [LockedPackage],
    /// They come from a lockfile.
    pub from_lockfile: bool,
    /// Additions of the command line.
    pub extras: &'a Extras,
}

impl ImageConfiguration {
    /// The requested packages, as a resolution needs them: those listed, and the supervisor of an
    /// image of services.
    pub fn requested_packages(&self) -> Vec<String> {
        let mut packages = self.contents.packages.clone();
        if self.entrypoint.kind == "service-bundle" {
            packages.push(SERVICE_PACKAGE.to_owned());
        }
        packages
    }

    /// The configuration of one platform as this version of apko makes it, and the fields that it
    /// ignores (versions before 0.17.0 ignored what they did not know).
    pub fn locked(
        &self,
        lock: &Lock<'_>,
        behaviour: &Behaviour,
    ) -> Result<(Self, Vec<String>), ConfigError> {
        let mut config = self.clone();
        let unknown = self.unknown_to(behaviour);
        let mut ignored = Vec::new();
        if !unknown.is_empty() {
            if behaviour.has(Capability::StrictFields) {
                return Err(ConfigError::Gaps(unknown));
            }
            ignored = unknown.into_iter().map(|gap| gap.detail).collect();
            config.forget_later_fields(behaviour);
        }
        if behaviour.has(Capability::Locked) {
            config.apply_lock(lock, behaviour);
        }
        if config.entrypoint.kind == "service-bundle" {
            config.entrypoint.command = SERVICE_COMMAND.to_owned();
            config.contents.packages.push(SERVICE_PACKAGE.to_owned());
        }
        config.accounts.fill_homes(behaviour);
        Ok((config, ignored))
    }

    fn apply_lock(&mut self, lock: &Lock<'_>, behaviour: &Behaviour) {
        self.vcs_url.clear();
        self.archs = vec![lock.architecture.to_owned()];
        let contents = &mut self.contents;
        if behaviour.has(Capability::SetsSorted) {
            let extras = lock.extras;
            sort_with(&mut contents.build_repositories, &extras.build_repositories);
            sort_with(&mut contents.repositories, &extras.repositories);
            sort_with(&mut contents.keyring, &extras.keyring);
        }
        let names_differ = architecture::apk(lock.architecture) != lock.architecture;
        let lost = behaviour.has(Capability::LockfileEmpty) && lock.from_lockfile && names_differ;
        let mut packages: Vec<&LockedPackage> = lock.packages.iter().collect();
        if lost {
            packages.clear();
        }
        let sorted = !(lock.from_lockfile && behaviour.has(Capability::LockfileOrder));
        if sorted && behaviour.has(Capability::LockSortedAsText) {
            packages.sort_by_key(|package| package.entry());
        } else if sorted {
            packages.sort_by_key(|package| &package.name);
        }
        contents.packages = packages.into_iter().map(LockedPackage::entry).collect();
    }

    fn forget_later_fields(&mut self, behaviour: &Behaviour) {
        let has = |capability| behaviour.has(capability);
        if !has(Capability::Layering) {
            self.layering = None;
        }
        if !has(Capability::Certificates) {
            self.certificates = None;
        }
        if !has(Capability::BuildRepositories) {
            self.contents.build_repositories.clear();
        }
        if !has(Capability::RuntimeRepositories) {
            self.contents.runtime_repositories.clear();
        }
        if !has(Capability::RuntimeKeyring) {
            self.contents.runtime_keyring.clear();
        }
    }
}

impl Accounts {
    /// Gives every user a home directory: the one stated, where this version honours it, or
    /// `/home/<name>`. Doing it again changes nothing.
    pub fn fill_homes(&mut self, behaviour: &Behaviour) {
        for user in &mut self.users {
            if user.homedir.is_empty() || !behaviour.has(Capability::UserHome) {
                user.homedir = format!("/home/{}", user.username);
            }
        }
    }
}

fn sort_with(list: &mut Vec<String>, extras: &[String]) {
    let set: BTreeSet<String> = list.drain(..).chain(extras.iter().cloned()).collect();
    list.extend(set);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> LockedPackage {
        LockedPackage { name: name.into(), version: version.into(), pin: None }
    }

    fn packages_of(version: &str, from_lockfile: bool) -> Vec<String> {
        let extras = Extras::default();
        let packages = [package("libfoo", "4"), package("libfoo-dev", "4"), package("a", "1")];
        let lock =
            Lock { architecture: "amd64", packages: &packages, from_lockfile, extras: &extras };
        let mut config = ImageConfiguration::default();
        config.contents.packages = vec!["libfoo-dev".into()];
        let behaviour = Behaviour::of(version).unwrap();
        config.locked(&lock, &behaviour).unwrap().0.contents.packages
    }

    #[test]
    fn packages_by_version_of_apko() {
        assert_eq!(packages_of("0.22.1", false), ["libfoo-dev"]);
        assert_eq!(packages_of("0.22.2", false), ["a=1", "libfoo=4", "libfoo-dev=4"]);
        assert_eq!(packages_of("0.22.3", false), ["a=1", "libfoo-dev=4", "libfoo=4"]);
        assert_eq!(packages_of("0.27.2", true), ["libfoo=4", "libfoo-dev=4", "a=1"]);
        assert_eq!(packages_of("0.27.6", true), Vec::<String>::new());
    }

    #[test]
    fn services_and_later_fields() {
        let extras = Extras::default();
        let lock =
            Lock { architecture: "amd64", packages: &[], from_lockfile: false, extras: &extras };
        let mut config = ImageConfiguration::default();
        config.entrypoint.kind = "service-bundle".into();
        config.vcs_url = "u@c".into();
        config.layering = Some(super::super::Layering { strategy: "origin".into(), budget: 3 });
        let (locked, ignored) = config.locked(&lock, &Behaviour::newest()).unwrap();
        assert_eq!(locked.contents.packages, ["s6"]);
        assert_eq!(locked.entrypoint.command, SERVICE_COMMAND);
        assert_eq!((locked.vcs_url.as_str(), ignored.len()), ("", 0));
        let (old, ignored) = config.locked(&lock, &Behaviour::of("0.16.0").unwrap()).unwrap();
        assert_eq!((old.layering, ignored.len()), (None, 1));
        let error = config.locked(&lock, &Behaviour::of("0.17.0").unwrap()).unwrap_err();
        assert_eq!(error.gaps().len(), 1);
    }
}
