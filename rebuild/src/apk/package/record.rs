//! A package without its data, as bytes: what a content store keeps beside the unpacked data, so
//! that the package need not be unpacked and verified again.
//!
//! The form is ours and has a version; lengths and numbers are LEB128. Invariant: a record that was
//! written gives the same package back. A record proves nothing by itself: whoever keeps it must be
//! able to tell that it is the one that was written. Reading one that is not is an error, never a
//! panic, and allocates no more than a few times its length.

use super::{ControlEntry, Entry, Package, PackageInfo, PackageSignature};
use crate::{
    apk::key::{Signature, SignatureAlgorithm},
    go::tar::{Format, Header, Kind},
    source::RandomAccess,
};
use attest::Digest;
use std::{collections::BTreeMap, sync::Arc};

/// Changes with every change of the form.
const VERSION: u8 = 1;

/// A record could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a package record, found {found} at byte {at}")]
pub struct RecordError {
    /// What is wrong.
    pub found: &'static str,
    /// Where.
    pub at: usize,
}

const KINDS: [Kind; 7] = [
    Kind::Regular,
    Kind::HardLink,
    Kind::Symlink,
    Kind::CharDevice,
    Kind::BlockDevice,
    Kind::Directory,
    Kind::Fifo,
];
const FORMATS: [Format; 3] = [Format::Auto, Format::Pax, Format::Gnu];
const ALGORITHMS: [SignatureAlgorithm; 2] =
    [SignatureAlgorithm::RsaSha1, SignatureAlgorithm::RsaSha256];

impl Package {
    /// Everything but the data.
    pub fn to_record(&self) -> Vec<u8> {
        let mut out = Encoder(vec![VERSION]);
        out.raw(&self.control_sha1);
        out.raw(self.data_sha256.raw());
        out.raw(self.file_sha256.raw());
        out.number(self.file_size);
        out.number(self.control.len() as u64);
        for entry in &self.control {
            out.header(&entry.header);
            out.bytes(&entry.data);
        }
        out.number(self.entries.len() as u64);
        for entry in &self.entries {
            out.header(&entry.header);
            out.number(entry.offset);
            out.0.push(entry.checksum.is_some().into());
            out.raw(entry.checksum.as_ref().map_or(&[], |checksum| &checksum[..]));
        }
        out.0.push(self.signature.is_some().into());
        if let Some(member) = &self.signature {
            out.raw(&member.control_sha256);
            out.number(member.signatures.len() as u64);
            for signature in &member.signatures {
                out.0.push(place(&ALGORITHMS, &signature.algorithm));
                out.bytes(signature.key_name.as_bytes());
                out.bytes(&signature.bytes);
            }
        }
        out.0
    }

    /// The package of a record, with its data.
    pub fn from_record(record: &[u8], data: Arc<dyn RandomAccess>) -> Result<Self, RecordError> {
        let mut from = Decoder { all: record, at: 0 };
        if from.byte()? != VERSION {
            return Err(from.bad("another version"));
        }
        let (control_sha1, data_sha256, file_sha256) =
            (from.array()?, Digest::from_raw(from.array()?), Digest::from_raw(from.array()?));
        let file_size = from.number()?;
        let control = from.list(|from| {
            Ok(ControlEntry { header: from.header()?, data: from.bytes()?.to_vec() })
        })?;
        let entries = from.list(|from| {
            let (header, offset) = (from.header()?, from.number()?);
            let end =
                offset.checked_add(if header.kind == Kind::Regular { header.size } else { 0 });
            if end.is_none_or(|end| end > data.len()) {
                return Err(from.bad("content outside the data"));
            }
            let checksum = if from.flag()? { Some(from.array()?) } else { None };
            Ok(Entry { header, checksum, offset })
        })?;
        let signature = if from.flag()? { Some(from.signature()?) } else { None };
        if from.at != record.len() {
            return Err(from.bad("more bytes"));
        }
        let info = control.iter().find(|entry| entry.header.name == b".PKGINFO");
        let info = info.and_then(|entry| PackageInfo::parse(&entry.data).ok());
        let info = info.ok_or_else(|| from.bad("no .PKGINFO"))?;
        Ok(Self {
            info,
            control_sha1,
            data_sha256,
            file_size,
            file_sha256,
            control,
            entries,
            data,
            signature,
        })
    }
}

/// The place of a value in a list that holds every one.
fn place<T: PartialEq>(list: &[T], value: &T) -> u8 {
    list.iter().position(|one| one == value).and_then(|p| u8::try_from(p).ok()).unwrap_or(u8::MAX)
}

struct Encoder(Vec<u8>);

impl Encoder {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    fn header(&mut self, header: &Header) {
        self.0.push(place(&KINDS, &header.kind));
        self.0.push(place(&FORMATS, &header.format));
        let numbers = [header.mode.into(), header.uid, header.gid, header.size];
        numbers.into_iter().for_each(|number| self.number(number));
        self.number(header.mtime.cast_unsigned());
        self.number(header.device_major);
        self.number(header.device_minor);
        for text in [&header.name, &header.link_name, &header.user_name, &header.group_name] {
            self.bytes(text);
        }
        self.number(header.pax.len() as u64);
        for (key, value) in &header.pax {
            self.bytes(key);
            self.bytes(value);
        }
    }
}

struct Decoder<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    fn bad(&self, found: &'static str) -> RecordError {
        RecordError { found, at: self.at }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.all.get(self.at..end));
        let taken = taken.ok_or_else(|| self.bad("the end"))?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, RecordError> {
        Ok(self.array::<1>()?[0])
    }

    fn flag(&mut self) -> Result<bool, RecordError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.bad("neither yes nor no")),
        }
    }

    fn number(&mut self) -> Result<u64, RecordError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                break;
            }
            number |= part << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.bad("too large a number"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        let count = self.number()?;
        self.take(usize::try_from(count).map_err(|_| self.bad("too large a number"))?)
    }

    /// A list; every item takes at least one byte, so a lying count ends at the end.
    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        let count = self.number()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(item(self)?);
        }
        list.shrink_to_fit();
        Ok(list)
    }

    fn header(&mut self) -> Result<Header, RecordError> {
        let (kind, format) = (usize::from(self.byte()?), usize::from(self.byte()?));
        let (Some(kind), Some(format)) = (KINDS.get(kind), FORMATS.get(format)) else {
            return Err(self.bad("an unknown kind"));
        };
        let mut header = Header::new(kind.clone(), Vec::new());
        header.format = *format;
        header.mode = u32::try_from(self.number()?).map_err(|_| self.bad("too large a mode"))?;
        header.uid = self.number()?;
        header.gid = self.number()?;
        header.size = self.number()?;
        header.mtime = self.number()?.cast_signed();
        header.device_major = self.number()?;
        header.device_minor = self.number()?;
        header.name = self.bytes()?.to_vec();
        header.link_name = self.bytes()?.to_vec();
        header.user_name = self.bytes()?.to_vec();
        header.group_name = self.bytes()?.to_vec();
        let pax = self.list(|from| Ok((from.bytes()?.to_vec(), from.bytes()?.to_vec())))?;
        header.pax = pax.into_iter().collect::<BTreeMap<_, _>>();
        Ok(header)
    }

    fn signature(&mut self) -> Result<PackageSignature, RecordError> {
        let control_sha256 = self.array()?;
        let signatures = self.list(|from| {
            let algorithm = ALGORITHMS.get(usize::from(from.byte()?)).copied();
            let algorithm = algorithm.ok_or_else(|| from.bad("an unknown algorithm"))?;
            let key_name = std::str::from_utf8(from.bytes()?).map_err(|_| from.bad("no text"))?;
            let bytes = from.bytes()?.to_vec();
            Ok(Signature { algorithm, key_name: key_name.to_owned(), bytes })
        })?;
        Ok(PackageSignature { signatures, control_sha256 })
    }
}
