//! JSON as strictly as different readers need to agree on it (RFC 8259, and Go's encoding/json).
//!
//! Registries, runtimes and verifiers read the same manifest with different libraries: one takes
//! the first of two equal keys, another the last, and Go also accepts `Layers` for `layers`.
//! Invariant: whatever passes here reads alike everywhere: no object has a key twice, documents
//! are bounded in bytes and depth, and no key is spelled almost like a known one.
//! It must never guess which of two readings was meant.

use crate::error::Error;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Deepest nesting that is read; manifests need 5, image configs 6.
pub const DEPTH_MAX: usize = 32;

/// Reads one document. `what` names it in errors.
pub fn read(bytes: &[u8], what: &str, bytes_max: u64) -> Result<Value, Error> {
    if bytes.len() as u64 > bytes_max {
        return Err(Error::too_large(what, bytes_max, "bytes", bytes.len()));
    }
    let malformed = |error: serde_json::Error| {
        Error::malformed(what, "one JSON document without repeated keys", error.to_string())
    };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader).map_err(malformed)?;
    reader.end().map_err(malformed)?;
    Ok(value)
}

/// Refuses keys that a reader which ignores case would take for one of `known`.
pub(crate) fn check_spelling(
    object: &Map<String, Value>,
    known: &[&str],
    what: &str,
) -> Result<(), Error> {
    for key in object.keys() {
        let folded = fold(key);
        if let Some(known) = known.iter().find(|known| **known != key && fold(known) == folded) {
            return Err(Error::malformed(what, format!("the key {known:?}"), format!("{key:?}")));
        }
    }
    Ok(())
}

/// Case folding as Go's encoding/json does it: ASCII, and the two letters that fold into ASCII.
fn fold(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format!("nesting deeper than {DEPTH_MAX}")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inner)?;
            if object.contains_key(&key) {
                return Err(de::Error::custom(format!("the key {key:?} twice in one object")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn repeated_keys_depth_size_and_trailing_bytes_are_refused() {
        let deep = "[".repeat(40) + &"]".repeat(40);
        for (text, expected) in [
            (r#"{"a":1,"a":1}"#, "twice"),
            (r#"{"x":{"a":1,"\u0061":2}}"#, "twice"),
            (deep.as_str(), "deeper"),
            ("{} {}", "trailing"),
            ("{", "EOF"),
            ("", "EOF"),
        ] {
            let error = read(text.as_bytes(), "the test", 1000).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(matches!(read(b"[1,2]", "the test", 4), Err(Error::TooLarge { .. })));
        assert!(read(b"\"\xff\"", "the test", 10).is_err());
    }

    #[test]
    fn almost_known_keys_are_refused() {
        let object = |text: &str| match read(text.as_bytes(), "the test", 1000).unwrap() {
            Value::Object(object) => object,
            _ => unreachable!("the test writes objects"),
        };
        for text in [r#"{"Layers":1}"#, r#"{"layer\u017f":1}"#, r#"{"LAYERS":1}"#] {
            assert!(check_spelling(&object(text), &["layers"], "the test").is_err(), "{text}");
        }
        check_spelling(&object(r#"{"layers":1,"other":2}"#), &["layers"], "the test").unwrap();
    }

    proptest! {
        #[test]
        fn never_panics_and_agrees_with_serde(bytes in "[\\[\\]{}:,\"a0-9 ]{0,60}") {
            if let Ok(value) = read(bytes.as_bytes(), "the test", 1000) {
                prop_assert_eq!(serde_json::from_slice::<Value>(bytes.as_bytes()).unwrap(), value);
            }
        }
    }
}
