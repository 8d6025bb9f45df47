//! The gzip writer against streams of klauspost/pgzip, against another inflater, and against
//! itself with other threads and other writes.
//!
//! Invariant: `fixtures/apko/gzip/expected.json` holds SHA-256 sums made by five real releases; the
//! inputs are generated here by the same arithmetic.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use flate2::read::GzDecoder;
use proptest::{prelude::*, sample::Index};
use rebuild::go::gzip::{Encoders, PgzipWriter, Variant, pgzip};
use serde_json::Value;
use sha2::{Digest, Sha256};

const VARIANTS: [Variant; 3] = [Variant::E1, Variant::E2, Variant::E3];

const WORDS: &[u8] =
    b"the quick brown fox jumps over lazy dog lorem ipsum dolor sit amet libc.so.6 usr/lib/ \
    \0\0\0\0\0\0\0\0 0000644 ustar root";

/// A linear congruential generator that gives bytes.
struct Bytes(u32);

impl Bytes {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7fff_ffff;
        (self.0 >> 16) as u8
    }
}

fn random(n: usize, seed: u32) -> Vec<u8> {
    let mut bytes = Bytes(seed);
    (0..n).map(|_| bytes.next()).collect()
}

fn text(n: usize, seed: u32) -> Vec<u8> {
    let words: Vec<&[u8]> = WORDS.split(|&byte| byte == b' ').collect();
    let mut bytes = Bytes(seed);
    let mut out = Vec::new();
    while out.len() < n {
        out.extend_from_slice(words[usize::from(bytes.next()) % words.len()]);
        out.push(if bytes.next() & 3 == 0 { b'\n' } else { b' ' });
    }
    out.truncate(n);
    out
}

fn mixture(n: usize, seed: u32) -> Vec<u8> {
    let mut bytes = Bytes(seed);
    let mut out = Vec::new();
    let mut part = 0;
    while out.len() < n {
        part += 1;
        let length = usize::from(bytes.next()) * 257 % 9000 + 1;
        out.extend(match bytes.next() & 3 {
            0 => vec![0; length],
            1 => random(length, part),
            2 => text(length, part),
            _ => text(length, 1),
        });
    }
    out.truncate(n);
    out
}

fn input(name: &str) -> Vec<u8> {
    match name {
        "empty" => Vec::new(),
        "one" => b"a".to_vec(),
        "b32" => text(32, 7),
        "b33" => text(33, 7),
        "b127" => text(127, 7),
        "b128" => text(128, 7),
        "rnd127" => random(127, 1),
        "t65535" => text(65_535, 7),
        "t65536" => text(65_536, 7),
        "t65663" => text(65_663, 7),
        "t1m" => text(1 << 20, 7),
        "t1m1" => text((1 << 20) + 1, 7),
        "z3m" => vec![0; 3 << 20],
        "r1500k" => random(1_500_000, 1),
        "mix2500k" => mixture(2_500_000, 9),
        other => panic!("no generator for {other}"),
    }
}

fn variant(release: &str) -> Variant {
    match release {
        "v1.15.10" | "v1.18.0" => Variant::E1,
        "v1.18.1" => Variant::E2,
        "v1.18.2" | "v1.19.1" => Variant::E3,
        other => panic!("unknown release {other}"),
    }
}

fn with(data: &[u8], variant: Variant, threads: usize, pieces: &[usize]) -> Vec<u8> {
    let mut writer = PgzipWriter::new(Vec::new(), variant, threads);
    let mut rest = data;
    for &length in pieces {
        let (piece, tail) = rest.split_at(length.min(rest.len()));
        writer.write_all(piece).unwrap();
        writer.flush().unwrap();
        rest = tail;
    }
    writer.write_all(rest).unwrap();
    writer.finish().unwrap()
}

fn inflate(gzip: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut decoder = GzDecoder::new(gzip);
    decoder.read_to_end(&mut out).unwrap();
    assert!(decoder.into_inner().is_empty(), "bytes after the end of the stream");
    out
}

#[test]
fn every_stream_is_the_one_that_the_go_encoder_writes() {
    let golden: Value =
        serde_json::from_str(include_str!("fixtures/apko/gzip/expected.json")).unwrap();
    let golden = golden.as_object().unwrap();
    assert_eq!(golden.len(), 15);
    for (name, expected) in golden {
        let data = input(name);
        assert_eq!(expected["input_len"].as_u64(), Some(data.len() as u64), "{name}");
        let found = hex::encode(Sha256::digest(&data));
        assert_eq!(found, expected["input_sha256"].as_str().unwrap(), "{name}: input");
        for (release, sum) in expected["gz_sha256"].as_object().unwrap() {
            let found = hex::encode(Sha256::digest(pgzip(&data, variant(release))));
            assert_eq!(found, sum.as_str().unwrap(), "{name}, {release}");
        }
    }
}

#[test]
fn the_three_variants_differ_where_they_should() {
    let [e1, e2, e3] = VARIANTS.map(|variant| pgzip(&input("mix2500k"), variant));
    assert!(e1 != e2 && e2 != e3 && e1 != e3);
}

#[test]
fn threads_and_writes_do_not_matter() {
    let data = mixture(9_000_000, 77);
    let expected = pgzip(&data, Variant::E3);
    for threads in 0..=8 {
        assert!(with(&data, Variant::E3, threads, &[]) == expected, "{threads} threads");
    }
    let even = vec![1 << 20; 8];
    let odd = [1, 16_383, 1 << 20, 0, (1 << 20) - 1, 3 << 20, 7];
    for pieces in [even.as_slice(), &odd, &[65_535; 140]] {
        assert!(with(&data, Variant::E3, 3, pieces) == expected, "{pieces:?}");
    }
}

#[test]
fn lengths_around_every_limit_come_back() {
    const CHUNK: usize = 65_535;
    const BLOCK: usize = 1 << 20;
    let limits =
        [0, 12, 13, 32, 33, 127, 128, 1024, CHUNK, 2 * CHUNK, 16 * CHUNK, BLOCK, 2 * BLOCK];
    let lengths = limits.iter().flat_map(|&limit| limit.saturating_sub(2)..limit + 3);
    let source = [text(BLOCK + 100, 3), random(BLOCK + 100, 5)].concat();
    for length in lengths.chain([CHUNK + 32, CHUNK + 33, CHUNK + 127, CHUNK + 128]) {
        let data = &source[source.len() - length..];
        for variant in VARIANTS {
            assert!(inflate(&pgzip(data, variant)) == data, "{length}, {variant:?}");
        }
    }
}

#[test]
fn a_table_that_needs_the_longest_codes_comes_back() {
    // Frequencies like Fibonacci's numbers make Huffman's tree as deep as it can be.
    let (mut a, mut b) = (1, 1);
    let mut data = Vec::new();
    for symbol in 0..22 {
        data.extend(std::iter::repeat_n(symbol, a));
        (a, b) = (b, a + b);
    }
    // A permutation without repetitions worth finding.
    let mut seed = Bytes(3);
    for i in (1..data.len()).rev() {
        let number = (0..4).fold(0, |number, _| number << 8 | usize::from(seed.next()));
        data.swap(i, number % (i + 1));
    }
    for variant in VARIANTS {
        assert!(inflate(&pgzip(&data, variant)) == data, "{variant:?}");
    }
}

#[test]
fn a_failing_output_is_an_error_with_and_without_threads() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(data.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(data.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let data = random(20 << 20, 4);
    for threads in [1, 4] {
        let mut writer = PgzipWriter::new(Full(3 << 20), Variant::E1, threads);
        let result = writer.write_all(&data).and_then(|()| writer.finish().map(drop));
        assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        // Given up in the middle: the threads end, nothing hangs.
        let mut writer = PgzipWriter::new(Vec::new(), Variant::E1, threads);
        writer.write_all(&data).unwrap();
        drop(writer);
    }
}

#[test]
fn streams_that_share_threads_have_their_own_bytes() {
    let inputs = [mixture(5 << 20, 1), text((2 << 20) + 7, 2), random(40, 3), vec![0; 3 << 20]];
    for threads in [1, 2, 5] {
        let encoders = Arc::new(Encoders::new(Variant::E3, threads));
        let mut given_up = PgzipWriter::on(Vec::new(), &encoders);
        given_up.write_all(&inputs[0]).unwrap();
        let mut writers = inputs.each_ref().map(|_| PgzipWriter::on(Vec::new(), &encoders));
        let mut given_up = Some(given_up);
        for step in 0..inputs[0].len().div_ceil(99_991) {
            for (writer, input) in writers.iter_mut().zip(&inputs) {
                if let Some(part) = input.chunks(99_991).nth(step) {
                    writer.write_all(part).unwrap();
                }
            }
            // In the middle of the others' work.
            drop(given_up.take_if(|_| step == 10));
        }
        drop(encoders);
        for (writer, input) in writers.into_iter().zip(&inputs) {
            assert!(writer.finish().unwrap() == pgzip(input, Variant::E3), "{threads} threads");
        }
    }
}

/// Data as it comes: noise, runs, few symbols, repetitions at all distances, skewed bytes.
fn any_data() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..600),
        (any::<u8>(), 0..70_000_usize).prop_map(|(byte, n)| vec![byte; n]),
        prop::collection::vec(0_u8..4, 0..9000),
        (prop::collection::vec(any::<u8>(), 1..300), 1..200_usize).prop_map(|(p, n)| p.repeat(n)),
        (0..40_000_usize, any::<u32>()).prop_map(|(n, seed)| text(n, seed)),
        (0..40_000_usize, any::<u32>()).prop_map(|(n, seed)| random(n, seed)),
    ];
    (prop::collection::vec(piece, 0..12), any::<Index>()).prop_map(|(pieces, start)| {
        let mut data = pieces.concat();
        // A far copy of what was there.
        let again = data.get(start.index(data.len() + 1)..).unwrap_or_default().to_vec();
        data.extend_from_slice(&again[..again.len().min(50_000)]);
        data
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_data_comes_back(data in any_data()) {
        for variant in VARIANTS {
            prop_assert!(inflate(&pgzip(&data, variant)) == data);
        }
    }

    #[test]
    fn any_writes_on_any_threads_give_the_same(
        data in any_data(),
        times in 1..30_usize,
        threads in 1..=8_usize,
        pieces in prop::collection::vec(prop_oneof![0..50_usize, 0..3_000_000_usize], 0..12),
    ) {
        let data: Vec<u8> = data.iter().copied().cycle().take(data.len() * times % 4_000_000).collect();
        let expected = pgzip(&data, Variant::E2);
        prop_assert!(with(&data, Variant::E2, threads, &pieces) == expected);
    }
}
