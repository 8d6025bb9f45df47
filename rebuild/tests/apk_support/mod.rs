//! What the package tests share: where the fixtures are, and how they are read.
#![allow(dead_code)] // each test binary uses a part

use rebuild::{
    apk::{
        key::{KeyRing, PublicKey},
        package::{Package, PackageError, PackageLimits},
    },
    source::MemorySpool,
};

/// Paths of fixtures.
pub mod fixtures {
    use std::path::{Path, PathBuf};

    /// The fixtures of this crate.
    pub fn own() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
    }

    /// The published images' packages, at the workspace's root.
    pub fn published() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/published/packages")
    }

    /// Every folder with an index.
    pub fn repositories() -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![own(), published()];
        while let Some(folder) = folders.pop() {
            if folder.join("APKINDEX.tar.gz").is_file() {
                found.push(folder.clone());
            }
            for entry in std::fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        found.sort();
        assert!(found.len() > 10, "{found:?}");
        found
    }

    /// Every package file in a folder.
    pub fn packages(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|e| e == "apk")).collect();
        found.sort();
        found
    }
}

/// A ring with every key file of the fixtures.
pub fn ring() -> KeyRing {
    let files = [
        fixtures::own().join("apko/test.rsa.pub"),
        fixtures::own().join("apko-versions/keys/verstest.rsa.pub"),
        fixtures::own().join("apko-versions/keys/assay-test-6a1f.rsa.pub"),
    ];
    let mut ring = KeyRing::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        ring.add(PublicKey::from_file(name, &std::fs::read(&file).unwrap()).unwrap()).unwrap();
    }
    ring
}

/// Reads a package into memory.
pub fn memory(apk: &[u8]) -> Result<Package, PackageError> {
    Package::read(apk, &MemorySpool, &PackageLimits::default())
}
