//! Names of images: repository, platform, subject.
//!
//! Invariant: what is known about an image belongs to (repository, digest), never to a digest
//! alone; a `Subject` therefore always carries its repository. A tag can't be represented here.

use crate::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// Longest repository name: the distribution specification bounds host plus path at 255.
pub const REPOSITORY_BYTES_MAX: usize = 255;

/// A repository: `registry.example/team/app`, `127.0.0.1:5000/app`, or the name that an OCI layout
/// uses before the `:` of its `org.opencontainers.image.ref.name` (`demo/hello`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);

/// A name could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct NameError {
    /// What would have been accepted.
    pub expected: &'static str,
    /// What stood there, at most 200 characters of it.
    pub found: String,
}

impl NameError {
    fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.chars().take(200).collect() }
    }
}

impl Repository {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component, for tables: `hello` of `registry.example/demo/hello`.
    pub fn base(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl FromStr for Repository {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || {
            NameError::new(
                "a repository like registry.example/team/app (lower case, at most 255 bytes)",
                text,
            )
        };
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let mut components = text.split('/');
        let first = components.next().unwrap_or_default();
        // Only the host may have a port; IPv6 hosts are written in brackets.
        let host_ok = first.bytes().all(|b| allowed(b) || matches!(b, b':' | b'[' | b']'));
        let ok = !text.is_empty()
            && text.len() <= REPOSITORY_BYTES_MAX
            && !first.is_empty()
            && host_ok
            && !matches!(first, "." | "..")
            && components.all(|c| {
                !c.is_empty() && c.bytes().all(allowed) && !c.starts_with(['.', '-', '_'])
            });
        if ok { Ok(Self(text.to_owned())) } else { Err(bad()) }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A platform as in an OCI index: `linux/amd64`, `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// Operating system, `linux`.
    pub os: String,
    /// Architecture in Go's words: `amd64`, `arm64`, `arm`, `386`.
    pub architecture: String,
    /// `v6`, `v7`, `v8`; none for most.
    pub variant: Option<String>,
}

impl Platform {
    /// `linux/<architecture>`.
    pub fn linux(architecture: &str) -> Self {
        Self { os: "linux".into(), architecture: architecture.into(), variant: None }
    }

    /// The architecture with its variant, as apko's `archs` has it: `amd64`, `arm/v7`.
    pub fn architecture_with_variant(&self) -> String {
        match &self.variant {
            Some(variant) => format!("{}/{variant}", self.architecture),
            None => self.architecture.clone(),
        }
    }

    /// The platform in one spelling, to compare with; never what is signed or shown. Runtimes take
    /// `Linux/x86_64` and `linux/amd64/v1` for `linux/amd64`, so a rule must, too: lower case, Go's
    /// words, no variant where it is the default.
    pub fn normal(&self) -> Self {
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            os => os.to_owned(),
        };
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = self.variant.as_deref().unwrap_or_default().to_ascii_lowercase();
        // `8` is a spelling of `v8`.
        let numbered = variant.starts_with(|c: char| c.is_ascii_digit());
        let variant = if numbered { format!("v{variant}") } else { variant };
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64", variant) => ("arm64", variant),
            ("i386" | "i486" | "i586" | "i686" | "x86", variant) => ("386", variant),
            ("armel", "") => ("arm", "v6"),
            ("armhf" | "arm", "" | "v7") => ("arm", "v7"),
            ("armel" | "armhf", variant) => ("arm", variant),
            same => same,
        };
        let variant = (!variant.is_empty()).then(|| variant.to_owned());
        Self { os, architecture: architecture.to_owned(), variant }
    }

    /// True when a rule for this platform is for that one, too: however either is spelled, and one
    /// that names no variant is for all of them.
    pub fn covers(&self, other: &Self) -> bool {
        let (rule, other) = (self.normal(), other.normal());
        (&rule.os, &rule.architecture) == (&other.os, &other.architecture)
            && (self.variant.is_none() || rule.variant == other.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture_with_variant())
    }
}

impl FromStr for Platform {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        let part_ok = |p: &&str| {
            (1..=32).contains(&p.len())
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(part_ok) {
            return Err(NameError::new("a platform like linux/amd64 or linux/arm/v7", text));
        }
        Ok(Self {
            os: parts[0].into(),
            architecture: parts[1].into(),
            variant: parts.get(2).map(|v| (*v).into()),
        })
    }
}

/// One published image manifest for one platform. Never a tag, never an index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Where it was published.
    pub repository: Repository,
    /// The digest of the platform's manifest.
    pub digest: Digest,
    /// The platform that the manifest is for.
    pub platform: Platform,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} ({})", self.repository, self.digest, self.platform)
    }
}

macro_rules! serde_as_text {
    ($($name:ty),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(crate) use serde_as_text;
serde_as_text!(Repository, Platform);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_and_are_not() {
        for good in [
            "demo/hello",
            "127.0.0.1:5000/demo/hello",
            "registry.example/a/b-c_d.e",
            "[::1]:5000/x",
        ] {
            assert_eq!(good.parse::<Repository>().unwrap().as_str(), good);
        }
        for bad in ["", "Demo/hello", "demo/hello:latest", "demo//hello", "demo/../x", "a@b", "/a"]
        {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
        for good in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(good.parse::<Platform>().unwrap().to_string(), good);
        }
        for bad in ["linux", "linux/", "linux/arm/v7/x", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_platform_has_many_spellings() {
        let read = |text: &str| text.parse::<Platform>().unwrap();
        for (rule, covered, others) in [
            (
                "linux/amd64",
                &["linux/amd64", "Linux/AMD64", "linux/x86_64", "linux/amd64/v1", "linux/amd64/v3"]
                    [..],
                &["linux/arm64", "windows/amd64", "linux/386"][..],
            ),
            ("linux/amd64/v1", &["linux/amd64", "linux/x86-64/V1"], &["linux/amd64/v3"]),
            ("linux/x86_64/v3", &["linux/amd64/v3", "linux/amd64/3"], &["linux/amd64"]),
            ("linux/arm64", &["linux/aarch64", "linux/arm64/v8", "linux/arm64/8"], &["linux/arm"]),
            ("linux/arm64/v8", &["linux/arm64", "linux/aarch64/v8"], &["linux/arm64/v9"]),
            ("linux/arm", &["linux/arm/v7", "linux/armhf", "linux/arm/v6", "linux/armel"], &[]),
            ("linux/arm/v7", &["linux/arm", "linux/armhf", "linux/arm/7"], &["linux/armel"]),
            ("linux/i386", &["linux/386", "linux/i686"], &["linux/amd64"]),
        ] {
            for one in covered {
                assert!(read(rule).covers(&read(one)), "{rule} {one}");
            }
            for one in others {
                assert!(!read(rule).covers(&read(one)), "{rule} {one}");
            }
        }
        // Once in one spelling, it stays; what is shown is what was read.
        for text in ["Linux/AMD64/v1", "linux/aarch64/8", "linux/armel", "plan9/386/x"] {
            let normal = read(text).normal();
            assert_eq!((normal.normal(), read(text).to_string()), (normal, text.to_owned()));
        }
    }
}
