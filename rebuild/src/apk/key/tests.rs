//! Key files and sets of keys, made with keys of our own.

use super::*;
use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;

fn pair() -> KeyPair {
    KeyPair::generate(KeySize::Rsa2048).unwrap()
}

fn spki(pair: &KeyPair) -> Vec<u8> {
    AsDer::as_der(pair.public_key())
        .map(|der: aws_lc_rs::encoding::PublicKeyX509Der| der.as_ref().to_vec())
        .unwrap()
}

fn public(name: &str, pair: &KeyPair) -> PublicKey {
    PublicKey::from_file(name, pem::encode(&spki(pair)).as_bytes()).unwrap()
}

fn sign(pair: &KeyPair, key_name: &str, message: &[u8]) -> Signature {
    let mut bytes = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut bytes).unwrap();
    Signature { algorithm: SignatureAlgorithm::RsaSha256, key_name: key_name.to_owned(), bytes }
}

#[test]
fn only_the_named_key_over_the_right_bytes() {
    let (ours, theirs) = (pair(), pair());
    let mut ring = KeyRing::new();
    ring.add(public("ours.rsa.pub", &ours)).unwrap();
    ring.add(public("ours.rsa.pub", &ours)).unwrap();
    let other = ring.add(public("ours.rsa.pub", &theirs)).unwrap_err();
    assert!(matches!(other, KeyError::Duplicate { .. }));
    let good = sign(&ours, "ours.rsa.pub", b"message");
    let signer = ring.verify(std::slice::from_ref(&good), b"message").unwrap();
    assert_eq!(signer.key, "ours.rsa.pub");
    let verify = |signature: Signature| ring.verify(&[signature], b"message").unwrap_err();
    assert!(matches!(
        ring.verify(std::slice::from_ref(&good), b"other"),
        Err(KeyError::WrongSignature { .. })
    ));
    let stranger = sign(&theirs, "theirs.rsa.pub", b"message");
    assert!(matches!(verify(stranger), KeyError::NoTrustedKey { .. }));
    let pretender = sign(&theirs, "ours.rsa.pub", b"message");
    assert!(matches!(verify(pretender.clone()), KeyError::WrongSignature { .. }));
    let renamed = Signature { key_name: "mine.rsa.pub".to_owned(), ..good.clone() };
    assert!(matches!(verify(renamed), KeyError::NoTrustedKey { .. }));
    let weaker = Signature { algorithm: SignatureAlgorithm::RsaSha1, ..good.clone() };
    assert!(matches!(verify(weaker), KeyError::WrongSignature { .. }));
    for length in [0, 1, good.bytes.len() - 1] {
        let cut = Signature { bytes: good.bytes[..length].to_vec(), ..good.clone() };
        assert!(matches!(verify(cut), KeyError::WrongSignature { .. }));
    }
    assert!(ring.verify(&[pretender, good], b"message").is_ok(), "one good signature is enough");
    assert!(ring.verify(&[], b"message").is_err());
    assert!(KeyRing::new().verify(&[sign(&ours, "ours.rsa.pub", b"m")], b"m").is_err());
}

#[test]
fn a_set_gives_the_files_that_a_key_has() {
    let pair = pair();
    let key = public("kid-1.rsa.pub", &pair);
    // RSAPublicKey: the heads of the sequence and of the modulus, and its sign, take 9 bytes.
    let modulus = pair.public_key().as_ref()[9..9 + 256].to_vec();
    let n = URL_SAFE_NO_PAD.encode(&modulus);
    let set = |kid: &str, kty: &str, n: &str, e: &str| {
        format!(r#"{{"keys":[{{"kty":"{kty}","kid":"{kid}","n":"{n}","e":"{e}","use":"sig"}}]}}"#)
    };
    let keys = keys_from_jwks(set("kid-1", "RSA", &n, "AQAB").as_bytes()).unwrap();
    assert_eq!(keys, [key]);
    let zeros = URL_SAFE_NO_PAD.encode([&[0, 0][..], &modulus].concat());
    assert_eq!(keys_from_jwks(set("kid-1", "RSA", &zeros, "AAEAAQ").as_bytes()).unwrap(), keys);
    for (kid, kty, n, e) in [
        ("", "RSA", &n[..], "AQAB"),
        ("../kid", "RSA", &n, "AQAB"),
        (".kid", "RSA", &n, "AQAB"),
        ("a b", "RSA", &n, "AQAB"),
        (&"k".repeat(300), "RSA", &n, "AQAB"),
        ("kid", "EC", &n, "AQAB"),
        ("kid", "RSA", &n[..n.len() - 20], "AQAB"),
        ("kid", "RSA", "AQ", "AQAB"),
        ("kid", "RSA", "", "AQAB"),
        ("kid", "RSA", &n, ""),
        ("kid", "RSA", &n, "AQAB="),
        ("kid", "RSA", "!", "AQAB"),
    ] {
        assert!(keys_from_jwks(set(kid, kty, n, e).as_bytes()).is_err(), "{kid} {kty}");
    }
    let key = r#"{"kty":"RSA","kid":"a","n":"N","e":"AQAB"}"#.replace('N', &n);
    assert!(keys_from_jwks(format!(r#"{{"keys":[{key},{key}]}}"#).as_bytes()).is_err());
    assert_eq!(keys_from_jwks(br#"{"keys":[]}"#).unwrap(), []);
    for nonsense in ["", "[]", "{}", "null", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        assert!(keys_from_jwks(nonsense.as_bytes()).is_err(), "{nonsense}");
    }
    assert!(keys_from_jwks(&vec![b' '; JWKS_BYTES_MAX + 1]).is_err());
}

#[test]
fn key_files() {
    let good = pem::encode(&spki(&pair()));
    assert!(good.lines().all(|line| line.len() <= 64));
    let file = |name: &str, text: &str| PublicKey::from_file(name, text.as_bytes());
    let key = file("a.rsa.pub", &good).unwrap();
    assert_eq!(
        (key.name(), key.file(), key.pin()),
        ("a.rsa.pub", good.as_bytes(), Digest::of(good.as_bytes()))
    );
    assert!(file("a", &good.replace('\n', "\r\n")).is_ok());
    for name in ["", ".", "..", "a/b", "/a", "a\nb", "a\0", "ä"] {
        assert!(matches!(file(name, &good), Err(KeyError::Name { .. })), "{name:?}");
    }
    for text in [
        String::new(),
        format!("{good}{good}"),
        format!("x{good}"),
        good.replace("PUBLIC", "RSA PUBLIC"),
        good.replacen('M', "!", 1),
        pem::encode(b""),
        pem::encode(&[0x30; 100]),
        pem::encode(&[spki(&pair()), vec![0]].concat()),
        " ".repeat(KEY_FILE_BYTES_MAX + 1),
    ] {
        assert!(file("a", &text).is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = keys_from_jwks(&bytes);
        let _ = PublicKey::from_file("a", &bytes);
        let _ = PublicKey::from_file("a", pem::encode(&bytes).as_bytes());
        let _ = pem::modulus_bits(&bytes);
    }

    #[test]
    fn any_set_ends(key in r#"("(kty|kid|n|e)":("RSA"|"[A-Za-z_]{0,9}"|1|null),?){0,5}"#) {
        let _ = keys_from_jwks(format!(r#"{{"keys":[{{{key}}}]}}"#).as_bytes());
    }
}
