//! Package files made by real tools: read, verified against their signed indexes and by their own
//! signatures, and damaged in every way that bytes can be.
//!
//! Invariant: what these tests call "found" is an error with words; a panic fails them.

mod apk_support;

use apk_support::{fixtures, memory, ring};
use rebuild::{
    apk::{
        index::{Index, IndexLimits},
        package::{Package, PackageLimits},
    },
    source::MemorySpool,
};
use std::io::Read;

#[test]
fn every_fixture_reads_and_is_in_its_index() {
    let keys = ring();
    let mut packages = 0;
    for repository in fixtures::repositories() {
        let file = std::fs::read(repository.join("APKINDEX.tar.gz")).unwrap();
        let (index, signer) = Index::read(&file, &keys, &IndexLimits::default())
            .unwrap_or_else(|error| panic!("{}: {error}", repository.display()));
        assert!(signer.key.ends_with(".rsa.pub"));
        for path in fixtures::packages(&repository) {
            let package = memory(&std::fs::read(&path).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path.file_name().unwrap().to_str().unwrap();
            let record = index.entries.iter().find(|entry| entry.file_name() == name).unwrap();
            package.verify_against_index(record).unwrap();
            match &package.signature {
                Some(_) => assert!(package.verify_signature(&keys).is_ok(), "{name}"),
                None => assert!(package.verify_signature(&keys).is_err(), "{name}"),
            }
            packages += 1;
        }
    }
    assert!(packages > 100, "{packages} packages");
}
