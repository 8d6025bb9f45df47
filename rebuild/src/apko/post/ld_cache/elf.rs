//! What the cache needs of an ELF file: machine, and the `DT_SONAME` entries of a shared library
//! (System V ABI, chapters 4 and 5), with the checks of Go's `debug/elf`.
//!
//! Invariant: whatever the bytes say, reading ends: every table has a limit and every offset is
//! checked against the file. A file that Go would not parse gives none; only a failure to read the
//! bytes at all is an error. It must never panic and never read a whole library.

use crate::source::RandomAccess;
use std::io;

/// Sections of one file. The format allows 2^32, linkers write below 2^16.
const SECTIONS_MAX: u64 = 1 << 16;
/// Bytes that are read at once: the section table at its largest, 2^16 entries of 64 bytes. A
/// dynamic section of that size has 262,144 entries; real ones have some dozen.
const TABLE_BYTES_MAX: u64 = SECTIONS_MAX * 64;
/// Names of one library; one is usual.
const SONAMES_MAX: usize = 16;

const SHT_NOBITS: u32 = 8;
const SHT_DYNAMIC: u32 = 6;
const SHT_STRTAB: u32 = 3;
const SHF_COMPRESSED: u64 = 0x800;
const ET_DYN: u16 = 3;
const DT_SONAME: u64 = 14;

/// A part of a package's data.
pub(super) struct Part<'a> {
    pub(super) data: &'a dyn RandomAccess,
    pub(super) start: u64,
    pub(super) size: u64,
}

/// The machines that apko knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    Aarch64,
    Other(u16),
}

/// A shared library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Library {
    pub(super) machine: Machine,
    pub(super) sonames: Vec<Vec<u8>>,
}

/// Why reading stops: the bytes make no sense, or they cannot be had.
enum Stop {
    Malformed,
    Io(io::Error),
}

type Step<T> = Result<T, Stop>;

/// The library, if this is one.
pub(super) fn read(part: &Part<'_>) -> io::Result<Option<Library>> {
    match parse(part) {
        Ok(library) => Ok(library),
        Err(Stop::Malformed) => Ok(None),
        Err(Stop::Io(error)) => Err(error),
    }
}

impl Part<'_> {
    fn bytes(&self, offset: u64, count: u64) -> Step<Vec<u8>> {
        let end = offset.checked_add(count).ok_or(Stop::Malformed)?;
        if end > self.size || count > TABLE_BYTES_MAX {
            return Err(Stop::Malformed);
        }
        let start = self.start.checked_add(offset).ok_or(Stop::Malformed)?;
        let mut bytes = vec![0; usize::try_from(count).map_err(|_| Stop::Malformed)?];
        self.data.read_exact_at(start, &mut bytes).map_err(Stop::Io)?;
        Ok(bytes)
    }
}

/// How numbers are written in this file.
#[derive(Clone, Copy)]
struct Encoding {
    wide: bool,
    big_endian: bool,
}

impl Encoding {
    /// The number in `width` bytes at an offset.
    fn number(self, bytes: &[u8], at: usize, width: usize) -> Step<u64> {
        let field = at.checked_add(width).and_then(|end| bytes.get(at..end));
        let field = field.ok_or(Stop::Malformed)?;
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Ok(if self.big_endian {
            field.iter().fold(0, fold)
        } else {
            field.iter().rev().fold(0, fold)
        })
    }

    fn half(self, bytes: &[u8], at: usize) -> Step<u16> {
        Ok(self.number(bytes, at, 2)? as u16)
    }

    fn word(self, bytes: &[u8], at: usize) -> Step<u32> {
        Ok(self.number(bytes, at, 4)? as u32)
    }

    /// A field whose place and width depend on the class: (offset in 32-bit, offset in 64-bit).
    fn address(self, bytes: &[u8], at: (usize, usize)) -> Step<u64> {
        if self.wide { self.number(bytes, at.1, 8) } else { self.number(bytes, at.0, 4) }
    }
}

struct Section {
    kind: u32,
    flags: u64,
    offset: u64,
    size: u64,
    link: u32,
}

fn parse(part: &Part<'_>) -> Step<Option<Library>> {
    let ident = part.bytes(0, 16)?;
    let [0x7f, b'E', b'L', b'F', class @ (1 | 2), data @ (1 | 2), 1, ..] = ident.as_slice() else {
        return Err(Stop::Malformed);
    };
    let encoding = Encoding { wide: *class == 2, big_endian: *data == 2 };
    let header = part.bytes(0, if encoding.wide { 64 } else { 52 })?;
    if encoding.word(&header, 20)? != 1 {
        return Err(Stop::Malformed);
    }
    let sections = sections(part, encoding, &header)?;
    if encoding.half(&header, 16)? != ET_DYN {
        return Ok(None);
    }
    let machine = match encoding.half(&header, 18)? {
        62 => Machine::X86_64,
        183 => Machine::Aarch64,
        other => Machine::Other(other),
    };
    Ok(Some(Library { machine, sonames: sonames(part, encoding, &sections)? }))
}

fn sections(part: &Part<'_>, encoding: Encoding, header: &[u8]) -> Step<Vec<Section>> {
    let table = encoding.address(header, (32, 40))?;
    let (size_at, wanted_size) = if encoding.wide { (58, 64) } else { (46, 40) };
    let entry_size = u64::from(encoding.half(header, size_at)?);
    let mut count = u64::from(encoding.half(header, size_at + 2)?);
    let mut names = u64::from(encoding.half(header, size_at + 4)?);
    if table == 0 {
        // No table: then no section may be counted.
        return if count == 0 { Ok(Vec::new()) } else { Err(Stop::Malformed) };
    }
    if count == 0 {
        // Too many for the header: the first section says how many.
        let first = part.bytes(table, wanted_size)?;
        let first = section(encoding, &first)?;
        count = first.size;
        if names == 0xffff {
            names = u64::from(first.link);
        }
    }
    if count > 0 && (entry_size != wanted_size || names >= count || count > SECTIONS_MAX) {
        return Err(Stop::Malformed);
    }
    let bytes = part.bytes(table, count.checked_mul(wanted_size).ok_or(Stop::Malformed)?)?;
    let entries = bytes.chunks_exact(usize::try_from(wanted_size).unwrap_or(64));
    let sections: Vec<Section> = entries.map(|e| section(encoding, e)).collect::<Step<_>>()?;
    let names = sections.get(usize::try_from(names).unwrap_or(usize::MAX));
    if names.is_some_and(|names| names.kind != SHT_STRTAB) {
        return Err(Stop::Malformed);
    }
    Ok(sections)
}

fn section(encoding: Encoding, bytes: &[u8]) -> Step<Section> {
    Ok(Section {
        kind: encoding.word(bytes, 4)?,
        flags: encoding.address(bytes, (8, 8))?,
        offset: encoding.address(bytes, (16, 24))?,
        size: encoding.address(bytes, (20, 32))?,
        link: encoding.word(bytes, if encoding.wide { 40 } else { 24 })?,
    })
}

fn content(part: &Part<'_>, section: &Section) -> Step<Vec<u8>> {
    if section.kind == SHT_NOBITS || section.flags & SHF_COMPRESSED != 0 {
        return Err(Stop::Malformed);
    }
    part.bytes(section.offset, section.size)
}

fn sonames(part: &Part<'_>, encoding: Encoding, sections: &[Section]) -> Step<Vec<Vec<u8>>> {
    let Some(dynamic) = sections.iter().find(|section| section.kind == SHT_DYNAMIC) else {
        return Ok(Vec::new());
    };
    let entries = content(part, dynamic)?;
    let size = if encoding.wide { 16 } else { 8 };
    if entries.len() % size != 0 || dynamic.link == 0 {
        return Err(Stop::Malformed);
    }
    let strings = sections.get(dynamic.link as usize).ok_or(Stop::Malformed)?;
    let mut sonames = Vec::new();
    for entry in entries.chunks_exact(size) {
        let tag = encoding.address(entry, (0, 0))?;
        if tag != DT_SONAME {
            continue;
        }
        if sonames.len() >= SONAMES_MAX {
            return Err(Stop::Malformed);
        }
        let offset = encoding.address(entry, (4, 8))?;
        sonames.extend(string_at(part, strings, offset)?);
    }
    Ok(sonames)
}

/// The text at an offset of a string table, up to its NUL; none if it has none.
fn string_at(part: &Part<'_>, strings: &Section, offset: u64) -> Step<Option<Vec<u8>>> {
    const TEXT_BYTES_MAX: u64 = 4096;
    if strings.kind == SHT_NOBITS || strings.flags & SHF_COMPRESSED != 0 {
        return Err(Stop::Malformed);
    }
    let Some(left) = strings.size.checked_sub(offset).filter(|left| *left > 0) else {
        return Ok(None);
    };
    let start = strings.offset.checked_add(offset).ok_or(Stop::Malformed)?;
    let bytes = part.bytes(start, left.min(TEXT_BYTES_MAX))?;
    let Some(end) = bytes.iter().position(|b| *b == 0) else { return Ok(None) };
    Ok(bytes.get(..end).map(<[u8]>::to_vec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn library(bytes: &[u8]) -> Option<Library> {
        read(&Part { data: &bytes.to_vec(), start: 0, size: bytes.len() as u64 }).unwrap()
    }

    /// A 64-bit little-endian library with one soname.
    fn sample() -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16] = 3;
        file[18] = 62;
        file[20] = 1;
        file.extend_from_slice(b"\0liba.so.1\0\0\0\0\0\0");
        let dynamic = file.len() as u64;
        for (tag, value) in [(DT_SONAME, 1_u64), (0, 0)] {
            file.extend_from_slice(&tag.to_le_bytes());
            file.extend_from_slice(&value.to_le_bytes());
        }
        let table = file.len() as u64;
        for (kind, offset, size, link) in
            [(0_u32, 0, 0, 0_u32), (SHT_STRTAB, 64, 16, 0), (SHT_DYNAMIC, dynamic, 32, 1)]
        {
            let mut section = vec![0; 64];
            section[4..8].copy_from_slice(&kind.to_le_bytes());
            section[24..32].copy_from_slice(&u64::to_le_bytes(offset));
            section[32..40].copy_from_slice(&u64::to_le_bytes(size));
            section[40..44].copy_from_slice(&link.to_le_bytes());
            file.extend(section);
        }
        file[40..48].copy_from_slice(&table.to_le_bytes());
        file[58] = 64;
        file[60] = 3;
        file[62] = 1;
        file
    }

    #[test]
    fn soname() {
        let library = library(&sample()).unwrap();
        assert_eq!(library.machine, Machine::X86_64);
        assert_eq!(library.sonames, [b"liba.so.1".to_vec()]);
    }

    #[test]
    fn without_sections_and_other_types() {
        let mut file = sample();
        file[40..48].fill(0);
        assert!(library(&file).is_none(), "sections counted but no table");
        file[60] = 0;
        assert!(library(&file).unwrap().sonames.is_empty());
        let mut executable = sample();
        executable[16] = 2;
        assert!(library(&executable).is_none());
        let mut huge = sample();
        huge[60..62].fill(0xff);
        assert!(library(&huge).is_none());
    }

    proptest! {
        #[test]
        fn damaged(at in 0_usize..300, value in any::<u8>(), cut in 0_usize..400) {
            let mut file = sample();
            let len = file.len();
            file[at % len] = value;
            file.truncate(cut);
            let _ = library(&file);
            let mut file = sample();
            file[at % len] = value;
            let _ = library(&file);
        }
    }
}
