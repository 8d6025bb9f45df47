//! The table: which capability holds from which version of apko until which.
//!
//! Every boundary was found by building apko on both sides of it and comparing what it made, unless
//! the effect says "read": then it was read in apko's history only. Invariant: an interval holds
//! its first version and not its end; nothing outside this file compares versions.

use super::Version;
use crate::apk::resolver::Rules;

/// Versions from `from` on, until (without) `until`.
#[derive(Debug, Clone, Copy)]
pub struct Interval {
    /// The first version inside.
    pub from: Version,
    /// The first version that is outside again.
    pub until: Option<Version>,
}

impl Interval {
    /// True if the version lies inside.
    pub fn contains(&self, version: Version) -> bool {
        version >= self.from && self.until.is_none_or(|until| version < until)
    }
}

const fn since(major: u32, minor: u32, patch: u32) -> Interval {
    Interval { from: Version::new(major, minor, patch, 0), until: None }
}

const fn within(from: (u32, u32, u32), until: (u32, u32, u32)) -> Interval {
    Interval {
        from: Version::new(from.0, from.1, from.2, 0),
        until: Some(Version::new(until.0, until.1, until.2, 0)),
    }
}

/// From the oldest version on.
const OLD: (u32, u32, u32) = (0, 0, 0);

/// One row: a capability, when it holds, what it changes.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name in the code.
    pub capability: Capability,
    /// Its name in results.
    pub name: &'static str,
    /// When it holds.
    pub intervals: &'static [Interval],
    /// What it does.
    pub effect: &'static str,
}

macro_rules! capabilities {
    ($($name:ident $text:literal [$($interval:expr),+] $effect:literal;)+) => {
        /// Something that some versions of apko do and others do not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Capability { $(#[doc = $effect] $name,)+ }

        /// All rows, in the order of the enum.
        pub const TABLE: &[Row] = &[$(Row {
            capability: Capability::$name,
            name: $text,
            intervals: &[$($interval),+],
            effect: $effect,
        },)+];
    };
}

capabilities! {
    // Encoding of layers.
    GzipE2 "gzip-e2" [within((0, 30, 18), (0, 30, 28))] "deflate variant E2 of the layer encoder";
    GzipE3 "gzip-e3" [since(0, 30, 28)] "deflate variant E3 of the layer encoder";
    HardLinks "hard-links" [since(0, 14, 1)]
        "hard links of packages are link entries; before, every name is a second copy";
    PackageTimes "package-times" [within((0, 19, 0), (0, 19, 1)), since(0, 19, 3)]
        "entries carry their own mtime; otherwise all carry the epoch option";
    DirectoryTimes "directory-times" [since(0, 25, 6)]
        "directories carry the mtime of the last package, links and devices that of their parent, \
         busybox links that of busybox; before, 0";

    // Layering.
    Layering "layering" [since(0, 26, 0)] "the field layering exists";
    EmptyLayering "empty-layering" [since(0, 27, 1)]
        "an empty layering object means one layer; before, it was an error";
    LayerDatabaseAtEnd "layer-database-at-end" [within((0, 29, 4), (0, 29, 9))]
        "the database of a layer is its last entry, without parent directories";
    LayerDatabaseInWalk "layer-database-in-walk" [since(0, 29, 9)]
        "the database of a layer is written during the walk, with parent directories";
    BuildRepositoriesInLayered "build-repositories-in-layered" [within((0, 26, 0), (0, 27, 3))]
        "etc/apk/repositories of a layered image lists the build repositories too";

    // The package database and the base of the tree.
    OptDirectory "opt-directory" [since(0, 22, 0)] "the base directory opt";
    UsrDatabase "usr-database" [since(0, 27, 2)]
        "the database is in usr/lib/apk with a link lib/apk; before, in lib/apk";
    MergedLib "merged-lib" [since(0, 30, 10)]
        "a package that provides merged-lib makes a missing lib a link to usr/lib";
    TriggersWithQ1 "triggers-with-q1" [since(0, 19, 5)] "lines of triggers start with Q1";
    ExecutableScriptsOnly "executable-scripts-only" [since(0, 20, 2)]
        "scripts.tar leaves out control files that are not executable by everybody";
    RecordsFromRoot "records-from-root" [within((0, 30, 3), (0, 30, 4))]
        "a package with files in the root lists all children of the root";
    RecordsSorted "records-sorted" [since(0, 30, 5)]
        "file lists sorted by path with all 12 mode bits and without orphans";

    // Accounts.
    UserShell "user-shell" [since(0, 14, 1)] "shell of users is honoured; before, /bin/sh";
    UserHome "user-home" [since(0, 14, 7)] "homedir is honoured; before, /home/<name>";
    GidPlain "gid-plain" [within((0, 20, 1), (0, 22, 3))] "an absent gid is 0";
    GidNullable "gid-nullable" [since(0, 22, 3)]
        "an absent gid is the uid, an explicit 0 stays and is written to apko.json";
    Shadow "shadow" [since(1, 2, 25)] "etc/shadow gets a line for every configured user";

    // Files that apko writes.
    OsRelease "os-release" [within(OLD, (0, 17, 0))] "etc/os-release is made if it is missing";
    OsReleaseUrl "os-release-url" [since(0, 14, 8)] "the made os-release names chainguard.dev";
    ApkoJson "apko-json" [since(0, 20, 0)] "etc/apko.json holds the configuration";
    LdCache "ld-cache" [since(0, 27, 0)] "etc/ld.so.cache";
    LdCacheAllDirectories "ld-cache-all-directories" [since(0, 27, 6)]
        "the cache lists every directory's file, in descending order; before, one per name";
    LdCacheMode "ld-cache-mode" [since(0, 29, 5)] "the cache has mode 0644; before, 0666";
    LdCacheLibraryOrder "ld-cache-library-order" [since(1, 2, 21)]
        "names in the cache are ordered as glibc orders them; before, by bytes";
    CaSidecars "ca-sidecars" [since(1, 2, 30)] "checksum files beside CA bundles";
    KanikoBundle "kaniko-bundle" [since(1, 2, 37)] "the bundle of kaniko is a CA bundle too";

    // Fields of the configuration.
    BuildRepositories "build-repositories" [since(0, 15, 0)] "the field build_repositories exists";
    RuntimeRepositories "runtime-repositories" [within((0, 30, 0), (0, 30, 1)), since(0, 30, 2)]
        "the field runtime_repositories exists";
    RuntimeKeyring "runtime-keyring" [since(1, 2, 23)] "the field runtime_keyring exists";
    Certificates "certificates" [since(0, 30, 30)] "the field certificates exists";
    CertificateProviders "certificate-providers" [since(1, 1, 14)]
        "the field certificates.providers exists";
    CertificateNameDot "certificate-name-dot" [since(1, 1, 16)]
        "names of certificates may hold a dot";
    JavaTrustStore "java-trust-store" [since(1, 0, 1)]
        "certificates are added to the Java trust store";
    StrictFields "strict-fields" [since(0, 17, 0)]
        "unknown fields are errors; before, they were ignored";

    // Locking.
    Locked "locked" [since(0, 22, 2)]
        "the configuration is locked first: all packages with versions, one architecture";
    LockSortedAsText "lock-sorted-as-text" [since(0, 22, 3)]
        "locked packages are sorted as name=version; before, by name";
    SetsSorted "sets-sorted" [since(0, 25, 2)]
        "repositories and keyring are sorted sets that hold those of the command line";
    LockfileOrder "lockfile-order" [since(0, 27, 2)]
        "packages from a lockfile stay in its order in the configuration";
    LockfileEmpty "lockfile-empty" [within((0, 27, 6), (0, 28, 0))]
        "with a lockfile, no packages in the configuration where apk and OCI name the \
         architecture differently";

    // Changes to paths.
    SpecialBits "special-bits" [since(1, 2, 17)] "setuid, setgid and sticky bits of paths count";
    NullableIds "nullable-ids" [since(1, 2, 19)]
        "paths without uid and gid keep their owner, an explicit 0 is written to apko.json";
    RecursiveAll "recursive-all" [since(1, 2, 19)]
        "recursive counts for every type; before, for directories only";

    // Image configuration, manifest, index.
    Labels "labels" [since(0, 17, 0)] "annotations are labels too";
    CreatedAnnotation "created-annotation" [since(0, 19, 3)]
        "the annotation org.opencontainers.image.created";
    VcsPerArchitecture "vcs-per-architecture" [within(OLD, (0, 19, 3))]
        "source and revision of vcs-url are annotations of each platform too";
    VolumesLost "volumes-lost" [within((0, 19, 3), (0, 19, 6))] "volumes are missing";
    PathOrder "path-order" [since(0, 26, 0)]
        "the default PATH has /usr/bin before /usr/sbin";
    TitleComment "title-comment" [since(0, 30, 19)] "history says `title by vendor`";
    ArtifactType "artifact-type" [since(1, 2, 25)] "entries of the index have an artifactType";
}

/// The first version whose order of installation the resolver knows.
const RESOLVER_FROM: Interval = since(0, 14, 0);

/// What the resolver of a version prefers; none where its order is not known.
pub(super) fn resolver_rules(version: Version) -> Option<Rules> {
    RESOLVER_FROM.contains(version).then(|| Rules {
        selected_packages_settle: since(0, 25, 0).contains(version),
        shared_objects_below_releases: since(0, 26, 0).contains(version),
        same_origin_same_version: since(1, 2, 11).contains(version),
        versions_before_priority: since(1, 2, 17).contains(version),
        unversioned_provides_stay: since(1, 2, 20).contains(version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn resolvers_by_version() {
        assert_eq!(resolver_rules(Version::new(0, 13, 3, 0)), None);
        let newest = resolver_rules(Version::new(1, 2, 39, 1));
        assert_eq!(newest, Some(Rules::NEWEST));
        let before = resolver_rules(Version::new(1, 2, 19, 0)).unwrap();
        assert!(before.versions_before_priority && !before.unversioned_provides_stay);
    }

    #[test]
    fn rows_fit_the_set_and_names_are_unique() {
        assert!(TABLE.len() <= 128);
        let names: BTreeSet<&str> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for (position, row) in TABLE.iter().enumerate() {
            assert_eq!(row.capability as usize, position);
            let ends = row.intervals.windows(2).all(|w| w[0].until.is_some_and(|u| u <= w[1].from));
            assert!(ends, "{}: intervals overlap", row.name);
        }
    }
}
