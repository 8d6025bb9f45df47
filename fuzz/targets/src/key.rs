//! Keys: sets of a repository's discovery, PEM files.

use attest::key::{PublicKey as EvidenceKey, SigningKey};
use rebuild::apk::key::{KeyRing, PublicKey, keys_from_jwks};

/// A set of keys: each is a key file that reads as the same key.
pub fn jwks(bytes: &[u8]) {
    let Ok(keys) = keys_from_jwks(bytes) else { return };
    let mut ring = KeyRing::new();
    for key in keys {
        let again = PublicKey::from_file(key.name(), key.file()).expect("a key that we wrote");
        assert_eq!(again.pin(), key.pin());
        let _ = ring.add(key);
    }
}

/// Key files, of packages and of evidence.
pub fn keys(bytes: &[u8]) {
    if let Ok(key) = PublicKey::from_file("fuzz.rsa.pub", bytes) {
        let again = PublicKey::from_file("fuzz.rsa.pub", key.file()).expect("the same file");
        assert_eq!(again.pin(), key.pin());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = EvidenceKey::from_pem(text) {
        assert_eq!(EvidenceKey::from_pem(&key.to_pem()).ok().as_ref(), Some(&key));
        assert!(key.verify(b"message", b"signature").is_err());
    }
    if let Ok(key) = SigningKey::from_pem(text) {
        let again = SigningKey::from_pem(&key.to_pem()).expect("a key that we wrote");
        assert_eq!(again.public(), key.public());
    }
}
