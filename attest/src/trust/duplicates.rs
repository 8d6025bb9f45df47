//! Keys that stand twice in one JSON object (RFC 8259, 4: what they mean is up to the reader).
//!
//! Invariant: walks the text once, keeps nothing but the keys of the objects that are open, and
//! names the first repeated key by its path. Depth is bounded by the parser (128).

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::{collections::BTreeSet, fmt};

/// Longest path that is named, in characters.
const PATH_CHARS_MAX: usize = 120;

/// The path of the first key that stands twice in its object, as `predicate.contents.packages`.
pub(super) fn first(json: &[u8]) -> Option<String> {
    let mut found = None;
    let mut parser = serde_json::Deserializer::from_slice(json);
    // A text that is not JSON was refused before this is asked; it has no keys to repeat.
    let _ = Walk { path: &mut Vec::new(), found: &mut found }.deserialize(&mut parser);
    found
}

struct Walk<'a> {
    path: &'a mut Vec<String>,
    found: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Walk { path, found } = self;
        while items.next_element_seed(Walk { path, found })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Walk { path, found } = self;
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            path.push(key.clone());
            if !keys.insert(key) && found.is_none() {
                *found = Some(path.join(".").chars().take(PATH_CHARS_MAX).collect());
            }
            map.next_value_seed(Walk { path, found })?;
            path.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::first;

    #[test]
    fn the_first_repeated_key_by_its_path() {
        for (json, path) in [
            (r#"{"a":1,"b":{"a":[{"c":null,"d":"x"},{"c":1.5}]},"c":-1,"d":true}"#, None),
            (r#"{"a":1,"a":2}"#, Some("a")),
            (r#"{"a":{"b":[0,{"c":1,"c":{"c":1,"c":2}}]},"a":0}"#, Some("a.b.c")),
            (r#"{"a":1,"\u0061":2}"#, Some("a")),
            ("nonsense", None),
        ] {
            assert_eq!(first(json.as_bytes()).as_deref(), path, "{json}");
        }
    }
}
