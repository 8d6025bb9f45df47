//! Tars, PAX records, gzip members, Zstandard frames and packages.
//!
//! Three readers of tars are held against each other: the one for packages (which refuses what
//! could be read in two ways), the one for examining images (which takes what runtimes take and
//! notes the rest), and the `tar` crate. What the first accepts, all must see alike.

use crate::build;
use attest::Digest;
use flate2::bufread::GzDecoder;
use rebuild::{
    apk::tar::{Reader, TarLimits, XATTR_PREFIX},
    apko::{Behaviour, ImageConfiguration},
    compare::{LayerForm, LayerHygiene, Limits, Listing, inspect_layer, list_layer},
    go::{
        gzip::{Variant, pgzip},
        tar::{Format, Header, Kind, Writer},
    },
};
use std::io::Read;

/// Uncompressed bytes of an input: a bomb must end at the reader's limits, not at ours.
const UNPACKED_MAX: u64 = 64 << 20;

type Entries = Vec<(Header, Vec<u8>)>;

/// A whole package file; what is accepted is assembled, too.
pub fn apk_package(bytes: &[u8]) {
    if let Some(package) = build::read_package(bytes) {
        assert!(!package.info.name.is_empty());
        let config = ImageConfiguration::default();
        let _ = build::image(&config, vec![package], Behaviour::newest());
    }
}

/// The uncompressed data of a package: the file around it is right.
pub fn apk_data(bytes: &[u8]) {
    let Some((choice, data)) = bytes.split_last() else { return };
    let Some(package) = build::read_package(&build::around(&build::gzip(data))) else { return };
    let rows = Behaviour::rows();
    let mut config = ImageConfiguration::default();
    if choice & 1 == 1 {
        config.layering =
            Some(rebuild::apko::config::Layering { strategy: "origin".into(), budget: 2 });
    }
    let row = rows[usize::from(choice >> 1) % rows.len()];
    let _ = build::image(&config, vec![package], row);
}

fn limits() -> Limits {
    Limits { image_bytes_max: UNPACKED_MAX, ratio_from_bytes: 1 << 20, ..Limits::default() }
}

fn listing(bytes: &[u8]) -> Option<Listing> {
    list_layer(&mut { bytes }, LayerForm::Tar, &limits()).ok()
}

/// What the reader of packages makes of an archive, if it accepts all of it.
fn strict(bytes: &[u8]) -> Option<Entries> {
    let limits = TarLimits { entries_max: 10_000, ..TarLimits::default() };
    let mut reader = Reader::new(bytes, limits);
    let mut entries = Entries::new();
    while let Some(header) = reader.next_entry().ok()? {
        let content = reader.content(UNPACKED_MAX).ok()?;
        entries.push((header, content));
    }
    Some(entries)
}

/// An archive through all readers, and what is accepted through the writer and back.
pub fn apk_tar(bytes: &[u8]) {
    let listed = listing(bytes);
    let Some(entries) = strict(bytes) else { return };
    let listed = listed.expect("the examining reader takes what the strict one takes");
    assert!(!listed.broken, "the strict reader took what is broken: {listed:?}");
    same_as_listed(&entries, &listed);
    same_as_crate(&entries, bytes);
    round_trip(&entries);
}

fn word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Regular => "file",
        Kind::HardLink => "hard link",
        Kind::Symlink => "symbolic link",
        Kind::CharDevice => "character device",
        Kind::BlockDevice => "block device",
        Kind::Directory => "directory",
        Kind::Fifo => "fifo",
    }
}

/// The path below the root that an archive's name means.
fn below_root(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}

fn same_as_listed(entries: &Entries, listed: &Listing) {
    assert_eq!(entries.len(), listed.entries.len());
    for ((header, content), entry) in entries.iter().zip(&listed.entries) {
        assert_eq!(below_root(&header.name), entry.path);
        assert_eq!(word(&header.kind), entry.kind);
        assert_eq!(i64::from(header.mode), entry.mode, "mode of {:?}", header.name);
        assert_eq!((header.uid as i64, header.gid as i64), entry.owner);
        assert_eq!(header.link_name, entry.link);
        assert_eq!(Digest::of(content), entry.content);
        if entry.mtime.1 == 0 {
            assert_eq!(header.mtime, entry.mtime.0);
        }
        let xattrs = header
            .pax
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(XATTR_PREFIX)?.to_vec(), value)));
        assert!(xattrs.eq(entry.xattrs.iter().map(|(key, value)| (key.clone(), value))));
    }
}

/// The crate ends PAX values at a line break; POSIX, Go and we count bytes.
fn breaks_a_line(header: &Header) -> bool {
    let texts = [&header.name, &header.link_name, &header.user_name, &header.group_name];
    texts.into_iter().chain(header.pax.values()).any(|text| text.contains(&b'\n'))
}

fn same_as_crate(entries: &Entries, bytes: &[u8]) {
    if entries.iter().any(|(header, _)| breaks_a_line(header)) {
        return;
    }
    let mut archive = tar::Archive::new(bytes);
    let Ok(theirs) = archive.entries() else { return };
    for (theirs, (header, content)) in theirs.zip(entries) {
        // It refuses some of what POSIX allows; what counts is what it takes.
        let Ok(mut theirs) = theirs else { return };
        assert_eq!(theirs.path_bytes().as_ref(), header.name);
        if matches!(header.kind, Kind::HardLink | Kind::Symlink) {
            let link = theirs.link_name_bytes();
            assert_eq!(link.as_deref().unwrap_or_default(), header.link_name);
        }
        let mut data = Vec::new();
        if header.kind == Kind::Regular && theirs.read_to_end(&mut data).is_ok() {
            assert_eq!(&data, content);
        }
    }
}

/// What the writer takes of these headers comes back.
fn round_trip(entries: &Entries) {
    let mut writer = Writer::new(Vec::new());
    let mut written = Vec::new();
    for (header, content) in entries {
        if writer.header(header).is_err() {
            // Refused as a whole, before a byte of it was written.
            continue;
        }
        writer.data(content).expect("as many bytes as the header says");
        written.push((header, content));
    }
    let bytes = writer.finish().expect("every content was written");
    let Some(again) = strict(&bytes) else {
        // The writer keeps names as Go does, also such as the strict reader refuses.
        assert!(listing(&bytes).is_some_and(|listing| !listing.broken));
        return;
    };
    assert_eq!(again.len(), written.len());
    for ((found, content), (header, expected)) in again.iter().zip(written) {
        assert_eq!(content, expected);
        let same = Header { format: Format::Auto, pax: Default::default(), ..header.clone() };
        let found_fields =
            Header { format: Format::Auto, pax: Default::default(), ..found.clone() };
        assert_eq!(found_fields, same);
    }
}

/// Every byte of an archive counts: with one changed, the listing is another.
pub fn compare_tar(bytes: &[u8]) {
    let Some(listed) = listing(bytes) else { return };
    let Some(last) = bytes.last_chunk::<3>() else { return };
    let at = usize::from(u16::from_le_bytes([last[0], last[1]])) % bytes.len();
    let mut changed = bytes.to_vec();
    changed[at] ^= last[2] | 1;
    if let Some(other) = listing(&changed) {
        assert_ne!(listed, other, "byte {at} does not count");
    }
}

/// A ustar block.
fn block(name: &str, flag: u8, size: usize) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[148..156].copy_from_slice(b"        ");
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// The body of a PAX extended header, before one of several kinds of entries.
pub fn pax(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    let (flag, size) = match choice % 4 {
        0 | 1 => (b'0', 3),
        2 => (b'5', 0),
        _ => (b'2', 0),
    };
    let mut archive = block("PaxHeaders.0/file", b'x', body.len()).to_vec();
    archive.extend_from_slice(body);
    archive.resize(archive.len().next_multiple_of(512), 0);
    archive.extend_from_slice(&block("file", flag, size));
    if size > 0 {
        archive.extend_from_slice(b"abc");
    }
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    apk_tar(&archive);
}

fn inspected(blob: &[u8], media_type: &str, unpacked: &[u8]) -> Option<LayerHygiene> {
    let diff_id = Digest::of(unpacked);
    inspect_layer(&mut { blob }, media_type, blob.len() as u64, &diff_id, &limits()).ok()
}

/// A gzip blob: a clean one is one member, and unpacks to what flate2 unpacks.
pub fn gzip(bytes: &[u8]) {
    let mut decoder = GzDecoder::new(bytes);
    let mut unpacked = Vec::new();
    let whole = decoder.by_ref().take(UNPACKED_MAX).read_to_end(&mut unpacked).is_ok();
    let rest = decoder.into_inner().len();
    let found = inspected(bytes, "application/vnd.oci.image.layer.v1.tar+gzip", &unpacked);
    if found.is_some_and(|hygiene| hygiene.clean) {
        assert!(whole, "clean, but flate2 does not read it");
        assert_eq!(rest, 0, "clean, but bytes follow the member");
    }
    // The same bytes as a package's data: its members are found by where they end.
    let _ = build::read_package(&build::around(bytes));
}

/// A Zstandard blob: what is clean unpacks to what the library unpacks at once.
pub fn zstandard(bytes: &[u8]) {
    let mut unpacked = Vec::new();
    let mut whole = false;
    if let Ok(mut decoder) = zstd::stream::read::Decoder::new(bytes)
        && decoder.window_log_max(27).is_ok()
    {
        whole = decoder.take(UNPACKED_MAX).read_to_end(&mut unpacked).is_ok();
    }
    let found = inspected(bytes, "application/vnd.oci.image.layer.v1.tar+zstd", &unpacked);
    if found.is_some_and(|hygiene| hygiene.clean) {
        assert!(whole, "clean, but the library does not read it");
    }
}

/// What the encoder writes is one clean member with the same bytes, in every variant.
pub fn go_gzip(bytes: &[u8]) {
    for variant in [Variant::E1, Variant::E2, Variant::E3] {
        let blob = pgzip(bytes, variant);
        let mut unpacked = Vec::new();
        let mut decoder = GzDecoder::new(blob.as_slice());
        decoder.read_to_end(&mut unpacked).expect("what was encoded decodes");
        assert_eq!(unpacked, bytes, "{variant:?}");
        let found = inspected(&blob, "application/vnd.oci.image.layer.v1.tar+gzip", bytes);
        assert!(found.is_some_and(|hygiene| hygiene.clean), "{variant:?}");
    }
}
