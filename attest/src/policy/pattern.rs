//! Patterns of repositories and of package URLs, and where an image was read from.
//!
//! `*` matches any characters, `/` included; everything else matches itself. A repository pattern
//! that starts with `oci:` applies to images read from OCI layouts only, every other pattern to
//! registries only, so that a permissive rule for local files never speaks for a registry.
//! Invariant: matching is anchored at both ends and takes time linear in pattern times text. A
//! pattern of URLs never has a `*` in its scheme or host: `https://packages.example*` would also
//! match a host that somebody else owns.

use crate::{Repository, name::serde_as_text};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// Longest pattern: a repository has at most 255 bytes, a URL of packages rarely 200.
pub const PATTERN_BYTES_MAX: usize = 512;

/// Where an image was read from. It comes from the reference that a person or a service gave
/// (`oci:DIR:REF` or a registry), never from anything that lies beside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A registry, over the network.
    Registry,
    /// An OCI layout in a folder. `oci:DIR:demo/hello:latest` has the repository `demo/hello`.
    Layout,
}

/// A pattern could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct PatternError {
    /// What would have been accepted.
    pub expected: &'static str,
    /// What stood there, at most 200 characters of it.
    pub found: String,
}

impl PatternError {
    fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.chars().take(200).collect() }
    }
}

/// A pattern of repositories: `registry.example/demo/*`, `oci:*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryPattern {
    source: Source,
    glob: String,
}

impl RepositoryPattern {
    /// The pattern that matches exactly this repository.
    pub fn exactly(source: Source, repository: &Repository) -> Self {
        Self { source, glob: repository.as_str().to_owned() }
    }

    /// True when the pattern is for this kind of source and matches the repository's whole name.
    pub fn matches(&self, source: Source, repository: &Repository) -> bool {
        self.source == source && glob(&self.glob, repository.as_str())
    }

    /// As [`matches`](Self::matches), and also where the same registry is spelled in another way:
    /// `registry.example:443/…`, `registry.example./…`, the names of Docker Hub. For rules that
    /// may only become stricter by it or are no word of trust; signatures name one spelling.
    pub fn matches_place(&self, source: Source, repository: &Repository) -> bool {
        let matches = |pattern: &str| glob(pattern, &place(repository.as_str()));
        self.matches(source, repository)
            || (source == Source::Registry
                && self.source == source
                && (matches(&self.glob) || matches(&place(&self.glob))))
    }

    /// The kind of source that the pattern is for.
    pub fn source(&self) -> Source {
        self.source
    }
}

/// A repository's name, or a pattern of such, with its host in one spelling.
fn place(name: &str) -> String {
    let Some((host, path)) = name.split_once('/') else { return name.to_owned() };
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (host, ""),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    // Without a port it is HTTPS's own.
    let is_default = port.is_empty() || port.parse() == Ok(443_u16);
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" if is_default => {
            let library = if path.contains(['/', '*']) { "" } else { "library/" };
            format!("docker.io/{library}{path}")
        }
        _ if is_default => format!("{host}/{path}"),
        _ => format!("{host}:{port}/{path}"),
    }
}

impl FromStr for RepositoryPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (source, name) = match text.strip_prefix("oci:") {
            Some(rest) => (Source::Layout, rest),
            None => (Source::Registry, text),
        };
        let (host, path) = name.split_once('/').unwrap_or((name, ""));
        let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'*');
        let ok = (1..=PATTERN_BYTES_MAX).contains(&name.len())
            && host.bytes().all(|b| plain(b) || matches!(b, b':' | b'[' | b']'))
            && path.bytes().all(|b| plain(b) || b == b'/');
        if !ok {
            return Err(PatternError::new(
                "a repository or pattern like registry.example/demo/* or oci:*, without tag",
                text,
            ));
        }
        Ok(Self { source, glob: name.to_owned() })
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Registry => f.write_str(&self.glob),
            Source::Layout => write!(f, "oci:{}", self.glob),
        }
    }
}

/// A pattern of URLs of packages: `https://packages.example/*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UrlPattern(String);

impl UrlPattern {
    /// True when the whole URL matches. A URL with `..`, a backslash or a percent-encoded dot or
    /// slash never matches: what it names is for the server to say, not for a pattern.
    pub fn matches(&self, url: &str) -> bool {
        let lower = url.to_ascii_lowercase();
        let evasive = ["..", "\\", "%2e", "%2f", "%5c"].iter().any(|part| lower.contains(part));
        !evasive && glob(&self.0, url)
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UrlPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let bad = || {
            PatternError::new(
                "a URL pattern like https://packages.example/*, with scheme and whole host",
                text,
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (host, _) = rest.split_once('/').ok_or_else(bad)?;
        let host_ok = |b: u8| {
            b.is_ascii_lowercase()
                || b.is_ascii_digit()
                || matches!(b, b'.' | b'-' | b':' | b'[' | b']')
        };
        let ok = text.len() <= PATTERN_BYTES_MAX
            && matches!(scheme, "https" | "http")
            && !host.is_empty()
            && host.bytes().all(host_ok)
            && rest.bytes().all(|b| b.is_ascii_graphic());
        if ok { Ok(Self(text.to_owned())) } else { Err(bad()) }
    }
}

impl fmt::Display for UrlPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(RepositoryPattern, UrlPattern);

/// A pattern of tags: `v1.*`, `latest`, `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagPattern(String);

impl TagPattern {
    /// True when the pattern matches the whole tag.
    pub fn matches(&self, tag: &str) -> bool {
        glob(&self.0, tag)
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TagPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'*');
        if (1..=128).contains(&text.len()) && text.bytes().all(ok) {
            return Ok(Self(text.to_owned()));
        }
        Err(PatternError::new("a pattern of tags: letters, digits, . _ - and *", text))
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(TagPattern);

/// Anchored glob with `*` only. On a mismatch the last `*` takes one byte more, so the work is at
/// most pattern length times text length.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if text.get(t) == Some(byte) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((star_p, star_t)) => {
                    p = star_p + 1;
                    t = star_t + 1;
                    star = Some((star_p, t));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn repository(text: &str) -> Repository {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_speaks_for_its_kind_of_source_only() {
        let any_layout: RepositoryPattern = "oci:*".parse().unwrap();
        assert!(any_layout.matches(Source::Layout, &repository("demo/hello")));
        assert!(!any_layout.matches(Source::Registry, &repository("demo/hello")));
        let demo: RepositoryPattern = "registry.example/demo/*".parse().unwrap();
        assert!(demo.matches(Source::Registry, &repository("registry.example/demo/a/b")));
        assert!(!demo.matches(Source::Registry, &repository("registry.example/demo")));
        assert!(!demo.matches(Source::Registry, &repository("registry.example.evil/demo/a")));
        assert!(!demo.matches(Source::Layout, &repository("registry.example/demo/a")));
        for bad in ["", "oci:", "a/b:latest", "a@sha256:00", "A/b", "a b", "oci:x/y:tag"] {
            assert!(bad.parse::<RepositoryPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_place_has_many_spellings() {
        for (pattern, same, others) in [
            (
                "registry.example/demo/*",
                &[
                    "registry.example:443/demo/a",
                    "registry.example./demo/a",
                    "registry.example/demo/a",
                ][..],
                &["registry.example:5000/demo/a", "registry.example.evil/demo/a"][..],
            ),
            (
                "registry.example.:443/demo/*",
                &["registry.example/demo/a", "registry.example:0443/demo/a"],
                &["registry.example:80/demo/a"],
            ),
            (
                "docker.io/library/alpine",
                &[
                    "docker.io/alpine",
                    "index.docker.io/library/alpine",
                    "registry-1.docker.io/alpine",
                ],
                &["docker.io:5000/library/alpine", "docker.io/team/alpine"],
            ),
            (
                "registry-1.docker.io/team/*",
                &["docker.io/team/a", "index.docker.io:443/team/a"],
                &[],
            ),
            ("*.example/demo/*", &["registry.example:443/demo/a"], &["registry.evil/demo/a"]),
            ("[::1]/demo/*", &["[::1]:443/demo/a", "[::1]/demo/a"], &["[::1]:5000/demo/a"]),
            ("[::1]:5000/demo/*", &["[::1]:5000/demo/a"], &["[::1]/demo/a"]),
        ] {
            let pattern: RepositoryPattern = pattern.parse().unwrap();
            for name in same {
                assert!(pattern.matches_place(Source::Registry, &repository(name)), "{name}");
                assert!(!pattern.matches_place(Source::Layout, &repository(name)), "{name}");
            }
            for name in others {
                assert!(!pattern.matches_place(Source::Registry, &repository(name)), "{name}");
            }
        }
        // A layout's names have no host.
        let layout: RepositoryPattern = "oci:demo/hello".parse().unwrap();
        assert!(!layout.matches_place(Source::Layout, &repository("demo:443/hello")));
    }

    #[test]
    fn a_url_pattern_names_its_host() {
        let pattern: UrlPattern = "https://packages.example/*".parse().unwrap();
        assert!(pattern.matches("https://packages.example/os/x86_64/a-1.apk"));
        for bad in [
            "https://packages.example.evil/os",
            "http://packages.example/os",
            "https://packages.example/os/../../x",
            "https://packages.example/os/%2E%2e/x",
        ] {
            assert!(!pattern.matches(bad), "{bad}");
        }
        for bad in ["https://packages.example*", "https://*/x", "packages/*", "ftp://a/*", "*"] {
            assert!(bad.parse::<UrlPattern>().is_err(), "{bad}");
        }
    }

    /// The definition, by recursion: slow, but nothing to get wrong.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| slow(rest, &text[n..])),
            Some((byte, rest)) => text.first() == Some(byte) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn glob_agrees_with_its_definition(pattern in "[ab*/]{0,8}", text in "[ab/]{0,10}") {
            prop_assert_eq!(
                glob(&pattern, &text),
                slow(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
