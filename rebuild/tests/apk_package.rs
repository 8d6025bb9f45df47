//! Package files made by real tools: read, verified against their signed indexes and by their own
//! signatures, and damaged in every way that bytes can be.
//!
//! Invariant: what these tests call "found" is an error with words; a panic fails them.

mod apk_support;

use apk_support::{fixtures, memory, ring};
use rebuild::apk::{
    index::{Index, IndexError, IndexLimits},
    key::{KeyError, SignatureAlgorithm},
    package::{Package, TrustProblem},
};
use std::sync::Arc;

#[test]
fn every_fixture_reads_and_is_in_its_index() {
    let keys = ring();
    let (mut indexes, mut signed, mut unsigned, mut strangers) = (0, 0, 0, 0);
    for repository in fixtures::repositories() {
        let file = std::fs::read(repository.join("APKINDEX.tar.gz")).unwrap();
        let limits = IndexLimits::default();
        let index = if repository.starts_with(fixtures::own().join("apko")) {
            let error = Index::read(&file, &keys, &limits).unwrap_err();
            assert!(matches!(error, IndexError::Unsigned), "{error}");
            Index::read_without_signature(&file, &limits).unwrap()
        } else {
            indexes += 1;
            let (index, signer) = Index::read(&file, &keys, &limits).unwrap();
            let sha1 = repository.components().any(|c| c.as_os_str() == "repos-sha1");
            assert_eq!(signer.algorithm == SignatureAlgorithm::RsaSha1, sha1);
            index
        };
        for path in fixtures::packages(&repository) {
            let package = memory(&std::fs::read(&path).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path.file_name().unwrap().to_str().unwrap();
            let record = index.entries.iter().find(|entry| entry.file_name() == name).unwrap();
            if repository.ends_with("repo4/aarch64") {
                // Its index was written by hand and states a size of 1.
                assert_eq!(record.control_sha1, Some(package.control_sha1));
                let error = package.verify_against_index(record).unwrap_err();
                assert!(matches!(error.problem, TrustProblem::Index { field: "the size", .. }));
            } else {
                package.verify_against_index(record).unwrap();
            }
            match (package.verify_signature(&keys).map_err(|error| error.problem), name) {
                (Ok(_), _) => signed += 1,
                (Err(TrustProblem::Unsigned), _) => unsigned += 1,
                (Err(TrustProblem::Signature(KeyError::NoTrustedKey { signers })), _) => {
                    assert_eq!(signers, ["alpine-devel@lists.alpinelinux.org-616ae350.rsa.pub"]);
                    strangers += 1;
                }
                (Err(error), name) => panic!("{name}: {error}"),
            }
        }
    }
    assert_eq!((indexes, signed, unsigned, strangers), (12, 95, 17, 1));
}

#[test]
fn records_give_the_same_package_back_and_damage_is_an_error() {
    let mut count = 0;
    for repository in fixtures::repositories() {
        for path in fixtures::packages(&repository) {
            let package = memory(&std::fs::read(&path).unwrap()).unwrap();
            let record = package.to_record();
            let back = Package::from_record(&record, Arc::clone(&package.data)).unwrap();
            assert_eq!(back.info, package.info);
            assert_eq!(back.control, package.control);
            assert_eq!(back.entries, package.entries);
            assert_eq!(back.signature, package.signature);
            assert_eq!(back.file_sha256, package.file_sha256);
            assert_eq!(back.control_sha1, package.control_sha1);
            assert_eq!(back.to_record(), record);
            count += 1;
            if count % 8 == 0 {
                damage(&record, &package);
            }
        }
    }
    assert!(count > 100, "{count}");
}

/// Cut records are errors; altered ones are errors or other packages, never a panic.
fn damage(record: &[u8], package: &Package) {
    let step = (record.len() / 300).max(1);
    for len in (0..record.len()).step_by(step) {
        let cut = Package::from_record(&record[..len], Arc::clone(&package.data));
        assert!(cut.is_err(), "{len} of {} bytes", record.len());
    }
    for at in (0..record.len()).step_by(step) {
        for change in [0x01, 0x80, 0xff] {
            let mut altered = record.to_vec();
            altered[at] ^= change;
            let _ = Package::from_record(&altered, Arc::clone(&package.data));
        }
    }
}
