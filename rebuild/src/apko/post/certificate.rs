//! One certificate, as PEM text gives it (RFC 7468).
//!
//! Invariant: it is one DER sequence, and is written again from that, without the text around it.
//! Nothing here decides whether a certificate deserves trust.

use super::pem;
use sha2::{Digest as _, Sha256};

const LABEL: &str = "CERTIFICATE";

/// A certificate to add.
pub(super) struct Certificate {
    /// How the Java trust store will call it.
    pub(super) alias: String,
    /// The certificate.
    pub(super) der: Vec<u8>,
    /// The same as PEM.
    pub(super) pem: Vec<u8>,
}

impl Certificate {
    pub(super) fn read(text: &[u8], alias: impl FnOnce(&str) -> String) -> Result<Self, String> {
        let block = pem::only_block(text, LABEL).map_err(|error| error.to_string())?;
        if !is_one_sequence(&block.bytes) {
            return Err("expected one DER sequence in the certificate".into());
        }
        let fingerprint = hex::encode(Sha256::digest(&block.bytes));
        Ok(Self { alias: alias(&fingerprint), pem: block.encode(), der: block.bytes })
    }
}

/// True if the bytes are one DER SEQUENCE and nothing behind it (X.690, 8.1 and 8.9).
fn is_one_sequence(der: &[u8]) -> bool {
    let (Some(0x30), Some(first)) = (der.first(), der.get(1)) else { return false };
    let (length, header) = if *first < 0x80 {
        (usize::from(*first), 2)
    } else {
        let count = usize::from(first & 0x7f);
        let Some(bytes) = der.get(2..2 + count).filter(|_| (1..=4).contains(&count)) else {
            return false;
        };
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + count)
    };
    der.len() == length + header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_sequences() {
        assert!(is_one_sequence(&[0x30, 0]));
        assert!(is_one_sequence(&[0x30, 0x81, 1, 5]));
        let bad: &[&[u8]] =
            &[b"", &[0x30], &[0x30, 1], &[0x31, 0], &[0x30, 0, 0], &[0x30, 0x80], &[0x30, 0x85]];
        for bad in bad {
            assert!(!is_one_sequence(bad), "{bad:?}");
        }
    }
}
