//! JSON strings and documents against Go's `encoding/json` (made by `fixtures/go-tar/gen.go`).
//!
//! Invariant: whatever bytes a string holds, the result is valid JSON and equal to Go's.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use proptest::prelude::*;
use rebuild::go::json::{Array, Escapes, Object, escape, escape_as};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("fixtures/go-tar/json.json")).unwrap()
}

fn escaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    escape(&mut out, text);
    out
}

#[test]
fn every_string_is_escaped_as_go_does() {
    let golden = golden();
    let cases = golden["strings"].as_array().unwrap();
    assert!(cases.len() > 700, "expected the whole table, found {} cases", cases.len());
    for case in cases {
        let text = BASE64_STANDARD.decode(case["Text"].as_str().unwrap()).unwrap();
        let found = String::from_utf8(escaped(&text)).unwrap();
        assert_eq!(found, case["Json"].as_str().unwrap(), "{text:x?}");
    }
}

#[test]
fn a_document_is_written_as_go_does() {
    let map: BTreeMap<Vec<u8>, &str> = [
        (b"b".to_vec(), "2"),
        (b"a".to_vec(), "1"),
        (b"B".to_vec(), "3"),
        (b"a<".to_vec(), "4"),
        ("é".as_bytes().to_vec(), "5"),
        (b"\xff".to_vec(), "6"),
    ]
    .into();
    let none: BTreeMap<String, String> = BTreeMap::new();
    let mut out = Vec::new();
    let mut object = Object::new(&mut out);
    object
        .string("name", "a\"b")
        .string("empty", "")
        .string_omitempty("absent", "")
        .integer("count", i64::MIN)
        .integer_omitempty("none", 0)
        .boolean("yes", true)
        .boolean_omitempty("no", false)
        .array_of_strings("list", &["x", "", "<"])
        .array_of_strings_omitempty("lists", &[] as &[&str])
        .map_of_strings("map", &map)
        .map_of_strings_omitempty("maps", &none)
        .object("inner", |_| {})
        .array("rows", |rows| {
            rows.object(|row| {
                row.string("a<b", "x").integer_omitempty("n", 0);
            });
            rows.object(|row| {
                row.string("a<b", "y").integer_omitempty("n", u64::MAX);
            });
        });
    object.end();
    assert_eq!(String::from_utf8(out).unwrap(), golden()["document"].as_str().unwrap());
}

#[test]
fn older_go_had_no_short_form_for_backspace_and_form_feed() {
    let mut out = Vec::new();
    escape_as(&mut out, b"\x08\x0c\n\t\x0b", Escapes::Long);
    assert_eq!(out, br#""\u0008\u000c\n\t\u000b""#);
    out.clear();
    let mut object = Object::with_escapes(&mut out, Escapes::Long);
    object.object("o", |inner| {
        inner.array_of_strings("a", &["\x08"]);
    });
    object.end();
    assert_eq!(out, br#"{"o":{"a":["\u0008"]}}"#);
}

#[test]
fn arrays_hold_every_kind_of_value() {
    let mut out = Vec::new();
    let mut array = Array::new(&mut out);
    array.string("a").integer(-5).raw(b"null").value(|out| out.extend_from_slice(b"[]"));
    array.end();
    let mut object = Object::new(&mut out);
    object.raw("r", b"{}").string_omitempty("s", "t").boolean_omitempty("b", true);
    object.array_of("n", &[1_i64, 2], |number, array| array.integer(*number));
    object.end();
    assert_eq!(out, br#"["a",-5,null,[]]{"r":{},"s":"t","b":true,"n":[1,2]}"#);
}

proptest! {
    /// An independent reader gets the text back, with U+FFFD for each byte that is no UTF-8.
    #[test]
    fn any_text_is_valid_json(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let json = escaped(&text);
        let read: String = serde_json::from_slice(&json).unwrap();
        let mut expected = String::new();
        for chunk in text.utf8_chunks() {
            expected.push_str(chunk.valid());
            expected.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
        }
        prop_assert_eq!(read, expected);
        prop_assert!(!json.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0..0x20)));
    }
}
