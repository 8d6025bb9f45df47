//! Go's stable sort: insertion sort on blocks of 20, then merging in place by rotation.
//!
//! Invariant: the comparisons and moves are those of Go's `slices.SortStableFunc`, so the result is
//! Go's also for a comparison that is no strict weak order. It never panics, whatever the
//! comparison answers; a sort of the standard library may.

use std::cmp::Ordering;

/// Elements of one block.
const BLOCK: usize = 20;

/// Sorts as Go does.
pub(super) fn sort_stable<T>(data: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    let less = |a: &T, b: &T| compare(a, b) == Ordering::Less;
    for block in data.chunks_mut(BLOCK) {
        insertion_sort(block, &less);
    }
    let mut size = BLOCK;
    while size < data.len() {
        for pair in data.chunks_mut(2 * size).filter(|pair| pair.len() > size) {
            merge(pair, size, &less);
        }
        size *= 2;
    }
}

fn insertion_sort<T>(data: &mut [T], less: &impl Fn(&T, &T) -> bool) {
    for i in 1..data.len() {
        for j in (1..=i).rev() {
            if !less(&data[j], &data[j - 1]) {
                break;
            }
            data.swap(j, j - 1);
        }
    }
}

/// Merges the sorted runs before and after `middle`.
fn merge<T>(data: &mut [T], middle: usize, less: &impl Fn(&T, &T) -> bool) {
    let end = data.len();
    if middle == 0 || middle == end {
        return;
    }
    if middle == 1 {
        let at = search(1, end, |h| !less(&data[h], &data[0]));
        data[..at].rotate_left(1);
        return;
    }
    if end - middle == 1 {
        let at = search(0, middle, |h| less(&data[middle], &data[h]));
        data[at..].rotate_right(1);
        return;
    }
    let half = end / 2;
    let sum = half + middle;
    let (low, high) = if middle > half { (sum - end, half) } else { (0, middle) };
    let last = sum - 1;
    let start = search(low, high, |c| less(&data[last - c], &data[c]));
    let stop = sum - start;
    if start < middle && middle < stop {
        data[start..stop].rotate_left(middle - start);
    }
    if 0 < start && start < half {
        merge(&mut data[..half], start, less);
    }
    if half < stop && stop < end {
        merge(&mut data[half..], stop - half, less);
    }
}

/// The first position in `low..high` where the predicate holds, by bisection.
fn search(mut low: usize, mut high: usize, holds: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let at = low.midpoint(high);
        if holds(at) {
            high = at;
        } else {
            low = at + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stable_for_an_order(data in proptest::collection::vec(0_u8..20, 0..300)) {
            let mut tagged: Vec<(u8, usize)> =
                data.iter().copied().enumerate().map(|(i, v)| (v, i)).collect();
            let mut expected = tagged.clone();
            expected.sort();
            sort_stable(&mut tagged, |a, b| a.0.cmp(&b.0));
            prop_assert_eq!(tagged, expected);
        }

        #[test]
        fn ends_and_keeps_everything_for_nonsense(
            data in proptest::collection::vec(0_u32..1000, 0..300),
            seed in any::<u32>(),
        ) {
            let mut sorted = data.clone();
            sort_stable(&mut sorted, |a, b| match (a ^ b).wrapping_mul(seed) >> 30 {
                0 => Ordering::Less,
                1 => Ordering::Greater,
                _ => Ordering::Equal,
            });
            let (mut a, mut b) = (data, sorted);
            a.sort_unstable();
            b.sort_unstable();
            prop_assert_eq!(a, b);
        }
    }
}
