//! Versions of apko: `1.2.39`, with `+1` for a build one commit after a release.
//!
//! Invariant: the order is that of the four numbers. Anything else than digits, dots and one `+`
//! is refused: a pre-release is a program that nobody compared.

use std::fmt;

/// A version of apko.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
    commits: u32,
}

impl Version {
    /// A version from its numbers.
    pub const fn new(major: u32, minor: u32, patch: u32, commits: u32) -> Self {
        Self { major, minor, patch, commits }
    }

    /// Reads `1.2.39`, `v1.2.39` or `1.2.39+1`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (release, commits) = match text.split_once('+') {
            Some((release, commits)) => (release, number(commits)?),
            None => (text, 0),
        };
        let mut numbers = release.split('.').map(number);
        let version = Self::new(numbers.next()??, numbers.next()??, numbers.next()??, commits);
        numbers.next().is_none().then_some(version)
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if self.commits > 0 { write!(f, "+{}", self.commits) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_text() {
        let parse = |text| Version::parse(text).unwrap();
        assert!(parse("0.9.0") < parse("0.10.0"));
        assert!(parse("1.2.39") < parse("1.2.39+1"));
        assert_eq!(parse("v1.2.39+1").to_string(), "1.2.39+1");
        for bad in ["", "1", "1.2", "1.2.3.4", "1.2.3-rc1", "1.2.x", "1.2.3+", "1.2.3+a", "1..3"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }
}
