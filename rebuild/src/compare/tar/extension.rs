//! Headers that say something of the entry after them: PAX (`x`, `g`; POSIX.1-2001, pax) and GNU
//! long names (`L`, `K`).
//!
//! Invariant: what Go would take is taken; a second extension of the same kind, a key that stands
//! twice or a NUL in a name is noted, because other readers take the other one.

use super::oddities::{Oddities, OddityKind};
use std::collections::BTreeMap;

/// What an extension header holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pax,
    GlobalPax,
    LongName,
    LongLink,
}

impl Kind {
    /// None for the types that are entries.
    pub(super) fn of(typeflag: u8) -> Option<Self> {
        match typeflag {
            b'x' => Some(Self::Pax),
            b'g' => Some(Self::GlobalPax),
            b'L' => Some(Self::LongName),
            b'K' => Some(Self::LongLink),
            _ => None,
        }
    }
}

/// All extensions of one entry.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub records: BTreeMap<Vec<u8>, Vec<u8>>,
    pub has_pax: bool,
    pub long_name: Option<Vec<u8>>,
    pub long_link: Option<Vec<u8>>,
    has_global: bool,
}

impl Extensions {
    /// True when an entry must follow.
    pub(super) fn any(&self) -> bool {
        self.has_pax || self.long_name.is_some() || self.long_link.is_some() || self.has_global
    }

    /// Takes one extension header's data.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        data: &[u8],
        oddities: &mut Oddities,
    ) -> Result<(), String> {
        let again = match kind {
            Kind::Pax => std::mem::replace(&mut self.has_pax, true),
            Kind::GlobalPax => {
                oddities.add(OddityKind::GlobalPax, b"", format!("{} bytes", data.len()));
                records(data, oddities)?;
                std::mem::replace(&mut self.has_global, true)
            }
            Kind::LongName => self.long_name.replace(gnu_text(data, oddities)).is_some(),
            Kind::LongLink => self.long_link.replace(gnu_text(data, oddities)).is_some(),
        };
        if kind == Kind::Pax {
            self.records = records(data, oddities)?;
        }
        if again || (self.has_pax && (self.long_name.is_some() || self.long_link.is_some())) {
            let detail = "more than one extension header says the same";
            oddities.add(OddityKind::StackedExtensions, b"", detail);
        }
        Ok(())
    }
}

fn gnu_text(data: &[u8], oddities: &mut Oddities) -> Vec<u8> {
    if super::field::hides(data) {
        oddities.add(OddityKind::HiddenBytes, b"", "bytes after the end of a long name");
    }
    super::field::text(data).to_vec()
}

/// `length key=value\n`, repeated; `length` counts the whole record.
fn records(mut data: &[u8], oddities: &mut Oddities) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
    let mut found = BTreeMap::new();
    while !data.is_empty() {
        let bad = || format!("expected a PAX record, found {:?}", super::field::quoted(data));
        let blank = data.iter().take(8).position(|b| *b == b' ').ok_or_else(bad)?;
        let digits = data.get(..blank).unwrap_or_default();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(bad());
        }
        let length = digits.iter().fold(0usize, |n, d| n * 10 + usize::from(d - b'0'));
        let record = data.get(blank + 1..length).ok_or_else(bad)?;
        let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        let (key, value) = record.split_at(equals);
        let value = value.get(1..).unwrap_or_default();
        if key.is_empty() || key.contains(&0) {
            return Err(bad());
        }
        let plain = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
        if plain && value.contains(&0) {
            return Err("a PAX name holds a NUL".to_owned());
        }
        if found.insert(key.to_vec(), value.to_vec()).is_some() {
            let key = super::field::quoted(key);
            oddities.add(OddityKind::AmbiguousPax, b"", format!("{key:?} stands twice"));
        }
        data = data.get(length..).unwrap_or_default();
    }
    Ok(found)
}
