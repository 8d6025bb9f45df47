//! What each version of apko does, as data: a set of named capabilities by version.
//!
//! The image does not record the version that made it; its provenance does. Invariant: a version
//! outside the range that was executed for real is a gap, never a guess; inside it a capability is
//! on exactly in the intervals of [`table`]. Adding a version means adding rows there, and vectors.

pub mod search;
pub mod table;
mod version;

pub use table::Capability;
pub use version::Version;

use crate::{apk::resolver::Rules, go::gzip::Variant};
use attest::{Gap, GapCode};
use std::fmt;
use table::TABLE;

/// The oldest version whose output was compared, byte for byte.
pub const OLDEST: Version = Version::new(0, 13, 0, 0);
/// The newest version whose output was compared, byte for byte.
pub const NEWEST: Version = Version::new(1, 2, 39, 1);

/// The behaviour of one version of apko.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Behaviour {
    version: Version,
    capabilities: Capabilities,
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Capabilities(u128);

impl Capabilities {
    /// True if the set has this one.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 >> capability as u32 & 1 == 1
    }

    /// The set with this one.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u32)
    }

    /// The set without this one.
    #[must_use]
    pub const fn without(self, capability: Capability) -> Self {
        Self(self.0 & !(1 << capability as u32))
    }

    /// What both sets have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The capabilities that one of the sets has and the other lacks.
    pub fn difference(self, other: Self) -> Vec<Capability> {
        let changed = Self(self.0 ^ other.0);
        TABLE.iter().map(|row| row.capability).filter(|c| changed.has(*c)).collect()
    }
}

/// How the group of a configured user follows from its `gid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GidRule {
    /// 0 or absent gives the uid.
    ZeroIsUid,
    /// Absent gives 0.
    AbsentIsZero,
    /// Absent gives the uid, an explicit 0 stays 0.
    AbsentIsUid,
}

/// Where the installed database of a layer's own packages goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerDatabase {
    /// Only the top layer has one.
    None,
    /// The last entry of each layer, without parent directories.
    AtEnd,
    /// During the walk, with parent directories.
    InWalk,
}

/// How the file list of an installed-database record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordWriter {
    /// Without root-level files, mode & 0777, recursive order.
    Recursive,
    /// The same, but a package with root-level files starts from all children of the root.
    RecursiveFromRoot,
    /// Sorted by path, mode & 07777, orphans dropped.
    Sorted,
}

impl Behaviour {
    /// The behaviour of a version as provenance writes it: `1.2.39`, `v0.30.5`, `1.2.39+1`.
    pub fn of(version: &str) -> Result<Self, Gap> {
        let gap = |detail: String| Gap::new(GapCode::UnsupportedVersion, detail);
        let shown: String = version.chars().take(64).collect();
        let parsed = Version::parse(version).ok_or_else(|| {
            gap(format!("expected an apko version like 1.2.39 or 1.2.39+1, found {shown:?}"))
        })?;
        if (OLDEST..=NEWEST).contains(&parsed) {
            Ok(Self::at(parsed))
        } else {
            Err(gap(format!("apko {shown}: known are the versions from {OLDEST} to {NEWEST}")))
        }
    }

    /// The behaviour of the newest known version.
    pub fn newest() -> Self {
        Self::at(NEWEST)
    }

    fn at(version: Version) -> Self {
        let capabilities = TABLE
            .iter()
            .filter(|row| row.intervals.iter().any(|interval| interval.contains(version)))
            .fold(Capabilities::default(), |set, row| set.with(row.capability));
        Self { version, capabilities }
    }

    /// The version asked for; of a row of a search, the first version that behaves like this.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Everything this version does.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The same behaviour but for one capability: a result that needs it comes out otherwise.
    #[must_use]
    pub fn toggled(self, capability: Capability) -> Self {
        let set = self.capabilities;
        let capabilities = match set.has(capability) {
            true => set.without(capability),
            false => set.with(capability),
        };
        Self { capabilities, ..self }
    }

    /// True if this version does that.
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.has(capability)
    }

    /// What the resolver of this version prefers; none before 0.14.0, whose order is not known.
    pub fn resolver_rules(&self) -> Option<Rules> {
        table::resolver_rules(self.version)
    }

    /// The encoder of layers.
    pub fn gzip(&self) -> Variant {
        if self.has(Capability::GzipE3) {
            Variant::E3
        } else if self.has(Capability::GzipE2) {
            Variant::E2
        } else {
            Variant::E1
        }
    }

    /// How users get their group.
    pub fn gid_rule(&self) -> GidRule {
        if self.has(Capability::GidNullable) {
            GidRule::AbsentIsUid
        } else if self.has(Capability::GidPlain) {
            GidRule::AbsentIsZero
        } else {
            GidRule::ZeroIsUid
        }
    }

    /// Where layers get their part of the installed database.
    pub fn layer_database(&self) -> LayerDatabase {
        if self.has(Capability::LayerDatabaseInWalk) {
            LayerDatabase::InWalk
        } else if self.has(Capability::LayerDatabaseAtEnd) {
            LayerDatabase::AtEnd
        } else {
            LayerDatabase::None
        }
    }

    /// How records of the installed database are written.
    pub fn record_writer(&self) -> RecordWriter {
        if self.has(Capability::RecordsSorted) {
            RecordWriter::Sorted
        } else if self.has(Capability::RecordsFromRoot) {
            RecordWriter::RecursiveFromRoot
        } else {
            RecordWriter::Recursive
        }
    }

    /// The folder of the package database.
    pub fn database_folder(&self) -> &'static str {
        if self.has(Capability::UsrDatabase) { "usr/lib/apk/db" } else { "lib/apk/db" }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "apko {}", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executed_versions_are_known() {
        assert_eq!(Behaviour::of("1.2.39+1").unwrap(), Behaviour::newest());
        assert!(Behaviour::of("v0.13.0").is_ok());
        for unknown in ["0.12.0", "1.2.39+2", "1.2.40", "1.3.0", "2.0.0", "", "1.2", "1.2.39-rc1"] {
            let gap = Behaviour::of(unknown).unwrap_err();
            assert_eq!(gap.code, GapCode::UnsupportedVersion, "{unknown}");
        }
    }

    #[test]
    fn intervals_are_not_monotone() {
        let has = |version: &str, capability| Behaviour::of(version).unwrap().has(capability);
        use Capability::{LockfileEmpty, PackageTimes, RecordsFromRoot, RuntimeRepositories};
        assert!(!has("0.18.1", PackageTimes));
        assert!(has("0.19.0", PackageTimes));
        assert!(!has("0.19.2", PackageTimes));
        assert!(has("0.19.3", PackageTimes));
        assert!(has("0.27.9", LockfileEmpty) && !has("0.28.0", LockfileEmpty));
        assert!(has("0.30.0", RuntimeRepositories) && !has("0.30.1", RuntimeRepositories));
        assert!(has("0.30.3", RecordsFromRoot) && !has("0.30.4", RecordsFromRoot));
        let writer = |version: &str| Behaviour::of(version).unwrap().record_writer();
        assert_eq!(writer("0.30.3"), RecordWriter::RecursiveFromRoot);
        assert_eq!(writer("0.30.4"), RecordWriter::Recursive);
        assert_eq!(writer("0.30.5"), RecordWriter::Sorted);
        assert_eq!(Behaviour::of("0.30.18").unwrap().gzip(), Variant::E2);
        assert_eq!(Behaviour::of("0.30.28").unwrap().gzip(), Variant::E3);
    }
}
