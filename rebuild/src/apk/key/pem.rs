//! PEM (RFC 7468) and the little DER that RSA public keys need (X.690; RFC 3279, 2.3.1).
//!
//! Invariant: what is encoded here has the bytes that Go's `x509.MarshalPKIXPublicKey` and
//! `pem.Encode` write: shortest lengths, lines of 64 characters. Decoding takes one block only.

use super::KEY_FILE_BYTES_MAX;
use base64::{Engine as _, engine::general_purpose::STANDARD};

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
const LINE_CHARACTERS: usize = 64;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// `SEQUENCE { OBJECT IDENTIFIER rsaEncryption, NULL }`
const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The DER bytes of the only block of a key file.
pub(super) fn decode(file: &[u8]) -> Result<Vec<u8>, &'static str> {
    if file.len() > KEY_FILE_BYTES_MAX {
        return Err("a file that is too long");
    }
    let text = std::str::from_utf8(file).map_err(|_| "bytes that are no text")?.trim();
    let body = text
        .strip_prefix(BEGIN)
        .ok_or("another beginning")?
        .strip_suffix(END)
        .ok_or("another end")?;
    let base64: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(base64).map_err(|_| "something that is no base64")
}

/// A key file with this DER inside, as Go writes it.
pub(super) fn encode(spki: &[u8]) -> String {
    let base64 = STANDARD.encode(spki);
    let mut file = format!("{BEGIN}\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(LINE_CHARACTERS));
        file.push_str(line);
        file.push('\n');
        rest = behind;
    }
    file.push_str(END);
    file.push('\n');
    file
}

/// SubjectPublicKeyInfo of an RSA key from big-endian numbers without leading zeros.
pub(super) fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = element(SEQUENCE, &[integer(modulus), integer(exponent)].concat());
    let unused_bits = [0];
    let bits = element(BIT_STRING, &[&unused_bits[..], &key].concat());
    element(SEQUENCE, &[&RSA_ALGORITHM[..], &bits].concat())
}

fn integer(number: &[u8]) -> Vec<u8> {
    let positive: &[u8] =
        if number.first().is_none_or(|&first| first >= 0x80) { &[0] } else { &[] };
    element(INTEGER, &[positive, number].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = length.iter().position(|&byte| byte != 0).unwrap_or(length.len() - 1);
    let length = &length[significant..];
    let mut der = vec![tag];
    if content.len() >= 0x80 {
        // At most 8 bytes: the count fits.
        der.push(0x80 | length.len() as u8);
    }
    der.extend_from_slice(length);
    der.extend_from_slice(content);
    der
}

/// The bits of the modulus of an RSA key; `None` for anything else.
pub(super) fn modulus_bits(spki: &[u8]) -> Option<usize> {
    let (spki, behind) = open(SEQUENCE, spki)?;
    let (bits, behind_bits) = open(BIT_STRING, spki.strip_prefix(&RSA_ALGORITHM[..])?)?;
    let (key, behind_key) = open(SEQUENCE, bits.strip_prefix(&[0])?)?;
    let (modulus, _) = open(INTEGER, key)?;
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    let first = modulus.first()?;
    let all_read = behind.is_empty() && behind_bits.is_empty() && behind_key.is_empty();
    all_read.then(|| modulus.len() * 8 - first.leading_zeros() as usize)
}

/// The content of the first element, and what follows it.
fn open(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count > 4 {
            return None;
        }
        let length = rest.get(..count)?.iter().fold(0, |n, &byte| n << 8 | usize::from(byte));
        (length, rest.get(count..)?)
    };
    Some((rest.get(..length)?, rest.get(length..)?))
}
