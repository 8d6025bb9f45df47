//! `apko.lock.json`: which package files were chosen, per architecture in installation order.
//!
//! Invariant: like a configuration it is read completely or not at all; unknown fields are gaps.
//! It names packages and checksums, it proves nothing: the files are verified like any other.

use super::{
    CONFIG_BYTES_MAX, ConfigError, LockedPackage, architecture,
    decode::{At, Report, Seed, field_gap, record},
};
use serde::de::DeserializeSeed;

const WHAT: &str = "lockfile";

record! {
    /// A lockfile.
    pub struct Lockfile {
        /// `v1`.
        "version" version: String,
        /// The configuration that was locked.
        "config" config: LockedConfig,
        /// What was chosen.
        "contents" contents: LockContents,
    }
}

record! {
    /// The configuration that was locked.
    pub struct LockedConfig {
        /// Its file name.
        "name" name: String,
        /// `sha256-` and base64.
        "checksum" checksum: String,
    }
}

record! {
    /// What was chosen.
    pub struct LockContents {
        /// Keys.
        "keyring" keyring: Vec<LockKey>,
        /// Build repositories.
        "build_repositories" build_repositories: Vec<LockRepository>,
        /// Runtime repositories.
        "runtime_repositories" runtime_repositories: Vec<LockRepository>,
        /// Repositories.
        "repositories" repositories: Vec<LockRepository>,
        /// Packages of all architectures, each in installation order.
        "packages" packages: Vec<LockPackage>,
    }
}

record! {
    /// A key.
    pub struct LockKey {
        /// Name.
        "name" name: String,
        /// Where it is.
        "url" url: String,
        /// PEM, where the lockfile holds it.
        "content" content: String,
    }
}

record! {
    /// A repository for one architecture.
    pub struct LockRepository {
        /// Name.
        "name" name: String,
        /// Its index.
        "url" url: String,
        /// In apk's words.
        "architecture" architecture: String,
    }
}

record! {
    /// A package file.
    pub struct LockPackage {
        /// Name.
        "name" name: String,
        /// Where the file is.
        "url" url: String,
        /// Version.
        "version" version: String,
        /// In apk's words.
        "architecture" architecture: String,
        /// The signature member.
        "signature" signature: LockMember,
        /// The control member.
        "control" control: LockMember,
        /// The data member.
        "data" data: LockMember,
        /// `Q1` and the base64 of the SHA-1 of the control member.
        "checksum" checksum: String,
    }
}

record! {
    /// One gzip member of a package file.
    pub struct LockMember {
        /// `bytes=first-last`.
        "range" range: String,
        /// `sha1-` or `sha256-` and base64.
        "checksum" checksum: String,
    }
}

impl Lockfile {
    /// Reads a lockfile.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        if json.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge { what: WHAT, bytes: json.len() });
        }
        let report = Report::default();
        let mut from = serde_json::Deserializer::from_slice(json);
        let lockfile: Self = Seed::new(&At::root(&report))
            .deserialize(&mut from)
            .and_then(|lockfile| from.end().map(|()| lockfile))
            .map_err(|error| ConfigError::Syntax { what: WHAT, detail: error.to_string() })?;
        let (unknown, _) = report.unknown();
        let mut gaps: Vec<_> =
            unknown.iter().map(|path| field_gap(format!("lockfile: {path}"))).collect();
        if lockfile.version != "v1" {
            gaps.push(field_gap(format!("lockfile: version {:?}", lockfile.version)));
        }
        if gaps.is_empty() { Ok(lockfile) } else { Err(ConfigError::Gaps(gaps)) }
    }

    /// The package files of one architecture (either spelling), in installation order.
    pub fn packages_for<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a LockPackage> {
        let wanted = architecture::oci(name);
        self.contents
            .packages
            .iter()
            .filter(move |package| architecture::oci(&package.architecture) == wanted)
    }

    /// The same as entries of a locked configuration.
    pub fn locked_packages(&self, name: &str) -> Vec<LockedPackage> {
        self.packages_for(name)
            .map(|package| LockedPackage {
                name: package.name.clone(),
                version: package.version.clone(),
                pin: None,
            })
            .collect()
    }
}
