//! SHA-256 digests as the OCI image specification writes them (`sha256:` and 64 lower-case hex
//! digits; image-spec, descriptor, "Digests").
//!
//! Invariant: a `Digest` always holds 32 bytes of SHA-256; no other algorithm can be represented.
//! It must never accept upper-case hex or a bare hex string: two spellings of one digest would be
//! two keys in an index.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};

/// A SHA-256 digest. `Display` and serde write `sha256:<64 hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A digest could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a digest like sha256:<64 lower-case hex digits>, found {found:?}")]
pub struct DigestError {
    /// What stood there, at most 100 characters of it.
    pub found: String,
}

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest from its 32 raw bytes.
    pub const fn from_raw(raw: [u8; 32]) -> Self {
        Self(raw)
    }

    /// The 32 raw bytes.
    pub const fn raw(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 lower-case hex digits, without `sha256:`.
    pub fn hex(&self) -> String {
        self.digits(|digits| digits.to_owned())
    }

    /// Shows the digits without an allocation: evidence has dozens of digests.
    fn digits<T>(&self, show: impl FnOnce(&str) -> T) -> T {
        let mut digits = [0; 64];
        let written = hex::encode_to_slice(self.0, &mut digits);
        show(written.ok().and_then(|()| std::str::from_utf8(&digits).ok()).unwrap_or_default())
    }

    /// A digest from 64 lower-case hex digits without a prefix, as in-toto statements write it.
    pub fn from_hex(text: &str) -> Result<Self, DigestError> {
        let bad = || DigestError { found: text.chars().take(100).collect() };
        if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad());
        }
        let mut raw = [0; 32];
        hex::decode_to_slice(text, &mut raw).map_err(|_| bad())?;
        Ok(Self(raw))
    }

    /// The tag under which the OCI distribution specification keeps referrers of this digest where
    /// a registry has no referrers API: `sha256-<hex>`.
    pub fn fallback_tag(&self) -> String {
        format!("sha256-{}", self.hex())
    }

    /// The first twelve hex digits, for messages to people. Never for comparing.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digits(|digits| {
            f.write_str("sha256:")?;
            f.write_str(digits)
        })
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let bad = || DigestError { found: text.chars().take(100).collect() };
        Self::from_hex(text.strip_prefix("sha256:").ok_or_else(bad)?).map_err(|_| bad())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_only() {
        let empty = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(empty.to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), empty);
        for bad in [&text.to_uppercase(), &text[7..], "sha256:", "sha512:00", &format!("{text}0")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
