//! A JSON Web Key Set (RFC 7517) as key discovery serves it, and the key files that apko makes of
//! it (apko-assembly.md, 6.3).
//!
//! Invariant: for one set there is one list of files, with the names and bytes that apko writes
//! into the image. A set with anything that apko would stumble over is refused as a whole.

use super::{KeyError, PublicKey, pem};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// Bytes of a set. One with a hundred keys of 4,096 bits has 80 KiB.
pub const JWKS_BYTES_MAX: usize = 1 << 20;

/// Keys of a set.
const KEYS_MAX: usize = 1000;

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

/// The key files of a set, in its order: `<kid>.rsa.pub`, PEM with lines of 64 characters.
pub fn keys_from_jwks(bytes: &[u8]) -> Result<Vec<PublicKey>, KeyError> {
    let bad = |detail: String| KeyError::Jwks { detail };
    if bytes.len() > JWKS_BYTES_MAX {
        return Err(bad(format!("more than {JWKS_BYTES_MAX} bytes")));
    }
    let set: KeySet = serde_json::from_slice(bytes).map_err(|error| {
        // Not the parser's words: they quote what it found.
        bad(format!("something else at line {}, column {}", error.line(), error.column()))
    })?;
    if set.keys.len() > KEYS_MAX {
        return Err(bad(format!("more than {KEYS_MAX} keys")));
    }
    let mut names = std::collections::HashSet::new();
    set.keys
        .iter()
        .map(|key| {
            let key = key.to_file()?;
            match names.insert(key.name.clone()) {
                true => Ok(key),
                false => Err(KeyError::Duplicate { name: key.name }),
            }
        })
        .collect()
}

impl Key {
    fn to_file(&self) -> Result<PublicKey, KeyError> {
        let name = format!("{}.rsa.pub", self.kid);
        if self.kid.is_empty() || !super::is_safe_name(&name) {
            return Err(KeyError::Name { found: name.chars().take(200).collect() });
        }
        if self.kty != "RSA" {
            return Err(KeyError::NotRsa { name });
        }
        let number = |field: &'static str, text: &str| {
            let detail = || format!("a key {name} whose {field} is no number in base64url");
            let bytes =
                URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Jwks { detail: detail() })?;
            let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            let bytes = bytes.get(zeros..).unwrap_or_default().to_vec();
            if bytes.is_empty() { Err(KeyError::Jwks { detail: detail() }) } else { Ok(bytes) }
        };
        let spki = pem::rsa_spki(&number("n", &self.n)?, &number("e", &self.e)?);
        PublicKey::from_file(&name, pem::encode(&spki).as_bytes())
    }
}
