//! PEM (RFC 7468, with the headers of RFC 1421) as Go's `encoding/pem` reads and writes it.
//!
//! Invariant: decoding looks at every byte a bounded number of times per block and never panics;
//! encoding gives lines of 64 characters and the headers sorted, `Proc-Type` first.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use std::collections::BTreeMap;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
const LINE_CHARACTERS: usize = 64;
/// Bytes of a text that is searched for a block; a certificate has some 2 KiB.
pub(super) const TEXT_BYTES_MAX: usize = 256 << 10;
/// BEGIN lines that are tried. Each may look for its END through the whole text: 256 MiB at worst.
const BEGINNINGS_MAX: usize = 1000;

/// Go requires padding and does not mind bits that are set behind the last byte.
const GO_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// `CERTIFICATE`, `PUBLIC KEY`…
    pub(super) label: Vec<u8>,
    /// Headers by name.
    pub(super) headers: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the base64 holds.
    pub(super) bytes: Vec<u8>,
}

/// Why a text is not one PEM block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected exactly one PEM block {expected:?}, found {found}")]
pub(super) struct PemError {
    expected: &'static str,
    found: &'static str,
}

/// The only block of a text; what surrounds it does not count.
pub(super) fn only_block(text: &[u8], label: &'static str) -> Result<Block, PemError> {
    let error = |found| PemError { expected: label, found };
    if text.len() > TEXT_BYTES_MAX {
        return Err(error("a text of more than 256 KiB"));
    }
    let (block, rest) = decode(text).ok_or_else(|| error("none"))?;
    if block.label != label.as_bytes() {
        return Err(error("another one"));
    }
    if decode(rest).is_some() {
        return Err(error("several"));
    }
    Ok(block)
}

/// The first block of a text and what follows it.
pub(super) fn decode(text: &[u8]) -> Option<(Block, &[u8])> {
    let mut rest = text;
    for _ in 0..BEGINNINGS_MAX {
        rest = after_begin(rest)?;
        let (type_line, after) = line(rest);
        rest = after;
        let Some(label) = type_line.strip_suffix(DASHES) else { continue };
        let (headers, body) = headers(rest)?;
        rest = body;
        if let Some((bytes, after)) = body_of(label, headers.is_empty(), body) {
            return Some((Block { label: label.to_vec(), headers, bytes }, after));
        }
    }
    None
}

/// What follows the next `-----BEGIN ` at the start of a line.
fn after_begin(text: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = text.strip_prefix(BEGIN) {
        return Some(rest);
    }
    find_line(text, BEGIN).map(|at| text.get(at + 1 + BEGIN.len()..).unwrap_or_default())
}

/// Where a newline is followed by this.
fn find_line(text: &[u8], start: &[u8]) -> Option<usize> {
    text.windows(start.len() + 1).position(|w| w.first() == Some(&b'\n') && w.ends_with(start))
}

/// The first line without white space at its end, and the rest.
fn line(text: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match text.iter().position(|b| *b == b'\n') {
        Some(at) => {
            let line = text.get(..at).unwrap_or_default();
            (line.strip_suffix(b"\r").unwrap_or(line), text.get(at + 1..).unwrap_or_default())
        }
        None => (text, &[][..]),
    };
    let end = line.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(0, |at| at + 1);
    (line.get(..end).unwrap_or_default(), rest)
}

type Headers = BTreeMap<Vec<u8>, Vec<u8>>;

fn headers(text: &[u8]) -> Option<(Headers, &[u8])> {
    let mut headers = Headers::new();
    let mut rest = text;
    loop {
        if rest.is_empty() {
            return None;
        }
        let (one, next) = line(rest);
        let Some(colon) = one.iter().position(|b| *b == b':') else { break };
        let (key, value) = one.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        headers.insert(key.trim_ascii().to_vec(), value.trim_ascii().to_vec());
        rest = next;
    }
    Some((headers, rest))
}

/// The decoded bytes up to the END line of the same label, and what follows it.
fn body_of<'a>(label: &[u8], no_headers: bool, text: &'a [u8]) -> Option<(Vec<u8>, &'a [u8])> {
    let (end, trailer) = if no_headers && text.starts_with(END) {
        (0, END.len())
    } else {
        let end = find_line(text, END)?;
        (end, end + 1 + END.len())
    };
    let rest_of_line = text.get(trailer..)?.strip_prefix(label)?.strip_prefix(DASHES)?;
    let (behind, after) = line(rest_of_line);
    if !behind.is_empty() {
        return None;
    }
    let base64: Vec<u8> = text
        .get(..end)?
        .iter()
        .copied()
        .filter(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
        .collect();
    Some((GO_BASE64.decode(base64).ok()?, after))
}

impl Block {
    /// The block as Go writes it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = [BEGIN, &self.label, DASHES, b"\n"].concat();
        let proc_type = b"Proc-Type".as_slice();
        let first = self.headers.get_key_value(proc_type);
        let others = self.headers.iter().filter(|(key, _)| key.as_slice() != proc_type);
        for (key, value) in first.into_iter().chain(others) {
            out.extend([key.as_slice(), b": ", value, b"\n"].concat());
        }
        if !self.headers.is_empty() {
            out.push(b'\n');
        }
        for chunk in STANDARD.encode(&self.bytes).as_bytes().chunks(LINE_CHARACTERS) {
            out.extend_from_slice(chunk);
            out.push(b'\n');
        }
        out.extend([END, &self.label, DASHES, b"\n"].concat());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "-----BEGIN PUBLIC KEY-----\nQUJD\n-----END PUBLIC KEY-----\n";

    #[test]
    fn surrounding_text_is_dropped() {
        let text = format!("junk\n{KEY}trailing");
        let block = only_block(text.as_bytes(), "PUBLIC KEY").unwrap();
        assert_eq!(block.bytes, b"ABC");
        assert_eq!(block.encode(), KEY.as_bytes());
        let spread = KEY.replace("QUJD", "QU \r\n\tJD  ").replace('\n', "\r\n");
        assert_eq!(only_block(spread.as_bytes(), "PUBLIC KEY").unwrap().bytes, b"ABC");
    }

    #[test]
    fn headers_are_kept_and_sorted() {
        let text = KEY.replace("QUJD", "Zed: 1\nAlpha: 2\nProc-Type: 4\n\nQUJD");
        let block = only_block(text.as_bytes(), "PUBLIC KEY").unwrap();
        let written = String::from_utf8(block.encode()).unwrap();
        assert!(written.contains("\nProc-Type: 4\nAlpha: 2\nZed: 1\n\nQUJD\n"), "{written}");
    }

    #[test]
    fn exactly_one() {
        let error = |text: &str| only_block(text.as_bytes(), "PUBLIC KEY").unwrap_err().found;
        assert_eq!(error(""), "none");
        assert_eq!(error(&KEY.repeat(2)), "several");
        assert_eq!(error(&KEY.replace("PUBLIC KEY", "CERTIFICATE")), "another one");
        assert_eq!(error(&KEY.replace("QUJD", "Q!JD")), "none");
        assert_eq!(error(&KEY.replace("END PUBLIC", "END PRIVATE")), "none");
    }

    proptest! {
        #[test]
        fn own_blocks_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let block = Block { label: b"X".to_vec(), headers: BTreeMap::new(), bytes };
            let text = block.encode();
            prop_assert_eq!(decode(&text).unwrap().0, block);
        }

        #[test]
        fn any_text(text in "(-----(BEGIN|END) X-----|\n|a: b|QUJD| ){0,20}") {
            let _ = decode(text.as_bytes());
        }
    }
}
