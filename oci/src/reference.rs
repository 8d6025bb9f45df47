//! Image references as people write them (docs: command line, "Image references").
//!
//! ```text
//! registry.example/team/app:1.2          registry.example/team/app@sha256:…
//! oci:DIR:demo/hello:latest              oci:DIR:demo/hello@sha256:…      oci:DIR@sha256:…
//! ```
//!
//! Invariant: what is displayed reads back as the same reference. A name without a host is
//! refused instead of being sent to a default registry, and a name without tag or digest instead
//! of meaning `latest`: both would judge another image than the one that was meant.
//! `DIR` ends at the first colon after `oci:`.

use attest::{Digest, Repository, digest::DigestError, name::NameError};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Longest reference that is read: a path of 4096 bytes, a repository, a digest.
pub const REFERENCE_BYTES_MAX: usize = 4096 + 255 + 80;
/// Longest tag (distribution specification, "Pulling manifests").
pub const TAG_BYTES_MAX: usize = 128;

/// A reference could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct ReferenceError {
    /// What would have been accepted.
    pub expected: &'static str,
    /// What stood there, at most 200 characters of it.
    pub found: String,
}

impl ReferenceError {
    fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: crate::printable::printable(found) }
    }
}

impl From<NameError> for ReferenceError {
    fn from(error: NameError) -> Self {
        Self { expected: error.expected, found: crate::printable::printable(&error.found) }
    }
}

impl From<DigestError> for ReferenceError {
    fn from(error: DigestError) -> Self {
        Self::new("a digest like sha256:<64 lower-case hex digits>", &error.found)
    }
}

/// A tag: 1 to 128 of `A-Z a-z 0-9 . _ -`, the first no `.` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The tag as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag under which registries without the referrers API keep the referrers of `digest`.
    pub fn fallback_of(digest: &Digest) -> Self {
        Self(digest.fallback_tag())
    }

    /// The tag under which cosign before version 3 keeps the attestations of `digest`.
    pub fn legacy_attestations_of(digest: &Digest) -> Self {
        Self(format!("{}.att", digest.fallback_tag()))
    }

    /// The tag under which cosign before version 3 keeps the signatures of `digest`.
    pub fn legacy_signatures_of(digest: &Digest) -> Self {
        Self(format!("{}.sig", digest.fallback_tag()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let mut bytes = text.bytes();
        let ok = text.len() <= TAG_BYTES_MAX
            && bytes.next().is_some_and(word)
            && bytes.all(|b| word(b) || matches!(b, b'.' | b'-'));
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(ReferenceError::new("a tag (1 to 128 of A-Z a-z 0-9 . _ -)", text))
        }
    }
}

/// What a reference points at inside its repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A tag, which may name another image tomorrow.
    Tag(Tag),
    /// A digest, which is always the same bytes.
    Digest(Digest),
}

/// An entry of an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayoutTarget {
    /// The entry whose `org.opencontainers.image.ref.name` is this repository and tag.
    Tagged(Repository, Tag),
    /// The entry whose ref name has no colon at all; it is its own repository.
    Named(Repository),
    /// A digest in a repository; without one, in the only repository of the layout.
    Digest(Option<Repository>, Digest),
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImageReference {
    /// In a registry. The repository's first component is the host.
    Registry {
        /// Host and path.
        repository: Repository,
        /// Tag or digest.
        target: Target,
    },
    /// In an OCI layout folder.
    Layout {
        /// The folder.
        dir: PathBuf,
        /// Which entry.
        target: LayoutTarget,
    },
}

impl ImageReference {
    /// A digest in a registry's repository.
    pub fn in_registry(repository: Repository, digest: Digest) -> Self {
        Self::Registry { repository, target: Target::Digest(digest) }
    }

    /// A digest in a repository of a layout.
    pub fn in_layout(dir: impl AsRef<Path>, repository: Repository, digest: Digest) -> Self {
        let target = LayoutTarget::Digest(Some(repository), digest);
        Self::Layout { dir: dir.as_ref().to_owned(), target }
    }

    /// The repository, unless it is "the only one of the layout".
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Registry { repository, .. } => Some(repository),
            Self::Layout { target, .. } => match target {
                LayoutTarget::Tagged(repository, _) | LayoutTarget::Named(repository) => {
                    Some(repository)
                }
                LayoutTarget::Digest(repository, _) => repository.as_ref(),
            },
        }
    }

    /// The digest, if the reference is by digest.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Registry { target: Target::Digest(digest), .. }
            | Self::Layout { target: LayoutTarget::Digest(_, digest), .. } => Some(*digest),
            _ => None,
        }
    }

    /// The same place, by digest.
    pub fn at(&self, repository: &Repository, digest: Digest) -> Self {
        match self {
            Self::Registry { .. } => Self::in_registry(repository.clone(), digest),
            Self::Layout { dir, .. } => Self::in_layout(dir, repository.clone(), digest),
        }
    }
}

/// Splits a registry's repository into host (with port) and path. None if there is no host.
pub fn host_and_path(repository: &Repository) -> Option<(&str, &str)> {
    let (host, path) = repository.as_str().split_once('/')?;
    let is_host = host == "localhost" || host.contains(['.', ':']);
    is_host.then_some((host, path))
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { repository, target: Target::Tag(tag) } => {
                write!(f, "{repository}:{tag}")
            }
            Self::Registry { repository, target: Target::Digest(digest) } => {
                write!(f, "{repository}@{digest}")
            }
            Self::Layout { dir, target } => {
                write!(f, "oci:{}", dir.display())?;
                match target {
                    LayoutTarget::Tagged(repository, tag) => write!(f, ":{repository}:{tag}"),
                    LayoutTarget::Named(repository) => write!(f, ":{repository}"),
                    LayoutTarget::Digest(None, digest) => write!(f, "@{digest}"),
                    LayoutTarget::Digest(Some(repository), digest) => {
                        write!(f, ":{repository}@{digest}")
                    }
                }
            }
        }
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > REFERENCE_BYTES_MAX || text.bytes().any(|b| b.is_ascii_control()) {
            return Err(ReferenceError::new(
                "an image reference of at most 4431 bytes without control characters",
                text,
            ));
        }
        match text.strip_prefix("oci:") {
            Some(rest) => layout(text, rest),
            None => registry(text),
        }
    }
}

/// Splits `…@sha256:…`. A colon after the last `@` is what tells a digest from a folder's name.
fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ReferenceError> {
    match text.rsplit_once('@') {
        Some((head, tail)) if tail.starts_with("sha") && !tail.contains('/') => {
            Ok((head, Some(tail.parse()?)))
        }
        _ => Ok((text, None)),
    }
}

fn layout(whole: &str, rest: &str) -> Result<ImageReference, ReferenceError> {
    let bad = |expected| ReferenceError::new(expected, whole);
    let (head, digest) = split_digest(rest)?;
    let (dir, name) = match head.split_once(':') {
        Some((dir, name)) => (dir, Some(name)),
        None => (head, None),
    };
    if dir.is_empty() {
        return Err(bad("a folder after `oci:`, as in oci:DIR:demo/hello:latest"));
    }
    let target = match (name, digest) {
        (None, None) => return Err(bad("oci:DIR:REF, oci:DIR:REPO@sha256:… or oci:DIR@sha256:…")),
        (None, Some(digest)) => LayoutTarget::Digest(None, digest),
        (Some(name), Some(digest)) => {
            // A tag beside a digest says nothing: the digest alone decides.
            LayoutTarget::Digest(Some(split_tag(name)?.0), digest)
        }
        (Some(name), None) => match split_tag(name)? {
            (repository, Some(tag)) => LayoutTarget::Tagged(repository, tag),
            (repository, None) => LayoutTarget::Named(repository),
        },
    };
    Ok(ImageReference::Layout { dir: PathBuf::from(dir), target })
}

/// Splits `REPO:TAG` as the ref names of a layout are written. The colon of a port is followed by
/// a slash, the colon of a tag never is.
pub(crate) fn split_tag(name: &str) -> Result<(Repository, Option<Tag>), ReferenceError> {
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag.parse()?)),
        _ => (name, None),
    };
    let repository: Repository = repository.parse()?;
    // Any colon that is left belongs to a port, so a host must stand before it.
    let host_ok = match host_and_path(&repository) {
        Some((host, _)) => check_host(host).is_some(),
        None => !repository.as_str().contains(':'),
    };
    if host_ok {
        Ok((repository, tag))
    } else {
        let expected = "a repository like demo/hello or registry.example:5000/demo/hello";
        Err(ReferenceError::new(expected, name))
    }
}

fn registry(text: &str) -> Result<ImageReference, ReferenceError> {
    let bad = |expected| ReferenceError::new(expected, text);
    let (name, digest) = split_digest(text)?;
    let (written, tag) = split_tag(name)?;
    let Some((host, path)) = host_and_path(&written) else {
        return Err(bad("a host first, as in docker.io/library/alpine:3 or oci:DIR:REF"));
    };
    let target = match (tag, digest) {
        (_, Some(digest)) => Target::Digest(digest),
        (Some(tag), None) => Target::Tag(tag),
        (None, None) => return Err(bad("a tag or a digest, as in registry.example/app:1.2")),
    };
    // Docker Hub's own spellings (index.docker.io, a path without `library/`) become one name.
    let probe = format!("{host}/{path}:x");
    let repository = if matches!(host, "docker.io" | "index.docker.io") {
        let normal: oci_distribution::Reference =
            probe.parse().map_err(|_| bad("a repository like docker.io/library/alpine"))?;
        format!("{}/{}", normal.registry(), normal.repository()).parse()?
    } else {
        written
    };
    Ok(ImageReference::Registry { repository, target })
}

/// A host name or address with an optional port, as a URL would read it.
fn check_host(host: &str) -> Option<()> {
    let url = url::Url::parse(&format!("https://{host}/")).ok()?;
    let port_ok = url.port() != Some(0);
    let plain = url.username().is_empty() && url.password().is_none() && url.path() == "/";
    (port_ok && plain && url.host().is_some()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "7d0b95f890827475aeaa67a37f1bc2289c11658413bbe64a253cc24da2be6b12";

    #[test]
    fn every_form_of_the_contract_reads_and_displays() {
        let cases = [
            "registry.example/team/app:1.2".to_owned(),
            format!("registry.example/team/app@sha256:{HEX}"),
            "127.0.0.1:5000/demo/hello:latest".to_owned(),
            "[::1]:5000/x:t".to_owned(),
            "localhost/x:t".to_owned(),
            "oci:DIR:demo/hello:latest".to_owned(),
            "oci:/a b/ü@v/c:127.0.0.1:5000/demo/hello:latest".to_owned(),
            "oci:./x:latest".to_owned(),
            format!("oci:DIR:demo/hello@sha256:{HEX}"),
            format!("oci:DIR@sha256:{HEX}"),
        ];
        for text in cases {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
        }
        let reference: ImageReference = "oci:d:h:5/demo/hello:1".parse().unwrap();
        assert_eq!(reference.repository().unwrap().as_str(), "h:5/demo/hello");
    }

    #[test]
    fn a_digest_beside_a_tag_decides_alone() {
        let text = format!("registry.example/app:1.2@sha256:{HEX}");
        let reference: ImageReference = text.parse().unwrap();
        assert_eq!(reference.to_string(), format!("registry.example/app@sha256:{HEX}"));
    }

    #[test]
    fn docker_hub_has_one_spelling() {
        for text in ["docker.io/alpine:3", "index.docker.io/library/alpine:3"] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), "docker.io/library/alpine:3");
        }
    }

    #[test]
    fn what_is_refused_says_what_was_expected() {
        let sha512 = format!("registry.example/app@sha512:{HEX}{HEX}");
        let upper = format!("registry.example/app@sha256:{}", HEX.to_uppercase());
        let short = format!("oci:DIR@sha256:{}", &HEX[1..]);
        let cases = [
            ("", "repository"),
            ("alpine:3", "a host first"),
            ("demo/hello:latest", "a host first"),
            ("registry.example/app", "a tag or a digest"),
            ("registry.example/app:", "a tag"),
            ("registry.example/app:-x", "a tag"),
            ("registry.example/App:1", "repository"),
            ("registry.example/../etc:1", "repository"),
            ("http://registry.example/app:1", "repository"),
            ("user@registry.example/app:1", "repository"),
            ("registry.example:99999/app:1", "registry.example:5000"),
            ("registry.example:0/app:1", "registry.example:5000"),
            ("oci:", "a folder"),
            ("oci::demo:latest", "a folder"),
            ("oci:DIR", "oci:DIR:REF"),
            ("oci:DIR:a:b:c", "repository"),
            ("a\u{1b}[31m.example/x:1", "control characters"),
            (&sha512, "sha256:"),
            (&upper, "sha256:"),
            (&short, "sha256:"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<ImageReference>().unwrap_err();
            assert!(error.to_string().contains(expected), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_round_trips(text in "\\PC{0,80}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                let again: ImageReference = reference.to_string().parse().unwrap();
                prop_assert_eq!(again, reference);
            }
        }

        #[test]
        fn near_references_are_refused_or_round_trip(
            head in "(oci:)?[a-z./:@\\[\\]0-9-]{0,20}(:[a-z0-9/]{1,8})?",
            tail in "(:[a-zA-Z0-9._-]{1,9})?(@sha256:[0-9a-f]{63,65})?",
        ) {
            let text = format!("{head}{tail}");
            if let Ok(reference) = text.parse::<ImageReference>() {
                let again: ImageReference = reference.to_string().parse().unwrap();
                prop_assert_eq!(again, reference);
            }
        }
    }
}
