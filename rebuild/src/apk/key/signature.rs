//! The `.SIGN.` entries of packages and indexes: `.SIGN.RSA256.<key file>` signs SHA-256,
//! `.SIGN.RSA.<key file>` SHA-1, both RSA PKCS#1 v1.5 (apk-tools, "signature" section).
//!
//! Invariant: other kinds (DSA, RSA512) are not signatures for us, as they are none for apko.

/// Which digest a signature is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SignatureAlgorithm {
    /// `RSA`: legacy, still made by Alpine's own tools.
    RsaSha1,
    /// `RSA256`
    RsaSha256,
}

/// One signature, and the name of the key file that is said to have made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Which digest.
    pub algorithm: SignatureAlgorithm,
    /// The key file's name, as the entry's name has it.
    pub key_name: String,
    /// The signature itself.
    pub bytes: Vec<u8>,
}

/// Who signed, after the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBy {
    /// The name of the key file.
    pub key: String,
    /// The algorithm of the signature that was found right.
    pub algorithm: SignatureAlgorithm,
}

impl Signature {
    /// The signature in a tar entry of this name; `None` where it is no signature that is known.
    pub(in crate::apk) fn of_entry(name: &[u8], bytes: Vec<u8>) -> Option<Self> {
        let rest = std::str::from_utf8(name).ok()?.strip_prefix(".SIGN.")?;
        let (algorithm, key_name) = rest.split_once('.')?;
        let algorithm = match algorithm {
            "RSA" => SignatureAlgorithm::RsaSha1,
            "RSA256" => SignatureAlgorithm::RsaSha256,
            _ => return None,
        };
        (super::is_safe_name(key_name) && key_name.ends_with(".rsa.pub")).then(|| Self {
            algorithm,
            key_name: key_name.to_owned(),
            bytes,
        })
    }
}
