//! The lines of `APKINDEX`: one letter, a colon, a value; an empty line ends a record (Alpine wiki,
//! "Apk spec", "Index Format").
//!
//! Invariant: records are what apko would take from the same lines, and one field has one value: a
//! letter that comes twice in a record is an error. Fields that neither resolving nor trust needs
//! are not kept.

use super::{IndexError, Words};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What an index says about one package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexEntry {
    /// `P:`
    pub name: String,
    /// `V:`
    pub version: String,
    /// `A:`
    pub arch: String,
    /// `o:` the source package
    pub origin: String,
    /// `C:Q1…` SHA-1 of the compressed control member
    pub control_sha1: Option<[u8; 20]>,
    /// `S:` bytes of the file
    pub size: u64,
    /// `I:`
    pub installed_size: u64,
    /// `k:`
    pub provider_priority: u64,
    /// `t:` in seconds since 1970
    pub build_date: i64,
    /// `D:`
    pub depends: Words,
    /// `p:`
    pub provides: Words,
    /// `i:`
    pub install_if: Words,
    /// `r:`
    pub replaces: Words,
}

impl IndexEntry {
    /// `name-version.apk`
    pub fn file_name(&self) -> String {
        format!("{}-{}.apk", self.name, self.version)
    }
}

/// The parser of lines.
pub(super) struct Records {
    entries: Vec<IndexEntry>,
    entries_max: usize,
    current: IndexEntry,
    /// Letters seen in the current record, one bit each.
    seen: u128,
    number: u64,
}

impl Records {
    pub(super) fn new(entries_max: usize) -> Self {
        let current = IndexEntry::default();
        Self { entries: Vec::new(), entries_max, current, seen: 0, number: 0 }
    }

    /// The records. As for apko, one that no empty line follows is not one.
    pub(super) fn finish(self) -> Vec<IndexEntry> {
        self.entries
    }

    /// Takes one line with its ending.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), IndexError> {
        self.number += 1;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line {
            [] => self.end_record(),
            [letter, b':', value @ ..] => self.field(*letter, value),
            _ => Err(self.bad("a letter and a colon", line)),
        }
    }

    fn bad(&self, expected: &'static str, found: &[u8]) -> IndexError {
        IndexError::Line { line: self.number, expected, found: crate::apk::tar::show(found) }
    }

    fn end_record(&mut self) -> Result<(), IndexError> {
        let record = std::mem::take(&mut self.current);
        self.seen = 0;
        if record.name.is_empty() {
            return Ok(());
        }
        if self.entries.len() == self.entries_max {
            let max = self.entries_max as u64;
            return Err(IndexError::Limit { what: "records", max });
        }
        self.entries.push(record);
        Ok(())
    }

    fn field(&mut self, letter: u8, value: &[u8]) -> Result<(), IndexError> {
        let bit = 1u128 << (letter & 0x7f);
        if self.seen & bit != 0 || letter >= 0x80 {
            return Err(self.bad("each letter once in a record", &[letter]));
        }
        self.seen |= bit;
        match letter {
            b'P' => self.current.name = self.plain(value)?,
            b'V' => self.current.version = self.plain(value)?,
            b'A' => self.current.arch = self.text(value)?,
            b'o' => self.current.origin = self.text(value)?,
            b'C' => self.current.control_sha1 = self.checksum(value)?,
            b'S' => self.current.size = self.number(value)?,
            b'I' => self.current.installed_size = self.number(value)?,
            b'k' => self.current.provider_priority = self.number(value)?,
            b't' => self.current.build_date = self.number(value)?,
            b'D' => self.current.depends = self.list(value)?,
            b'p' => self.current.provides = self.list(value)?,
            b'i' => self.current.install_if = self.list(value)?,
            b'r' => self.current.replaces = self.list(value)?,
            _ => {}
        }
        Ok(())
    }

    fn text(&self, value: &[u8]) -> Result<String, IndexError> {
        match std::str::from_utf8(value) {
            Ok(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
            _ => Err(self.bad("UTF-8 without control characters", value)),
        }
    }

    /// A name or version: it becomes part of a URL and of a file name.
    fn plain(&self, value: &[u8]) -> Result<String, IndexError> {
        let text = self.text(value)?;
        match text.is_empty() || crate::apk::pkginfo::is_plain(&text) {
            true => Ok(text),
            false => Err(self.bad("a name or version without `/` and spaces", value)),
        }
    }

    fn number<T: std::str::FromStr>(&self, value: &[u8]) -> Result<T, IndexError> {
        // Rust would take a plus sign, Go does not.
        let text = std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'));
        let number = text.and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.bad("a number", value))
    }

    fn list(&self, value: &[u8]) -> Result<Words, IndexError> {
        Ok(Words::new(&self.text(value)?))
    }

    /// Other algorithms than `Q1` are no checksum, as for apko.
    fn checksum(&self, value: &[u8]) -> Result<Option<[u8; 20]>, IndexError> {
        let Some(base64) = value.strip_prefix(b"Q1") else { return Ok(None) };
        let raw = STANDARD.decode(base64).ok().and_then(|raw| raw.try_into().ok());
        raw.map(Some).ok_or_else(|| self.bad("Q1 and the base64 of 20 bytes", value))
    }
}
