//! Hostile and merely unusual blobs: what is clean, what is not, what is refused.

mod compare_images;

use attest::{Digest, GapCode, Level};
use compare_images::{
    GZIP, TAR, ZSTD, config, file, gzip, image, of_blobs, run, tar, uncompressed,
};
use rebuild::compare::{
    CompareError, Compression, LayerHygiene, Limits, Options, Side, UncleanCode, compare,
    inspect_layer,
};
use std::io::Write;

fn inspect(blob: &[u8], media_type: &str, tar: &[u8]) -> LayerHygiene {
    let limits = Limits::default();
    let size = blob.len() as u64;
    inspect_layer(&mut &blob[..], media_type, size, &Digest::of(tar), &limits).unwrap()
}

fn codes(hygiene: &LayerHygiene) -> Vec<UncleanCode> {
    assert_eq!(hygiene.clean, hygiene.why.is_empty());
    hygiene.why.iter().map(|unclean| unclean.code).collect()
}

fn sample() -> Vec<u8> {
    tar(&[file("a", b"some content"), file("b", &[7; 3000])])
}

/// A gzip member with these flags and what stands between header and body.
fn member(flags: u8, extra: &[u8], tar: &[u8]) -> Vec<u8> {
    let mut blob = gzip(tar);
    blob[3] = flags;
    blob.splice(10..10, extra.iter().copied());
    blob
}

#[test]
fn a_clean_layer_of_each_compression() {
    let tar = sample();
    let hygiene = inspect(&gzip(&tar), GZIP, &tar);
    assert_eq!(codes(&hygiene), []);
    assert_eq!(hygiene.compression, Compression::Gzip);
    assert_eq!(hygiene.uncompressed_size, tar.len() as u64);
    assert_eq!(hygiene.diff_id, Digest::of(&tar));
    assert_eq!(hygiene.gzip.unwrap().os, 255);
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    let hygiene = inspect(&zstd, ZSTD, &tar);
    assert_eq!((codes(&hygiene), hygiene.compression), (vec![], Compression::Zstd));
    let hygiene = inspect(&tar, TAR, &tar);
    assert_eq!((codes(&hygiene), hygiene.compression), (vec![], Compression::None));
}

#[test]
fn free_fields_of_the_gzip_header_are_listed_only() {
    let tar = sample();
    let mut blob = gzip(&tar);
    blob[3] = 1; // FTEXT
    blob[4..8].copy_from_slice(&0x886e0900u32.to_le_bytes());
    (blob[8], blob[9]) = (2, 3);
    let hygiene = inspect(&blob, GZIP, &tar);
    assert_eq!(codes(&hygiene), []);
    let header = hygiene.gzip.unwrap();
    assert_eq!((header.flags, header.mtime, header.extra_flags, header.os), (1, 0x886e0900, 2, 3));
}

#[test]
fn gzip_that_holds_more_than_its_tar() {
    use UncleanCode as U;
    let tar = sample();
    let clean = gzip(&tar);
    let two = [gzip(&tar[..1000]), gzip(&tar[1000..])].concat();
    let three = [gzip(&tar[..100]), gzip(&tar[100..1000]), gzip(&tar[1000..])].concat();
    let empty_member = [clean.clone(), gzip(b"")].concat();
    let cases: Vec<(Vec<u8>, Vec<UncleanCode>)> = vec![
        (member(4, b"\x03\0abc", &tar), vec![U::ExtraField]),
        (member(8, b"layer.tar\0", &tar), vec![U::FileName]),
        (member(16, b"hidden\0", &tar), vec![U::Comment]),
        (member(2, b"\0\0", &tar), vec![U::HeaderChecksum]),
        (member(0x40, b"", &tar), vec![U::ReservedFlags]),
        (member(0x1e, b"\0\0n\0c\0\0\0", &tar), {
            vec![U::ExtraField, U::FileName, U::Comment, U::HeaderChecksum]
        }),
        ([clean.clone(), b"x".to_vec()].concat(), vec![U::TrailingBytes]),
        ([clean.clone(), vec![0; 4096]].concat(), vec![U::TrailingBytes]),
        (two, vec![U::SeveralMembers]),
        (three, vec![U::SeveralMembers]),
        (empty_member, vec![U::SeveralMembers]),
        ([clean.clone(), vec![0x1f, 0x8b]].concat(), vec![U::SeveralMembers, U::Truncated]),
    ];
    for (blob, expected) in cases {
        let hygiene = inspect(&blob, GZIP, &tar);
        assert_eq!(codes(&hygiene), expected, "{:?}", hygiene.why);
        assert_eq!(hygiene.diff_id, Digest::of(&tar));
        // The configuration is equal, and still it is not level `config`.
        let published = of_blobs(&config(&[&tar]), vec![(GZIP, blob)]);
        let found = run(&published, &image(&[&tar]));
        assert_eq!(found.level, Level::None);
        assert!(found.explanation.differences > 0);
    }
}

#[test]
fn broken_gzip() {
    use UncleanCode as U;
    let tar = sample();
    let clean = gzip(&tar);
    let length = clean.len();
    let mut wrong_crc = clean.clone();
    wrong_crc[length - 8] ^= 1;
    let mut wrong_size = clean.clone();
    wrong_size[length - 1] ^= 1;
    let mut method = clean.clone();
    method[2] = 7;
    assert_eq!(codes(&inspect(&wrong_crc, GZIP, &tar)), [U::WrongChecksum]);
    assert_eq!(codes(&inspect(&wrong_size, GZIP, &tar)), [U::WrongSize]);
    assert_eq!(codes(&inspect(&method, GZIP, &tar)), [U::Malformed, U::WrongDiffId]);
    assert_eq!(codes(&inspect(&clean[..length - 1], GZIP, &tar)), [U::Truncated]);
    assert_eq!(codes(&inspect(&clean[..40], GZIP, &tar)), [U::Truncated, U::WrongDiffId]);
    assert_eq!(codes(&inspect(&clean[..5], GZIP, &tar)), [U::Truncated, U::WrongDiffId]);
    // Every truncation, and never a panic, an error or a clean layer.
    for cut in 0..length {
        let blob = &clean[..cut];
        assert!(!inspect(blob, GZIP, &tar).clean, "{cut}");
        let published = of_blobs(&config(&[&tar]), vec![(GZIP, blob.to_vec())]);
        let found = run(&published, &image(&[&tar]));
        assert_eq!(found.level, Level::None, "{cut}");
    }
}

/// A single bit of a compressed layer: the header's free fields may change, and a body that still
/// unpacks to the same tar is as good as another encoder's. Nothing else stays clean.
#[test]
fn every_bit_of_a_gzip_blob() {
    let tar = sample();
    let clean = gzip(&tar);
    let trailer = clean.len() - 8;
    for bit in 0..clean.len() * 8 {
        let mut blob = clean.clone();
        blob[bit / 8] ^= 1 << (bit % 8);
        let hygiene = inspect(&blob, GZIP, &tar);
        let free = bit == 3 * 8 || (4..10).contains(&(bit / 8));
        let same = hygiene.clean && hygiene.diff_id == Digest::of(&tar);
        assert_eq!(hygiene.clean, same, "{bit}");
        if bit / 8 < 10 || bit / 8 >= trailer {
            assert_eq!(same, free, "{bit}");
        }
    }
}

#[test]
fn zstd_that_holds_more_than_its_tar() {
    use UncleanCode as U;
    let tar = sample();
    let clean = zstd::encode_all(&tar[..], 3).unwrap();
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let halves = [&tar[..1000], &tar[1000..]].map(|t| zstd::encode_all(t, 3).unwrap()).concat();
    let mut checked = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    checked.include_checksum(true).unwrap();
    checked.write_all(&tar).unwrap();
    let checked = checked.finish().unwrap();
    let mut wrong = checked.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let cases: Vec<(Vec<u8>, Vec<UncleanCode>)> = vec![
        (checked, vec![]),
        (wrong, vec![U::Malformed, U::WrongDiffId]),
        ([clean.clone(), skippable.clone()].concat(), vec![U::SkippableFrame]),
        ([skippable.clone(), clean.clone()].concat(), vec![U::SkippableFrame]),
        (halves, vec![U::SeveralMembers]),
        ([clean.clone(), b"tail".to_vec()].concat(), vec![U::TrailingBytes]),
        ([clean.clone(), skippable[..6].to_vec()].concat(), vec![U::Truncated]),
        ([clean.clone(), skippable[..9].to_vec()].concat(), vec![U::SkippableFrame, U::Truncated]),
        (skippable.clone(), vec![U::SkippableFrame, U::Truncated, U::WrongDiffId]),
    ];
    for (blob, expected) in cases {
        let hygiene = inspect(&blob, ZSTD, &tar);
        assert_eq!(codes(&hygiene), expected, "{:?}", hygiene.why);
        let published = of_blobs(&config(&[&tar]), vec![(ZSTD, blob)]);
        let level = if expected.is_empty() { Level::Config } else { Level::None };
        assert_eq!(run(&published, &image(&[&tar])).level, level);
    }
    for cut in 0..clean.len() {
        assert!(!inspect(&clean[..cut], ZSTD, &tar).clean, "{cut}");
    }
}

#[test]
fn a_dictionary_is_not_clean() {
    let tar = sample();
    for id in [0u8, 7] {
        let mut blob = zstd::encode_all(&tar[..], 3).unwrap();
        assert_eq!(blob[4] & 0b0010_0011, 0, "no single segment and no dictionary so far");
        blob[4] |= 1;
        blob.insert(6, id);
        let found = codes(&inspect(&blob, ZSTD, &tar));
        assert_eq!(found[0], UncleanCode::Dictionary);
        // An identity of 0 means none, so the data can be read; the field is there all the same.
        assert_eq!(found.len(), if id == 0 { 1 } else { 3 }, "{found:?}");
    }
}

#[test]
fn media_types_that_lie() {
    let tar = sample();
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let cases: Vec<(&str, Vec<u8>, Level)> = vec![
        (GZIP, gzip(&tar), Level::Config),
        (TAR, tar.clone(), Level::Config),
        (ZSTD, zstd.clone(), Level::Config),
        (GZIP, zstd, Level::None),
        (ZSTD, gzip(&tar), Level::None),
        (TAR, gzip(&tar), Level::None),
        (GZIP, tar.clone(), Level::None),
        ("application/octet-stream", gzip(&tar), Level::None),
        ("application/vnd.oci.image.layer.v1.tar+gzip ", gzip(&tar), Level::None),
        ("application/vnd.oci.image.layer.v1.tar.gzip", gzip(&tar), Level::None),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", gzip(&tar), Level::Rootfs),
        (foreign, gzip(&tar), Level::Rootfs),
    ];
    for (media_type, blob, level) in cases {
        let published = of_blobs(&config(&[&tar]), vec![(media_type, blob)]);
        // Not the very same bytes as ours, so that hygiene is asked.
        let ours = uncompressed(&image(&[&tar, &tar[..0]][..1]));
        let mut ours = ours;
        if media_type == TAR {
            ours = image(&[&tar]);
        }
        assert_eq!(run(&published, &ours).level, level, "{media_type}");
    }
}

#[test]
fn sizes_and_digests_that_lie() {
    let tar = sample();
    let honest = image(&[&tar]);
    let ours = uncompressed(&honest);
    let lies = compare_images::with_manifest(&honest, |m| m["layers"][0]["size"] = 1.into());
    let found = run(&lies, &ours);
    assert_eq!(found.level, Level::None);
    assert_eq!(found.hygiene[0].why[0].code, UncleanCode::WrongBlobSize);
    let lies = compare_images::with_manifest(&honest, |m| m["config"]["size"] = 1.into());
    let found = run(&lies, &ours);
    assert_eq!((found.level, found.explanation.differences), (Level::None, 1));
    // Bytes that are not what the manifest names are nobody's lie: the caller has the wrong ones.
    let mut wrong = honest.clone();
    wrong.layers[0].push(0);
    let error = compare(&wrong, &ours, &Options::default()).unwrap_err();
    assert!(matches!(error, CompareError::WrongBytes { side: Side::Published, .. }), "{error}");
    let mut wrong = honest.clone();
    wrong.config.push(b' ');
    let error = compare(&wrong, &ours, &Options::default()).unwrap_err();
    assert!(matches!(error, CompareError::WrongBytes { side: Side::Published, .. }), "{error}");
    assert_eq!(error.gap(), None);
    let mut wrong = ours.clone();
    wrong.config.push(b' ');
    let error = compare(&honest, &wrong, &Options::default()).unwrap_err();
    assert!(matches!(error, CompareError::WrongBytes { side: Side::Rebuilt, .. }), "{error}");
    let mut missing = honest.clone();
    missing.layers.clear();
    let error = compare(&missing, &ours, &Options::default()).unwrap_err();
    assert!(matches!(error, CompareError::Read { side: Side::Published, .. }), "{error}");
}

#[test]
fn a_diff_id_that_lies() {
    let (tar, other) = (sample(), tar(&[file("b", b"other")]));
    // The configuration says what ours says; the blob holds something else.
    let published = of_blobs(&config(&[&tar]), vec![(GZIP, gzip(&other))]);
    let found = run(&published, &image(&[&tar]));
    assert_eq!(found.level, Level::None);
    assert_eq!(found.hygiene[0].why[0].code, UncleanCode::WrongDiffId);
    assert_eq!(found.published.layers[0].diff_id, Some(Digest::of(&other)));
    // Ours says something else than what it is: our defect, not theirs.
    let ours = of_blobs(&config(&[&tar]), vec![(GZIP, gzip(&other))]);
    let error = compare(&image(&[&sample()[..512]]), &ours, &Options::default()).unwrap_err();
    assert!(matches!(error, CompareError::WrongBytes { side: Side::Rebuilt, .. }), "{error}");
}

/// Every limit gives the gap `limit`, never a divergence.
#[test]
fn limits_are_gaps() {
    let tar = tar(&[file("a", &vec![0; 2_000_000]), file("b", &[1; 2000])]);
    let other = sample();
    let zstd = of_blobs(&config(&[&tar]), vec![(ZSTD, zstd::encode_all(&tar[..], 3).unwrap())]);
    let gzipped = image(&[&tar]);
    let ours = image(&[&other]);
    let limits = Limits::default();
    let cases: Vec<(&str, Limits)> = vec![
        ("document", Limits { document_bytes_max: 10, ..limits }),
        ("layers", Limits { layers_max: 0, ..limits }),
        ("blob", Limits { blob_bytes_max: 50, ..limits }),
        ("image", Limits { image_bytes_max: 1_000_000, ..limits }),
        ("ratio", Limits { ratio_max: 20, ratio_from_bytes: 1_000_000, ..limits }),
        ("entries", Limits { entries_max: 1, ..limits }),
        ("metadata", Limits { metadata_bytes_max: 1, ..limits }),
    ];
    for (name, limits) in cases {
        for published in [&zstd, &gzipped] {
            let options = Options { limits, searched: vec![] };
            let error = compare(published, &ours, &options).unwrap_err();
            assert!(matches!(error, CompareError::Limit { .. }), "{name}: {error}");
            assert_eq!(error.gap().unwrap().code, GapCode::Limit, "{name}");
            assert!(error.hint().is_some());
        }
    }
    let options =
        Options { limits: Limits { zstd_window_bytes_max: 1024, ..limits }, ..Options::default() };
    let error = compare(&zstd, &ours, &options).unwrap_err();
    assert!(error.to_string().contains("window"), "{error}");
}

/// 64 layers of zeros: the limit is of all layers together.
#[test]
fn many_layers_share_one_limit() {
    let tar = vec![0; 1 << 20];
    let blob = zstd::encode_all(&tar[..], 3).unwrap();
    let tars: Vec<&[u8]> = (0..64).map(|_| tar.as_slice()).collect();
    let bomb = of_blobs(&config(&tars), (0..64).map(|_| (ZSTD, blob.clone())).collect());
    let limits = Limits { image_bytes_max: 32 << 20, ..Limits::default() };
    let options = Options { limits, searched: vec![] };
    let error = compare(&bomb, &image(&[&sample()]), &options).unwrap_err();
    assert!(matches!(error, CompareError::Limit { .. }), "{error}");
}
