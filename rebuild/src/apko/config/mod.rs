//! The image configuration of apko: what it may say, as types.
//!
//! It comes from the attested JSON ([`attested`]), from apko's YAML ([`yaml`]) or a lockfile
//! ([`lockfile`]). Invariant: a field that is not here by name, or that Assay cannot honour, is a
//! gap with its path; none is ever left out in silence. Names are those of apko's YAML.

pub mod architecture;
pub mod attested;
mod check;
mod decode;
mod line_breaks;
pub mod lock;
pub mod lockfile;
mod merge;
mod repository;
pub mod yaml;

pub use lock::{Extras, Lock, LockedPackage};
pub use lockfile::{LockPackage, Lockfile};
pub use repository::PinnedRepository;

use attest::Gap;
use decode::record;
use std::collections::BTreeMap;

/// Bytes of a configuration. Real ones have under 64 KiB; certificates may add some.
pub const CONFIG_BYTES_MAX: usize = 4 << 20;

/// Why a configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, not YAML, or a value of another type than the field has.
    #[error("the {what} cannot be read: {detail}")]
    Syntax {
        /// Which document.
        what: &'static str,
        /// What was expected, what was found, where.
        detail: String,
    },
    /// Larger than [`CONFIG_BYTES_MAX`].
    #[error("expected a {what} of at most {CONFIG_BYTES_MAX} bytes, found {bytes}")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// It says things that Assay does not know how to do: all of them.
    #[error("the configuration says what Assay cannot do: {}", listed(.0))]
    Gaps(Vec<Gap>),
    /// An included file could not be had.
    #[error("expected the included configuration {name:?} to be readable: {detail}")]
    Include {
        /// The name as written.
        name: String,
        /// Why not.
        detail: String,
    },
}

fn listed(gaps: &[Gap]) -> String {
    gaps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl ConfigError {
    /// What a person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Syntax { .. } => Some("check the field at the named path against apko's schema"),
            Self::TooLarge { .. } => None,
            Self::Gaps(_) => Some("docs/SUPPORT.md lists the fields and versions that are done"),
            Self::Include { .. } => Some("paths are relative to the working folder"),
        }
    }

    /// The gaps, where that is what stands in the way.
    pub fn gaps(&self) -> &[Gap] {
        match self {
            Self::Gaps(gaps) => gaps,
            _ => &[],
        }
    }
}

record! {
    /// Everything that one image (or one platform of it, once locked) is made from.
    pub struct ImageConfiguration {
        /// Packages and where they come from.
        "contents" contents: Contents,
        /// What the image runs.
        "entrypoint" entrypoint: Entrypoint,
        /// Arguments, split like a shell does.
        "cmd" cmd: String,
        /// The signal that stops it.
        "stop-signal" stop_signal: String,
        /// The working directory.
        "work-dir" work_dir: String,
        /// Users and groups.
        "accounts" accounts: Accounts,
        /// Architectures in OCI's words.
        "archs" archs: Vec<String>,
        /// Environment variables.
        "environment" environment: BTreeMap<String, String>,
        /// Changes to paths, in order.
        "paths" paths: Vec<PathChange>,
        /// Where the configuration is kept, `url@commit`.
        "vcs-url" vcs_url: String,
        /// Annotations.
        "annotations" annotations: BTreeMap<String, String>,
        /// Another file that is read first.
        "include" include: String,
        /// Volumes.
        "volumes" volumes: Vec<String>,
        /// How packages are spread over layers; absent means one layer.
        "layering" layering: Option<Layering>,
        /// Certificates to add.
        "certificates" certificates: Option<Certificates>,
    }
    unsupported "format", "os-release", "options"
}

record! {
    /// Packages, their repositories and keys.
    pub struct Contents {
        /// Repositories for the build only.
        "build_repositories" build_repositories: Vec<String>,
        /// Repositories for the finished image only.
        "runtime_repositories" runtime_repositories: Vec<String>,
        /// Repositories for both.
        "repositories" repositories: Vec<String>,
        /// Key files, paths or URLs.
        "keyring" keyring: Vec<String>,
        /// Keys for the finished image only.
        "runtime_keyring" runtime_keyring: Vec<RuntimeKey>,
        /// Packages, `name` or `name=version`.
        "packages" packages: Vec<String>,
    }
    unsupported "baseimage"
}

record! {
    /// A key that only the finished image trusts.
    pub struct RuntimeKey {
        /// File name in etc/apk/keys.
        "name" name: String,
        /// PEM.
        "content" content: String,
    }
}

record! {
    /// What the image runs.
    pub struct Entrypoint {
        /// Nothing, or `service-bundle`.
        "type" kind: String,
        /// A command, split like a shell does.
        "command" command: String,
        /// A fragment for `/bin/sh -c`.
        "shell-fragment" shell_fragment: String,
        /// Services by name, for s6.
        "services" services: BTreeMap<String, String>,
    }
}

record! {
    /// Users and groups.
    pub struct Accounts {
        /// Who the image runs as, a name or a number.
        "run-as" run_as: String,
        /// Users to add.
        "users" users: Vec<User>,
        /// Groups to add.
        "groups" groups: Vec<Group>,
    }
}

record! {
    /// A user to add.
    pub struct User {
        /// Name.
        "username" username: String,
        /// Number.
        "uid" uid: u32,
        /// Number of the group; null and 0 differ.
        "gid" gid: Option<u32>,
        /// Shell.
        "shell" shell: String,
        /// Home directory.
        "homedir" homedir: String,
    }
}

record! {
    /// A group to add.
    pub struct Group {
        /// Name.
        "groupname" groupname: String,
        /// Number.
        "gid" gid: u32,
        /// Names of members.
        "members" members: Vec<String>,
    }
}

record! {
    /// One change to a path.
    pub struct PathChange {
        /// Where.
        "path" path: String,
        /// `directory`, `empty-file`, `hardlink`, `symlink` or `permissions`.
        "type" kind: String,
        /// Owner; null and 0 differ.
        "uid" uid: Option<u32>,
        /// Group; null and 0 differ.
        "gid" gid: Option<u32>,
        /// Mode bits.
        "permissions" permissions: u32,
        /// Target of links.
        "source" source: String,
        /// Also everything below.
        "recursive" recursive: bool,
    }
}

record! {
    /// How packages are spread over layers.
    pub struct Layering {
        /// `origin`.
        "strategy" strategy: String,
        /// Layers of packages at most.
        "budget" budget: u32,
    }
}

record! {
    /// Certificates to add to the trust stores of the image.
    pub struct Certificates {
        /// Given in place.
        "additional" additional: Vec<AdditionalCertificate>,
        /// Names that packages with certificates provide.
        "providers" providers: Vec<String>,
    }
}

record! {
    /// A certificate given in place.
    pub struct AdditionalCertificate {
        /// First part of its file name.
        "name" name: String,
        /// PEM.
        "content" content: String,
    }
}

impl Layering {
    /// True if packages are spread: an empty object means one layer.
    pub fn is_active(&self) -> bool {
        !self.strategy.is_empty() || self.budget != 0
    }
}

impl ImageConfiguration {
    /// The layering, if it spreads packages over layers.
    pub fn active_layering(&self) -> Option<&Layering> {
        self.layering.as_ref().filter(|layering| layering.is_active())
    }

    /// All repositories that packages may come from during the build: a sorted set.
    pub fn repositories_for_build(&self) -> Vec<String> {
        let both = [&self.contents.build_repositories, &self.contents.repositories];
        let set: std::collections::BTreeSet<&String> = both.into_iter().flatten().collect();
        set.into_iter().cloned().collect()
    }
}
