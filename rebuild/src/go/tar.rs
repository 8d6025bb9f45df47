//! Writes tar streams with the bytes of Go's `archive/tar` writer.
//!
//! Invariant: for one list of headers and contents there is one stream, the one that the Go
//! program writes. A field that no format can hold is an error, never a changed value. It must
//! never look at a file system and never hold the contents of an entry: they only pass through.
//!
//! The layouts are those of POSIX.1-1988 (ustar), POSIX.1-2001 (pax extended headers) and GNU tar.

mod block;
mod choice;
mod name;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use self::{
    block::{BLOCK_SIZE, Block, Magic},
    choice::{Choice, Layout},
};

/// The largest body of a pax extended header that Go writes or reads back: 1 MiB.
const PAX_BODY_BYTES_MAX: usize = 1 << 20;

/// The seconds of Go's zero time (year 1): Go takes it as "no time was set" and writes 0.
const GO_ZERO_TIME: i64 = -62_135_596_800;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file with contents.
    Regular,
    /// Another name of an earlier entry, in [`Header::link_name`].
    HardLink,
    /// A symbolic link to [`Header::link_name`].
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

impl Kind {
    /// The type flag of the header block.
    pub fn flag(&self) -> u8 {
        match self {
            Self::Regular => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::CharDevice => b'3',
            Self::BlockDevice => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }

    /// Only regular files are followed by contents.
    fn has_data(&self) -> bool {
        *self == Self::Regular
    }
}

/// Which layouts may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The first of ustar, pax and GNU that can hold the header.
    Auto,
    /// The header came from a pax archive: ustar or pax, never GNU.
    Pax,
    /// The header came from a GNU archive: the GNU layout only.
    Gnu,
}

/// One entry, as Go's `tar.Header` without the fields that no image uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The whole name, as it stands in the archive.
    pub name: Vec<u8>,
    /// What the entry is.
    pub kind: Kind,
    /// The mode bits, usually twelve.
    pub mode: u32,
    /// The owner's number.
    pub uid: u64,
    /// The group's number.
    pub gid: u64,
    /// Bytes of content. Written to the header for every kind, followed by data for files only.
    pub size: u64,
    /// Seconds since 1970, also negative.
    pub mtime: i64,
    /// The target of a link.
    pub link_name: Vec<u8>,
    /// The owner's name.
    pub user_name: Vec<u8>,
    /// The group's name.
    pub group_name: Vec<u8>,
    /// Device number, major part.
    pub device_major: u64,
    /// Device number, minor part.
    pub device_minor: u64,
    /// Pax records. A record that repeats a field (`path`, `uid`, `mtime`…) is written only when
    /// its value equals the field's, as in Go; every other record is written as it is. Any record
    /// at all restricts the header to the pax layout.
    pub pax: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Which layouts may be used.
    pub format: Format,
}

impl Header {
    /// A header with this kind and name; every other field is zero, empty or [`Format::Auto`].
    pub fn new(kind: Kind, name: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            link_name: Vec::new(),
            user_name: Vec::new(),
            group_name: Vec::new(),
            device_major: 0,
            device_minor: 0,
            pax: BTreeMap::new(),
            format: Format::Auto,
        }
    }
}

/// Why a tar stream could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The place that the bytes go to failed.
    #[error("the tar stream could not be written: {0}")]
    Io(#[from] io::Error),
    /// No layout that the header allows can hold it.
    #[error("expected a header that tar can hold, found entry {name:?} with {reasons}")]
    NotRepresentable {
        /// The entry.
        name: String,
        /// Which fields stand in the way of which layout.
        reasons: String,
    },
    /// Go refuses such names, because readers take them for directories.
    #[error("expected a name without a trailing slash, found {name:?} for a file or device")]
    TrailingSlash {
        /// The entry.
        name: String,
    },
    /// A pax record whose key or value the format cannot carry.
    #[error("expected a pax record without NUL or '=' in the key, found {key:?} in entry {name:?}")]
    InvalidRecord {
        /// The entry.
        name: String,
        /// The record's key.
        key: String,
    },
    /// The records of one entry are longer than Go accepts.
    #[error(
        "expected at most {PAX_BODY_BYTES_MAX} bytes of pax records, found {found} in {name:?}"
    )]
    RecordsTooLong {
        /// The entry.
        name: String,
        /// Their length.
        found: usize,
    },
    /// A header or the end came before all the promised content.
    #[error("expected {missing} more bytes of content before the next entry or the end")]
    MissingData {
        /// How many bytes are owed.
        missing: u64,
    },
    /// More content than the header promised.
    #[error("expected at most {expected} more bytes of content, found {found}")]
    TooMuchData {
        /// How many bytes may still come.
        expected: u64,
        /// How many came.
        found: usize,
    },
}

/// A tar stream being written.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    /// Content bytes still owed for the current entry.
    owed: u64,
    /// Zero bytes to write once the content is complete.
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`, in pieces of at least one block: buffer it when calls are dear.
    pub fn new(out: W) -> Self {
        Self { out, owed: 0, padding: 0 }
    }

    /// Starts an entry; for a regular file exactly `header.size` bytes of data must follow.
    pub fn header(&mut self, header: &Header) -> Result<(), TarError> {
        self.close_entry()?;
        let choice = Choice::of(header)?;
        match choice.layout {
            Layout::Ustar { prefix, name } => {
                let mut block = Block::new(header.kind.flag());
                fill(&mut block, header, &name, <[u8]>::to_vec, Block::octal)?;
                block.text(Block::PREFIX, &prefix);
                self.out.write_all(&block.sealed(Magic::Ustar))?;
            }
            Layout::Pax => self.pax(header, &choice.records)?,
            Layout::Gnu => self.gnu(header)?,
        }
        self.owed = if header.kind.has_data() { header.size } else { 0 };
        self.padding = padding_after(self.owed);
        Ok(())
    }

    /// The next bytes of the current entry's content.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.data_by(bytes.len() as u64, |out| out.write_all(bytes))
    }

    /// The same from somebody who passes so many bytes to the stream without handing them in.
    pub fn data_by(
        &mut self,
        count: u64,
        pass: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> Result<(), TarError> {
        if count > self.owed {
            let found = usize::try_from(count).unwrap_or(usize::MAX);
            return Err(TarError::TooMuchData { expected: self.owed, found });
        }
        pass(&mut self.out)?;
        self.owed -= count;
        Ok(())
    }

    /// Ends the last entry and the archive with two blocks of zeros.
    pub fn finish(mut self) -> Result<W, TarError> {
        self.close_entry()?;
        self.out.write_all(&[0; 2 * BLOCK_SIZE])?;
        Ok(self.out)
    }

    fn close_entry(&mut self) -> Result<(), TarError> {
        if self.owed > 0 {
            return Err(TarError::MissingData { missing: self.owed });
        }
        let padding = [0; BLOCK_SIZE];
        self.out.write_all(&padding[..self.padding])?;
        self.padding = 0;
        Ok(())
    }

    fn pax(&mut self, header: &Header, records: &Records) -> Result<(), TarError> {
        if !records.is_empty() {
            let mut body = Vec::new();
            for (key, value) in records {
                append_record(&mut body, key, value);
            }
            if body.len() > PAX_BODY_BYTES_MAX {
                let name = shown(&header.name);
                return Err(TarError::RecordsTooLong { name, found: body.len() });
            }
            self.special(b'x', &name::pax_header_name(&header.name), &body, Magic::Ustar)?;
        }
        let mut block = Block::new(header.kind.flag());
        fill(&mut block, header, &header.name, name::ascii, Block::octal_or_zero)?;
        self.out.write_all(&block.sealed(Magic::Ustar))?;
        Ok(())
    }

    fn gnu(&mut self, header: &Header) -> Result<(), TarError> {
        for (value, flag) in [(&header.name, b'L'), (&header.link_name, b'K')] {
            if value.len() > Block::NAME.len() {
                let mut body = value.clone();
                body.push(0);
                self.special(flag, b"././@LongLink", &body, Magic::Gnu)?;
            }
        }
        let mut block = Block::new(header.kind.flag());
        fill(&mut block, header, &header.name, <[u8]>::to_vec, Block::numeric)?;
        self.out.write_all(&block.sealed(Magic::Gnu))?;
        Ok(())
    }

    /// An entry that only carries data about the next one: every number but the size is zero.
    fn special(&mut self, flag: u8, name: &[u8], body: &[u8], magic: Magic) -> io::Result<()> {
        let mut block = Block::new(flag);
        block.text(Block::NAME, name::cut(name));
        for field in [Block::MODE, Block::UID, Block::GID, Block::MTIME] {
            block.octal_or_zero(field, 0);
        }
        block.octal_or_zero(Block::SIZE, body.len() as i64);
        self.out.write_all(&block.sealed(magic))?;
        self.out.write_all(body)?;
        self.out.write_all(&[0; BLOCK_SIZE][..padding_after(body.len() as u64)])
    }
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Fills the fields that all layouts share.
fn fill(
    block: &mut Block,
    header: &Header,
    name: &[u8],
    reduce: fn(&[u8]) -> Vec<u8>,
    number: fn(&mut Block, block::Field, i64),
) -> Result<(), TarError> {
    block.text(Block::NAME, &reduce(name));
    block.text(Block::LINK_NAME, &reduce(&header.link_name));
    block.text(Block::USER_NAME, &reduce(&header.user_name));
    block.text(Block::GROUP_NAME, &reduce(&header.group_name));
    number(block, Block::MODE, i64::from(header.mode));
    number(block, Block::UID, choice::signed(header, "uid", header.uid)?);
    number(block, Block::GID, choice::signed(header, "gid", header.gid)?);
    number(block, Block::SIZE, choice::signed(header, "size", header.size)?);
    number(block, Block::MTIME, if header.mtime == GO_ZERO_TIME { 0 } else { header.mtime });
    number(block, Block::MAJOR, choice::signed(header, "major", header.device_major)?);
    number(block, Block::MINOR, choice::signed(header, "minor", header.device_minor)?);
    Ok(())
}

/// Appends `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn append_record(body: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + " =\n".len();
    let mut length = rest + rest.to_string().len();
    length = rest + length.to_string().len();
    body.extend_from_slice(length.to_string().as_bytes());
    body.push(b' ');
    body.extend_from_slice(key);
    body.push(b'=');
    body.extend_from_slice(value);
    body.push(b'\n');
}

fn padding_after(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK_SIZE as u64) as usize
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
