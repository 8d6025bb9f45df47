//! Looking at attested JSON: whether it has a canonical form, where two values differ, whether it
//! names a digest.
//!
//! Invariant: values are looked at, never changed. Depth is bounded by the JSON parser (128), what
//! is reported by the constants here.

use serde_json::Value;

/// How many differing places are named.
const DIFFERENCES_SHOWN: usize = 8;
/// Longest piece of foreign text in a message, in characters.
const SHOWN_CHARS_MAX: usize = 120;

/// Foreign text for a message: one line, bounded.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

/// A place below `path`.
fn below(path: &str, key: &str) -> String {
    if path.is_empty() { shown(key) } else { format!("{path}.{}", shown(key)) }
}

/// The first place that canonical JSON cannot hold, and why.
pub(super) fn uncanonical(value: &Value, path: &str) -> Option<(String, &'static str)> {
    const SAFE: u64 = 1 << 53;
    match value {
        Value::Number(number) => {
            let whole = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if whole.is_some_and(|whole| whole <= SAFE) {
                return None;
            }
            Some((path.to_owned(), "a number that is not an integer within 2^53"))
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(position, item)| uncanonical(item, &format!("{path}[{position}]"))),
        Value::Object(map) => map.iter().find_map(|(key, item)| {
            let place = below(path, key);
            if !key.is_ascii() {
                return Some((place, "a key beyond ASCII"));
            }
            uncanonical(item, &place)
        }),
        _ => None,
    }
}

/// The first places in which two values differ.
pub(super) fn differences(a: &Value, b: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(a, b, "", &mut found);
    found
}

fn collect(a: &Value, b: &Value, path: &str, found: &mut Vec<String>) {
    if a == b || found.len() >= DIFFERENCES_SHOWN {
        return;
    }
    if let (Value::Object(a), Value::Object(b)) = (a, b) {
        let before = found.len();
        let only_b = b.keys().filter(|key| !a.contains_key(*key));
        for key in a.keys().chain(only_b) {
            let null = Value::Null;
            let (a, b) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
            collect(a, b, &below(path, key), found);
        }
        // An absent key and a null one are different statements.
        if found.len() == before {
            found.push(if path.is_empty() { "the whole".to_owned() } else { path.to_owned() });
        }
        return;
    }
    found.push(if path.is_empty() { "the whole".to_owned() } else { path.to_owned() });
}

/// True when a string or key anywhere in the value contains `text`.
pub(super) fn mentions(value: &Value, text: &str) -> bool {
    match value {
        Value::String(string) => string.contains(text),
        Value::Array(items) => items.iter().any(|item| mentions(item, text)),
        Value::Object(map) => {
            map.iter().any(|(key, item)| key.contains(text) || mentions(item, text))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_are_named() {
        let value = json!({"a": [1, {"b": -3}], "c": {"d": 1.5}});
        assert_eq!(uncanonical(&value, "").unwrap().0, "c.d");
        assert_eq!(uncanonical(&json!({"a": [0, 1u64 << 60]}), "").unwrap().0, "a[1]");
        assert_eq!(uncanonical(&json!({"a": {"é": 1}}), "").unwrap().0, "a.é");
        assert_eq!(uncanonical(&json!({"a": [null, true, "é", 0]}), ""), None);
        assert!(crate::canonical::to_vec(&json!({"a": [null, true, "é", 0]})).is_ok());
    }

    #[test]
    fn differences_are_named() {
        let a = json!({"a": {"b": 1, "c": [1, 2]}, "d": null});
        assert!(differences(&a, &a).is_empty());
        let b = json!({"a": {"b": 2, "c": [1]}, "d": null, "e": 1});
        assert_eq!(differences(&a, &b), ["a.b", "a.c", "e"]);
        assert_eq!(differences(&json!({"a": null}), &json!({})), ["the whole"]);
        let (a, b) = (json!({"a": 1, "b": {"c": null}}), json!({"a": 2, "b": {}}));
        assert_eq!(differences(&a, &b), ["a", "b"]);
        assert_eq!(differences(&json!(1), &json!(2)), ["the whole"]);
        let many = |n: u64| -> Value {
            (0..100).map(|k| (format!("k{k}"), json!(n))).collect::<serde_json::Map<_, _>>().into()
        };
        assert_eq!(differences(&many(1), &many(2)).len(), DIFFERENCES_SHOWN);
    }

    #[test]
    fn mentions_anywhere() {
        let value = json!({"a": [{"b": "x sha256:00 y"}], "k00": 1});
        assert!(mentions(&value, "sha256:00") && mentions(&value, "k0") && !mentions(&value, "z"));
    }
}
