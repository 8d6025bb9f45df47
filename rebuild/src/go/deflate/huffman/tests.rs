//! The two algorithms against each other and against what any prefix code must satisfy.
//!
//! Invariant: where no limit binds, [`unlimited`] and [`limited`] agree on every count, which is
//! why the faster one may be used; equal weights are frequent in these inputs on purpose.

use proptest::prelude::*;

use super::*;

fn ascending(max: u32) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(1..=max, 3..=LITERAL_SYMBOLS).prop_map(|mut weights| {
        weights.sort_unstable();
        weights
    })
}

/// Few different weights, many of each, and steep ones.
fn any_weights() -> impl Strategy<Value = Vec<u32>> {
    let steep = (3..40_usize, 1..4_u32).prop_map(|(n, first)| {
        let pair = std::iter::successors(Some((first, first)), |&(a, b)| Some((b, a + b)));
        pair.map(|(a, _)| a.min(1 << 20)).take(n).collect::<Vec<_>>()
    });
    prop_oneof![ascending(2), ascending(5), ascending(40), ascending(65_535), steep]
}

fn kraft(counts: &[u32]) -> u64 {
    counts.iter().enumerate().skip(1).map(|(n, &count)| u64::from(count) << (15 - n)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_faster_algorithm_agrees_where_it_applies(weights in any_weights()) {
        let slow = limited(&weights, CODE_BITS_MAX);
        if let Some(fast) = unlimited(&weights, CODE_BITS_MAX) {
            prop_assert_eq!(fast, slow);
        }
        prop_assert_eq!(kraft(&slow), 1 << 15, "a complete code");
        prop_assert_eq!(slow.iter().sum::<u32>() as usize, weights.len());
    }

    #[test]
    fn short_limits_hold(mut weights in prop::collection::vec(1_u32..5000, 3..=19)) {
        weights.sort_unstable();
        let counts = limited(&weights, 7);
        prop_assert!(counts[8..].iter().all(|&count| count == 0));
        prop_assert_eq!(kraft(&counts), 1 << 15);
        if let Some(fast) = unlimited(&weights, 7) {
            prop_assert_eq!(fast, counts);
        }
    }

    #[test]
    fn codes_are_prefix_free_and_only_for_used_symbols(
        frequencies in prop::collection::vec(prop_oneof![Just(0_u32), 1..4_u32, 1..9000_u32], 1..=286),
    ) {
        let mut codes = [Code::canonical(1, 1); LITERAL_SYMBOLS];
        generate(&mut codes, &frequencies, CODE_BITS_MAX);
        for (symbol, code) in codes.iter().enumerate() {
            let used = frequencies.get(symbol).is_some_and(|&frequency| frequency > 0);
            prop_assert_eq!(code.exists(), used);
        }
        let used: Vec<Code> = codes.iter().copied().filter(|code| code.exists()).collect();
        for (i, a) in used.iter().enumerate() {
            for b in &used[i + 1..] {
                let shorter = a.length().min(b.length());
                prop_assert!((a.bits() ^ b.bits()) & ((1 << shorter) - 1) != 0);
            }
        }
    }
}

#[test]
fn two_symbols_or_fewer_take_one_bit_each() {
    let mut codes = [Code::canonical(1, 1); 30];
    generate(&mut codes, &[0; 30], CODE_BITS_MAX);
    assert!(codes.iter().all(|code| !code.exists()));
    generate(&mut codes, &[0, 0, 9], CODE_BITS_MAX);
    assert_eq!(codes[2], Code::new(0, 1));
    generate(&mut codes, &[0, 1, 9], CODE_BITS_MAX);
    assert_eq!((codes[1], codes[2]), (Code::new(0, 1), Code::new(1, 1)));
}

#[test]
fn the_package_comes_before_an_equal_symbol() {
    // 1 and 1 make a package of 2. Taken before the symbols of weight 2 it is paired with one of
    // them; taken after, they would be paired with each other, and all codes would have two bits.
    assert_eq!(limited(&[1, 1, 2, 2], CODE_BITS_MAX)[..5], [0, 1, 1, 2, 0]);
    assert_eq!(limited(&[1, 1, 1, 1], CODE_BITS_MAX)[..5], [0, 0, 4, 0, 0]);
}
