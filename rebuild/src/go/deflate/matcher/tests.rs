//! The matcher against its simplest form, over windows that are cut into chunks anyhow.

use proptest::prelude::*;

use super::{
    super::tokens::Copy,
    Matcher,
    simple::{Simple, Token},
};
use crate::go::deflate::{CHUNK, tokens::Tokens};

/// What a window is made of.
#[derive(Debug, Clone)]
enum Part {
    Noise(usize, u64),
    Words(usize, u64),
    /// Few different bytes: every hash is crowded.
    Few(usize, u64),
    Same(usize, u8),
    /// Something from so far before, now and then with another byte.
    Again {
        distance: usize,
        length: usize,
        other: usize,
    },
}

fn part() -> impl Strategy<Value = Part> {
    let length = prop_oneof![1..40_usize, 1..3000_usize, 1..70_000_usize];
    let distance =
        prop_oneof![1..20_usize, 1..40_000_usize, 32_700..32_840_usize, 65_000..66_000_usize];
    prop_oneof![
        2 => (length.clone(), any::<u64>()).prop_map(|(n, seed)| Part::Noise(n, seed)),
        4 => (length.clone(), any::<u64>()).prop_map(|(n, seed)| Part::Words(n, seed)),
        1 => (length.clone(), any::<u64>()).prop_map(|(n, seed)| Part::Few(n, seed)),
        1 => (length.clone(), any::<u8>()).prop_map(|(n, byte)| Part::Same(n, byte)),
        4 => (distance, length, 3..2000_usize)
            .prop_map(|(distance, length, other)| Part::Again { distance, length, other }),
    ]
}

fn window(parts: &[Part]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        match *part {
            Part::Noise(length, seed) => out.extend(numbers(seed, length).map(|n| n as u8)),
            Part::Few(length, seed) => out.extend(numbers(seed, length).map(|n| n as u8 & 1)),
            Part::Same(length, byte) => out.extend(std::iter::repeat_n(byte, length)),
            Part::Words(length, seed) => {
                for number in numbers(seed, length / 4) {
                    out.extend_from_slice(&(number % 97 * 0x1_0101).to_le_bytes()[..3]);
                    out.extend(std::iter::repeat_n(b' ', (number >> 20 & 3) as usize));
                }
            }
            Part::Again { distance, length, other } => {
                for place in 0..length {
                    let from = out.len().checked_sub(distance).map_or(0, |from| out[from]);
                    out.push(if place % other == other - 1 { from ^ 1 } else { from });
                }
            }
        }
    }
    out
}

fn numbers(seed: u64, count: usize) -> impl Iterator<Item = u64> {
    let mut state = seed | 1;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 20
    })
}

fn found(tokens: &Tokens) -> Vec<Token> {
    let token = |copy: Copy| match copy {
        Copy::NONE => (0, 0),
        copy => (usize::from(copy.length()) + 3, copy.distance() as usize + 1),
    };
    let sequences = tokens.sequences().iter();
    sequences.map(|one| (one.literals as usize, token(one.copy).0, token(one.copy).1)).collect()
}

fn check(matcher: &mut Matcher, window: &[u8], cuts: &[usize]) {
    let mut simple = Simple::new();
    matcher.start();
    let mut tokens = Tokens::new();
    let mut start = 0;
    let mut cuts = cuts.iter().cycle();
    while start < window.len() {
        let end = window.len().min(start + cuts.next().unwrap());
        tokens.clear();
        matcher.run(&window[..end], start, &mut tokens);
        let expected = simple.run(&window[..end], start);
        let found = found(&tokens);
        if found != expected {
            let first = found.iter().zip(&expected).position(|(l, r)| l != r);
            panic!("chunk {start}..{end}: tokens differ from {first:?} on");
        }
        start = end;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn finds_what_the_simple_form_finds(
        parts in prop::collection::vec(part(), 1..12),
        cuts in prop_oneof![
            3 => Just(vec![CHUNK]),
            1 => prop::collection::vec(1..=CHUNK, 1..9),
        ],
    ) {
        let window = window(&parts);
        let mut matcher = Matcher::new();
        check(&mut matcher, &window, &cuts);
        // What was there before must not matter.
        check(&mut matcher, &window[window.len() / 3..], &cuts);
    }
}

#[test]
fn the_view_slides_within_a_repetition() {
    let mut matcher = Matcher::new();
    for (distance, length) in
        [(1, 300_000), (32_766, 200_000), (32_767, 200_000), (32_768, 200_000)]
    {
        let again = Part::Again { distance, length, other: usize::MAX };
        let parts = [Part::Noise(40_000, 5), again, Part::Words(70_000, 9)];
        check(&mut matcher, &window(&parts), &[CHUNK]);
    }
}
