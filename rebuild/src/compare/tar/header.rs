//! One tar header block, and the entry that it becomes together with its extensions.
//!
//! Layout (POSIX.1-1988): name 0..100, mode 100..108, uid 108..116, gid 116..124, size 124..136,
//! mtime 136..148, checksum 148..156, type 156, link name 157..257, magic 257..263, version
//! 263..265, user 265..297, group 297..329, device major 329..337, minor 337..345, prefix 345..500.
//!
//! Invariant: [`TarEntry::path`] is the path below the root that a runtime would create, without
//! leading `./` and trailing `/`; whatever was unusual about the name is noted.

use super::{
    extension::Extensions,
    field,
    oddities::{Oddities, OddityKind},
};
use std::collections::BTreeMap;

/// Bytes of a tar block.
pub(super) const BLOCK: usize = 512;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::compare) enum EntryKind {
    Regular,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// The type byte.
    Other(u8),
}

impl EntryKind {
    /// The word for it.
    pub(in crate::compare) fn text(self) -> String {
        match self {
            Self::Regular => "file".into(),
            Self::HardLink => "hard link".into(),
            Self::Symlink => "symbolic link".into(),
            Self::CharDevice => "character device".into(),
            Self::BlockDevice => "block device".into(),
            Self::Directory => "directory".into(),
            Self::Fifo => "fifo".into(),
            Self::Other(byte) => format!("type {:?}", byte.escape_ascii().to_string()),
        }
    }
}

/// Which dialect a header is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::compare) enum Format {
    V7,
    Ustar,
    Pax,
    Gnu,
    Star,
}

impl Format {
    /// The word for it.
    pub(in crate::compare) const fn as_str(self) -> &'static str {
        match self {
            Self::V7 => "v7",
            Self::Ustar => "ustar",
            Self::Pax => "pax",
            Self::Gnu => "gnu",
            Self::Star => "star",
        }
    }
}

/// One entry as a runtime would take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::compare) struct TarEntry {
    /// Where its first header begins in the uncompressed stream.
    pub offset: u64,
    pub path: Vec<u8>,
    pub kind: EntryKind,
    /// All bits as they stand.
    pub mode: i64,
    pub uid: i64,
    pub gid: i64,
    /// Bytes of content that follow: 0 for all but files and unknown types.
    pub stored_size: u64,
    /// Seconds, nanoseconds.
    pub mtime: (i64, u32),
    pub link: Vec<u8>,
    pub user: Vec<u8>,
    pub group: Vec<u8>,
    pub device: (i64, i64),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// PAX records that are none of the fields above: `atime`, `ctime`, checksums of packages.
    pub records: BTreeMap<Vec<u8>, Vec<u8>>,
    pub format: Format,
}

impl TarEntry {
    /// What it takes in memory, for the budget.
    pub(super) fn kept_bytes(&self) -> usize {
        let maps = self.xattrs.iter().chain(&self.records);
        let maps: usize = maps.map(|(k, v)| k.len() + v.len() + 64).sum();
        self.path.len() + self.link.len() + self.user.len() + self.group.len() + maps
    }
}

/// The block's own fields.
pub(super) struct Raw {
    pub typeflag: u8,
    pub size: u64,
    name: Vec<u8>,
    mode: i64,
    uid: i64,
    gid: i64,
    mtime: i64,
    link: Vec<u8>,
    user: Vec<u8>,
    group: Vec<u8>,
    device: (i64, i64),
    format: Format,
}

/// Reads one block. The error is the reason why it is no header.
pub(super) fn parse(block: &[u8; BLOCK], oddities: &mut Oddities) -> Result<Raw, String> {
    check_sum(block)?;
    let format = match (&block[257..263], &block[263..265]) {
        (b"ustar\0", _) if &block[508..512] == b"tar\0" => Format::Star,
        (b"ustar\0", _) => Format::Ustar,
        (b"ustar ", b" \0") => Format::Gnu,
        _ => Format::V7,
    };
    let size = field::number(&block[124..136])?;
    let mut name = field::text(&block[..100]).to_vec();
    let prefix = match format {
        Format::Ustar => field::text(&block[345..500]),
        Format::Star => field::text(&block[345..476]),
        _ => b"",
    };
    if !prefix.is_empty() {
        name = [prefix, b"/", &name].concat();
    }
    if hides_bytes(block, format) {
        oddities.add(OddityKind::HiddenBytes, &name, "unused bytes of the header");
    }
    let v7 = format == Format::V7;
    let text = |from: usize, to: usize| if v7 { &[] } else { field::text(&block[from..to]) };
    let device = if v7 {
        (0, 0)
    } else {
        (field::number(&block[329..337])?, field::number(&block[337..345])?)
    };
    Ok(Raw {
        typeflag: block[156],
        size: u64::try_from(size).map_err(|_| format!("expected a size, found {size}"))?,
        name,
        mode: field::number(&block[100..108])?,
        uid: field::number(&block[108..116])?,
        gid: field::number(&block[116..124])?,
        mtime: field::number(&block[136..148])?,
        link: field::text(&block[157..257]).to_vec(),
        user: text(265, 297).to_vec(),
        group: text(297, 329).to_vec(),
        device,
        format,
    })
}

fn check_sum(block: &[u8; BLOCK]) -> Result<(), String> {
    let stated = field::number(&block[148..156])?;
    let bytes =
        || block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b });
    let unsigned: i64 = bytes().map(i64::from).sum();
    // Some old writers summed signed characters.
    let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
    if stated == unsigned || stated == signed {
        return Ok(());
    }
    Err(format!("expected the header checksum {unsigned:o}, found {stated:o}"))
}

fn hides_bytes(block: &[u8; BLOCK], format: Format) -> bool {
    let texts = [&block[..100], &block[157..257]];
    let numbers = [
        &block[100..108],
        &block[108..116],
        &block[116..124],
        &block[124..136],
        &block[136..148],
        &block[148..156],
    ];
    // Base-256 numbers hold NULs by right.
    let hidden_number = |n: &&[u8]| n[0] & 0x80 == 0 && hides_digits(n);
    let rest = match format {
        Format::V7 => block[257..].iter().any(|b| *b != 0),
        Format::Ustar | Format::Pax => {
            block[500..].iter().any(|b| *b != 0)
                || [&block[265..297], &block[297..329], &block[345..500]].into_iter().any(hides)
                || [&block[329..337], &block[337..345]].iter().any(hidden_number)
        }
        // atime, ctime, offset and sparse maps of GNU headers are not shown; see `with`.
        Format::Gnu => {
            [&block[265..297], &block[297..329]].into_iter().any(hides)
                || (block[156] != b'S' && block[369..].iter().any(|b| *b != 0))
        }
        Format::Star => {
            [&block[265..297], &block[297..329], &block[345..476]].into_iter().any(hides)
        }
    };
    // Files and folders lead nowhere.
    let stray_link = matches!(block[156], 0 | b'0' | b'5' | b'7') && block[157] != 0;
    rest || stray_link || texts.into_iter().any(hides) || numbers.iter().any(hidden_number)
}

fn hides(text: &[u8]) -> bool {
    field::hides(text)
}

/// Digits after the NUL that ends a number; blanks may stand there.
fn hides_digits(number: &[u8]) -> bool {
    number.iter().skip_while(|b| **b != 0).any(|b| !matches!(b, 0 | b' '))
}

impl Raw {
    /// The entry, with what the extensions say. The error is the reason why there is none.
    pub(super) fn with(
        self,
        extensions: Extensions,
        offset: u64,
        oddities: &mut Oddities,
    ) -> Result<TarEntry, String> {
        let Extensions { mut records, has_pax, long_name, long_link, .. } = extensions;
        // An empty value takes a record back: the header's own field stands.
        let mut take = |key: &[u8]| records.remove(key).filter(|value| !value.is_empty());
        let number = |value: Option<Vec<u8>>, own: i64| match value {
            Some(value) => field::pax_number(&value),
            None => Ok(own),
        };
        // Go lets a GNU long name win over a PAX one; that both are there is noted already.
        let name = long_name.or(take(b"path")).unwrap_or(self.name);
        let link = long_link.or(take(b"linkpath")).unwrap_or(self.link);
        let uid = number(take(b"uid"), self.uid)?;
        let gid = number(take(b"gid"), self.gid)?;
        let mtime = match take(b"mtime") {
            Some(value) => field::pax_time(&value)?,
            None => (self.mtime, 0),
        };
        let user = take(b"uname").unwrap_or(self.user);
        let group = take(b"gname").unwrap_or(self.group);
        let pax_size = take(b"size");
        let own_size = i64::try_from(self.size).map_err(|_| "a size beyond 63 bits".to_owned())?;
        let size = number(pax_size.clone(), own_size)?;
        let size = u64::try_from(size).map_err(|_| format!("expected a size, found {size}"))?;
        let kind = kind_of(self.typeflag, &name);
        let path = clean(&name, kind, oddities);
        if pax_size.is_some() && self.size != 0 && self.size != size {
            let detail = format!("PAX says {size}, the header {}", self.size);
            oddities.add(OddityKind::SizeConflict, &path, detail);
        }
        let has_content = matches!(kind, EntryKind::Regular | EntryKind::Other(_));
        if !has_content && (size != 0 || self.size != 0) {
            let detail = format!("{} of {size} bytes", kind.text());
            oddities.add(OddityKind::SizeWithoutContent, &path, detail);
        }
        let sparse = records.keys().any(|key| key.starts_with(b"GNU.sparse."));
        if sparse || self.typeflag == b'S' {
            oddities.add(OddityKind::Sparse, &path, "only its stored bytes are compared");
        } else if matches!(kind, EntryKind::Other(_)) || self.typeflag == b'7' {
            oddities.add(OddityKind::UnknownType, &path, kind.text());
        }
        let (xattrs, others) = split_records(records);
        let format = if has_pax { Format::Pax } else { self.format };
        Ok(TarEntry {
            offset,
            path,
            kind,
            mode: self.mode,
            uid,
            gid,
            stored_size: if has_content { size } else { 0 },
            mtime,
            link,
            user,
            group,
            device: self.device,
            xattrs,
            records: others,
            format,
        })
    }
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Extended attributes by their names, and all other records.
fn split_records(records: Records) -> (Records, Records) {
    let (mut xattrs, mut others) = (Records::new(), Records::new());
    for (key, value) in records {
        match key.strip_prefix(XATTR) {
            Some(name) => xattrs.insert(name.to_vec(), value),
            None => others.insert(key, value),
        };
    }
    (xattrs, others)
}

fn kind_of(typeflag: u8, name: &[u8]) -> EntryKind {
    match typeflag {
        0 if name.ends_with(b"/") => EntryKind::Directory,
        b'0' | 0 | b'7' | b'S' => EntryKind::Regular,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => EntryKind::Other(other),
    }
}

/// The path below the root: `./usr/bin/` is `usr/bin`, the root itself is empty.
pub(in crate::compare) fn clean(name: &[u8], kind: EntryKind, oddities: &mut Oddities) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut odd = name.is_empty() || name.contains(&0);
    let body = name.strip_prefix(b"./").unwrap_or(name);
    if name.starts_with(b"/") {
        oddities.add(OddityKind::PathAbsolute, name, "");
    }
    let absolute = body.strip_prefix(b"/").unwrap_or(body);
    let trimmed = absolute.strip_suffix(b"/").unwrap_or(absolute);
    if absolute.ends_with(b"/") && kind != EntryKind::Directory {
        odd = true;
    }
    let root = trimmed.is_empty() || trimmed == b".";
    for part in trimmed.split(|b| *b == b'/').filter(|_| !root) {
        match part {
            b"" | b"." => odd = true,
            b".." => {
                oddities.add(OddityKind::PathEscape, name, "");
                parts.push(part);
            }
            _ => parts.push(part),
        }
    }
    if odd {
        oddities.add(OddityKind::PathNotCanonical, name, "");
    }
    parts.join(&b'/')
}
