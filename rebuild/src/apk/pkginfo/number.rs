//! Numbers as Go's `strconv.ParseInt(text, 0, 64)` and `ParseUint` read them: the base comes from
//! the prefix (`0x`, `0b`, `0o`, `0`), underscores may stand between digits.
//!
//! Invariant: `None` exactly where Go reports an error.

/// `strconv.ParseUint(text, 0, 64)`.
pub(super) fn unsigned(text: &str) -> Option<u64> {
    let (base, digits) = split_base(text)?;
    let mut value = 0u64;
    for byte in digits.bytes().filter(|&byte| byte != b'_') {
        let digit = char::from(byte).to_digit(base)?;
        value = value.checked_mul(base.into())?.checked_add(digit.into())?;
    }
    underscores_separate_digits(text).then_some(value)
}

/// `strconv.ParseInt(text, 0, 64)`.
pub(super) fn signed(text: &str) -> Option<i64> {
    let negative = text.starts_with('-');
    let magnitude = unsigned(text.strip_prefix(['-', '+']).unwrap_or(text))?;
    match negative {
        true => 0i64.checked_sub_unsigned(magnitude),
        false => i64::try_from(magnitude).ok(),
    }
}

fn split_base(text: &str) -> Option<(u32, &str)> {
    let Some(rest) = text.strip_prefix('0') else {
        return (!text.is_empty()).then_some((10, text));
    };
    let base = match rest.bytes().next() {
        Some(b'x' | b'X') => 16,
        Some(b'o' | b'O') => 8,
        Some(b'b' | b'B') => 2,
        _ => return Some((8, rest)),
    };
    rest.get(1..).filter(|digits| !digits.is_empty()).map(|digits| (base, digits))
}

/// An underscore stands between two digits, or between a base prefix and a digit.
fn underscores_separate_digits(text: &str) -> bool {
    let digits = match text.as_bytes() {
        [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..] => text.get(1..).unwrap_or_default(),
        _ => text,
    };
    !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("42", Some(42)),
            ("017", Some(15)),
            ("0o17", Some(15)),
            ("0X_1f", Some(31)),
            ("0b101", Some(5)),
            ("1_000", Some(1000)),
            ("0_7", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("08", None),
            ("0x", None),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("0x1_", None),
            ("+1", None),
            ("-1", None),
            (" 1", None),
            ("1e3", None),
        ];
        for (text, value) in cases {
            assert_eq!(unsigned(text), value, "{text:?}");
        }
        assert_eq!(signed("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(signed("9223372036854775808"), None);
        assert_eq!(signed("+0x10"), Some(16));
        assert_eq!(signed("--1"), None);
    }
}
