//! The tar writer against streams of Go's `archive/tar` (made by `fixtures/go-tar/gen.go`), and
//! against misuse.
//!
//! Invariant: every golden stream is compared to the byte, and every header that Go refuses must be
//! refused.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use proptest::prelude::*;
use rebuild::go::tar::{Format, Header, Kind, TarError, Writer};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn cases() -> Vec<Value> {
    serde_json::from_str(include_str!("fixtures/go-tar/tar.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).unwrap()
}

fn header(case: &Value) -> Header {
    let kind = match case["Kind"].as_str().unwrap() {
        "0" => Kind::Regular,
        "1" => Kind::HardLink,
        "2" => Kind::Symlink,
        "3" => Kind::CharDevice,
        "4" => Kind::BlockDevice,
        "5" => Kind::Directory,
        "6" => Kind::Fifo,
        other => panic!("unexpected kind {other}"),
    };
    let number = |key: &str| case[key].as_u64().unwrap_or(0);
    let mut header = Header::new(kind, bytes(&case["Name"]));
    header.format = match case["Format"].as_str() {
        None => Format::Auto,
        Some("pax") => Format::Pax,
        Some("gnu") => Format::Gnu,
        Some(other) => panic!("unexpected format {other}"),
    };
    header.mode = u32::try_from(number("Mode")).unwrap();
    (header.uid, header.gid, header.size) = (number("Uid"), number("Gid"), number("Size"));
    header.mtime = case["Mtime"].as_i64().unwrap_or(0);
    (header.device_major, header.device_minor) = (number("Major"), number("Minor"));
    header.link_name = bytes(&case["Link"]);
    header.user_name = bytes(&case["User"]);
    header.group_name = bytes(&case["Group"]);
    for record in case["Pax"].as_array().into_iter().flatten() {
        let times = record["Times"].as_u64().unwrap_or(1) as usize;
        header.pax.insert(bytes(&record["Key"]), bytes(&record["Value"]).repeat(times));
    }
    header
}

fn content(size: u64) -> Vec<u8> {
    (0..size).map(|i| b'a' + (i % 23) as u8).collect()
}

fn encode(header: &Header) -> Result<Vec<u8>, TarError> {
    let mut writer = Writer::new(Vec::new());
    writer.header(header)?;
    if header.kind == Kind::Regular {
        // In uneven pieces: how the content is cut must not matter.
        for piece in content(header.size).chunks(377) {
            writer.data(piece)?;
        }
    }
    writer.finish()
}

/// The same rendering as in `gen.go`.
fn readable(data: &[u8]) -> String {
    let mut out = String::new();
    for run in data.chunk_by(|a, b| a == b) {
        let byte = run[0];
        let one = match byte {
            0x20..0x7f if !b"{}\\".contains(&byte) => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        };
        match run.len() {
            ..9 => out.push_str(&one.repeat(run.len())),
            length => out.push_str(&format!("{{{length}*{one}}}")),
        }
    }
    out
}

#[test]
fn every_stream_is_the_one_that_go_writes() {
    let cases = cases();
    assert!(cases.len() > 500, "expected the whole table, found {} cases", cases.len());
    for case in &cases {
        let label = case["Label"].as_str().unwrap();
        let result = encode(&header(case));
        if case["Error"] == true {
            assert!(result.is_err(), "{label}: Go refuses this header");
            continue;
        }
        let stream = result.unwrap_or_else(|error| panic!("{label}: {error}"));
        match (case["Stream"].as_str(), case["Sha256"].as_str()) {
            (Some(expected), _) => assert_eq!(readable(&stream), expected, "{label}"),
            (None, Some(expected)) => {
                let found = hex::encode(&Sha256::digest(&stream)[..8]);
                assert_eq!(found, expected, "{label}: {}", readable(&stream));
            }
            (None, None) => panic!("{label}: no expectation"),
        }
    }
}

#[test]
fn numbers_beyond_63_bits_are_refused() {
    let changes: [fn(&mut Header); 5] = [
        |header| header.uid = 1 << 63,
        |header| header.gid = u64::MAX,
        |header| header.size = 1 << 63,
        |header| header.device_major = 1 << 63,
        |header| header.device_minor = u64::MAX,
    ];
    for change in changes {
        let mut header = Header::new(Kind::Directory, "d");
        change(&mut header);
        let error = encode(&header).unwrap_err();
        assert!(matches!(error, TarError::NotRepresentable { .. }), "{error}");
    }
}

#[test]
fn a_refusal_names_entry_and_field() {
    let mut header = Header::new(Kind::Regular, "etc/x");
    header.mode = 1 << 21;
    header.pax.insert(b"SCHILY.xattr.a".to_vec(), b"b".to_vec());
    let text = encode(&header).unwrap_err().to_string();
    assert!(text.contains("etc/x") && text.contains("mode"), "{text}");
}

#[test]
fn promised_and_given_content_must_agree() {
    let mut header = Header::new(Kind::Regular, "f");
    header.size = 4;
    let mut writer = Writer::new(Vec::new());
    writer.header(&header).unwrap();
    let error = writer.data(b"12345").unwrap_err();
    assert!(matches!(error, TarError::TooMuchData { expected: 4, found: 5 }), "{error}");
    writer.data(b"12").unwrap();
    let error = writer.header(&header).unwrap_err();
    assert!(matches!(error, TarError::MissingData { missing: 2 }), "{error}");
    assert!(matches!(writer.finish(), Err(TarError::MissingData { missing: 2 })));

    let mut writer = Writer::new(Vec::new());
    let mut link = Header::new(Kind::HardLink, "l");
    link.size = 4;
    writer.header(&link).unwrap();
    assert!(writer.data(b"1").is_err(), "a link has no content, whatever its size says");
    writer.data(b"").unwrap();
    writer.finish().unwrap();
}

#[test]
fn a_failing_output_is_an_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("full"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = Writer::new(Full).header(&Header::new(Kind::Directory, "d")).unwrap_err();
    assert!(matches!(error, TarError::Io(_)), "{error}");
}

prop_compose! {
    fn any_header()(
        kind in prop_oneof![Just(Kind::Directory), Just(Kind::Symlink), Just(Kind::Fifo)],
        format in prop_oneof![Just(Format::Auto), Just(Format::Pax), Just(Format::Gnu)],
        name in prop::collection::vec(prop_oneof![Just(b'/'), Just(b'a'), any::<u8>()], 0..300),
        link_name in prop::collection::vec(any::<u8>(), 0..200),
        user_name in prop::collection::vec(any::<u8>(), 0..40),
        numbers in any::<(u32, u64, u64, u64, i64, u64)>(),
        pax in prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 0..8),
            prop::collection::vec(any::<u8>(), 0..90),
            0..3,
        ),
    ) -> Header {
        let (mode, uid, gid, size, mtime, device_minor) = numbers;
        let mut header = Header::new(kind, name);
        header.format = format;
        (header.mode, header.uid, header.gid) = (mode >> 12, uid, gid);
        (header.size, header.mtime, header.device_minor) = (size, mtime, device_minor >> 44);
        (header.link_name, header.user_name, header.pax) = (link_name, user_name, pax);
        header
    }
}

proptest! {
    /// Whatever the fields hold: an error, or whole blocks with right checksums.
    #[test]
    fn any_header_gives_whole_blocks_or_an_error(header in any_header()) {
        let Ok(stream) = encode(&header) else { return Ok(()) };
        prop_assert_eq!(stream.len() % 512, 0);
        let (body, end) = stream.split_at(stream.len() - 1024);
        prop_assert!(end.iter().all(|&byte| byte == 0));
        let block = &body[body.len() - 512..];
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum::<u32>()
            - block[148..156].iter().map(|&byte| u32::from(byte)).sum::<u32>()
            + 8 * 32;
        let digits = format!("{sum:06o}\0 ");
        prop_assert_eq!(&block[148..156], digits.as_bytes());
        prop_assert_eq!(block[156], header.kind.flag());
    }

    /// The records of an extended header can be read back by their own lengths.
    #[test]
    fn records_count_their_own_length(
        records in prop::collection::btree_map("[a-z.]{1,12}", prop::collection::vec(any::<u8>(), 0..1200), 1..4),
    ) {
        let records: BTreeMap<Vec<u8>, Vec<u8>> =
            records.into_iter().map(|(key, value)| (format!("X.{key}").into_bytes(), value)).collect();
        let mut header = Header::new(Kind::Regular, "f");
        header.pax = records.clone();
        let stream = encode(&header).unwrap();
        let size = std::str::from_utf8(&stream[124..135]).unwrap();
        let mut rest = &stream[512..512 + usize::from_str_radix(size, 8).unwrap()];
        let mut found = BTreeMap::new();
        while !rest.is_empty() {
            let space = rest.iter().position(|&byte| byte == b' ').unwrap();
            let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
            let (record, tail) = rest.split_at(length);
            prop_assert_eq!(record.last(), Some(&b'\n'));
            let equals = record.iter().position(|&byte| byte == b'=').unwrap();
            let key = record[space + 1..equals].to_vec();
            found.insert(key, record[equals + 1..length - 1].to_vec());
            rest = tail;
        }
        prop_assert_eq!(found, records);
    }
}
