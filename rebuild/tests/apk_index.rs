//! Indexes: whose signature counts, what the records say, and what is refused.
//!
//! Invariant: a record is only seen behind a signature by a trusted key over exactly its bytes.

mod apk_support;

use apk_support::{build, fixtures, ring};
use proptest::prelude::*;
use rebuild::apk::{
    index::{Index, IndexError, IndexLimits, Words},
    key::{KeyError, KeyRing, PublicKey, keys_from_jwks},
};

fn signed() -> Vec<u8> {
    std::fs::read(fixtures::published().join("os/x86_64/APKINDEX.tar.gz")).unwrap()
}

fn read(file: &[u8]) -> Result<Index, IndexError> {
    Index::read(file, &ring(), &IndexLimits::default()).map(|(index, _)| index)
}

fn unsigned(text: &[u8]) -> Result<Index, IndexError> {
    let file = build::gzip(&build::tar(&[
        build::file("DESCRIPTION", b"d"),
        build::file("APKINDEX", text),
    ]));
    Index::read_without_signature(&file, &IndexLimits::default())
}

/// The signature member and the rest.
fn split(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut decoder = flate2::bufread::GzDecoder::new(file);
    std::io::copy(&mut decoder, &mut std::io::sink()).unwrap();
    let rest = decoder.into_inner().to_vec();
    (file[..file.len() - rest.len()].to_vec(), rest)
}

#[test]
fn discovered_keys_are_the_files_in_the_images() {
    let set = std::fs::read(fixtures::published().join("jwks.json")).unwrap();
    let keys = keys_from_jwks(&set).unwrap();
    let file = std::fs::read(fixtures::published().join("assay-test-6a1f.rsa.pub")).unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!((keys[0].name(), keys[0].file()), ("assay-test-6a1f.rsa.pub", &file[..]));
    let mut ring = KeyRing::new();
    ring.add(keys[0].clone()).unwrap();
    let (index, signer) = Index::read(&signed(), &ring, &IndexLimits::default()).unwrap();
    assert_eq!((index.entries.len(), signer.key.as_str()), (13, "assay-test-6a1f.rsa.pub"));
}

#[test]
fn nothing_unsigned_gets_through() {
    let whole = signed();
    let (signature, rest) = split(&whole);
    assert!(matches!(read(&rest), Err(IndexError::Unsigned)));
    assert!(Index::read_without_signature(&whole, &IndexLimits::default()).is_ok());
    let record = b"C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:evil\nV:1\n\n";
    let evil = build::gzip(&build::tar(&[build::file("APKINDEX", record)]));
    for (name, file) in [
        ("replaced", vec![signature.clone(), evil.clone()]),
        ("appended", vec![whole.clone(), evil.clone()]),
        ("in front", vec![signature.clone(), evil.clone(), rest.clone()]),
        ("before all", vec![evil, whole.clone()]),
        ("trailing bytes", vec![whole.clone(), vec![0]]),
    ] {
        assert!(read(&file.concat()).is_err(), "{name}");
    }
    let twice = [signature.clone(), whole.clone()].concat();
    assert_eq!(read(&twice).unwrap(), read(&whole).unwrap(), "of two members the second is good");
    let hidden = build::gzip(&build::segment(&[
        build::file(".SIGN.RSA256.x.rsa.pub", b"x"),
        build::file("APKINDEX", record),
    ]));
    assert!(matches!(
        read(&[hidden, rest.clone()].concat()),
        Err(IndexError::UnexpectedEntry { .. })
    ));
    let many = [signature.repeat(9), rest].concat();
    assert!(read(&many).unwrap_err().is_limit());
    let stranger = fixtures::own().join("apko-versions/keys/verstest.rsa.pub");
    let mut other = KeyRing::new();
    other
        .add(PublicKey::from_file("verstest.rsa.pub", &std::fs::read(stranger).unwrap()).unwrap())
        .unwrap();
    let error = Index::read(&whole, &other, &IndexLimits::default()).unwrap_err();
    assert!(matches!(&error, IndexError::Signature(KeyError::NoTrustedKey { .. })));
    assert!(error.hint().is_some());
}

#[test]
fn every_prefix_and_every_flipped_byte() {
    let whole = signed();
    let good = read(&whole).unwrap();
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_err(), "{length}");
    }
    let (signature, _) = split(&whole);
    let mut flipped = whole.clone();
    for at in 0..whole.len() {
        flipped[at] ^= 0x10;
        if let Ok(index) = read(&flipped) {
            assert!(at < signature.len() && index == good, "byte {at}");
        }
        flipped[at] ^= 0x10;
    }
}

#[test]
fn records() {
    let index = unsigned(
        b"C:Q1GBC6r3Yw+xvASi+ESpmbtcgB2xo=\nP:a\nV:1-r0\nA:x86_64\nS:983\nI:13\nT:text\xff\n\
          o:src\nt:1767225600\nD:b c>=1\np:so:x=1 cmd:y\ni:d e=1\nr:f\nk:10\nF:unknown\n\n\
          P:b\r\nV:2\r\n\r\n\n\nV:3\nX:y\n\nP:cutoff\nV:1\n",
    )
    .unwrap();
    assert_eq!(index.description, "d");
    let names: Vec<_> = index.entries.iter().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["a-1-r0.apk", "b-2.apk"], "no name: no record; no empty line: no record");
    let a = &index.entries[0];
    assert_eq!(a.control_sha1.unwrap()[..3], [0x18, 0x10, 0xba]);
    assert_eq!((a.size, a.installed_size, a.provider_priority), (983, 13, 10));
    assert_eq!(
        (a.build_date, a.arch.as_str(), a.origin.as_str()),
        (1_767_225_600, "x86_64", "src")
    );
    assert_eq!(a.depends, Words::new("b c>=1"));
    assert_eq!(a.provides, Words::new("so:x=1 cmd:y"));
    assert_eq!((&a.install_if, &a.replaces), (&Words::new("d e=1"), &Words::new("f")));
    assert_eq!(index.entries[1].control_sha1, None);
}

#[test]
fn refused() {
    for text in [
        &b"P\n"[..],
        b"name\n",
        b"P:a\nP:b\n\n",
        b"P:../a\n\n",
        b"V:1/2\n",
        b"V:no name\n",
        b"S:-1\n",
        b"S:1e3\n",
        b"S:+1\n",
        b"S:99999999999999999999\n",
        b"C:Q1!!!!\n",
        b"C:Q1AAAA\n",
        b"D:\xff\n",
        b"p:a\x1b\n",
        b"\xff:a\n",
    ] {
        let error = unsigned(text).unwrap_err();
        assert!(matches!(error, IndexError::Line { line: 1 | 2, .. }), "{error}");
    }
    let long = [b"D:", &vec![b'x'; 2 << 20][..], b"\n"].concat();
    assert!(unsigned(&long).unwrap_err().is_limit());
    let limits = IndexLimits { records_max: 2, ..IndexLimits::default() };
    let file =
        |n: usize| build::gzip(&build::tar(&[build::file("APKINDEX", &b"P:a\nV:1\n\n".repeat(n))]));
    assert_eq!(Index::read_without_signature(&file(2), &limits).unwrap().entries.len(), 2);
    assert!(Index::read_without_signature(&file(3), &limits).unwrap_err().is_limit());
    let bomb = build::gzip(&build::tar(&[build::file("APKINDEX", &vec![b'\n'; 64 << 20])]));
    assert!(Index::read_without_signature(&bomb, &IndexLimits::default()).unwrap_err().is_limit());
    for entries in [
        vec![],
        vec![build::file("DESCRIPTION", b"")],
        vec![build::file("APKINDEX", b""), build::file("APKINDEX", b"")],
        vec![build::file("APKINDEX", b""), build::file("other", b"")],
    ] {
        let file = build::gzip(&build::tar(&entries));
        assert!(Index::read_without_signature(&file, &IndexLimits::default()).is_err());
    }
}

proptest! {
    #[test]
    fn any_text_ends(
        text in "([PVACSIktDpirX]:[a-z0-9 =.<>~@-]{0,20}\r?\n|\n|\\PC{0,5}\n?){0,20}",
    ) {
        if let Ok(index) = unsigned(text.as_bytes()) {
            prop_assert!(index.entries.iter().all(|entry| !entry.name.is_empty()));
        }
    }

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(read(&bytes).is_err());
        let _ = unsigned(&bytes);
        let _ = Index::read_without_signature(&build::gzip(&bytes), &IndexLimits::default());
    }
}
