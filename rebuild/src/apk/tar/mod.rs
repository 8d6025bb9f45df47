//! Reads tar archives as package data has them: POSIX ustar, PAX extended headers, GNU long names.
//!
//! Invariant: entries come in the order of the archive, and whatever two tar readers could
//! understand differently is an error: signed sums, numbers that overflow, extensions that
//! contradict the header or each other, global and sparse headers, unknown types, content behind
//! the end. It must never hold more than one entry's extensions and one buffer in memory, and never
//! writes anything to a file system.

mod header;
mod pax;
mod problem;

pub use pax::XATTR_PREFIX;
pub use problem::{TarError, TarProblem};

use crate::go::tar::{Format, Header, Kind};
use header::{BLOCK, Block, Layout, RawHeader, is_zero};
use pax::Records;
use std::io::{self, Read};

/// Room for content between the source and whoever looks at it: pieces that are large enough for
/// the file system to take them cheaply, and that stay in a core's own cache.
const BUFFER_BYTES: usize = 256 << 10;

/// Bounds on what an archive may hold. Its length is bounded by whoever hands the bytes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TarLimits {
    /// Entries in the archive.
    pub entries_max: u64,
    /// Bytes of one name or link name.
    pub name_bytes_max: usize,
    /// Components of one name.
    pub depth_max: usize,
    /// Bytes of one PAX extended header.
    pub pax_bytes_max: usize,
    /// Bytes of names and values of one entry's extended attributes.
    pub xattr_bytes_max: usize,
    /// Bytes of names and records of all entries together: what a list of all headers keeps.
    pub metadata_bytes_max: u64,
}

impl Default for TarLimits {
    /// Far above real packages. The largest that were looked at have some 60,000 entries; Linux
    /// allows 4,096 bytes for a path and 64 KiB for one attribute.
    fn default() -> Self {
        Self {
            entries_max: 400_000,
            name_bytes_max: 4096,
            depth_max: 256,
            pax_bytes_max: 256 << 10,
            xattr_bytes_max: 128 << 10,
            // 400,000 entries with 160 bytes each.
            metadata_bytes_max: 64 << 20,
        }
    }
}

/// Extensions that wait for the entry they belong to.
#[derive(Default)]
struct Pending {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.records.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

/// A streaming reader of one archive.
pub struct Reader<R> {
    source: R,
    limits: TarLimits,
    buffer: Box<[u8]>,
    /// What of the buffer is filled and not yet used.
    start: usize,
    end: usize,
    /// Offset in the archive of `buffer[start]`.
    position: u64,
    /// Content of the current entry not yet handed out, and its padding.
    remaining: u64,
    padding: u64,
    entries: u64,
    metadata_bytes: u64,
    finished: bool,
    /// The entry whose content is not over, for errors.
    current: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// Reads from the first byte of an archive.
    pub fn new(source: R, limits: TarLimits) -> Self {
        Self {
            source,
            limits,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            position: 0,
            remaining: 0,
            padding: 0,
            entries: 0,
            metadata_bytes: 0,
            finished: false,
            current: None,
        }
    }

    /// Where the content of the current entry goes on, counted from the start of the archive.
    pub fn offset(&self) -> u64 {
        self.position
    }

    /// The next entry; `None` behind the last, after the source was read to its end.
    pub fn next_entry(&mut self) -> Result<Option<Header>, TarError> {
        if self.finished {
            return Ok(None);
        }
        match self.advance() {
            Ok(found) => Ok(found),
            Err((name, problem)) => {
                self.finished = true;
                let entry = match name {
                    Some(name) => show(&name),
                    None => format!("number {} (at byte {})", self.entries, self.position),
                };
                Err(TarError { entry, problem })
            }
        }
    }

    /// The next piece of the current entry's content; empty at its end.
    pub fn chunk(&mut self) -> Result<&[u8], TarProblem> {
        if self.remaining > 0 && self.start == self.end {
            self.fill()?;
            if self.start == self.end {
                return Err(TarProblem::Truncated);
            }
        }
        let there = self.end - self.start;
        let taken = usize::try_from(self.remaining).map_or(there, |left| left.min(there));
        let from = self.start;
        self.consume(taken);
        self.remaining -= taken as u64;
        Ok(&self.buffer[from..from + taken])
    }

    /// The whole content of the current entry.
    pub fn content(&mut self, bytes_max: u64) -> Result<Vec<u8>, TarProblem> {
        if self.remaining > bytes_max {
            return Err(TarProblem::Limit { what: "bytes of content", max: bytes_max });
        }
        let mut content = Vec::new();
        while self.remaining > 0 {
            content.extend_from_slice(self.chunk()?);
        }
        Ok(content)
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.position += bytes as u64;
    }

    /// Reads once into the room behind what is there. Nothing new means the source is at its end.
    fn fill(&mut self) -> Result<(), TarProblem> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarProblem::Read(error)),
            }
        }
    }

    fn skip_content(&mut self) -> Result<(), TarProblem> {
        while self.remaining > 0 {
            self.chunk()?;
        }
        self.remaining = std::mem::take(&mut self.padding);
        while self.remaining > 0 {
            if !is_zero(self.chunk()?) {
                return Err(TarProblem::Padding);
            }
        }
        Ok(())
    }

    /// The next block; `None` where the source ends before it.
    fn block(&mut self) -> Result<Option<Block>, TarProblem> {
        while self.end - self.start < BLOCK {
            let before = self.end - self.start;
            self.fill()?;
            if self.end - self.start == before {
                return if before == 0 { Ok(None) } else { Err(TarProblem::Truncated) };
            }
        }
        let mut block = [0; BLOCK];
        block.copy_from_slice(&self.buffer[self.start..self.start + BLOCK]);
        self.consume(BLOCK);
        Ok(Some(block))
    }

    fn advance(&mut self) -> Result<Option<Header>, (Option<Vec<u8>>, TarProblem)> {
        let unnamed = |problem| (None, problem);
        if let Err(problem) = self.skip_content() {
            return Err((self.current.take(), problem));
        }
        self.current = None;
        let mut pending = Pending::default();
        loop {
            let block = self.block().map_err(unnamed)?;
            let Some(block) = block.filter(|block| block != &[0; BLOCK]) else {
                if !pending.is_empty() {
                    return Err(unnamed(TarProblem::DanglingExtension));
                }
                self.expect_end().map_err(unnamed)?;
                self.finished = true;
                return Ok(None);
            };
            let raw = RawHeader::parse(&block).map_err(unnamed)?;
            match raw.type_flag {
                b'x' => self.extended_header(&raw, &mut pending).map_err(unnamed)?,
                b'L' | b'K' => self.long_name(&raw, &mut pending).map_err(unnamed)?,
                _ => return self.entry(raw, pending).map(Some),
            }
            self.skip_content().map_err(unnamed)?;
        }
    }

    fn count_entry(&mut self) -> Result<(), TarProblem> {
        self.entries += 1;
        if self.entries > self.limits.entries_max {
            return Err(TarProblem::Limit { what: "entries", max: self.limits.entries_max });
        }
        Ok(())
    }

    /// Behind the last entry there may only be zero blocks.
    fn expect_end(&mut self) -> Result<(), TarProblem> {
        loop {
            if !is_zero(&self.buffer[self.start..self.end]) {
                return Err(TarProblem::BehindTheEnd);
            }
            self.consume(self.end - self.start);
            self.fill()?;
            if self.start == self.end {
                return match self.position % BLOCK as u64 {
                    0 => Ok(()),
                    _ => Err(TarProblem::Truncated),
                };
            }
        }
    }

    fn begin_content(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn extended_header(
        &mut self,
        raw: &RawHeader,
        pending: &mut Pending,
    ) -> Result<(), TarProblem> {
        if pending.records.is_some() {
            return Err(TarProblem::DuplicateExtension);
        }
        let max = self.limits.pax_bytes_max as u64;
        if raw.size > max {
            return Err(TarProblem::Limit { what: "bytes of a PAX header", max });
        }
        self.begin_content(raw.size);
        let body = self.content(max)?;
        self.count_metadata(body.len())?;
        pending.records = Some(Records::parse(&body, self.limits.xattr_bytes_max)?);
        Ok(())
    }

    fn long_name(&mut self, raw: &RawHeader, pending: &mut Pending) -> Result<(), TarProblem> {
        if raw.layout != Layout::Gnu {
            return Err(TarProblem::Magic);
        }
        let slot = match raw.type_flag {
            b'L' => &mut pending.long_name,
            _ => &mut pending.long_link,
        };
        if slot.is_some() {
            return Err(TarProblem::DuplicateExtension);
        }
        // One more for the NUL at its end.
        let max = self.limits.name_bytes_max as u64 + 1;
        if raw.size > max {
            return Err(TarProblem::Limit { what: "bytes of a name", max: max - 1 });
        }
        self.begin_content(raw.size);
        let mut name = self.content(max)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        if name.is_empty() || name.contains(&0) {
            return Err(TarProblem::BytesBehindNul { field: "long name" });
        }
        *slot = Some(name);
        Ok(())
    }

    fn count_metadata(&mut self, bytes: usize) -> Result<(), TarProblem> {
        self.metadata_bytes = self.metadata_bytes.saturating_add(bytes as u64);
        let max = self.limits.metadata_bytes_max;
        if self.metadata_bytes > max {
            return Err(TarProblem::Limit { what: "bytes of names and PAX headers", max });
        }
        Ok(())
    }

    fn entry(
        &mut self,
        raw: RawHeader,
        pending: Pending,
    ) -> Result<Header, (Option<Vec<u8>>, TarProblem)> {
        self.count_entry().map_err(|problem| (None, problem))?;
        let name = pending.long_name.clone().unwrap_or_else(|| raw.name.shown());
        let header = merge(raw, pending).map_err(|problem| (Some(name), problem))?;
        let named = |problem| (Some(header.name.clone()), problem);
        self.count_metadata(header.name.len() + header.link_name.len()).map_err(named)?;
        let limits = &self.limits;
        let longest = header.name.len().max(header.link_name.len());
        if longest > limits.name_bytes_max {
            let max = limits.name_bytes_max as u64;
            return Err(named(TarProblem::Limit { what: "bytes of a name", max }));
        }
        let depth = header.name.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).count();
        if depth > limits.depth_max {
            let max = limits.depth_max as u64;
            return Err(named(TarProblem::Limit { what: "components of a name", max }));
        }
        self.begin_content(header.size);
        self.current = Some(header.name.clone());
        Ok(header)
    }
}

/// Applies extensions to the header they belong to.
fn merge(raw: RawHeader, pending: Pending) -> Result<Header, TarProblem> {
    let kind = kind_of(raw.type_flag)?;
    let format = match (raw.layout, &pending.records) {
        (Layout::Ustar, None) => Format::Auto,
        (Layout::Ustar, Some(_)) => Format::Pax,
        (Layout::Gnu, None) => Format::Gnu,
        (Layout::Gnu, Some(_)) => return Err(TarProblem::MixedFormats),
    };
    if raw.layout == Layout::Ustar && (pending.long_name.is_some() || pending.long_link.is_some()) {
        return Err(TarProblem::MixedFormats);
    }
    let records = pending.records.unwrap_or_default();
    let name = match records.path.or(pending.long_name) {
        Some(name) => name,
        None => raw.name.strict("name")?,
    };
    let link_name = match records.link_path.or(pending.long_link) {
        Some(name) => name,
        None if is_link(&kind) => raw.link_name.strict("linkname")?,
        // abuild-tar keeps a checksum of its own in a file's unused field, behind a NUL.
        None => raw.link_name.cut(),
    };
    let size = size_of(raw.size, records.size)?;
    if name.is_empty() {
        return Err(TarProblem::EmptyName);
    }
    if is_link(&kind) && link_name.is_empty() {
        return Err(TarProblem::EmptyLink);
    }
    // Some readers make a directory of such an entry, others a file.
    if kind == Kind::Regular && name.ends_with(b"/") {
        return Err(TarProblem::FileNamedAsDirectory);
    }
    if kind != Kind::Regular && size != 0 {
        return Err(TarProblem::UnexpectedContent { size });
    }
    let replaced = |field: Vec<u8>, record: Option<Vec<u8>>| match record {
        Some(name) if !name.is_empty() => name,
        _ => field,
    };
    let mut header = Header::new(kind, name);
    header.link_name = link_name;
    header.mode = raw.mode;
    header.uid = records.uid.unwrap_or(raw.uid);
    header.gid = records.gid.unwrap_or(raw.gid);
    header.size = size;
    header.mtime = records.mtime.unwrap_or(raw.mtime);
    header.user_name = replaced(raw.user_name, records.user_name);
    header.group_name = replaced(raw.group_name, records.group_name);
    header.device_major = raw.device_major;
    header.device_minor = raw.device_minor;
    header.pax = records.other;
    header.format = format;
    Ok(header)
}

/// A PAX size only where the field cannot hold it (11 octal digits), or the same.
fn size_of(field: u64, record: Option<u64>) -> Result<u64, TarProblem> {
    const FIELD_MAX: u64 = (1 << 33) - 1;
    match record {
        None => Ok(field),
        Some(record) if record == field || (field == 0 && record > FIELD_MAX) => Ok(record),
        Some(record) => Err(TarProblem::ContradictingSize { field, record }),
    }
}

fn is_link(kind: &Kind) -> bool {
    matches!(kind, Kind::HardLink | Kind::Symlink)
}

fn kind_of(type_flag: u8) -> Result<Kind, TarProblem> {
    Ok(match type_flag {
        b'0' | 0 => Kind::Regular,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => return Err(TarProblem::Sparse),
        b'g' => return Err(TarProblem::GlobalHeader),
        other => return Err(TarProblem::UnknownType { flag: char::from(other) }),
    })
}

/// A name for messages: escaped and cut, as foreign bytes must be.
pub(super) fn show(name: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 200;
    let cut = name.get(..SHOWN_BYTES_MAX);
    let shown = String::from_utf8_lossy(cut.unwrap_or(name)).escape_debug().to_string();
    if cut.is_some() { shown + "…" } else { shown }
}

#[cfg(test)]
mod tests;
