//! What the package tests share: where the fixtures are, and how they are read.
#![allow(dead_code)] // each test binary uses a part

pub mod build;

use rebuild::{
    apk::{
        key::{KeyRing, PublicKey},
        package::{Package, PackageError, PackageLimits},
        tar::{Reader, TarLimits},
    },
    source::MemorySpool,
};
use std::path::Path;

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

/// The package names in the installed database of a layer, in its order.
pub fn installed_order(layout: &Path, blob: &str) -> Vec<String> {
    let path = layout.join("blobs").join(blob.replace(':', "/"));
    let layer = flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap());
    let mut tar = Reader::new(layer, TarLimits::default());
    while let Some(header) = tar.next_entry().unwrap() {
        if header.name == b"usr/lib/apk/db/installed" {
            let text = String::from_utf8(tar.content(header.size).unwrap()).unwrap();
            let names = text.lines().filter_map(|line| line.strip_prefix("P:"));
            return names.map(str::to_owned).collect();
        }
    }
    panic!("{blob} has no installed database");
}
