//! What reads one value of a policy: the text, for the lines that errors name, and the files beside
//! it.
//!
//! Invariant: every error names the line of the value and what was expected there. It knows no
//! table of a policy (`read`, `read_rules`), and must never put a value of its own in the place of
//! a wrong one.

use super::{HINTS, PolicyError, wire::Text};
use crate::key::PublicKey;
use std::{collections::BTreeSet, fmt::Display, ops::Range, str::FromStr};

/// What reading needs to know: the text, for lines, and how to read the files that it names.
pub(super) struct Reader<'a> {
    text: &'a str,
    read_key: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        text: &'a str,
        read_key: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
    ) -> Self {
        Self { text, read_key }
    }

    pub(super) fn each<W, T>(
        &self,
        items: Vec<W>,
        read: impl Fn(&Self, W) -> Result<T, PolicyError>,
    ) -> Result<Vec<T>, PolicyError> {
        items.into_iter().map(|item| read(self, item)).collect()
    }

    /// The line, from 1, in which a value begins.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    pub(super) fn wrong(
        &self,
        text: &Text,
        key: &'static str,
        expected: impl Display,
    ) -> PolicyError {
        PolicyError::Value {
            line: self.line(&text.span()),
            key,
            expected: expected.to_string(),
            found: text.get_ref().chars().take(200).collect(),
        }
    }

    /// A value that its type reads; the type's own words about what it expects are dropped for
    /// `expected`, which fits the place.
    pub(super) fn value<T: FromStr>(
        &self,
        text: &Text,
        key: &'static str,
        expected: &'static str,
    ) -> Result<T, PolicyError> {
        text.get_ref().parse().map_err(|_| self.wrong(text, key, expected))
    }

    /// A list that must have an entry.
    pub(super) fn some<'t>(
        &self,
        list: &'t toml::Spanned<Vec<Text>>,
        table: &'static str,
        expected: &'static str,
    ) -> Result<&'t [Text], PolicyError> {
        if list.get_ref().is_empty() {
            let line = self.line(&list.span());
            return Err(PolicyError::Table { line, table, expected: expected.to_owned() });
        }
        Ok(list.get_ref())
    }

    pub(super) fn file(&self, path: &Text, key: &'static str) -> Result<Vec<u8>, PolicyError> {
        (self.read_key)(path.get_ref()).map_err(|reason| self.bad_file(path, key, reason))
    }

    pub(super) fn bad_file(
        &self,
        path: &Text,
        key: &'static str,
        reason: impl Display,
    ) -> PolicyError {
        PolicyError::File {
            line: self.line(&path.span()),
            key,
            path: path.get_ref().chars().take(200).collect(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn public_key(
        &self,
        path: &Text,
        key: &'static str,
    ) -> Result<PublicKey, PolicyError> {
        let bytes = self.file(path, key)?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| self.bad_file(path, key, "expected PEM, found bytes that are no text"))?;
        PublicKey::from_pem(text).map_err(|error| self.bad_file(path, key, error))
    }

    /// The key of a role that signs with ECDSA P-256.
    pub(super) fn p256(&self, path: &Text, key: &'static str) -> Result<PublicKey, PolicyError> {
        let public = self.public_key(path, key)?;
        if !public.is_p256() {
            return Err(self.bad_file(path, key, "expected an ECDSA P-256 key, found Ed25519"));
        }
        Ok(public)
    }

    pub(super) fn not_empty(&self, text: Text, key: &'static str) -> Result<String, PolicyError> {
        if text.get_ref().trim().is_empty() {
            return Err(self.wrong(&text, key, "a text that is not empty"));
        }
        Ok(text.into_inner())
    }

    pub(super) fn twice(
        &self,
        text: &Text,
        key: &'static str,
        expected: &'static str,
        found: &dyn Display,
    ) -> PolicyError {
        let line = self.line(&text.span());
        PolicyError::Duplicate { line, key, expected, found: found.to_string() }
    }

    /// Words of a closed list, each once, in the list's order.
    pub(super) fn closed_list(
        &self,
        texts: &[Text],
        key: &'static str,
        allowed: &[&'static str],
    ) -> Result<BTreeSet<String>, PolicyError> {
        let mut found = BTreeSet::new();
        for text in texts {
            if !allowed.contains(&text.get_ref().as_str()) {
                return Err(self.wrong(text, key, format!("one of {}", allowed.join(", "))));
            }
            found.insert(text.get_ref().clone());
        }
        Ok(found)
    }

    pub(super) fn hints(&self, texts: &[Text]) -> Result<BTreeSet<String>, PolicyError> {
        self.closed_list(texts, "quorum.hints", HINTS)
    }
}
