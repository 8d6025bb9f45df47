//! Package versions and their order (apko-assembly.md, 3.1; Gentoo PMS, "Version Comparison", from
//! which apk took it).
//!
//! Invariant: parsing accepts exactly `digits(.digits)*[letter][_pre[N]][_post[N]][-rN]`, and the
//! order is total: numbers from the left, then how many, letter, pre-suffix (none is greatest),
//! its number, post-suffix (none is least), its number, release.

use std::str::FromStr;

/// Numbers in one version. Real ones have at most six.
const NUMBERS_MAX: usize = 64;

/// A parsed version. Two spellings of one version (`1.0`, `1.00`) are equal.
// The order of the fields is the order of the comparison.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    numbers: Vec<u64>,
    letter: Option<u8>,
    pre: PreSuffix,
    pre_number: u64,
    post: PostSuffix,
    post_number: u64,
    release: u64,
}

/// Suffixes of versions before a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum PreSuffix {
    Alpha,
    Beta,
    Pre,
    Rc,
    None,
}

/// Suffixes of versions behind a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum PostSuffix {
    None,
    Cvs,
    Svn,
    Git,
    Hg,
    Patch,
}

/// Not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a version like 1.2.3a_rc1_p2-r4, found {found:?}")]
pub struct VersionError {
    /// What stood there, at most 100 characters of it.
    pub found: String,
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::parse(text).ok_or_else(|| VersionError { found: text.chars().take(100).collect() })
    }
}

impl Version {
    /// Parses without words for an error.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut numbers = vec![number(&mut rest)?];
        while let Some(behind) = rest.strip_prefix('.') {
            rest = behind;
            numbers.push(number(&mut rest)?);
            if numbers.len() > NUMBERS_MAX {
                return None;
            }
        }
        let letter = rest.bytes().next().filter(u8::is_ascii_lowercase);
        if letter.is_some() {
            rest = rest.get(1..)?;
        }
        let pre = suffix(&mut rest, &PRE_SUFFIXES).unwrap_or(PreSuffix::None);
        let pre_number = if pre == PreSuffix::None { 0 } else { optional_number(&mut rest)? };
        let post = suffix(&mut rest, &POST_SUFFIXES).unwrap_or(PostSuffix::None);
        let post_number = if post == PostSuffix::None { 0 } else { optional_number(&mut rest)? };
        let release = match rest.strip_prefix("-r") {
            Some(behind) => {
                rest = behind;
                number(&mut rest)?
            }
            None => 0,
        };
        rest.is_empty().then_some(Self {
            numbers,
            letter,
            pre,
            pre_number,
            post,
            post_number,
            release,
        })
    }

    /// What the operator `~` asks: that `prefix` is a beginning of this version. Whatever the
    /// prefix leaves out (or has as 0) may be anything.
    pub fn begins_with(&self, prefix: &Self) -> bool {
        if !self.numbers.starts_with(&prefix.numbers) {
            return false;
        }
        if self.numbers.len() > prefix.numbers.len() {
            return true;
        }
        let number = |wanted: u64, there: u64| wanted == 0 || wanted == there;
        (prefix.letter.is_none() || prefix.letter == self.letter)
            && (prefix.pre == PreSuffix::None || prefix.pre == self.pre)
            && number(prefix.pre_number, self.pre_number)
            && (prefix.post == PostSuffix::None || prefix.post == self.post)
            && number(prefix.post_number, self.post_number)
            && number(prefix.release, self.release)
    }
}

const PRE_SUFFIXES: [(&str, PreSuffix); 4] = [
    ("_alpha", PreSuffix::Alpha),
    ("_beta", PreSuffix::Beta),
    ("_pre", PreSuffix::Pre),
    ("_rc", PreSuffix::Rc),
];

const POST_SUFFIXES: [(&str, PostSuffix); 5] = [
    ("_cvs", PostSuffix::Cvs),
    ("_svn", PostSuffix::Svn),
    ("_git", PostSuffix::Git),
    ("_hg", PostSuffix::Hg),
    ("_p", PostSuffix::Patch),
];

fn suffix<T: Copy>(rest: &mut &str, known: &[(&str, T)]) -> Option<T> {
    let (behind, found) =
        known.iter().find_map(|(text, value)| Some((rest.strip_prefix(text)?, *value)))?;
    *rest = behind;
    Some(found)
}

fn optional_number(rest: &mut &str) -> Option<u64> {
    if rest.starts_with(|c: char| c.is_ascii_digit()) { number(rest) } else { Some(0) }
}

/// Decimal digits; Go keeps them in a signed 64-bit integer.
fn number(rest: &mut &str) -> Option<u64> {
    let end = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, behind) = rest.split_at(end);
    *rest = behind;
    digits.parse::<i64>().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn ascending() {
        let ascending = [
            "0.1",
            "0.9",
            "1_alpha",
            "1_alpha2",
            "1_beta",
            "1_pre1",
            "1_rc",
            "1_rc_p1",
            "1",
            "1-r1",
            "1-r10",
            "1_cvs",
            "1_svn",
            "1_git20260101",
            "1_hg",
            "1_p",
            "1_p1",
            "1a_rc",
            "1a",
            "1b",
            "1.0",
            "1.0.0",
            "1.2",
            "1.10",
            "2",
            "20260101",
            "9223372036854775807",
        ];
        for pair in ascending.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert_eq!(version("1.0"), version("01.00-r0"));
    }

    #[test]
    fn not_versions() {
        for text in [
            "",
            "a",
            ".1",
            "1.",
            "1..2",
            "1A",
            "1ab",
            "1_foo",
            "1_p_rc",
            "1-r",
            "1-1",
            "1 ",
            "1-r1-r2",
            "1_",
            "-1",
            "1.2.3-r1\n",
            "9223372036854775808",
            "1_rcx",
            "٣",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
        assert!(".0".repeat(100).replacen('.', "", 1).parse::<Version>().is_err());
    }

    #[test]
    fn prefixes() {
        for (text, prefix, is) in [
            ("1.2.3-r4", "1.2", true),
            ("1.2.3-r4", "1.2.3", true),
            ("1.2.3-r4", "1.2.3-r4", true),
            ("1.2.3-r4", "1.2.3-r5", false),
            ("1.20", "1.2", false),
            ("1.2", "1.2.0", false),
            ("1.2a", "1.2", true),
            ("1.2", "1.2a", false),
            ("1.2_rc1", "1.2_rc", true),
            ("1.2_rc1", "1.2_rc2", false),
        ] {
            assert_eq!(version(text).begins_with(&version(prefix)), is, "{text} ~ {prefix}");
        }
    }

    fn any_version() -> impl Strategy<Value = String> {
        let numbers = "[0-9]{1,2}(\\.[0-9]{1,2}){0,3}[a-c]?";
        let suffixes = "(_(alpha|beta|pre|rc)[0-2]?)?(_(cvs|git|p)[0-2]?)?(-r[0-2])?";
        (numbers, suffixes).prop_map(|(numbers, suffixes)| numbers + &suffixes)
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in any_version(), b in any_version(), c in any_version()) {
            let (a, b, c) = (version(&a), version(&b), version(&c));
            prop_assert_eq!(a.cmp(&a), std::cmp::Ordering::Equal);
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a == b, a.cmp(&b).is_eq());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
            prop_assert!(a.begins_with(&a));
        }

        #[test]
        fn any_text_ends(text in "\\PC*") {
            let _ = text.parse::<Version>();
        }
    }
}
