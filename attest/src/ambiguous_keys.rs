//! Keys that two readers of one JSON text may understand differently: those that stand twice in one
//! object (RFC 8259, 4: what they mean is up to the reader), and those that mean something to the
//! JSON library of this program only.
//!
//! Invariant: walks the text once, keeps nothing but the keys of the objects that are open, and
//! names the first such key by its path. Depth is bounded by the parser (128).

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::{collections::BTreeSet, fmt};

/// Longest path that is named, in characters.
const PATH_CHARS_MAX: usize = 120;

/// Keys that begin so mean something to serde_json itself: under such a key a string is read as the
/// JSON that it holds, by this reader and by no other, and without the bound on depth.
const RESERVED: &str = "$serde_json::private::";

/// The first key that only this reader's JSON library would understand, if there is one.
pub(crate) fn reserved(json: &[u8]) -> Option<String> {
    // Most texts hold neither the words nor an escape that could hide them.
    let hides = |window: &[u8]| window.starts_with(b"\\u") || window.starts_with(b"$serde");
    if !json.windows(6).any(hides) {
        return None;
    }
    walk(json, |_, key| key.starts_with(RESERVED))
}

/// The path of the first key that stands twice in its object, as `predicate.contents.packages`.
pub(crate) fn twice(json: &[u8]) -> Option<String> {
    walk(json, |before, key| before.contains(key))
}

/// Of a key, given those before it in its object: is it what is looked for?
type Wanted = fn(&BTreeSet<String>, &str) -> bool;

fn walk(json: &[u8], wanted: Wanted) -> Option<String> {
    let mut found = None;
    let mut parser = serde_json::Deserializer::from_slice(json);
    // What is no JSON is refused by whoever reads it; it has no keys.
    let _ = Walk { path: &mut Vec::new(), found: &mut found, wanted }.deserialize(&mut parser);
    found
}

struct Walk<'a> {
    path: &'a mut Vec<String>,
    found: &'a mut Option<String>,
    wanted: Wanted,
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
        let Walk { path, found, wanted } = self;
        while items.next_element_seed(Walk { path, found, wanted })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Walk { path, found, wanted } = self;
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            path.push(key.clone());
            if wanted(&keys, &key) && found.is_none() {
                *found = Some(path.join(".").chars().take(PATH_CHARS_MAX).collect());
            }
            keys.insert(key);
            map.next_value_seed(Walk { path, found, wanted })?;
            path.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{reserved, twice};

    #[test]
    fn keys_that_mean_something_to_this_reader_only() {
        for (json, path) in [
            (
                r#"{"a":{"$serde_json::private::RawValue":"{}"}}"#,
                Some("a.$serde_json::private::RawValue"),
            ),
            (
                r#"[{"\u0024serde_json::private::Number":"1"}]"#,
                Some("$serde_json::private::Number"),
            ),
            (r#"{"a":"$serde_json::private::RawValue","b":"\u0024"}"#, None),
            (r#"{"$serde":1}"#, None),
        ] {
            assert_eq!(reserved(json.as_bytes()).as_deref(), path, "{json}");
        }
    }

    #[test]
    fn the_first_repeated_key_by_its_path() {
        for (json, path) in [
            (r#"{"a":1,"b":{"a":[{"c":null,"d":"x"},{"c":1.5}]},"c":-1,"d":true}"#, None),
            (r#"{"a":1,"a":2}"#, Some("a")),
            (r#"{"a":{"b":[0,{"c":1,"c":{"c":1,"c":2}}]},"a":0}"#, Some("a.b.c")),
            (r#"{"a":1,"\u0061":2}"#, Some("a")),
            ("nonsense", None),
        ] {
            assert_eq!(twice(json.as_bytes()).as_deref(), path, "{json}");
        }
    }
}
