//! Level `rootfs` and what is below it: which differences between tars keep the tree the same,
//! which do not, and which are too odd to say.

mod compare_images;

use attest::Level;
use compare_images::{
    File, checksum, directory, entry, file, header, image, kinds, link, run, tar, uncompressed,
};
use rebuild::compare::{Comparison, MemoryImage};

fn base() -> Vec<File<'static>> {
    vec![
        directory("etc/"),
        file("etc/conf", b"a = 1\n"),
        directory("usr/"),
        File { mode: 0o755, ..file("usr/run", b"#!/bin/sh\n") },
        link("usr/link", b'2', "run"),
        File { mode: 0o755, ..link("usr/same", b'1', "usr/run") },
    ]
}

fn against_base(files: &[File<'_>]) -> Comparison {
    both_ways(&image(&[&tar(files)]), &image(&[&tar(&base())]))
}

/// The comparison, after making sure that it comes out alike without compression and that the
/// level does not depend on which image is the published one.
fn both_ways(published: &MemoryImage, rebuilt: &MemoryImage) -> Comparison {
    let found = run(published, rebuilt);
    let bare = run(published, &uncompressed(rebuilt));
    assert_eq!(found.level, bare.level);
    assert_eq!(found.explanation.to_bytes().unwrap(), bare.explanation.to_bytes().unwrap());
    assert_eq!(run(rebuilt, published).level, found.level);
    assert!(found.explanation.differences > 0);
    found
}

fn changed(index: usize, change: impl FnOnce(&mut File<'static>)) -> Comparison {
    let mut files = base();
    change(&mut files[index]);
    against_base(&files)
}

#[test]
fn what_may_differ_at_level_rootfs() {
    let cases: Vec<(&str, Comparison)> = vec![
        ("tar.mtime", changed(1, |f| f.mtime = 2)),
        ("tar.mtime", changed(1, |f| f.pax = &[("mtime", "1.5")])),
        ("tar.format", changed(1, |f| f.pax = &[("mtime", "1")])),
        ("tar.atime", changed(1, |f| f.pax = &[("atime", "5")])),
        ("tar.ctime", changed(1, |f| f.pax = &[("ctime", "5")])),
        ("tar.pax_record", changed(1, |f| f.pax = &[("comment", "x")])),
        ("tar.mode_type_bits", changed(1, |f| f.mode = 0o100644)),
        ("tar.mode", changed(4, |f| f.mode = 0o777)),
        ("tar.header_bytes", changed(0, |f| f.name = "etc")),
        ("tar.header_bytes", changed(1, |f| f.name = "./etc/conf")),
    ];
    for (kind, found) in cases {
        assert_eq!(found.level, Level::Rootfs, "{kind}: {:?}", kinds(&found));
        assert!(kinds(&found).contains(&kind), "{kind}: {:?}", kinds(&found));
        assert!(found.explanation.security.is_empty(), "{:?}", found.explanation.security);
    }
    let mut files = base();
    files.swap(1, 3);
    let found = against_base(&files);
    assert_eq!((found.level, kinds(&found)), (Level::Rootfs, vec!["tar.order"]));
}

#[test]
fn names_of_owners_are_no_part_of_the_tree() {
    let mut block = header(&base()[1]);
    block[265..269].copy_from_slice(b"root");
    checksum(&mut block);
    let mut bytes = tar(&base());
    bytes[512..1024].copy_from_slice(&block);
    let found = both_ways(&image(&[&bytes]), &image(&[&tar(&base())]));
    assert_eq!((found.level, kinds(&found)), (Level::Rootfs, vec!["tar.uname"]));
}

#[test]
fn what_makes_another_tree() {
    let cases: Vec<(&str, bool, Comparison)> = vec![
        ("file.content", false, changed(1, |f| f.data = b"a = 2\n")),
        ("file.content", true, changed(3, |f| f.data = b"#!/bin/rm\n")),
        ("tar.mode", true, changed(1, |f| f.mode = 0o600)),
        ("tar.mode", true, changed(3, |f| f.mode = 0o4755)),
        ("tar.mode", true, changed(0, |f| f.mode = 0o1777)),
        ("tar.uid", true, changed(1, |f| f.uid = 7)),
        ("tar.gid", true, changed(1, |f| f.gid = 7)),
        ("tar.uid", true, changed(1, |f| f.pax = &[("uid", "3000000")])),
        ("tar.linkname", true, changed(4, |f| f.link = "/etc/conf")),
        ("tar.linkname", true, changed(5, |f| f.link = "etc/conf")),
        ("tar.xattr", true, changed(3, |f| f.pax = &[("SCHILY.xattr.user.x", "1")])),
        ("tar.typeflag", true, changed(4, |f| f.kind = b'6')),
        ("tar.hardlink_vs_copy", false, {
            changed(5, |f| (f.kind, f.data, f.mode) = (b'0', b"#!/bin/sh\n", 0o755))
        }),
        ("file.added", true, {
            let mut files = base();
            files.push(File { mode: 0o755, ..file("usr/more", b"\x7fELF") });
            against_base(&files)
        }),
        ("file.removed", true, against_base(&base()[..5])),
        ("file.removed", false, {
            let mut files = base();
            files.remove(1);
            against_base(&files)
        }),
        ("file.removed", true, {
            let mut files = base();
            files.remove(3);
            against_base(&files)
        }),
    ];
    for (kind, security, found) in cases {
        assert_eq!(found.level, Level::None, "{kind}: {:?}", kinds(&found));
        assert!(kinds(&found).contains(&kind), "{kind}: {:?}", kinds(&found));
        let sentences = &found.explanation.security;
        assert_eq!(!sentences.is_empty(), security, "{kind}: {sentences:?}");
    }
}

#[test]
fn devices() {
    let device = |major: &[u8; 7]| {
        let mut bytes = header(&File { kind: b'3', ..file("dev/null", b"") }).to_vec();
        bytes[329..336].copy_from_slice(major);
        bytes[337..344].copy_from_slice(b"0000003");
        checksum(&mut bytes);
        bytes.extend([0; 1024]);
        image(&[&bytes])
    };
    let found = both_ways(&device(b"0000002"), &device(b"0000001"));
    assert_eq!((found.level, kinds(&found)), (Level::None, vec!["tar.devno"]));
    assert_eq!(found.explanation.security, ["dev/null: another device"]);
}

/// Two files that share content, and two names of one file, are not the same.
#[test]
fn hard_links_are_part_of_the_tree() {
    let shared = [file("a", b"x"), link("b", b'1', "a"), file("c", b"x")];
    let other = [file("a", b"x"), file("b", b"x"), link("c", b'1', "a")];
    let found = both_ways(&image(&[&tar(&shared)]), &image(&[&tar(&other)]));
    assert_eq!(found.level, Level::None);
    assert_eq!(kinds(&found), ["tar.hardlink_vs_copy"]);
    // Which of two names is written as the link is a matter of order.
    let one = [file("a", b"x"), link("b", b'1', "a")];
    let two = [file("b", b"x"), link("a", b'1', "b")];
    let found = both_ways(&image(&[&tar(&one)]), &image(&[&tar(&two)]));
    assert_eq!(found.level, Level::Rootfs, "{:?}", kinds(&found));
}

fn layers(tars: &[&[File<'_>]]) -> MemoryImage {
    let tars: Vec<Vec<u8>> = tars.iter().map(|files| tar(files)).collect();
    image(&tars.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

#[test]
fn the_same_tree_in_other_layers() {
    let files = base();
    let flat = layers(&[&files]);
    let same: Vec<MemoryImage> = vec![
        layers(&[&files[..3], &files[3..]]),
        layers(&[&files[..3], &files[3..4], &files[4..]]),
        layers(&[&files, &[]]),
        // Replaced, removed and emptied again.
        layers(&[&[file("etc/conf", b"old")], &files]),
        layers(&[&[file("gone", b"x"), file("etc", b"")], &files, &[file(".wh.gone", b"")]]),
        layers(&[
            &[directory("etc/"), file("etc/old", b"x")],
            &[file("etc/.wh..wh..opq", b"")],
            &files,
        ]),
        layers(&[
            &[directory("usr/"), directory("usr/d"), file("usr/d/x", b"")],
            &[file(".wh.usr", b"")],
            &files,
        ]),
        // A file where a folder was, and a folder where a file was.
        layers(&[&[directory("usr/run"), file("usr/run/x", b"")], &files]),
        layers(&[&[file("usr", b"x")], &files]),
    ];
    for (index, split) in same.iter().enumerate() {
        let found = both_ways(split, &flat);
        assert_eq!(found.level, Level::Rootfs, "{index}: {:?}", kinds(&found));
        assert_eq!(found.explanation.security, Vec::<String>::new(), "{index}");
        assert!(kinds(&found).contains(&"layer.layer_split"));
    }
    let other: Vec<MemoryImage> = vec![
        layers(&[&files, &[file("more", b"")]]),
        layers(&[&files, &[file(".wh.etc", b"")]]),
        layers(&[&files, &[file("etc/.wh..wh..opq", b"")]]),
        layers(&[&files, &[file("usr/run", b"#!/bin/sh\n")]]),
        layers(&[&files[3..], &files[..3]]),
        layers(&[&[file("gone", b"x")], &files]),
    ];
    for (index, split) in other.iter().enumerate() {
        let found = both_ways(split, &flat);
        // The fourth and the fifth: a hard link that lost its file, files below no folder.
        let level = if index == 4 { Level::Rootfs } else { Level::None };
        assert_eq!(found.level, level, "{index}: {:?}", kinds(&found));
    }
}

/// Equal counts of layers with files moved from one to another.
#[test]
fn files_moved_between_layers() {
    let files = base();
    let a = layers(&[&files[..2], &files[2..]]);
    let b = layers(&[&files[..3], &files[3..]]);
    assert_eq!(both_ways(&a, &b).level, Level::Rootfs);
    let c = layers(&[&files[..2], &files[2..5]]);
    assert_eq!(both_ways(&a, &c).level, Level::None);
}

/// Layers in another order are other layers, even where all of them are there.
#[test]
fn layers_that_changed_places() {
    let (one, two) = ([file("a", b"1")], [file("a", b"2")]);
    let found = both_ways(&layers(&[&one, &two]), &layers(&[&two, &one]));
    assert_eq!(found.level, Level::None);
    let (one, two) = ([file("a", b"1")], [file("b", b"2")]);
    let found = both_ways(&layers(&[&one, &two]), &layers(&[&two, &one]));
    assert_eq!(found.level, Level::Rootfs);
}

/// Raw bytes in place of the base image's tar, which must not come out as the same tree although
/// Go's reader would show the same files.
fn too_odd(bytes: &[u8], why: &str) {
    let found = both_ways(&image(&[bytes]), &image(&[&tar(&base())]));
    assert_eq!(found.level, Level::None, "{why}: {:?}", kinds(&found));
    let texts: Vec<&str> = found
        .explanation
        .events
        .iter()
        .filter(|e| e.kind.as_str() == "tar.unusual")
        .filter_map(|e| e.a.as_deref())
        .collect();
    assert!(texts.iter().any(|text| text.contains(why)), "{why}: {texts:?} {:?}", kinds(&found));
}

fn raw(files: &[File<'_>]) -> Vec<u8> {
    files.iter().flat_map(entry).collect()
}

#[test]
fn bytes_that_no_reader_shows() {
    let good = tar(&base());
    let tail = good.len() - 1024;
    let mut bytes = good.clone();
    bytes.extend(b"hidden");
    too_odd(&bytes, "bytes after the end");
    let mut bytes = good.clone();
    bytes.extend(raw(&[file("hidden", b"x")]));
    too_odd(&bytes, "bytes after the end");
    let mut bytes = good.clone();
    bytes[tail + 512] = 1;
    too_odd(&bytes, "a single zero block");
    // The padding after the first file's content.
    let mut bytes = good.clone();
    bytes[512 + 512 + 6 + 100] = 1;
    too_odd(&bytes, "padding or unused header bytes");
    for at in [60, 300, 505] {
        let mut bytes = good.clone();
        bytes[at] = b'x';
        checksum(&mut bytes[..512]);
        too_odd(&bytes, "padding or unused header bytes");
    }
}

#[test]
fn archives_that_readers_take_differently() {
    let with = |extra: &[u8]| [raw(&base()).as_slice(), extra, &[0; 1024]].concat();
    let before = |extra: &[u8]| [extra, &tar(&base())].concat();
    let entry_of = |kind: u8, data: &'static [u8]| entry(&File { kind, ..file("x", data) });
    too_odd(&before(&entry_of(b'g', b"14 path=other\n")), "a global PAX header");
    too_odd(&with(&entry(&file("../up", b""))), "the name holds ..");
    too_odd(&with(&entry(&file("a/../b", b""))), "the name holds ..");
    too_odd(&with(&entry(&file("/abs", b""))), "the name is absolute");
    too_odd(&with(&entry(&file("a//b", b""))), "the name can be read in two ways");
    too_odd(&with(&entry(&file("slash/", b""))), "the name can be read in two ways");
    too_odd(&with(&entry(&file("", b""))), "the name can be read in two ways");
    too_odd(&with(&entry(&file("usr/link/below", b""))), "the parent is no directory");
    too_odd(&with(&entry(&link("dangling", b'1', "nowhere"))), "a hard link to nothing");
    too_odd(&with(&entry(&File { data: b"data", ..directory("sized/") })), "has a size");
    too_odd(&with(&entry(&File { data: b"data", ..link("l", b'2', "x") })), "has a size");
    too_odd(&with(&entry_of(b'Z', b"data")), "an unknown entry type");
    too_odd(&with(&entry_of(b'S', b"data")), "a sparse file");
    too_odd(
        &with(&entry(&File { pax: &[("GNU.sparse.major", "1")], ..file("s", b"x") })),
        "sparse",
    );
    too_odd(&with(&entry(&File { pax: &[("path", "p"), ("path", "q")], ..file("s", b"") })), "PAX");
    too_odd(
        &with(
            &[entry_of(b'L', b"long\0"), entry_of(b'L', b"other\0"), entry(&file("s", b""))]
                .concat(),
        ),
        "repeat",
    );
    let hidden = [entry_of(b'L', b"long\0hidden"), entry(&file("s", b""))].concat();
    too_odd(&with(&hidden), "padding or unused header bytes");
    too_odd(&with(&entry(&file(".wh..", b""))), "a whiteout that can be read");
    too_odd(&with(&entry(&file(".wh..wh.aufs", b""))), "a whiteout that can be read");
    too_odd(&with(&entry(&file("usr/.wh.run", b""))), "a whiteout that can be read");
    let mut conflicting = entry(&File { pax: &[("size", "3")], ..file("s", b"abc") });
    let at = conflicting.len() - 1024;
    conflicting[at + 124..at + 135].copy_from_slice(b"00000000004");
    checksum(&mut conflicting[at..at + 512]);
    too_odd(&with(&conflicting), "two sizes for one entry");
    too_odd(&raw(&base())[..1000], "not a tar from here on");
    too_odd(&with(&[b'x'; 512]), "not a tar from here on");
    too_odd(&with(&entry(&File { pax: &[("uid", "x")], ..file("s", b"") })), "not a tar from here");
}

/// The same oddity on both sides, and the same bytes: nothing to say against them.
#[test]
fn what_both_have_is_no_difference() {
    let odd = [raw(&base()), entry(&file("../up", b"")), vec![0; 1024]].concat();
    let image_of = |bytes: &[u8]| image(&[bytes]);
    assert_eq!(run(&image_of(&odd), &uncompressed(&image_of(&odd))).level, Level::Config);
    // But no tree is said to be the same when readers differ about it.
    let mut later = base();
    later[1].mtime = 5;
    let later = [raw(&later), entry(&file("../up", b"")), vec![0; 1024]].concat();
    let found = both_ways(&image_of(&later), &image_of(&odd));
    assert_eq!((found.level, kinds(&found)), (Level::None, vec!["tar.mtime"]));
}

#[test]
fn duplicates() {
    let mut twice = base();
    twice.insert(1, file("etc/conf", b"first"));
    let found = against_base(&twice);
    assert_eq!(found.level, Level::Rootfs, "later entries win: {:?}", kinds(&found));
    assert!(kinds(&found).contains(&"tar.unusual"));
    let mut wins = base();
    wins.push(file("etc/conf", b"last"));
    assert_eq!(against_base(&wins).level, Level::None);
    // The replaced entries differ, and nothing else.
    let mut other = base();
    other.insert(1, file("etc/conf", b"other"));
    let found = both_ways(&image(&[&tar(&other)]), &image(&[&tar(&twice)]));
    assert_eq!((found.level, kinds(&found)), (Level::Rootfs, vec!["tar.unusual"]));
    assert!(compare_images::causes(&found).contains(&"security.hidden_bytes"));
    // The replaced entry stands elsewhere.
    let mut moved = base();
    moved.insert(0, file("etc/conf", b"first"));
    let found = both_ways(&image(&[&tar(&moved)]), &image(&[&tar(&twice)]));
    assert_eq!(found.level, Level::Rootfs, "{:?}", kinds(&found));
}

#[test]
fn more_or_fewer_zero_blocks() {
    let good = tar(&base());
    let longer = [good.as_slice(), &[0; 9 * 512]].concat();
    for bytes in [&longer[..], &good[..good.len() - 512], &good[..good.len() - 1024]] {
        let found = both_ways(&image(&[bytes]), &image(&[&good]));
        assert_eq!(found.level, Level::Rootfs, "{:?}", kinds(&found));
        assert!(kinds(&found).contains(&"tar.eof_blocks"));
    }
}

/// GNU and base-256 forms, long names in three ways: the same files.
#[test]
fn dialects_agree() {
    let long = "d/".repeat(60) + "name";
    let pax = [File { pax: &[("path", &long)], ..file("short", b"x") }];
    let name = [long.as_bytes(), b"\0"].concat();
    let gnu_name = File { kind: b'L', ..file("././@LongLink", &name) };
    let magic = |file: &File<'_>| {
        let mut bytes = entry(file);
        bytes[257..265].copy_from_slice(b"ustar  \0");
        checksum(&mut bytes[..512]);
        bytes
    };
    let gnu = [magic(&gnu_name), magic(&file("short", b"x")), vec![0; 1024]].concat();
    let mut prefixed = entry(&file("name", b"x"));
    let prefix = long.strip_suffix("/name").unwrap().as_bytes();
    prefixed[345..345 + prefix.len()].copy_from_slice(prefix);
    checksum(&mut prefixed[..512]);
    let ustar = [prefixed, vec![0; 1024]].concat();
    let pax = tar(&pax);
    for (a, b) in [(&pax, &gnu), (&gnu, &ustar), (&ustar, &pax)] {
        let found = both_ways(&image(&[a]), &image(&[b]));
        assert_eq!((found.level, kinds(&found)), (Level::Rootfs, vec!["tar.format"]));
    }
}
