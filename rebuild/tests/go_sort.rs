//! The sort against Go's `sort.Slice`: not only the order, but every comparison on the way (made by
//! `fixtures/go-tar/gen.go`).
//!
//! Invariant: the same elements are compared in the same sequence, so ties, adversaries and even
//! contradictory answers lead to the same permutation.

use std::cmp::Ordering;

use proptest::prelude::*;
use rebuild::go::pdqsort::sort_by;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The generator of `gen.go`.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        let mut x = self.0;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0 = x;
        ((x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n as u64) as usize
    }
}

fn keys(pattern: &str, n: usize) -> Vec<usize> {
    let mut random = Random(n as u64 * 2_654_435_761 + pattern.len() as u64 + 1);
    let key = |i| match pattern {
        "random" => random.below(1 << 30),
        "ties" => random.below(5),
        "some ties" => random.below(n / 3 + 1),
        "equal" => 7,
        "rising" => i,
        "rising ties" => i / 4,
        "falling" => n - i,
        "falling ties" => (n - i) / 3,
        "pipe" => i.min(n - i),
        "saw" => i % 17,
        "nearly" if random.below(40) == 0 => random.below(n),
        "nearly" => i,
        "one late" if i == n - 1 => 0,
        "one late" => i,
        "halves" => i % (n / 2 + 1),
        "adversary" | "contradiction" => 0,
        other => panic!("unknown pattern {other}"),
    };
    (0..n).map(key).collect()
}

type Item = (usize, usize);

/// Answers `a < b`.
type Less = Box<dyn FnMut(&Item, &Item) -> bool>;

fn judge(pattern: &str, n: usize) -> Less {
    match pattern {
        "adversary" => {
            let mut values = vec![n; n];
            let (mut solid, mut candidate) = (0, 0);
            Box::new(move |&(_, a), &(_, b)| {
                if values[a] == n && values[b] == n {
                    values[if a == candidate { a } else { b }] = solid;
                    solid += 1;
                }
                if values[a] == n {
                    candidate = a;
                } else if values[b] == n {
                    candidate = b;
                }
                values[a] < values[b]
            })
        }
        "contradiction" => {
            let mut random = Random(n as u64 + 5);
            Box::new(move |_, _| random.below(2) == 0)
        }
        _ => Box::new(|a, b| a.0 < b.0),
    }
}

fn sorted(pattern: &str, n: usize) -> String {
    let mut items: Vec<Item> =
        keys(pattern, n).into_iter().enumerate().map(|(id, key)| (key, id)).collect();
    let mut trace = Sha256::new();
    let mut less = judge(pattern, n);
    sort_by(&mut items, |a, b| {
        trace.update((a.1 as u32).to_le_bytes());
        trace.update((b.1 as u32).to_le_bytes());
        if less(a, b) { Ordering::Less } else { Ordering::Greater }
    });
    for (_, id) in items {
        trace.update((id as u32).to_le_bytes());
    }
    hex::encode(&trace.finalize()[..8])
}

#[test]
fn every_comparison_and_the_result_are_those_of_go() {
    let golden: Value = serde_json::from_str(include_str!("fixtures/go-tar/sort.json")).unwrap();
    let mut compared = 0;
    for (pattern, sizes) in golden.as_object().unwrap() {
        for (n, expected) in sizes.as_object().unwrap() {
            assert_eq!(
                sorted(pattern, n.parse().unwrap()),
                expected.as_str().unwrap(),
                "{pattern}, {n}"
            );
            compared += 1;
        }
    }
    assert!(compared > 1200, "expected the whole table, found {compared} cases");
}

proptest! {
    #[test]
    fn the_result_is_sorted_and_nothing_is_lost(mut data in prop::collection::vec(0_u16..50, 0..3000)) {
        let mut expected = data.clone();
        expected.sort();
        sort_by(&mut data, Ord::cmp);
        prop_assert_eq!(data, expected);
    }
}
