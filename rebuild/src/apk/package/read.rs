//! The one pass over a package file.
//!
//! Invariant: memory is bounded by the limits of the control member, the list of entries and two
//! buffers; content goes from the inflater through the hash to the spool and is not kept. The spool
//! is sealed only after the data hash was found right.

use super::{
    CHECKSUM_RECORD, ControlEntry, Entry, Package, PackageError, PackageInfo, PackageLimits,
    PackageProblem, PackageSignature,
};
use crate::{
    apk::{
        gzip::{MemberDigests, Members, Span},
        key::Signature,
        pkginfo::PKGINFO_BYTES_MAX,
        tar::{self, TarError},
    },
    go::tar::{Header, Kind},
    source::{Spool, SpoolFile},
};
use attest::Digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};
use std::io::{self, Read};

/// How the first entry of a signature member begins.
const SIGNATURE_PREFIX: &[u8] = b".SIGN.";

/// What `.PKGINFO` is called in the control member.
const PKGINFO: &[u8] = b".PKGINFO";

/// A small member, kept whole, and the digests of its compressed bytes.
struct SmallMember {
    entries: Vec<ControlEntry>,
    sha1: [u8; 20],
    sha256: [u8; 32],
}

pub(super) fn read(
    apk: &mut dyn Read,
    spool: &dyn Spool,
    limits: &PackageLimits,
) -> Result<Package, PackageError> {
    let mut members = Members::new(apk, limits.gzip);
    let unnamed = |problem| PackageError { package: "(unnamed)".to_owned(), problem };
    let first = small_member(&mut members, limits, "control member").map_err(unnamed)?;
    let signed = first.entries.first().is_some_and(|e| e.header.name.starts_with(SIGNATURE_PREFIX));
    let (signatures, control) = if signed {
        let control = small_member(&mut members, limits, "control member").map_err(unnamed)?;
        (Some(signatures(first)), control)
    } else {
        (None, first)
    };
    let info = package_info(&control.entries).map_err(unnamed)?;
    let package = format!("{}-{}", info.name, info.version);
    let named = |problem| PackageError { package: package.clone(), problem };
    let stated = Digest::from_hex(&info.data_hash)
        .map_err(|_| named(PackageProblem::NoDataHash { found: cut(&info.data_hash) }))?;
    let data = data_member(&mut members, spool, limits, stated).map_err(named)?;
    Ok(Package {
        control_sha1: control.sha1,
        data_sha256: stated,
        file_size: members.compressed(),
        file_sha256: Digest::from_raw(members.file_sha256()),
        signature: signatures
            .map(|signatures| PackageSignature { signatures, control_sha256: control.sha256 }),
        info,
        control: control.entries,
        entries: data.entries,
        data: data.bytes,
    })
}

fn small_member<R: Read>(
    members: &mut Members<R>,
    limits: &PackageLimits,
    member: &'static str,
) -> Result<SmallMember, PackageProblem> {
    if !members.more().map_err(PackageProblem::Read)? {
        return Err(PackageProblem::MissingMember { member });
    }
    let mut digests = MemberDigests { sha1: Some(Sha1::new()), ..MemberDigests::default() };
    let mut entries = Vec::new();
    let mut room = limits.control_bytes_max;
    let stream = members.member(&mut digests, Span::One);
    let mut tar = tar::Reader::new(stream, limits.control);
    let damaged = |error| PackageProblem::Tar { member, error };
    while let Some(header) = tar.next_entry().map_err(damaged)? {
        room = room
            .checked_sub(header.size)
            .ok_or(PackageProblem::ControlTooLarge { max: limits.control_bytes_max })?;
        let data = tar
            .content(header.size)
            .map_err(|problem| damaged(TarError { entry: tar::show(&header.name), problem }))?;
        entries.push(ControlEntry { header, data });
    }
    let sha1 = digests.sha1.map(|sha1| sha1.finalize().into()).unwrap_or_default();
    Ok(SmallMember { entries, sha1, sha256: digests.sha256.finish() })
}

fn signatures(member: SmallMember) -> Vec<Signature> {
    let entries = member.entries.into_iter();
    entries.filter_map(|entry| Signature::of_entry(&entry.header.name, entry.data)).collect()
}

fn package_info(entries: &[ControlEntry]) -> Result<PackageInfo, PackageProblem> {
    let mut names = std::collections::HashSet::new();
    for entry in entries {
        if !names.insert(&entry.header.name[..]) {
            let entry = tar::show(&entry.header.name);
            return Err(PackageProblem::DuplicateControlEntry { entry });
        }
    }
    let found = entries.iter().find(|entry| entry.header.name == PKGINFO);
    let entry = found.ok_or(PackageProblem::NoPkgInfo)?;
    if entry.header.kind != Kind::Regular {
        return Err(PackageProblem::NoFile { entry: tar::show(PKGINFO) });
    }
    if entry.data.len() as u64 > PKGINFO_BYTES_MAX {
        return Err(PackageProblem::ControlTooLarge { max: PKGINFO_BYTES_MAX });
    }
    Ok(PackageInfo::parse(&entry.data)?)
}

struct Data {
    entries: Vec<Entry>,
    bytes: std::sync::Arc<dyn crate::source::RandomAccess>,
}

fn data_member<R: Read>(
    members: &mut Members<R>,
    spool: &dyn Spool,
    limits: &PackageLimits,
    stated: Digest,
) -> Result<Data, PackageProblem> {
    let member = "data member";
    if !members.more().map_err(PackageProblem::Read)? {
        return Err(PackageProblem::MissingMember { member });
    }
    let mut digests = MemberDigests::default();
    let mut place = spool.create().map_err(PackageProblem::Spool)?;
    let mut spool_error = None;
    let source = Tee {
        source: members.member(&mut digests, Span::Rest),
        place: &mut *place,
        error: &mut spool_error,
    };
    let walked = walk(tar::Reader::new(source, limits.data));
    if let Some(error) = spool_error {
        return Err(PackageProblem::Spool(error));
    }
    let entries = walked?;
    let found = Digest::from_raw(digests.sha256.finish());
    if found != stated {
        return Err(PackageProblem::DataHash { expected: stated, found });
    }
    let bytes = place.seal().map_err(PackageProblem::Spool)?;
    Ok(Data { entries, bytes })
}

/// Lists the entries of the data member and verifies their checksums.
fn walk<R: Read>(mut tar: tar::Reader<R>) -> Result<Vec<Entry>, PackageProblem> {
    let damaged = |error| PackageProblem::Tar { member: "data member", error };
    let mut entries = Vec::new();
    while let Some(mut header) = tar.next_entry().map_err(damaged)? {
        let offset = tar.offset();
        let checksum = take_checksum(&mut header)?;
        if let Some(expected) = checksum {
            let found = match header.kind {
                Kind::Regular => content_sha1(&mut tar)
                    .map_err(|problem| TarError { entry: tar::show(&header.name), problem })
                    .map_err(damaged)?,
                Kind::Symlink => Sha1::digest(&header.link_name).into(),
                _ => expected,
            };
            if found != expected {
                return Err(PackageProblem::Checksum {
                    entry: tar::show(&header.name),
                    expected: hex::encode(expected),
                    found: hex::encode(found),
                });
            }
        }
        entries.push(Entry { header, checksum, offset });
    }
    Ok(entries)
}

fn content_sha1<R: Read>(tar: &mut tar::Reader<R>) -> Result<[u8; 20], tar::TarProblem> {
    let mut sha1 = Sha1::new();
    loop {
        let chunk = tar.chunk()?;
        if chunk.is_empty() {
            return Ok(sha1.finalize().into());
        }
        sha1.update(chunk);
    }
}

/// Takes the checksum record out of a header: 40 hex digits, or `Q1` and base64.
fn take_checksum(header: &mut Header) -> Result<Option<[u8; 20]>, PackageProblem> {
    let Some(record) = header.pax.remove(CHECKSUM_RECORD) else { return Ok(None) };
    let raw = match record.strip_prefix(b"Q1") {
        Some(base64) => STANDARD.decode(base64).ok(),
        None => hex::decode(&record).ok(),
    };
    match raw.and_then(|raw| raw.try_into().ok()) {
        Some(checksum) => Ok(Some(checksum)),
        None => Err(PackageProblem::ChecksumRecord {
            entry: tar::show(&header.name),
            found: tar::show(&record),
        }),
    }
}

/// Passes bytes on and writes them to the spool.
struct Tee<'a, R> {
    source: R,
    place: &'a mut dyn SpoolFile,
    /// An error of the spool, apart from those of the source.
    error: &'a mut Option<io::Error>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buf)?;
        if let Err(error) = self.place.write_all(buf.get(..read).unwrap_or_default()) {
            *self.error = Some(error);
            return Err(io::Error::other("the spool took no more"));
        }
        Ok(read)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}
