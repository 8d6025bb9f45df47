//! Dependencies, provides and world entries: `name`, `name=version`, `name>=version`, with an
//! optional `@pin` (apko-assembly.md, 3.1).
//!
//! Invariant: every text has exactly one reading, the one of apko's expression
//! `^([^@=><~]+)(([=><~]+)([^@]+))?(@([a-zA-Z0-9]+))?$`; what does not match is a name as a whole.

use super::version::Version;
use std::borrow::Cow;

/// How a version is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// No version, or an operator that apko does not know.
    Any,
    /// `=`
    Equal,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `>=`
    GreaterOrEqual,
    /// `<=`
    LessOrEqual,
    /// `~`, `=~`: the version begins with this one.
    Begins,
}

impl Operator {
    fn of(text: &str) -> Self {
        match text {
            "=" => Self::Equal,
            ">" => Self::Greater,
            "<" => Self::Less,
            ">=" => Self::GreaterOrEqual,
            "<=" => Self::LessOrEqual,
            "~" | "=~" => Self::Begins,
            _ => Self::Any,
        }
    }

    /// True when `actual` is what was `required`.
    pub fn accepts(self, actual: &Version, required: &Version) -> bool {
        match self {
            Self::Any => true,
            Self::Equal => actual == required,
            Self::Greater => actual > required,
            Self::Less => actual < required,
            Self::GreaterOrEqual => actual >= required,
            Self::LessOrEqual => actual <= required,
            Self::Begins => actual.begins_with(required),
        }
    }
}

/// A dependency taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency<'a> {
    /// The name.
    pub name: &'a str,
    /// How the version is compared.
    pub operator: Operator,
    /// The version as text; empty where there is none.
    pub version: Cow<'a, str>,
    /// The repository that is asked for; empty where none is.
    pub pin: &'a str,
}

impl<'a> Dependency<'a> {
    /// Takes a text apart. With `shared_objects_below_releases`, `so:x=1` is read as `so:x=0.1`:
    /// a library version that a package states by hand ranks below those with a release.
    pub fn parse(text: &'a str, shared_objects_below_releases: bool) -> Self {
        let whole = Self { name: text, operator: Operator::Any, version: "".into(), pin: "" };
        let stated = text.strip_prefix("so:").and_then(|_| text.split_once('='));
        match stated {
            Some((front, version))
                if shared_objects_below_releases && !ends_in_release(version) =>
            {
                let adjusted = format!("{front}=0.{version}");
                Dependency::split(&adjusted).and_then(|parsed| parsed.borrowed_from(text))
            }
            _ => Self::split(text),
        }
        .unwrap_or(whole)
    }

    /// The same parts, name and pin taken from `text`, whose ends are those of the adjusted text.
    fn borrowed_from<'b>(&self, text: &'b str) -> Option<Dependency<'b>> {
        Some(Dependency {
            name: text.get(..self.name.len())?,
            operator: self.operator,
            version: Cow::Owned(self.version.clone().into_owned()),
            pin: text.get(text.len().checked_sub(self.pin.len())?..)?,
        })
    }

    /// The parts, where the expression matches.
    fn split(text: &'a str) -> Option<Self> {
        let is_operator = |c: char| matches!(c, '=' | '>' | '<' | '~');
        let name_end = text.find(|c| c == '@' || is_operator(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(name_end);
        let (middle, pin) = match rest.split_once('@') {
            Some((middle, pin)) => (middle, Some(pin)),
            None => (rest, None),
        };
        let pin_is_good = pin.is_none_or(|pin| {
            !pin.is_empty() && pin.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        if name.is_empty() || !pin_is_good {
            return None;
        }
        let pin = pin.unwrap_or_default();
        if middle.is_empty() {
            return Some(Self { name, operator: Operator::Any, version: "".into(), pin });
        }
        let mut operator_end = middle.find(|c| !is_operator(c)).unwrap_or(middle.len());
        if operator_end == middle.len() {
            // Something has to be left for the version.
            operator_end -= 1;
        }
        let (operator, version) = middle.split_at(operator_end);
        let operator = Operator::of(operator);
        (operator_end > 0).then_some(Self { name, operator, version: version.into(), pin })
    }

    /// The version, where it is one.
    pub fn parsed_version(&self) -> Option<Version> {
        Version::parse(&self.version)
    }

    /// True when a package of this version is what is asked for.
    pub fn accepts(&self, actual: &Version) -> bool {
        match self.operator {
            Operator::Any => true,
            operator => {
                self.parsed_version().is_some_and(|required| operator.accepts(actual, &required))
            }
        }
    }
}

/// True for a version that ends in `-r` and digits.
fn ends_in_release(version: &str) -> bool {
    let front = version.trim_end_matches(|c: char| c.is_ascii_digit());
    front.len() < version.len() && front.ends_with("-r")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> (&str, Operator, String, &str) {
        let parsed = Dependency::parse(text, true);
        (parsed.name, parsed.operator, parsed.version.into_owned(), parsed.pin)
    }

    #[test]
    fn readings() {
        use Operator::*;
        for (text, name, operator, version, pin) in [
            ("a", "a", Any, "", ""),
            ("a=1-r0", "a", Equal, "1-r0", ""),
            ("a>=1", "a", GreaterOrEqual, "1", ""),
            ("a=~1.2", "a", Begins, "1.2", ""),
            ("a~1.2@edge", "a", Begins, "1.2", "edge"),
            ("a@edge", "a", Any, "", "edge"),
            ("cmd:x", "cmd:x", Any, "", ""),
            ("so:libx.so.1=1", "so:libx.so.1", Equal, "0.1", ""),
            ("so:libx.so.1=1.2-r3", "so:libx.so.1", Equal, "1.2-r3", ""),
            ("so:libx.so.1", "so:libx.so.1", Any, "", ""),
            ("so:libx.so.1>=1@edge", "so:libx.so.1", GreaterOrEqual, "0.1", "edge"),
            ("so:libx.so.1=", "so:libx.so.1", Equal, "0.", ""),
            ("a==1", "a", Any, "1", ""),
            ("a>=", "a", Greater, "=", ""),
            ("a=1=2", "a", Equal, "1=2", ""),
            // No match: a name as a whole.
            ("a=", "a=", Any, "", ""),
            ("=1", "=1", Any, "", ""),
            ("a@", "a@", Any, "", ""),
            ("a@b-c", "a@b-c", Any, "", ""),
            ("a@b@c", "a@b@c", Any, "", ""),
            ("", "", Any, "", ""),
        ] {
            assert_eq!(parts(text), (name, operator, version.to_owned(), pin), "{text:?}");
        }
        assert_eq!(Dependency::parse("so:x=1", false).version, "1");
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_or_a_name(text in "[a@=<>~:1.\\-ré]{0,12}") {
            let parsed = Dependency::parse(&text, false);
            prop_assert!(text.starts_with(parsed.name));
            prop_assert!(parsed.name.len() == text.len() || !parsed.name.is_empty());
        }
    }
}
