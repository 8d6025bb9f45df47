//! Names of libraries: which files are libraries, and glibc's order of them.
//!
//! Invariant: total functions of bytes. Numbers in names are read as apko reads them, in a signed
//! integer of 64 bits that wraps around.

use std::cmp::Ordering;

/// What stands before `.so` or `.so.`; none for a name that no library has.
pub(super) fn stem(name: &[u8]) -> Option<&[u8]> {
    if !name.starts_with(b"lib") && !name.starts_with(b"ld-") {
        return None;
    }
    if let Some(stem) = name.strip_suffix(b".so") {
        return Some(stem);
    }
    let at = name.windows(4).rposition(|window| window == b".so.")?;
    name.get(..at).filter(|stem| !stem.is_empty())
}

/// The order of `_dl_cache_libcmp`: runs of digits are numbers, a digit outranks anything else,
/// the longer name is the greater one.
pub(super) fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let (mut left, mut right) = (one, other);
    while let (Some((a, left_rest)), Some((b, right_rest))) =
        (left.split_first(), right.split_first())
    {
        match (a.is_ascii_digit(), b.is_ascii_digit()) {
            (true, true) => {
                let (first, second) = (number(&mut left), number(&mut right));
                match first.cmp(&second) {
                    Ordering::Equal => {}
                    different => return different,
                }
            }
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) if a != b => return a.cmp(b),
            (false, false) => (left, right) = (left_rest, right_rest),
        }
    }
    left.len().cmp(&right.len())
}

/// Takes the digits from the front.
fn number(text: &mut &[u8]) -> i64 {
    let count = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(count);
    *text = rest;
    digits
        .iter()
        .fold(0_i64, |number, digit| number.wrapping_mul(10).wrapping_add(i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems() {
        for (name, expected) in [
            ("libc.so.6", Some("libc")),
            ("libfoo.so", Some("libfoo")),
            ("ld-linux-x86-64.so.2", Some("ld-linux-x86-64")),
            ("libpy.so.3.so.1", Some("libpy.so.3")),
            ("foo.so", None),
            ("lib.a", None),
            ("libz.so1", None),
        ] {
            assert_eq!(stem(name.as_bytes()), expected.map(str::as_bytes), "{name}");
        }
    }

    #[test]
    fn order() {
        use Ordering::{Equal, Greater, Less};
        for (a, b, expected) in [
            ("libtwo.so.10", "libtwo.so.9", Greater),
            ("liba.so", "libb.so", Less),
            ("lib1", "liba", Greater),
            ("liba.so.1", "liba.so", Greater),
            ("lib01", "lib1", Equal),
            ("libx.so.9223372036854775808", "libx.so.1", Less),
        ] {
            assert_eq!(compare(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
            assert_eq!(compare(b.as_bytes(), a.as_bytes()), expected.reverse(), "{b} {a}");
        }
    }
}
