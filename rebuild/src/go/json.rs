//! Writes JSON with the bytes of Go's `encoding/json`: compact, HTML characters escaped.
//!
//! Invariant: what is written is valid UTF-8 and valid JSON whatever the strings hold; fields stand
//! in the order of the calls, as Go's stand in the order of the struct. The values are written as
//! given: this file knows no schema. Keys of objects are the caller's own words, maps may hold
//! foreign ones.

use std::collections::BTreeMap;

/// How backspace and form feed are written; everything else never changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escapes {
    /// Go 1.22 and later: `\b` and `\f`.
    #[default]
    Short,
    /// Go before 1.22: `\u0008` and `\u000c`.
    Long,
}

/// Appends a quoted string with the escapes of Go 1.22 and later.
pub fn escape(out: &mut Vec<u8>, text: &[u8]) {
    escape_as(out, text, Escapes::Short);
}

/// Appends a quoted string: `<`, `>`, `&`, U+2028, U+2029 and control characters escaped, every
/// byte that is not part of valid UTF-8 replaced by `\ufffd`.
pub fn escape_as(out: &mut Vec<u8>, text: &[u8], escapes: Escapes) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        valid(out, chunk.valid().as_bytes(), escapes);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

/// The part of a string that is valid UTF-8.
fn valid(out: &mut Vec<u8>, text: &[u8], escapes: Escapes) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| is_special(byte)) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let taken = special(out, tail, escapes);
        rest = &tail[taken..];
    }
    out.extend_from_slice(rest);
}

/// Bytes that may need an escape: 0xe2 starts the two line separators, and other characters.
fn is_special(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2)
}

/// Writes the character at the start of `tail`; how many bytes it took.
fn special(out: &mut Vec<u8>, tail: &[u8], escapes: Escapes) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let &[byte, ..] = tail else { return 0 };
    let short = match byte {
        b'"' | b'\\' => Some(byte),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        0x08 if escapes == Escapes::Short => Some(b'b'),
        0x0c if escapes == Escapes::Short => Some(b'f'),
        _ => None,
    };
    match (short, tail) {
        (Some(letter), _) => out.extend_from_slice(&[b'\\', letter]),
        (None, [0xe2, 0x80, last @ (0xa8 | 0xa9), ..]) => {
            out.extend_from_slice(b"\\u202");
            out.push(HEX[usize::from(last & 0xf)]);
            return 3;
        }
        (None, [0xe2, ..]) => out.push(byte),
        (None, _) => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
        }
    }
    1
}

/// An object being appended to a buffer. [`Object::end`] closes it; an object that is dropped
/// without it leaves the buffer unfinished.
#[derive(Debug)]
#[must_use = "an object must be ended"]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    escapes: Escapes,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Opens an object.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self::with_escapes(out, Escapes::default())
    }

    /// Opens an object whose strings are escaped as the given Go did.
    pub fn with_escapes(out: &'a mut Vec<u8>, escapes: Escapes) -> Self {
        out.push(b'{');
        Self { out, escapes, empty: true }
    }

    /// A field whose value the caller appends: exactly one JSON value.
    pub fn value(&mut self, key: impl AsRef<[u8]>, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        escape_as(self.out, key.as_ref(), self.escapes);
        self.out.push(b':');
        write(self.out);
        self
    }

    /// A string.
    pub fn string(&mut self, key: impl AsRef<[u8]>, text: impl AsRef<[u8]>) -> &mut Self {
        let escapes = self.escapes;
        self.value(key, |out| escape_as(out, text.as_ref(), escapes))
    }

    /// A string, left out when empty.
    pub fn string_omitempty(&mut self, key: impl AsRef<[u8]>, text: impl AsRef<[u8]>) -> &mut Self {
        if text.as_ref().is_empty() { self } else { self.string(key, text) }
    }

    /// A number without fraction.
    pub fn integer(&mut self, key: impl AsRef<[u8]>, number: impl Into<i128>) -> &mut Self {
        let digits = number.into().to_string();
        self.value(key, |out| out.extend_from_slice(digits.as_bytes()))
    }

    /// A number, left out when zero.
    pub fn integer_omitempty(
        &mut self,
        key: impl AsRef<[u8]>,
        number: impl Into<i128>,
    ) -> &mut Self {
        match number.into() {
            0 => self,
            number => self.integer(key, number),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: impl AsRef<[u8]>, value: bool) -> &mut Self {
        self.raw(key, if value { b"true" } else { b"false" })
    }

    /// `true`, or nothing.
    pub fn boolean_omitempty(&mut self, key: impl AsRef<[u8]>, value: bool) -> &mut Self {
        if value { self.boolean(key, true) } else { self }
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, key: impl AsRef<[u8]>, json: &[u8]) -> &mut Self {
        self.value(key, |out| out.extend_from_slice(json))
    }

    /// An array of strings.
    pub fn array_of_strings<T: AsRef<[u8]>>(
        &mut self,
        key: impl AsRef<[u8]>,
        texts: &[T],
    ) -> &mut Self {
        self.array_of(key, texts, |text, array| array.string(text))
    }

    /// An array of strings, left out when empty.
    pub fn array_of_strings_omitempty<T: AsRef<[u8]>>(
        &mut self,
        key: impl AsRef<[u8]>,
        texts: &[T],
    ) -> &mut Self {
        if texts.is_empty() { self } else { self.array_of_strings(key, texts) }
    }

    /// A map of strings, in the byte order of its keys.
    pub fn map_of_strings<K, V>(&mut self, key: impl AsRef<[u8]>, map: &BTreeMap<K, V>) -> &mut Self
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        self.object(key, |object| {
            for (key, text) in map {
                object.string(key, text);
            }
        })
    }

    /// A map of strings, left out when empty.
    pub fn map_of_strings_omitempty<K, V>(
        &mut self,
        key: impl AsRef<[u8]>,
        map: &BTreeMap<K, V>,
    ) -> &mut Self
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        if map.is_empty() { self } else { self.map_of_strings(key, map) }
    }

    /// An object, present also when `fill` writes nothing.
    pub fn object(
        &mut self,
        key: impl AsRef<[u8]>,
        fill: impl FnOnce(&mut Object<'_>),
    ) -> &mut Self {
        let escapes = self.escapes;
        self.value(key, |out| {
            let mut object = Object::with_escapes(out, escapes);
            fill(&mut object);
            object.end();
        })
    }

    /// An array, present also when `fill` writes nothing.
    pub fn array(&mut self, key: impl AsRef<[u8]>, fill: impl FnOnce(&mut Array<'_>)) -> &mut Self {
        let escapes = self.escapes;
        self.value(key, |out| {
            let mut array = Array::with_escapes(out, escapes);
            fill(&mut array);
            array.end();
        })
    }

    /// An array with one element for each item.
    pub fn array_of<'i, T>(
        &mut self,
        key: impl AsRef<[u8]>,
        items: &'i [T],
        mut each: impl for<'x, 'o> FnMut(&'i T, &'x mut Array<'o>) -> &'x mut Array<'o>,
    ) -> &mut Self {
        self.array(key, |array| {
            for item in items {
                each(item, array);
            }
        })
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// An array being appended to a buffer. [`Array::end`] closes it.
#[derive(Debug)]
#[must_use = "an array must be ended"]
pub struct Array<'a> {
    out: &'a mut Vec<u8>,
    escapes: Escapes,
    empty: bool,
}

impl<'a> Array<'a> {
    /// Opens an array.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self::with_escapes(out, Escapes::default())
    }

    /// Opens an array whose strings are escaped as the given Go did.
    pub fn with_escapes(out: &'a mut Vec<u8>, escapes: Escapes) -> Self {
        out.push(b'[');
        Self { out, escapes, empty: true }
    }

    /// An element that the caller appends: exactly one JSON value.
    pub fn value(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        write(self.out);
        self
    }

    /// A string.
    pub fn string(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        let escapes = self.escapes;
        self.value(|out| escape_as(out, text.as_ref(), escapes))
    }

    /// A number without fraction.
    pub fn integer(&mut self, number: impl Into<i128>) -> &mut Self {
        let digits = number.into().to_string();
        self.value(|out| out.extend_from_slice(digits.as_bytes()))
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, json: &[u8]) -> &mut Self {
        self.value(|out| out.extend_from_slice(json))
    }

    /// An object.
    pub fn object(&mut self, fill: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        let escapes = self.escapes;
        self.value(|out| {
            let mut object = Object::with_escapes(out, escapes);
            fill(&mut object);
            object.end();
        })
    }

    /// Closes the array.
    pub fn end(self) {
        self.out.push(b']');
    }
}
