//! PAX extended header records (POSIX.1-2001 pax, "pax Extended Header": `"%d %s=%s\n"`).
//!
//! Invariant: every record is well formed and no keyword comes twice, so there is one value for
//! each. Sparse files and values that another reader would cut (NUL) are refused.

use super::TarProblem;
use std::collections::BTreeMap;

/// Go's prefix for extended attributes.
pub const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// The records of one extended header. The keywords that replace fields of the header are apart
/// from the rest.
#[derive(Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) user_name: Option<Vec<u8>>,
    pub(super) group_name: Option<Vec<u8>>,
    pub(super) mtime: Option<i64>,
    pub(super) other: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Records {
    /// Reads the content of an `x` entry. `xattr_bytes_max` bounds names and values of extended
    /// attributes; the caller bounds the whole.
    pub(super) fn parse(mut body: &[u8], xattr_bytes_max: usize) -> Result<Self, TarProblem> {
        let mut records = Self::default();
        let mut times = [false; 2];
        let mut xattr_bytes = 0usize;
        while !body.is_empty() {
            let Record { key, value, rest } = split_record(body)?;
            body = rest;
            if key.starts_with(XATTR_PREFIX) {
                xattr_bytes = xattr_bytes.saturating_add(key.len()).saturating_add(value.len());
                if xattr_bytes > xattr_bytes_max {
                    return Err(TarProblem::Limit {
                        what: "bytes of extended attributes",
                        max: xattr_bytes_max as u64,
                    });
                }
            }
            records.add(key, value, &mut times)?;
        }
        Ok(records)
    }

    fn add(&mut self, key: &[u8], value: &[u8], times: &mut [bool; 2]) -> Result<(), TarProblem> {
        match key {
            b"path" => once(key, &mut self.path, text(key, value)?),
            b"linkpath" => once(key, &mut self.link_path, text(key, value)?),
            b"uname" => once(key, &mut self.user_name, name(key, value)?),
            b"gname" => once(key, &mut self.group_name, name(key, value)?),
            b"size" => once(key, &mut self.size, decimal(key, value)?),
            b"uid" => once(key, &mut self.uid, decimal(key, value)?),
            b"gid" => once(key, &mut self.gid, decimal(key, value)?),
            b"mtime" => once(key, &mut self.mtime, time(key, value)?),
            // Read so that nonsense is refused; nothing in an image carries them.
            b"atime" => seen(key, &mut times[0], value),
            b"ctime" => seen(key, &mut times[1], value),
            _ if key.starts_with(b"GNU.sparse") => Err(TarProblem::Sparse),
            _ if self.other.insert(key.to_vec(), value.to_vec()).is_some() => Err(duplicate(key)),
            _ => Ok(()),
        }
    }
}

fn once<T>(key: &[u8], slot: &mut Option<T>, value: T) -> Result<(), TarProblem> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(duplicate(key)),
    }
}

fn seen(key: &[u8], slot: &mut bool, value: &[u8]) -> Result<(), TarProblem> {
    time(key, value)?;
    match std::mem::replace(slot, true) {
        false => Ok(()),
        true => Err(duplicate(key)),
    }
}

fn duplicate(key: &[u8]) -> TarProblem {
    TarProblem::DuplicateRecord { key: super::show(key) }
}

fn bad_value(key: &[u8]) -> TarProblem {
    TarProblem::RecordValue { key: super::show(key) }
}

/// One record, and what follows it.
struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
    rest: &'a [u8],
}

/// Splits the first record off.
fn split_record(body: &[u8]) -> Result<Record<'_>, TarProblem> {
    const LENGTH_DIGITS_MAX: usize = 7; // an extended header holds at most 1 MiB
    let space = body
        .iter()
        .take(LENGTH_DIGITS_MAX + 1)
        .position(|&byte| byte == b' ')
        .ok_or(TarProblem::RecordSyntax)?;
    let (digits, _) = body.split_at(space);
    if digits.first() == Some(&b'0') {
        return Err(TarProblem::RecordSyntax);
    }
    let length = usize::try_from(digits_of(digits).ok_or(TarProblem::RecordSyntax)?)
        .map_err(|_| TarProblem::RecordSyntax)?;
    let record = body.get(space + 1..length).ok_or(TarProblem::RecordSyntax)?;
    let (newline, record) = record.split_last().ok_or(TarProblem::RecordSyntax)?;
    let equals = record.iter().position(|&byte| byte == b'=').ok_or(TarProblem::RecordSyntax)?;
    let (key, value) = record.split_at(equals);
    // Readers that go by lines, not by lengths, find other records behind a line break in a key.
    let splits = key.contains(&0) || key.contains(&b'\n');
    if *newline != b'\n' || key.is_empty() || splits {
        return Err(TarProblem::RecordSyntax);
    }
    let value = value.get(1..).unwrap_or_default();
    Ok(Record { key, value, rest: body.get(length..).unwrap_or_default() })
}

fn text(key: &[u8], value: &[u8]) -> Result<Vec<u8>, TarProblem> {
    if value.is_empty() {
        return Err(bad_value(key));
    }
    name(key, value)
}

fn name(key: &[u8], value: &[u8]) -> Result<Vec<u8>, TarProblem> {
    if value.contains(&0) {
        return Err(bad_value(key));
    }
    Ok(value.to_vec())
}

fn decimal(key: &[u8], value: &[u8]) -> Result<u64, TarProblem> {
    // Go keeps these in signed 64-bit integers.
    digits_of(value).filter(|&n| i64::try_from(n).is_ok()).ok_or_else(|| bad_value(key))
}

fn digits_of(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Seconds with an optional fraction, rounded half up as Go's writer rounds them.
fn time(key: &[u8], value: &[u8]) -> Result<i64, TarProblem> {
    let mut parts = value.splitn(2, |&byte| byte == b'.');
    let whole = decimal(key, parts.next().unwrap_or_default())?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(bad_value(key));
    }
    let up = u64::from(fraction.first().is_some_and(|&digit| digit >= b'5'));
    i64::try_from(whole.saturating_add(up)).map_err(|_| bad_value(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &str) -> Vec<u8> {
        let mut length = key.len() + value.len() + 3;
        length += length.to_string().len();
        let mut text = format!("{length} {key}={value}\n");
        if text.len() != length {
            text = format!("{} {key}={value}\n", text.len());
        }
        text.into_bytes()
    }

    fn parse(body: &[u8]) -> Result<Records, TarProblem> {
        Records::parse(body, 1000)
    }

    #[test]
    fn fields_and_others() {
        let body = [record("path", "a/ü"), record("mtime", "12.5"), record("X.y", "a=b")].concat();
        let records = parse(&body).unwrap();
        assert_eq!(records.path.as_deref(), Some("a/ü".as_bytes()));
        assert_eq!(records.mtime, Some(13));
        assert_eq!(records.other[&b"X.y"[..]], b"a=b");
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        let bad = [
            [record("size", "1"), record("size", "2")].concat(),
            [record("X", "1"), record("X", "1")].concat(),
            record("path", "a\0b"),
            record("path", ""),
            record("size", "-1"),
            record("size", "99999999999999999999"),
            record("mtime", "1e5"),
            record("mtime", "-1"),
            record("GNU.sparse.major", "1"),
            record("a\0b", "1"),
            record("a\n35 path", "b"),
            b"09 path=a\n".to_vec(),
            b"99 path=a\n".to_vec(),
            b"4 \n".to_vec(),
            b"18446744073709551616 a=b\n".to_vec(),
            record("SCHILY.xattr.user.big", &"x".repeat(1000)),
        ];
        for body in bad {
            assert!(parse(&body).is_err(), "{}", body.escape_ascii());
        }
        assert_eq!(parse(b"5 a=\n").unwrap().other[&b"a"[..]], b"");
    }
}
