//! Canonical JSON: the bytes that are hashed or signed when the value is ours.
//!
//! RFC 8785 (JCS) restricted to what we write: objects with ASCII keys sorted by byte, no floats,
//! integers within 2^53, no white space. Invariant: equal values give equal bytes on any machine, and
//! the fast way (`Arranged`) gives what the tree gives, or leaves the answer to it.
//! It must never be applied to bytes that somebody else signed: those are kept as they came.

use serde::Serialize;

/// A value that has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// The value cannot be written as JSON at all.
    #[error("expected a value that JSON can hold: {0}")]
    Json(#[from] serde_json::Error),
    /// Floats and integers beyond 2^53 read differently in different languages.
    #[error("expected integers within 2^53 only, found {0}; write it as a string")]
    Number(String),
    /// Keys beyond ASCII sort differently in UTF-8 and UTF-16.
    #[error("expected ASCII keys only, found {0:?}")]
    Key(String),
}

/// Deeper values take the slow way, which is bounded by whoever made them.
const DEPTH_MAX: usize = 64;

/// The canonical bytes of a value.
pub fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, CanonicalError> {
    let text = serde_json::to_vec(value)?;
    match Arranged::of(&text) {
        Some(bytes) => Ok(bytes),
        None => by_value(value),
    }
}

/// The same by way of a tree: what decides when there is anything to refuse.
fn by_value(value: &impl Serialize) -> Result<Vec<u8>, CanonicalError> {
    // serde_json's map is a BTreeMap here: its keys come out sorted by byte.
    let value = serde_json::to_value(value)?;
    check(&value)?;
    Ok(serde_json::to_vec(&value)?)
}

/// Sorts the members of objects in a text that serde_json wrote (compact and well-formed), without
/// a tree: evidence is encoded again at each reading, and the tree was most of that.
struct Arranged<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl<'a> Arranged<'a> {
    /// None where the tree has to decide: a number that is no safe integer, a key that is not
    /// plain ASCII or stands twice, a value that is too deep.
    fn of(text: &'a [u8]) -> Option<Vec<u8>> {
        let mut this = Self { text, at: 0, out: Vec::with_capacity(text.len()) };
        this.value(DEPTH_MAX)?;
        (this.at == text.len()).then_some(this.out)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn copy(&mut self, to: usize) -> Option<()> {
        self.out.extend_from_slice(self.text.get(self.at..to)?);
        self.at = to;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(depth.checked_sub(1)?),
            b'[' => self.array(depth.checked_sub(1)?),
            b'"' => self.copy(self.end_of_string()?),
            b'-' | b'0'..=b'9' => self.number(),
            b't' | b'n' => self.copy(self.at + 4),
            b'f' => self.copy(self.at + 5),
            _ => None,
        }
    }

    /// Behind the closing quote of the string that starts here.
    fn end_of_string(&self) -> Option<usize> {
        let mut at = self.at + 1;
        loop {
            at += self.text.get(at..)?.iter().position(|b| matches!(b, b'"' | b'\\'))?;
            if self.text[at] == b'"' {
                return Some(at + 1);
            }
            at += 2;
        }
    }

    fn number(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|b| matches!(b, b',' | b'}' | b']'));
        let digits = &rest[..length.unwrap_or(rest.len())];
        let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        if number.unsigned_abs() > SAFE {
            return None;
        }
        self.copy(self.at + digits.len())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.copy(self.at + 1)?;
        while self.peek()? != b']' {
            self.value(depth)?;
            if self.peek()? == b',' {
                self.copy(self.at + 1)?;
            }
        }
        self.copy(self.at + 1)
    }

    /// Writes the members as they come, and moves them only where they came out of order.
    fn object(&mut self, depth: usize) -> Option<()> {
        self.copy(self.at + 1)?;
        let start = self.out.len();
        let mut members: Vec<(&[u8], std::ops::Range<usize>)> = Vec::new();
        while self.peek()? != b'}' {
            let from = self.out.len();
            let end = self.end_of_string()?;
            let key = self.text.get(self.at + 1..end - 1)?;
            if !key.is_ascii() || key.contains(&b'\\') {
                return None;
            }
            self.copy(end + 1)?;
            self.value(depth)?;
            members.push((key, from..self.out.len()));
            if self.peek()? == b',' {
                self.at += 1;
                self.out.push(b',');
            }
        }
        if !members.is_sorted_by(|a, b| a.0 < b.0) {
            members.sort_unstable_by_key(|member| member.0);
            if !members.is_sorted_by(|a, b| a.0 < b.0) {
                return None;
            }
            let written: Vec<&[u8]> = members.iter().map(|(_, at)| &self.out[at.clone()]).collect();
            let sorted = written.join(&b',');
            self.out.truncate(start);
            self.out.extend_from_slice(&sorted);
        }
        self.copy(self.at + 1)
    }
}

const SAFE: u64 = 1 << 53;

fn check(value: &serde_json::Value) -> Result<(), CanonicalError> {
    use serde_json::Value;
    match value {
        Value::Number(n) => {
            let ok = n.as_u64().is_some_and(|n| n <= SAFE)
                || n.as_i64().is_some_and(|n| n.unsigned_abs() <= SAFE);
            if ok { Ok(()) } else { Err(CanonicalError::Number(n.to_string())) }
        }
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            if !key.is_ascii() {
                return Err(CanonicalError::Key(key.clone()));
            }
            check(value)
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-9i64..9).prop_map(|near| Value::from((1i64 << 53) + near)),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            r#"[\\"a,:\{\}\[\]]{0,8}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 48, 6, |inner| {
            let key = prop_oneof![9 => "[a-c]{0,2}", 1 => r#"[\\"\x00é]{1,2}"#];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..6)
                    .prop_map(|members| { Value::Object(members.into_iter().collect()) }),
            ]
        })
    }

    /// Writes its members as they stand, also twice, which no map of serde_json does.
    struct Unsorted(Vec<(String, Value)>);

    impl Serialize for Unsorted {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
        }
    }

    proptest! {
        #[test]
        fn both_ways_give_the_same(members in prop::collection::vec(("[a-dé]{0,2}", values()), 0..8)) {
            let value = Unsorted(members);
            match (to_vec(&value), by_value(&value)) {
                (Ok(fast), Ok(slow)) => prop_assert_eq!(fast, slow),
                (Err(fast), Err(slow)) => prop_assert_eq!(fast.to_string(), slow.to_string()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn plain_values_need_no_tree() {
        let text = br#"{"b":{"y":[1,-2,"\"}\\"],"x":{}},"a":[],"c":null}"#;
        let sorted = br#"{"a":[],"b":{"x":{},"y":[1,-2,"\"}\\"]},"c":null}"#;
        assert_eq!(Arranged::of(text).as_deref(), Some(&sorted[..]));
        assert_eq!(Arranged::of(sorted).as_deref(), Some(&sorted[..]));
        for cut in 0..text.len() {
            assert_eq!(Arranged::of(&text[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn sorted_compact_and_integers_only() {
        let bytes = to_vec(&json!({"b": 1, "a": [true, null, "é<"]})).unwrap();
        assert_eq!(bytes, "{\"a\":[true,null,\"é<\"],\"b\":1}".as_bytes());
        assert!(matches!(to_vec(&json!(1.5)), Err(CanonicalError::Number(_))));
        assert!(matches!(to_vec(&json!(1u64 << 60)), Err(CanonicalError::Number(_))));
        assert!(matches!(to_vec(&json!({"é": 1})), Err(CanonicalError::Key(_))));
    }
}
