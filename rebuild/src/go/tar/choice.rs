//! Which of the three tar layouts a header gets, and which pax records go with it.
//!
//! Invariant: ustar is taken before pax and pax before GNU, among those that can hold every field
//! and that the header allows. A header that none can hold is an error that names the fields.

use std::fmt::Write as _;

use super::{
    Format, GO_ZERO_TIME, Header, Kind, Records, TarError,
    block::{Block, fits_binary, fits_octal},
    name, shown,
};

/// The records that repeat a field of the header: Go writes them only by its own judgement.
const FIELD_KEYS: [&[u8]; 10] = [
    b"path",
    b"linkpath",
    b"size",
    b"uid",
    b"gid",
    b"uname",
    b"gname",
    b"mtime",
    b"atime",
    b"ctime",
];

/// Records of this family are dropped: sparse files are not written.
const SPARSE_KEYS: &[u8] = b"GNU.sparse.";

/// The layout of the header block.
pub(super) enum Layout {
    /// Plain ustar, the name already split.
    Ustar { prefix: Vec<u8>, name: Vec<u8> },
    /// With an extended header when there are records.
    Pax,
    /// With long-name entries where needed.
    Gnu,
}

/// What was decided for one header.
pub(super) struct Choice {
    pub(super) layout: Layout,
    pub(super) records: Records,
}

impl Choice {
    /// Decides, or says why nothing fits.
    pub(super) fn of(header: &Header) -> Result<Self, TarError> {
        let mut survey = Survey::new(header);
        survey.fields()?;
        survey.records()?;
        survey.wanted_format();
        let Survey { ustar, pax, gnu, records, reasons, .. } = survey;
        let layout = if ustar {
            let (prefix, rest) = name::split(&header.name).unwrap_or((b"", &header.name));
            Layout::Ustar { prefix: prefix.to_vec(), name: rest.to_vec() }
        } else if pax {
            Layout::Pax
        } else if gnu {
            Layout::Gnu
        } else {
            return Err(TarError::NotRepresentable { name: shown(&header.name), reasons });
        };
        Ok(Self { layout, records })
    }
}

/// What is known so far about one header.
struct Survey<'a> {
    header: &'a Header,
    ustar: bool,
    pax: bool,
    gnu: bool,
    /// The time cannot be in a ustar block: then a pax source may not fall back to ustar.
    prefer_pax: bool,
    records: Records,
    reasons: String,
}

impl<'a> Survey<'a> {
    fn new(header: &'a Header) -> Self {
        Self {
            header,
            ustar: true,
            pax: true,
            gnu: true,
            prefer_pax: false,
            records: Records::new(),
            reasons: String::new(),
        }
    }

    fn fields(&mut self) -> Result<(), TarError> {
        let header = self.header;
        self.text("name", &header.name, Block::NAME.len(), b"path");
        self.text("link name", &header.link_name, Block::LINK_NAME.len(), b"linkpath");
        self.text("user name", &header.user_name, Block::USER_NAME.len(), b"uname");
        self.text("group name", &header.group_name, Block::GROUP_NAME.len(), b"gname");
        let mode = i64::from(header.mode);
        self.number("mode", mode, Block::MODE.len(), None);
        let uid = signed(header, "uid", header.uid)?;
        self.number("uid", uid, Block::UID.len(), Some(b"uid"));
        let gid = signed(header, "gid", header.gid)?;
        self.number("gid", gid, Block::GID.len(), Some(b"gid"));
        let size = signed(header, "size", header.size)?;
        self.number("size", size, Block::SIZE.len(), Some(b"size"));
        let major = signed(header, "major", header.device_major)?;
        self.number("device major", major, Block::MAJOR.len(), None);
        let minor = signed(header, "minor", header.device_minor)?;
        self.number("device minor", minor, Block::MINOR.len(), None);
        if header.mtime != GO_ZERO_TIME {
            self.prefer_pax = !fits_octal(Block::MTIME.len(), header.mtime);
            self.number("mtime", header.mtime, Block::MTIME.len(), Some(b"mtime"));
        }
        let link = matches!(header.kind, Kind::HardLink | Kind::Symlink | Kind::Directory);
        if !link && header.name.ends_with(b"/") {
            return Err(TarError::TrailingSlash { name: shown(&header.name) });
        }
        Ok(())
    }

    fn text(&mut self, field: &str, value: &[u8], width: usize, key: &[u8]) {
        let too_long = value.len() > width;
        let long_in_gnu = matches!(key, b"path" | b"linkpath");
        if value.contains(&0) || (too_long && !long_in_gnu) {
            self.gnu = false;
            self.reason(field, "too long or with NUL for GNU");
        }
        if too_long || !name::is_ascii(value) {
            if key != b"path" || name::split(value).is_none() {
                self.ustar = false;
                self.reason(field, "too long or not ASCII for ustar");
            }
            self.records.insert(key.to_vec(), value.to_vec());
        }
        self.repeat(key, value);
    }

    fn number(&mut self, field: &str, value: i64, width: usize, key: Option<&[u8]>) {
        if !fits_binary(width, value) {
            self.gnu = false;
            self.reason(field, "out of range for GNU");
        }
        let digits = value.to_string().into_bytes();
        if !fits_octal(width, value) {
            self.ustar = false;
            self.reason(field, "out of range for ustar");
            match key {
                Some(key) => {
                    self.records.insert(key.to_vec(), digits.clone());
                }
                None => {
                    self.pax = false;
                    self.reason(field, "out of range for pax");
                }
            }
        }
        if let Some(key) = key {
            self.repeat(key, &digits);
        }
    }

    /// A record of the header that says the same as the field is kept.
    fn repeat(&mut self, key: &[u8], value: &[u8]) {
        if self.header.pax.get(key).is_some_and(|record| record == value) {
            self.records.insert(key.to_vec(), value.to_vec());
        }
    }

    fn records(&mut self) -> Result<(), TarError> {
        for (key, value) in &self.header.pax {
            let foreign = !FIELD_KEYS.contains(&key.as_slice()) && !key.starts_with(SPARSE_KEYS);
            if foreign && !self.records.contains_key(key) {
                self.records.insert(key.clone(), value.clone());
            }
        }
        if !self.header.pax.is_empty() {
            (self.ustar, self.gnu) = (false, false);
            self.reason("pax records", "of which only pax can hold any");
        }
        match self.records.iter().find(|(key, value)| !valid_record(key, value)) {
            None => Ok(()),
            Some((key, _)) => {
                Err(TarError::InvalidRecord { name: shown(&self.header.name), key: shown(key) })
            }
        }
    }

    fn wanted_format(&mut self) {
        match self.header.format {
            Format::Auto => {}
            Format::Pax => {
                self.ustar &= !self.prefer_pax;
                self.gnu = false;
            }
            Format::Gnu => (self.ustar, self.pax) = (false, false),
        }
    }

    fn reason(&mut self, field: &str, why: &str) {
        let comma = if self.reasons.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(self.reasons, "{comma}{field} {why}");
    }
}

/// Keys are non-empty and without `=`; NUL is refused in the texts that ustar also has, and in
/// the keys of all others.
fn valid_record(key: &[u8], value: &[u8]) -> bool {
    let text = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
    let without_nul = if text { value } else { key };
    !key.is_empty() && !key.contains(&b'=') && !without_nul.contains(&0)
}

/// Go's numbers are signed: beyond that no header can exist.
pub(super) fn signed(header: &Header, field: &str, number: u64) -> Result<i64, TarError> {
    i64::try_from(number).map_err(|_| TarError::NotRepresentable {
        name: shown(&header.name),
        reasons: format!("{field} {number}, beyond 63 bits"),
    })
}
