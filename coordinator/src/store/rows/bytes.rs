//! Fields of a row one after the other: numbers, digests, texts, lists.
//!
//! A number takes seven bits a byte, the lowest first, the eighth bit says that more follow (LEB128);
//! a text and a list have their length before them.
//! Invariant: what was read is what was written, and bytes that are not whole fields give none: a
//! reader never panics and takes no memory for what a length only claims.

use attest::Digest;

/// Writes fields.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn code(&mut self, code: u8) {
        self.0.push(code);
    }

    pub(super) fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.raw(text.as_bytes());
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut one: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        for item in items {
            one(self, item);
        }
    }

    pub(super) fn maybe<T>(&mut self, item: Option<T>, one: impl FnOnce(&mut Self, T)) {
        self.code(u8::from(item.is_some()));
        if let Some(item) = item {
            one(self, item);
        }
    }
}

/// Reads fields; none where the bytes are not what was asked for.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn code(&mut self) -> Option<u8> {
        self.take::<1>().map(|[code]| code)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0u64, 0);
        loop {
            let byte = self.code()?;
            let bits = u64::from(byte & 0x7f);
            // Ten bytes at most, and nothing of them is lost.
            if shift > 63 || (bits << shift) >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
            shift += 7;
        }
    }

    pub(super) fn number32(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    pub(super) fn digest(&mut self) -> Option<Digest> {
        self.take().map(Digest::from_raw)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(head).ok().map(str::to_owned)
    }

    pub(super) fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut items = Vec::new();
        for _ in 0..self.number()? {
            items.push(one(self)?);
        }
        Some(items)
    }

    /// The outer none: it cannot be read.
    #[allow(clippy::option_option)]
    pub(super) fn maybe<T>(
        &mut self,
        one: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.code()? {
            0 => Some(None),
            1 => one(self).map(Some),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_round_trip(number: u64, text in "\\PC{0,200}", list: Vec<u64>, maybe: Option<u64>) {
            let mut out = Writer::default();
            out.number(number);
            out.text(&text);
            out.list(&list, |out, number| out.number(*number));
            out.maybe(maybe, Writer::number);
            let mut at = Reader(&out.0);
            prop_assert_eq!(at.number(), Some(number));
            prop_assert_eq!(at.text(), Some(text));
            prop_assert_eq!(at.list(Reader::number), Some(list));
            prop_assert_eq!(at.maybe(Reader::number), Some(maybe));
            prop_assert!(at.0.is_empty());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Reader(&bytes).number();
            let _ = Reader(&bytes).text();
            let _ = Reader(&bytes).list(Reader::text);
            let _ = Reader(&bytes).maybe(Reader::digest);
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_none() {
        let mut most = [0xff; 10];
        most[9] = 1;
        assert_eq!(Reader(&most).number(), Some(u64::MAX));
        most[9] = 2;
        assert_eq!(Reader(&most).number(), None);
        assert_eq!(Reader(&[0x80; 11]).number(), None);
        assert_eq!(Reader(&[0x80]).number(), None);
    }
}
