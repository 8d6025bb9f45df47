//! Times against Go's `time` package (made by `fixtures/go-tar/gen.go`).
//!
//! Invariant: the texts and seconds are Go's, and what RFC 3339 cannot say is an error.

use proptest::prelude::*;
use rebuild::go::time::{TimeError, format, parse};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("fixtures/go-tar/time.json")).unwrap()
}

#[test]
fn seconds_are_formatted_as_go_does() {
    for case in golden()["format"].as_array().unwrap() {
        let seconds = case["Seconds"].as_i64().unwrap();
        assert_eq!(format(seconds).unwrap(), case["Text"].as_str().unwrap(), "{seconds}");
    }
}

#[test]
fn texts_are_read_as_go_does() {
    for case in golden()["parse"].as_array().unwrap() {
        let text = case["Text"].as_str().unwrap();
        match parse(text) {
            Ok(seconds) => {
                assert!(case["Error"] == false, "{text:?} is no time for Go");
                assert_eq!(Some(seconds), case["Seconds"].as_i64(), "{text:?}");
            }
            Err(error) => assert!(case["Error"] == true, "{text:?}: {error}"),
        }
    }
}

#[test]
fn what_cannot_be_said_is_an_error() {
    for seconds in [253_402_300_800, -62_167_219_201, i64::MAX, i64::MIN] {
        assert_eq!(format(seconds), Err(TimeError::OutOfRange { seconds }));
    }
    // Go keeps fractions; here they would be lost.
    assert!(matches!(parse("2024-01-01T00:00:00.5Z"), Err(TimeError::Malformed { .. })));
    // The year after the last one.
    assert!(matches!(parse("9999-12-31T23:59:59-01:00"), Err(TimeError::OutOfRange { .. })));
    assert!(matches!(parse("0000-01-01T00:00:00+01:00"), Err(TimeError::OutOfRange { .. })));
}

proptest! {
    #[test]
    fn every_second_comes_back(seconds in -62_167_219_200_i64..=253_402_300_799) {
        prop_assert_eq!(parse(&format(seconds).unwrap()), Ok(seconds));
    }

    #[test]
    fn no_text_panics(text in "[0-9TZ:.+\\-é]{0,40}") {
        let _ = parse(&text);
    }
}
