//! A package file (.apk, version 2): a signature member (optional), a control member and a data
//! member, each a gzip member with a tar segment (apko-assembly.md, 4; Alpine wiki, "Apk spec").
//!
//! Invariant: a [`Package`] is consistent in itself: the data member has the SHA-256 that the
//! control member states, and every file and symlink that carries a checksum has it. That says
//! nothing about where it came from: trust is a step of its own, [`Package::verify_against_index`]
//! or [`Package::verify_signature`], and nothing here may pretend that it was taken.

mod problem;
mod read;
mod record;
mod trust;

pub use super::pkginfo::{PackageInfo, PkgInfoError};
pub use problem::{PackageError, PackageProblem};
pub use record::RecordError;
pub use trust::{PackageSignature, TrustError, TrustProblem};

use super::{gzip::GzipLimits, tar::TarLimits};
use crate::{
    go::tar::{Header, Kind},
    source::{RandomAccess, Spool},
};
use attest::Digest;
use std::{
    io::{self, Read},
    sync::Arc,
};

/// The PAX record with the SHA-1 of a file's content or of a symlink's target.
pub const CHECKSUM_RECORD: &[u8] = b"APK-TOOLS.checksum.SHA1";

/// Bounds on one package file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackageLimits {
    /// Bytes of the file, unpacked bytes, and their proportion.
    pub gzip: GzipLimits,
    /// Entries, names and attributes of the data member.
    pub data: TarLimits,
    /// Entries, names and attributes of the control and of the signature member.
    pub control: TarLimits,
    /// Content of all entries of the control member together.
    pub control_bytes_max: u64,
}

impl Default for PackageLimits {
    /// The largest packages that were seen (compilers, GPU libraries) unpack to some 6 GB; deflate
    /// itself cannot exceed 1,032 to 1, real packages stay below 60 to 1.
    fn default() -> Self {
        Self {
            gzip: GzipLimits {
                compressed_bytes_max: 4 << 30,
                uncompressed_bytes_max: 16 << 30,
                ratio_max: 200,
                ratio_counts_from_bytes: 64 << 20,
                members_max: 1024,
            },
            data: TarLimits::default(),
            control: TarLimits {
                entries_max: 1000,
                metadata_bytes_max: 4 << 20,
                ..TarLimits::default()
            },
            control_bytes_max: 16 << 20,
        }
    }
}

/// One entry of the data member, in the order of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The header; its `pax` holds extended attributes and other records, not the checksum.
    pub header: Header,
    /// The SHA-1 that the entry carries. Verified for files and symlinks; for other kinds there
    /// is nothing here to verify it with.
    pub checksum: Option<[u8; 20]>,
    /// Where the content begins in [`Package::data`].
    pub offset: u64,
}

/// One entry of the control member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlEntry {
    /// The header, with its PAX records.
    pub header: Header,
    /// The content.
    pub data: Vec<u8>,
}

/// A package file, read and found consistent in itself. Not yet trusted.
#[derive(Clone)]
pub struct Package {
    /// What `.PKGINFO` says.
    pub info: PackageInfo,
    /// SHA-1 of the compressed control member: how an index and the installed database name it.
    pub control_sha1: [u8; 20],
    /// SHA-256 of the compressed data member, as `.PKGINFO` states it.
    pub data_sha256: Digest,
    /// Bytes of the whole file.
    pub file_size: u64,
    /// SHA-256 of the whole file.
    pub file_sha256: Digest,
    /// The entries of the control member, `.PKGINFO` and scripts.
    pub control: Vec<ControlEntry>,
    /// The entries of the data member.
    pub entries: Vec<Entry>,
    /// The uncompressed data member, a tar archive.
    pub data: Arc<dyn RandomAccess>,
    /// The signature member, if there is one.
    pub signature: Option<PackageSignature>,
}

impl std::fmt::Debug for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Package")
            .field("name", &self.info.name)
            .field("version", &self.info.version)
            .field("file_sha256", &self.file_sha256)
            .finish_non_exhaustive()
    }
}

impl Package {
    /// Reads a package file in one pass: gunzips it, hashes the file, its members and every file
    /// in it, and spools the unpacked data.
    pub fn read(
        mut apk: impl Read,
        spool: &dyn Spool,
        limits: &PackageLimits,
    ) -> Result<Self, PackageError> {
        read::read(&mut apk, spool, limits)
    }

    /// `name-version`, for messages and file names.
    pub fn label(&self) -> String {
        format!("{}-{}", self.info.name, self.info.version)
    }

    /// The content of an entry of this package; nothing for anything but a file.
    pub fn content(&self, entry: &Entry) -> Content {
        let remaining = if entry.header.kind == Kind::Regular { entry.header.size } else { 0 };
        Content { data: Arc::clone(&self.data), position: entry.offset, remaining }
    }
}

/// Reads the content of one entry.
pub struct Content {
    data: Arc<dyn RandomAccess>,
    position: u64,
    remaining: u64,
}

impl Read for Content {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.remaining).map_or(buf.len(), |left| left.min(buf.len()));
        let buf = &mut buf[..wanted];
        self.data.read_exact_at(self.position, buf)?;
        self.position += wanted as u64;
        self.remaining -= wanted as u64;
        Ok(wanted)
    }
}
