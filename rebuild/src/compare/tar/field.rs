//! The fields of a tar header: numbers and texts.
//!
//! Invariant: a number is what Go's `archive/tar` reads; a field that it refuses is refused.

/// Octal digits between blanks and NULs, or GNU base-256 (first bit set).
pub(super) fn number(field: &[u8]) -> Result<i64, String> {
    let bad = || format!("expected an octal or base-256 number, found {:?}", quoted(field));
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            // Two's complement over the whole field; the first bit only marks the form.
            let negative = first & 0x40 != 0;
            let head = if negative { *first } else { first & 0x7f };
            let mut value: i64 = if negative { -1 } else { 0 };
            for byte in std::iter::once(&head).chain(rest) {
                let high = value >> 55;
                if high != 0 && high != -1 {
                    return Err(bad());
                }
                value = value << 8 | i64::from(*byte);
            }
            Ok(value)
        }
        _ => {
            let digits = field.trim_ascii_matches();
            let end = digits.iter().position(|b| *b == 0).unwrap_or(digits.len());
            let digits = digits.get(..end).unwrap_or_default();
            let mut value: i64 = 0;
            for digit in digits {
                if !(b'0'..=b'7').contains(digit) || value >> 59 != 0 {
                    return Err(bad());
                }
                value = value << 3 | i64::from(digit - b'0');
            }
            Ok(value)
        }
    }
}

trait TrimBlanks {
    fn trim_ascii_matches(&self) -> &[u8];
}

impl TrimBlanks for [u8] {
    /// Without blanks and NULs at either end.
    fn trim_ascii_matches(&self) -> &[u8] {
        let blank = |b: &u8| matches!(b, b' ' | 0);
        let start = self.iter().position(|b| !blank(b)).unwrap_or(self.len());
        let end = self.iter().rposition(|b| !blank(b)).map_or(start, |i| i + 1);
        self.get(start..end).unwrap_or_default()
    }
}

/// The bytes before the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    field.get(..end).unwrap_or_default()
}

/// True when something other than NUL follows the first NUL.
pub(super) fn hides(field: &[u8]) -> bool {
    field.iter().skip_while(|b| **b != 0).any(|b| *b != 0)
}

/// The field for a message.
pub(super) fn quoted(field: &[u8]) -> String {
    field.iter().take(24).map(|b| b.escape_ascii().to_string()).collect()
}

/// `seconds[.fraction]` as PAX writes times; the fraction is cut to nanoseconds, as Go does.
pub(super) fn pax_time(value: &[u8]) -> Result<(i64, u32), String> {
    let bad = || format!("expected a time in seconds, found {:?}", quoted(value));
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().map_err(|_| bad())?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Ok((seconds - 1, 1_000_000_000 - nanoseconds));
    }
    Ok((seconds, nanoseconds))
}

/// A decimal number as PAX writes sizes and identities.
pub(super) fn pax_number(value: &[u8]) -> Result<i64, String> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("expected a decimal number, found {:?}", quoted(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_go_reads_them() {
        assert_eq!(number(b"0000644\0"), Ok(0o644));
        assert_eq!(number(b" 644 \0  "), Ok(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Ok(0));
        assert_eq!(number(b"77777777777"), Ok(0o77777777777));
        assert!(number(b"0000648\0").is_err());
        assert!(number(b"0x00064\0").is_err());
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\0"), Ok(256));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff"), Ok(-1));
        assert_eq!(number(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), Ok(i64::MAX));
        assert!(number(b"\x80\0\0\0\x80\0\0\0\0\0\0\0").is_err());
        assert!(number(b"\x80\x01\0\0\0\0\0\0\0\0\0\0").is_err());
    }

    #[test]
    fn times() {
        assert_eq!(pax_time(b"1"), Ok((1, 0)));
        assert_eq!(pax_time(b"1.5"), Ok((1, 500_000_000)));
        assert_eq!(pax_time(b"-1.25"), Ok((-2, 750_000_000)));
        assert_eq!(pax_time(b"1.1234567899"), Ok((1, 123_456_789)));
        for bad in [&b""[..], b".5", b"1.x", b"x", b"1.-5", b"\xff"] {
            assert!(pax_time(bad).is_err());
        }
    }
}
