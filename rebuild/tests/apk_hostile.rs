//! Package files that lie, burst, contradict themselves or break off.
//!
//! Invariant: each of them is an error with words that name the package and the entry, in bounded
//! memory and time; never a panic, and never a package that says something else than before.

mod apk_support;

use apk_support::{build, fixtures, memory, ring};
use proptest::prelude::*;
use rebuild::{
    apk::{
        gzip::GzipLimits,
        index::{Index, IndexLimits},
        package::{Package, PackageError, PackageLimits, PackageProblem},
        tar::{TarLimits, TarProblem},
    },
    go::tar::{Header, Kind},
    source::MemorySpool,
};
use std::io::Write;

fn refused(apk: &[u8]) -> PackageError {
    memory(apk).expect_err("the package should be refused")
}

fn with_limits(apk: &[u8], limits: &PackageLimits) -> Result<Package, PackageError> {
    Package::read(apk, &MemorySpool, limits)
}

/// A small signed package of the fixtures, and its repository.
fn small() -> (Vec<u8>, Index) {
    let folder = fixtures::own().join("apko-versions/repos/r/x86_64");
    let index = std::fs::read(folder.join("APKINDEX.tar.gz")).unwrap();
    let (index, _) = Index::read(&index, &ring(), &IndexLimits::default()).unwrap();
    (std::fs::read(folder.join("d2-1-r0.apk")).unwrap(), index)
}

#[test]
fn every_prefix_is_an_error() {
    let (whole, _) = small();
    assert!(memory(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(memory(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
    }
    for behind in [&b"\0"[..], b"\0\0\0\0\0\0\0\0\0\0\0\0", b"\x1f\x8b", b"x"] {
        let longer = [&whole, behind].concat();
        assert!(memory(&longer).is_err(), "{behind:?} behind the end");
    }
}

/// Bytes of the first gzip member.
fn first_member(file: &[u8]) -> usize {
    let mut decoder = flate2::bufread::GzDecoder::new(file);
    std::io::copy(&mut decoder, &mut std::io::sink()).unwrap();
    file.len() - decoder.into_inner().len()
}

#[test]
fn every_flipped_bit_is_found_or_changes_nothing() {
    let (whole, index) = small();
    let keys = ring();
    let good = memory(&whole).unwrap();
    let record = index.entries.iter().find(|entry| entry.name == "d2").unwrap();
    let signature = first_member(&whole);
    let control = signature + first_member(&whole[signature..]);
    let mut flipped = whole.clone();
    let (mut errors, mut same) = (0, 0);
    for at in 0..whole.len() {
        for bit in 0..8 {
            flipped[at] ^= 1 << bit;
            match memory(&flipped) {
                Err(_) => errors += 1,
                Ok(package) => {
                    same += 1;
                    assert!(at < control, "bit {bit} of byte {at} of the data member");
                    assert_eq!(package.info, good.info);
                    assert_eq!(package.control, good.control);
                    assert_eq!(package.entries, good.entries);
                    assert_ne!(package.file_sha256, good.file_sha256);
                    let by_index = package.verify_against_index(record).is_ok();
                    assert_eq!(by_index, at < signature, "index: bit {bit} of byte {at}");
                    let by_signature = package.verify_signature(&keys).is_ok();
                    // Gzip has bytes that mean nothing, and several spellings of one content.
                    let unchanged = package.signature == good.signature;
                    assert_eq!(by_signature, unchanged, "signature: bit {bit} of byte {at}");
                }
            }
            flipped[at] ^= 1 << bit;
        }
    }
    assert_eq!(errors + same, whole.len() * 8);
    assert!(errors > same, "{errors} errors, {same} the same");
}

#[test]
fn content_that_does_not_have_its_checksum() {
    let mut lying = build::file("usr/bin/tool", b"good");
    lying.1 = b"evil".to_vec();
    let error = refused(&build::package(&[build::directory("usr"), lying]));
    assert_eq!(error.package, "made-1-r0");
    assert!(
        matches!(&error.problem, PackageProblem::Checksum { entry, .. } if entry == "usr/bin/tool")
    );
    let mut link = build::symlink("bin/sh", "busybox");
    link.0.link_name = b"evil".to_vec();
    let error = refused(&build::package(&[link]));
    assert!(matches!(&error.problem, PackageProblem::Checksum { entry, .. } if entry == "bin/sh"));
    for record in [&b""[..], b"00", b"Q1", b"Q1====", b"zz", &[b'0'; 64]] {
        let mut file = build::file("a", b"");
        file.0.pax.insert(build::CHECKSUM.to_vec(), record.to_vec());
        let error = refused(&build::package(&[file]));
        let problem = &error.problem;
        assert!(matches!(problem, PackageProblem::ChecksumRecord { .. }), "{error}");
    }
    let mut other_form = build::file("a", b"");
    other_form.0.pax.insert(build::CHECKSUM.to_vec(), b"Q12jmj7l5rSw0yVb/vlWAYkK/YBwk=".to_vec());
    assert!(memory(&build::package(&[other_form])).is_ok(), "base64 is a form of it");
}

#[test]
fn data_that_the_control_member_does_not_state() {
    let data = build::gzip(&build::tar(&[build::file("a", b"1")]));
    let other = build::gzip(&build::tar(&[build::file("a", b"2")]));
    let swapped = [build::control("made", "", &data), other].concat();
    assert!(matches!(refused(&swapped).problem, PackageProblem::DataHash { .. }));
    let first_wins = [build::control("made", "datahash = 00\n", &data), data.clone()].concat();
    assert!(matches!(refused(&first_wins).problem, PackageProblem::NoDataHash { .. }));
    let extra = [&build::around(&data)[..], &build::gzip(b"")].concat();
    assert!(matches!(refused(&extra).problem, PackageProblem::DataHash { .. }), "extra member");
    let no_data = build::control("made", "", &data);
    assert!(matches!(refused(&no_data).problem, PackageProblem::MissingMember { .. }));
}

#[test]
fn control_members_that_are_none() {
    let data = build::gzip(&build::tar(&[]));
    let member =
        |entries: &[(Header, Vec<u8>)]| [build::gzip(&build::tar(entries)), data.clone()].concat();
    assert!(matches!(refused(&member(&[])).problem, PackageProblem::NoPkgInfo));
    assert!(matches!(
        refused(&member(&[build::file("PKGINFO", b"")])).problem,
        PackageProblem::NoPkgInfo
    ));
    assert!(matches!(
        refused(&member(&[build::symlink(".PKGINFO", "/etc/passwd")])).problem,
        PackageProblem::NoFile { .. }
    ));
    let twice = [build::file(".PKGINFO", b"pkgname=a\n"), build::file(".PKGINFO", b"pkgname=b\n")];
    assert!(matches!(
        refused(&member(&twice)).problem,
        PackageProblem::DuplicateControlEntry { .. }
    ));
    for name in ["../up", "a/b", ".hidden", "a b", ""] {
        let apk = [build::control(name, "", &data), data.clone()].concat();
        assert!(matches!(refused(&apk).problem, PackageProblem::PkgInfo(_)), "{name:?}");
    }
}

/// A data member with one file of zeros.
fn zeros(bytes: u64) -> Vec<u8> {
    let mut header = Header::new(Kind::Regular, "zeros");
    header.size = bytes;
    let head = {
        let mut archive = rebuild::go::tar::Writer::new(Vec::new());
        archive.header(&Header { size: 0, ..header.clone() }).unwrap();
        let mut empty = archive.finish().unwrap();
        empty.truncate(512);
        set_size(&mut empty, bytes);
        empty
    };
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&head).unwrap();
    let block = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        encoder.write_all(&block).unwrap();
    }
    encoder.write_all(&block[..1024]).unwrap();
    encoder.finish().unwrap()
}

/// Writes a size into a header block and makes its checksum right.
fn set_size(block: &mut [u8], size: u64) {
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block[..512].iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Keeps nothing: what a bomb unpacks to must not need memory.
struct Nowhere;

impl rebuild::source::Spool for Nowhere {
    fn create(&self) -> std::io::Result<Box<dyn rebuild::source::SpoolFile>> {
        Ok(Box::new(NowhereFile))
    }
}

struct NowhereFile;

impl Write for NowhereFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl rebuild::source::SpoolFile for NowhereFile {
    fn seal(self: Box<Self>) -> std::io::Result<std::sync::Arc<dyn rebuild::source::RandomAccess>> {
        Ok(std::sync::Arc::new(Vec::new()))
    }
}

#[test]
fn bombs_stop_at_a_limit() {
    let bomb = build::around(&zeros(256 << 20));
    assert!(bomb.len() < 1 << 20);
    let limits = PackageLimits::default();
    let error = Package::read(&bomb[..], &Nowhere, &limits).unwrap_err();
    assert!(error.is_limit(), "{error}");
    assert!(error.to_string().contains("for each compressed byte"), "{error}");
    let small = GzipLimits { uncompressed_bytes_max: 1 << 20, ..limits.gzip };
    let error = Package::read(&bomb[..], &Nowhere, &PackageLimits { gzip: small, ..limits });
    assert!(error.unwrap_err().is_limit());
    let short = GzipLimits { compressed_bytes_max: 1000, ..limits.gzip };
    let error = Package::read(&bomb[..], &Nowhere, &PackageLimits { gzip: short, ..limits });
    assert!(error.unwrap_err().is_limit());
    let nested = build::around(&build::gzip(&build::tar(&[build::file("inner.gz", &bomb)])));
    assert!(memory(&nested).is_ok(), "what is inside a file is not unpacked");
}

#[test]
fn more_control_data_than_fits() {
    let data = build::gzip(&build::tar(&[]));
    let big = build::file(".post-install", &vec![7; 20 << 20]);
    let apk = [build::gzip(&build::segment(&[big])), data].concat();
    let error = refused(&apk);
    assert!(error.is_limit(), "{error}");
}

#[test]
fn sizes_that_lie() {
    for size in [1, 511, 512, 1 << 20, (1 << 33) - 1] {
        let mut archive = build::tar(&[build::file("a", b"")]);
        let at = archive.len() - 1024 - 512;
        set_size(&mut archive[at..at + 512], size);
        let error = refused(&build::around(&build::gzip(&archive)));
        let found = match &error.problem {
            PackageProblem::Tar { .. } => size > 512,
            // So little is there: the zeros of the archive's end.
            PackageProblem::Checksum { .. } => size <= 512,
            _ => false,
        };
        assert!(found, "{size}: {error}");
    }
}

#[test]
fn thousands_of_members_and_entries() {
    let mut many = build::gzip(&build::tar(&[build::file("a", b"")]));
    for _ in 0..5000 {
        many.extend(build::gzip(b""));
    }
    assert!(refused(&build::around(&many)).is_limit());
    let few = [&build::gzip(&build::tar(&[build::file("a", b"")]))[..], &build::gzip(&[0; 512])];
    assert!(memory(&build::around(&few.concat())).is_ok(), "two members are one stream");
    let entries: Vec<_> = (0..2000).map(|n| build::directory(&format!("d{n}"))).collect();
    let limits = PackageLimits {
        data: TarLimits { entries_max: 1999, ..TarLimits::default() },
        ..PackageLimits::default()
    };
    let apk = build::package(&entries);
    assert_eq!(memory(&apk).unwrap().entries.len(), 2000);
    assert!(with_limits(&apk, &limits).unwrap_err().is_limit());
    let mut signed = Vec::new();
    for n in 0..2000 {
        signed.push(build::file(&format!(".SIGN.RSA256.{n}.rsa.pub"), b"x"));
    }
    let signatures = build::gzip(&build::segment(&signed));
    assert!(refused(&[signatures, apk].concat()).is_limit());
}

#[test]
fn names_and_attributes_without_bound() {
    let deep = "d/".repeat(300);
    assert!(refused(&build::package(&[build::directory(&deep)])).is_limit());
    let long = "n".repeat(5000);
    assert!(refused(&build::package(&[build::file(&long, b"")])).is_limit());
    let mut attributes = build::file("a", b"");
    attributes.0.pax.insert(b"SCHILY.xattr.user.x".to_vec(), vec![b'x'; 200 << 10]);
    assert!(refused(&build::package(&[attributes])).is_limit());
    // A gigabyte of attributes, a little in each entry.
    let entry = |n: u32| {
        let mut entry = build::file(&format!("f{n}"), b"");
        entry.0.pax.insert(b"SCHILY.xattr.user.x".to_vec(), vec![b'x'; 100 << 10]);
        entry
    };
    let many: Vec<_> = (0..800).map(entry).collect();
    let error = refused(&build::package(&many));
    assert!(error.is_limit() && error.to_string().contains("names and PAX headers"), "{error}");
}

#[test]
fn names_are_kept_as_they_are() {
    let odd = ["../../etc/passwd", "/etc/shadow", "a//b", "./c", "a", "a", "\u{fc}"];
    let entries: Vec<_> = odd.iter().map(|name| build::file(name, b"x")).collect();
    let package = memory(&build::package(&entries)).unwrap();
    let names: Vec<_> = package.entries.iter().map(|entry| &entry.header.name[..]).collect();
    let expected: Vec<_> = odd.iter().map(|name| name.as_bytes()).collect();
    assert_eq!(names, expected, "nothing is unpacked: whoever installs decides");
}

#[test]
fn an_error_names_package_and_entry() {
    let mut archive = build::tar(&[build::file("usr/lib/\u{1b}[31mx", b"content")]);
    let at = archive.len() - 1024 - 1;
    archive[at] = 1;
    let error = refused(&build::around(&build::gzip(&archive)));
    let text = error.to_string();
    assert!(text.starts_with("package made-1-r0: data member: tar entry"), "{text}");
    assert!(matches!(
        error.problem,
        PackageProblem::Tar { error, .. } if matches!(error.problem, TarProblem::Padding)
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(memory(&bytes).is_err());
        let archive = build::gzip(&bytes);
        prop_assert!(memory(&archive).is_err());
        let _ = memory(&build::around(&archive));
        let control = build::gzip(&build::segment(&[build::file(".PKGINFO", &bytes)]));
        let _ = memory(&[control, archive].concat());
    }

    #[test]
    fn archives_with_some_bytes_changed(
        changes in proptest::collection::vec((0usize..8192, any::<u8>()), 1..6),
        fix in any::<bool>(),
    ) {
        let mut long = build::file(&"long/".repeat(40), b"");
        long.0.name.pop();
        let mut archive = build::tar(&[
            build::directory("usr"),
            build::file("usr/a", b"content"),
            build::symlink("usr/b", "a"),
            long,
        ]);
        let length = archive.len();
        for (at, value) in changes {
            archive[at % length] = value;
        }
        if fix {
            let headers = archive.chunks_exact_mut(512).filter(|b| &b[257..262] == b"ustar");
            for block in headers {
                let size = std::str::from_utf8(&block[124..135]).ok();
                let size = size.and_then(|size| u64::from_str_radix(size, 8).ok()).unwrap_or(0);
                set_size(block, size);
            }
        }
        let _ = memory(&build::around(&build::gzip(&archive)));
    }
}
