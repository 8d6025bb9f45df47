//! Makes packages of any entries, also such that no package file could hold: what the reader of
//! packages refuses must not harm the assembler either.

use attest::Digest;
use rebuild::{
    apk::package::{Entry, Package, PackageInfo},
    go::tar::{Header, Kind},
};
use sha1::{Digest as _, Sha1};
use std::sync::Arc;

/// A package being made.
#[derive(Clone, Debug, Default)]
pub struct Make {
    pub info: PackageInfo,
    entries: Vec<Entry>,
    data: Vec<u8>,
}

impl Make {
    /// An empty package with an origin of its own.
    pub fn new(name: &str) -> Self {
        let info = PackageInfo {
            name: name.into(),
            version: "1-r0".into(),
            arch: "x86_64".into(),
            origin: name.into(),
            build_date: 1_700_000_000,
            ..PackageInfo::default()
        };
        Self { info, ..Self::default() }
    }

    /// A usual base: etc, usr/bin, accounts.
    pub fn base() -> Self {
        Self::new("base")
            .directory("etc")
            .directory("usr")
            .directory("usr/bin")
            .file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
            .file("etc/group", b"root:x:0:root\n")
    }

    /// Any entry. Files and symlinks get their checksum.
    pub fn entry(mut self, mut header: Header, content: &[u8]) -> Self {
        let checksum = match header.kind {
            Kind::Regular => Some(Sha1::digest(content).into()),
            Kind::Symlink => Some(Sha1::digest(&header.link_name).into()),
            _ => None,
        };
        header.size = content.len() as u64;
        header.mtime = 1_600_000_000;
        self.entries.push(Entry { header, checksum, offset: self.data.len() as u64 });
        self.data.extend_from_slice(content);
        self
    }

    pub fn directory(self, name: &str) -> Self {
        self.with_mode(Kind::Directory, name, 0o755)
    }

    pub fn with_mode(self, kind: Kind, name: &str, mode: u32) -> Self {
        let mut header = Header::new(kind, name);
        header.mode = mode;
        self.entry(header, b"")
    }

    pub fn file(self, name: &str, content: &[u8]) -> Self {
        let mut header = Header::new(Kind::Regular, name);
        header.mode = 0o644;
        self.entry(header, content)
    }

    pub fn link(self, kind: Kind, name: &str, target: &str) -> Self {
        let mut header = Header::new(kind, name);
        header.mode = 0o777;
        header.link_name = target.into();
        self.entry(header, b"")
    }

    /// The last entry without its checksum.
    pub fn unchecked(mut self) -> Self {
        self.entries.last_mut().unwrap().checksum = None;
        self
    }

    pub fn done(self) -> Arc<Package> {
        let name = Digest::of(self.info.name.as_bytes());
        let mut control_sha1 = [0; 20];
        control_sha1.copy_from_slice(&name.raw()[..20]);
        Arc::new(Package {
            info: self.info,
            control_sha1,
            data_sha256: name,
            file_size: 1,
            file_sha256: name,
            control: Vec::new(),
            entries: self.entries,
            data: Arc::new(self.data),
            signature: None,
        })
    }
}
