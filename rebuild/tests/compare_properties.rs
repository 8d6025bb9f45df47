//! Properties that hold for any image: equality, symmetry, completeness, no panic.

mod compare_images;

use attest::{Digest, Level};
use compare_images::{File, GZIP, config, file, gzip, image, of_blobs, run, tar, uncompressed};
use proptest::prelude::*;
use rebuild::compare::{CompareError, Limits, MemoryImage, Options, compare, inspect_layer};

/// Small trees with names that collide often.
#[derive(Debug, Clone)]
struct Made {
    name: String,
    kind: u8,
    mode: u32,
    uid: u32,
    mtime: u32,
    link: String,
    data: Vec<u8>,
}

fn made() -> impl Strategy<Value = Made> {
    let name = prop::sample::select(vec!["a", "b", "a/b", "a/c", "d", ".wh.a", "d/.wh..wh..opq"]);
    let kind = prop::sample::select(vec![b'0', b'0', b'0', b'1', b'2', b'5']);
    let mode = prop::sample::select(vec![0o644u32, 0o755, 0o4755]);
    let link = prop::sample::select(vec!["a", "b", "d"]);
    let data = prop::collection::vec(any::<u8>(), 0..40);
    (name, kind, mode, 0u32..2, 0u32..2, link, data).prop_map(
        |(name, kind, mode, uid, mtime, link, data)| Made {
            name: name.into(),
            kind,
            mode,
            uid,
            mtime,
            link: if matches!(kind, b'1' | b'2') { link.into() } else { String::new() },
            data: if kind == b'0' { data } else { Vec::new() },
        },
    )
}

fn tar_of(files: &[Made]) -> Vec<u8> {
    let files: Vec<File<'_>> = files
        .iter()
        .map(|m| File {
            kind: m.kind,
            mode: m.mode,
            uid: m.uid,
            mtime: m.mtime,
            link: &m.link,
            ..file(&m.name, &m.data)
        })
        .collect();
    tar(&files)
}

fn layers() -> impl Strategy<Value = Vec<Vec<Made>>> {
    prop::collection::vec(prop::collection::vec(made(), 0..6), 1..4)
}

fn image_of(layers: &[Vec<Made>]) -> MemoryImage {
    let tars: Vec<Vec<u8>> = layers.iter().map(|layer| tar_of(layer)).collect();
    image(&tars.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn an_image_equals_itself(layers in layers()) {
        let image = image_of(&layers);
        let same = run(&image, &image);
        prop_assert_eq!(same.level, Level::Manifest);
        prop_assert_eq!(same.explanation.differences, 0);
        let bare = run(&image, &uncompressed(&image));
        prop_assert_eq!(bare.level, Level::Config);
        prop_assert!(bare.hygiene.iter().all(|layer| layer.clean));
    }

    /// The level does not depend on the direction, nor the explanation on compression; whatever
    /// differs is explained.
    #[test]
    fn two_images(a in layers(), b in layers()) {
        let (x, y) = (image_of(&a), image_of(&b));
        let (found, back) = (run(&x, &y), run(&y, &x));
        prop_assert_eq!(found.level, back.level);
        if x.manifest == y.manifest {
            prop_assert_eq!(found.level, Level::Manifest);
            return Ok(());
        }
        prop_assert!(found.level < Level::Config);
        prop_assert!(found.explanation.differences > 0);
        prop_assert!(found.explanation.kinds.keys().all(|k| k.as_str() != "manifest.digest"));
        let bare = run(&x, &uncompressed(&y));
        let bytes = bare.explanation.to_bytes().unwrap();
        prop_assert_eq!(bytes, found.explanation.to_bytes().unwrap());
        let _ = rebuild::compare::render_text(&found.explanation);
    }

    /// Only a time differs: nothing that a container could do differs, and nothing is odd about
    /// one side only. The tree is the same wherever one can be told at all.
    #[test]
    fn times_only(files in prop::collection::vec(made(), 1..6), seed in any::<u32>()) {
        let mut names = std::collections::BTreeSet::new();
        let files: Vec<Made> = files.into_iter().filter(|f| names.insert(f.name.clone())).collect();
        // No hard link that may lead nowhere, no whiteout, nothing that is not below a folder.
        let plain = files.iter().all(|f| f.kind != b'1' && !f.name.contains(['.', '/']));
        let mut later = files.clone();
        let place = seed as usize % later.len();
        later[place].mtime += 7;
        let (a, b) = (image_of(&[later]), image_of(&[files]));
        let found = run(&a, &b);
        let odd = found.explanation.kinds.keys().any(|k| k.as_str() == "tar.unusual");
        prop_assert!(!odd);
        if plain {
            prop_assert_eq!(found.level, Level::Rootfs);
        }
        prop_assert!(found.explanation.security.is_empty(), "{:?}", found.explanation.security);
    }

    /// Any bytes for a layer, under any media type: an answer, and never a better one than ours.
    #[test]
    fn any_blob(blob in prop::collection::vec(any::<u8>(), 0..3000), prefix in 0usize..6) {
        let magic: &[&[u8]] = &[
            b"", b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x28\xb5\x2f\xfd",
            b"\x50\x2a\x4d\x18\x02\0\0\0ab",
            b"\x1f\x8b\x08\x1e\0\0\0\0\0\xff", b"\x1f\x8b",
        ];
        let blob = [magic[prefix], &blob].concat();
        let tar = tar(&[file("a", b"x")]);
        let published = of_blobs(&config(&[&tar]), vec![(GZIP, blob.clone())]);
        match compare(&published, &image(&[&tar]), &Options::default()) {
            Ok(found) => prop_assert_eq!(found.level, Level::None),
            Err(error) => prop_assert!(matches!(error, CompareError::Limit { .. }), "{}", error),
        }
        let size = blob.len() as u64;
        let limits = Limits::default();
        let judged = inspect_layer(&mut blob.as_slice(), GZIP, size, &Digest::of(&tar), &limits);
        prop_assert!(judged.is_err() || !judged.unwrap().clean);
    }

    /// Any bytes for a manifest or a configuration.
    #[test]
    fn any_document(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<u16>()) {
        let tar = tar(&[file("a", b"x")]);
        let honest = image(&[&tar]);
        let mut manifest = honest.manifest.clone();
        let at = at as usize % manifest.len();
        manifest.splice(at..(at + bytes.len()).min(honest.manifest.len()), bytes.iter().copied());
        for manifest in [manifest, bytes] {
            let same = manifest == honest.manifest;
            let published = MemoryImage { manifest, ..honest.clone() };
            match compare(&published, &honest, &Options::default()) {
                Ok(found) if same => prop_assert_eq!(found.level, Level::Manifest),
                Ok(found) => prop_assert!(found.level <= Level::Config),
                Err(error) => prop_assert!(!matches!(error, CompareError::Rebuilt(_)), "{}", error),
            }
        }
    }
}

/// Every single byte of an uncompressed tar, with every kind of header in it: always found, always
/// explained, never `config` or better, and `rootfs` only where nothing but times and the dialect
/// can have changed.
#[test]
fn every_byte_of_a_tar() {
    let files = [
        File { kind: b'5', mode: 0o755, ..file("etc/", b"") },
        file("etc/conf", b"content"),
        File { pax: &[("mtime", "12.5"), ("SCHILY.xattr.user.x", "v")], ..file("p", b"x") },
        File { kind: b'2', link: "etc/conf", ..file("link", b"") },
        File { kind: b'1', link: "etc/conf", ..file("hard", b"") },
    ];
    let good = tar(&files);
    let ours = image(&[&good]);
    let bare = uncompressed(&ours);
    let mut rootfs = Vec::new();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= if at % 2 == 0 { 1 } else { 0x80 };
        let published = image(&[&bytes]);
        let found = run(&published, &bare);
        assert!(found.level < Level::Config, "{at}");
        assert!(found.explanation.differences > 0, "{at}");
        if found.level == Level::Rootfs {
            rootfs.push(at);
        }
        // The configuration of ours with the altered layer: a lie, and found as one.
        if at % 5 == 0 {
            let lying = of_blobs(&config(&[&good]), vec![(GZIP, gzip(&bytes))]);
            assert_eq!(run(&lying, &ours).level, Level::None, "{at}");
        }
    }
    // Headers are guarded by their checksums, so what is left is the PAX record of the time.
    assert!(rootfs.iter().all(|at| (2048..2048 + 16).contains(at)), "{rootfs:?}");
    assert!(!rootfs.is_empty(), "{rootfs:?}");
}

/// The same with the checksum of the header made right again, as a forger would.
#[test]
fn every_byte_of_a_header_with_its_checksum() {
    let files = [File { mode: 0o755, ..file("usr/bin/x", b"content") }, file("y", b"")];
    let good = tar(&files);
    let bare = uncompressed(&image(&[&good]));
    let mut odd = Vec::new();
    for at in (0..512).filter(|at| !(148..156).contains(at)) {
        for mask in [1u8, 2, 4, 0x20, 0x40, 0x80] {
            let mut bytes = good.clone();
            bytes[at] ^= mask;
            compare_images::checksum(&mut bytes[..512]);
            let found = run(&image(&[&bytes]), &bare);
            assert!(found.level < Level::Config, "{at}");
            assert!(found.explanation.differences > 0, "{at}");
            // File type bits in the mode, time, dialect, names of owners, unused device numbers,
            // and the ends of numbers, where a blank is as good as a NUL.
            let allowed = [100..103, 107..108, 115..116, 123..124, 135..148, 257..345];
            if found.level == Level::Rootfs && !allowed.iter().any(|range| range.contains(&at)) {
                odd.push((at, mask));
            }
        }
    }
    assert_eq!(odd, []);
}
