//! The INI dialect of the library that apko uses (go-ini, `ShadowLoad`), as its behaviour was
//! observed: comments, quotes, continuation lines, repeated keys, `%(key)s`.
//!
//! Invariant: only keys of the default section are kept, each with its distinct values in order.
//! Interpolation is bounded over the whole file: it must never write more than
//! [`INTERPOLATED_BYTES_MAX`], however the values refer to each other.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
};

/// Bytes that replacing references may write, over all values of a file. Real files have none.
const INTERPOLATED_BYTES_MAX: usize = 16 << 20;

/// How often go-ini replaces a reference in one value before it stops.
const INTERPOLATIONS_MAX: usize = 99;

/// Distinct values that one key may have. Each new one is compared with all before it.
const VALUES_MAX: usize = 20_000;

/// The section that keys before any `[section]` belong to.
const DEFAULT_SECTION: &str = "DEFAULT";

/// A line that go-ini would not read, or too much of something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum IniError {
    #[error("line {line}: no `=` or `:`")]
    NoDelimiter { line: usize },
    #[error("line {line}: an empty key")]
    EmptyKey { line: usize },
    #[error("line {line}: a quote that is not closed")]
    OpenQuote { line: usize },
    #[error("line {line}: a section that is not closed or has no name")]
    Section { line: usize },
    #[error("{key}: replacing references takes more than {INTERPOLATED_BYTES_MAX} bytes")]
    Interpolation { key: String },
    #[error("more than {VALUES_MAX} values of {key}")]
    TooManyValues { key: String },
}

/// Keys of the default section with their values, as written.
pub(super) struct Ini<'a> {
    values: HashMap<&'a str, Values>,
    /// What interpolation may still write.
    room: Cell<usize>,
}

#[derive(Default)]
struct Values {
    /// Distinct, in order of their first appearance.
    distinct: Vec<String>,
    seen: HashSet<String>,
}

/// Lines with their endings, and the number of the one read last.
struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.number += 1;
        Some(line)
    }
}

impl<'a> Ini<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, IniError> {
        let mut ini = Self { values: HashMap::new(), room: Cell::new(INTERPOLATED_BYTES_MAX) };
        let mut lines = Lines { rest: text, number: 0 };
        let mut mine = true;
        while let Some(line) = lines.next() {
            let line = line.trim_start();
            match line.chars().next() {
                None | Some('#' | ';') => {}
                Some('[') => mine = section(line, lines.number)? == DEFAULT_SECTION,
                Some(_) => {
                    let (key, rest) = split_key(line, lines.number)?;
                    let value = read_value(rest, &mut lines)?;
                    if mine {
                        ini.add(key, value)?;
                    }
                }
            }
        }
        Ok(ini)
    }

    fn add(&mut self, key: &'a str, value: String) -> Result<(), IniError> {
        let values = self.values.entry(key).or_default();
        if values.seen.insert(value.clone()) {
            values.distinct.push(value);
        }
        if values.distinct.len() > VALUES_MAX {
            return Err(IniError::TooManyValues { key: key.to_owned() });
        }
        Ok(())
    }

    /// The first value of a key, its references replaced; empty where there is none.
    pub(super) fn scalar(&self, key: &str) -> Result<String, IniError> {
        match self.first(key) {
            Some(value) => self.interpolate(key, value),
            None => Ok(String::new()),
        }
    }

    /// All values of a key, each split at commas.
    pub(super) fn list(&self, key: &str) -> Result<Vec<String>, IniError> {
        let values = self.values.get(key).map_or(&[][..], |values| &values.distinct);
        values
            .iter()
            .filter(|value| !value.is_empty())
            .flat_map(|value| value.split(','))
            .map(|part| self.interpolate(key, part.trim()))
            .collect()
    }

    fn first(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.distinct.first().map(String::as_str)
    }

    fn interpolate(&self, key: &str, value: &str) -> Result<String, IniError> {
        let mut value = value.to_owned();
        for _ in 0..INTERPOLATIONS_MAX {
            let Some(reference) = find_reference(&value) else { break };
            let name = &reference[2..reference.len() - 2];
            let Some(target) = self.first(name) else { break };
            let count = value.matches(reference).count();
            let grown = target.len().checked_mul(count).and_then(|n| n.checked_add(value.len()));
            let room = grown.and_then(|bytes| self.room.get().checked_sub(bytes));
            let full = || IniError::Interpolation { key: key.to_owned() };
            self.room.set(room.ok_or_else(full)?);
            value = value.replace(reference, target);
        }
        Ok(value)
    }
}

/// The first `%(name)s`, name not empty.
fn find_reference(value: &str) -> Option<&str> {
    let mut from = 0;
    while let Some(at) = value.get(from..)?.find("%(") {
        let start = from + at;
        let close = start + 2 + value.get(start + 2..)?.find(')')?;
        if close > start + 2 && value.get(close + 1..)?.starts_with('s') {
            return value.get(start..close + 2);
        }
        from = start + 2;
    }
    None
}

fn section(line: &str, number: usize) -> Result<&str, IniError> {
    let name = line.rfind(']').and_then(|close| line.get(1..close));
    name.filter(|name| !name.is_empty()).ok_or(IniError::Section { line: number })
}

/// Key, and what follows the delimiter.
fn split_key(line: &str, number: usize) -> Result<(&str, &str), IniError> {
    let no_delimiter = IniError::NoDelimiter { line: number };
    let quote = match line.as_bytes() {
        [b'"', b'"', b'"', ..] if line.len() > 6 => "\"\"\"",
        [b'"', ..] => "\"",
        [b'`', ..] => "`",
        _ => "",
    };
    let (key, rest) = if quote.is_empty() {
        let delimiter = line.find(['=', ':']).ok_or(no_delimiter)?;
        (&line[..delimiter], &line[delimiter + 1..])
    } else {
        let inner = &line[quote.len()..];
        let close = inner.find(quote).ok_or(IniError::OpenQuote { line: number })?;
        let behind = &inner[close + quote.len()..];
        let delimiter = behind.find(['=', ':']).ok_or(no_delimiter)?;
        (&inner[..close], &behind[delimiter + 1..])
    };
    match key.trim() {
        "" => Err(IniError::EmptyKey { line: number }),
        key => Ok((key, rest)),
    }
}

fn read_value(rest: &str, lines: &mut Lines<'_>) -> Result<String, IniError> {
    let value = rest.trim_start();
    let quote = match value.as_bytes() {
        [] => return Ok(String::new()),
        [b'"', b'"', b'"', _, ..] => "\"\"\"",
        [b'`', ..] => "`",
        _ => "",
    };
    if !quote.is_empty() {
        let inner = &value[quote.len()..];
        return match inner.rfind(quote) {
            Some(close) => Ok(inner[..close].to_owned()),
            None => read_quoted_lines(inner, quote, lines),
        };
    }
    let value = value.trim_end();
    if let Some(begun) = value.strip_suffix('\\') {
        return Ok(read_continued_lines(begun, lines));
    }
    let value = match value.find(['#', ';']) {
        Some(comment) => value[..comment].trim(),
        None => value,
    };
    Ok(without_quotes(value).to_owned())
}

/// A raw value over several lines, up to the last quote of the first line that has one.
fn read_quoted_lines(begun: &str, quote: &str, lines: &mut Lines<'_>) -> Result<String, IniError> {
    let opened = lines.number;
    let mut value = begun.to_owned();
    for line in lines {
        if let Some(close) = line.rfind(quote) {
            value.push_str(&line[..close]);
            return Ok(value);
        }
        value.push_str(line);
    }
    Err(IniError::OpenQuote { line: opened })
}

/// Lines that end in a backslash go on in the next; neither comments nor quotes count in them.
fn read_continued_lines(begun: &str, lines: &mut Lines<'_>) -> String {
    let mut value = begun.to_owned();
    for line in lines {
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        value.push_str(line);
        if !value.ends_with('\\') {
            break;
        }
        value.pop();
    }
    value
}

/// Strips one pair of equal quotes around a value that has no other of their kind.
fn without_quotes(value: &str) -> &str {
    for quote in ['\'', '"'] {
        let inner = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.contains(quote)) {
            return inner;
        }
    }
    value
}
