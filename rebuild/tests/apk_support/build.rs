//! Makes package files of any content, good and bad.
#![allow(dead_code)] // each test binary uses a part

use flate2::{Compression, write::GzEncoder};
use rebuild::go::tar::{Header, Kind, Writer};
use sha2::{Digest as _, Sha256};
use std::io::Write;

/// The record of a checksum.
pub const CHECKSUM: &[u8] = b"APK-TOOLS.checksum.SHA1";

/// Bytes of the two zero blocks at the end of an archive.
const END_BYTES: usize = 1024;

/// One gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive with its end.
pub fn tar(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, content) in entries {
        writer.header(header).unwrap();
        writer.data(content).unwrap();
    }
    writer.finish().unwrap()
}

/// An archive without its end, as control members are.
pub fn segment(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = tar(entries);
    bytes.truncate(bytes.len() - END_BYTES);
    bytes
}

/// A directory.
pub fn directory(name: &str) -> (Header, Vec<u8>) {
    let mut header = Header::new(Kind::Directory, name);
    header.mode = 0o755;
    (header, Vec::new())
}

/// A file with its checksum.
pub fn file(name: &str, content: &[u8]) -> (Header, Vec<u8>) {
    let mut header = Header::new(Kind::Regular, name);
    header.mode = 0o644;
    header.size = content.len() as u64;
    header.pax.insert(CHECKSUM.to_vec(), sha1_hex(content));
    (header, content.to_vec())
}

/// A symlink with its checksum.
pub fn symlink(name: &str, target: &str) -> (Header, Vec<u8>) {
    let mut header = Header::new(Kind::Symlink, name);
    header.mode = 0o777;
    header.link_name = target.into();
    header.pax.insert(CHECKSUM.to_vec(), sha1_hex(target.as_bytes()));
    (header, Vec::new())
}

fn sha1_hex(bytes: &[u8]) -> Vec<u8> {
    let digest = sha1::Sha1::digest(bytes);
    hex::encode(digest).into_bytes()
}

/// A control member for this data member.
pub fn control(name: &str, rest: &str, data: &[u8]) -> Vec<u8> {
    let hash = hex::encode(Sha256::digest(data));
    let info = format!("pkgname = {name}\npkgver = 1-r0\narch = x86_64\n{rest}datahash = {hash}\n");
    let mut header = Header::new(Kind::Regular, ".PKGINFO");
    header.mode = 0o644;
    header.size = info.len() as u64;
    gzip(&segment(&[(header, info.into_bytes())]))
}

/// A package around the compressed bytes of its data.
pub fn around(data: &[u8]) -> Vec<u8> {
    [control("made", "", data), data.to_vec()].concat()
}

/// A package with these entries.
pub fn package(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    around(&gzip(&tar(entries)))
}
