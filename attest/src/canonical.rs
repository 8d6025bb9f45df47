//! Canonical JSON: the bytes that are hashed or signed when the value is ours.
//!
//! RFC 8785 (JCS) restricted to what we write: objects with ASCII keys sorted by byte, no floats,
//! integers within 2^53, no white space. Invariant: equal values give equal bytes on any machine.
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

/// The canonical bytes of a value.
pub fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, CanonicalError> {
    // serde_json's map is a BTreeMap here: its keys come out sorted by byte.
    let value = serde_json::to_value(value)?;
    check(&value)?;
    Ok(serde_json::to_vec(&value)?)
}

fn check(value: &serde_json::Value) -> Result<(), CanonicalError> {
    use serde_json::Value;
    const SAFE: u64 = 1 << 53;
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
    use serde_json::json;

    #[test]
    fn sorted_compact_and_integers_only() {
        let bytes = to_vec(&json!({"b": 1, "a": [true, null, "é<"]})).unwrap();
        assert_eq!(bytes, "{\"a\":[true,null,\"é<\"],\"b\":1}".as_bytes());
        assert!(matches!(to_vec(&json!(1.5)), Err(CanonicalError::Number(_))));
        assert!(matches!(to_vec(&json!(1u64 << 60)), Err(CanonicalError::Number(_))));
        assert!(matches!(to_vec(&json!({"é": 1})), Err(CanonicalError::Key(_))));
    }
}
