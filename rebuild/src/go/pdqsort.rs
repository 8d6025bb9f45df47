//! Go's unstable sort, swap by swap, so that equal elements end in the order that Go gives them.
//!
//! Invariant: the same length and the same answers of `compare` give the same permutation as
//! `sort.Slice` and `slices.SortFunc` of Go 1.19 and later. A comparison that contradicts itself
//! gives some permutation, never a panic. Where ties cannot happen, use the standard sort.
//!
//! The algorithm is pattern-defeating quicksort: insertion sort for short ranges, heapsort when
//! too many partitions were unbalanced, and shortcuts for ranges that are sorted already.

use std::cmp::Ordering;

/// Ranges up to this length are sorted by insertion.
const INSERTION_MAX: usize = 12;
/// From this length on the pivot is a median of three.
const MEDIAN_MIN: usize = 8;
/// From this length on each of the three is itself a median, and a nearly sorted range is mended.
const NINTHER_MIN: usize = 50;
/// All comparisons of a ninther ended in a swap: the range runs downwards.
const SWAPS_MAX: usize = 4 * 3;
/// A nearly sorted range is given up after this many repairs.
const REPAIRS_MAX: usize = 5;

/// Sorts as Go does.
pub fn sort_by<T>(data: &mut [T], compare: impl FnMut(&T, &T) -> Ordering) {
    let length = data.len();
    let limit = usize::BITS - length.leading_zeros();
    Sorter { data, compare }.sort(0, length, limit);
}

/// What the choice of a pivot revealed about the range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    Unknown,
    Increasing,
    Decreasing,
}

struct Sorter<'a, T, C> {
    data: &'a mut [T],
    compare: C,
}

impl<T, C: FnMut(&T, &T) -> Ordering> Sorter<'_, T, C> {
    fn less(&mut self, left: usize, right: usize) -> bool {
        (self.compare)(&self.data[left], &self.data[right]) == Ordering::Less
    }

    fn swap(&mut self, left: usize, right: usize) {
        self.data.swap(left, right);
    }

    /// Sorts `start..end`; `limit` unbalanced partitions are allowed before heapsort.
    fn sort(&mut self, mut start: usize, mut end: usize, mut limit: u32) {
        let (mut balanced, mut partitioned) = (true, true);
        loop {
            let length = end - start;
            if length <= INSERTION_MAX {
                return self.insertion(start, end);
            }
            if limit == 0 {
                return self.heap(start, end);
            }
            if !balanced {
                self.break_patterns(start, length);
                limit -= 1;
            }
            let (mut pivot, mut hint) = self.choose_pivot(start, length);
            if hint == Hint::Decreasing {
                self.data[start..end].reverse();
                pivot = (end - 1) - (pivot - start);
                hint = Hint::Increasing;
            }
            if balanced && partitioned && hint == Hint::Increasing && self.mend(start, end) {
                return;
            }
            if start > 0 && !self.less(start - 1, pivot) {
                start = self.partition_equal(start, end, pivot);
                continue;
            }
            let (middle, already) = self.partition(start, end, pivot);
            partitioned = already;
            let (left, right) = (middle - start, end - middle);
            let enough = length / 8;
            if left < right {
                balanced = left >= enough;
                self.sort(start, middle, limit);
                start = middle + 1;
            } else {
                balanced = right >= enough;
                self.sort(middle + 1, end, limit);
                end = middle;
            }
        }
    }

    fn insertion(&mut self, start: usize, end: usize) {
        for next in start + 1..end {
            let mut at = next;
            while at > start && self.less(at, at - 1) {
                self.swap(at, at - 1);
                at -= 1;
            }
        }
    }

    fn heap(&mut self, start: usize, end: usize) {
        let length = end - start;
        for root in (0..length.div_ceil(2)).rev() {
            self.sift_down(start, root, length);
        }
        for last in (0..length).rev() {
            self.swap(start, start + last);
            self.sift_down(start, 0, last);
        }
    }

    fn sift_down(&mut self, start: usize, mut root: usize, length: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= length {
                return;
            }
            if child + 1 < length && self.less(start + child, start + child + 1) {
                child += 1;
            }
            if !self.less(start + root, start + child) {
                return;
            }
            self.swap(start + root, start + child);
            root = child;
        }
    }

    /// Moves three elements of the middle to places drawn from a generator seeded with the length.
    fn break_patterns(&mut self, start: usize, length: usize) {
        let mut random = length as u64;
        let mask = (1_u64 << (u64::BITS - random.leading_zeros())) - 1;
        let first = start + (length / 4) * 2 - 1;
        for index in first..first + 3 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let drawn = (random & mask) as usize;
            let other = if drawn >= length { drawn - length } else { drawn };
            self.swap(index, start + other);
        }
    }

    fn choose_pivot(&mut self, start: usize, length: usize) -> (usize, Hint) {
        let quarter = length / 4;
        let [mut low, mut middle, mut high] = [1, 2, 3].map(|n| start + quarter * n);
        let mut swaps = 0;
        if length >= MEDIAN_MIN {
            if length >= NINTHER_MIN {
                low = self.median(low - 1, low, low + 1, &mut swaps);
                middle = self.median(middle - 1, middle, middle + 1, &mut swaps);
                high = self.median(high - 1, high, high + 1, &mut swaps);
            }
            middle = self.median(low, middle, high, &mut swaps);
        }
        let hint = match swaps {
            0 => Hint::Increasing,
            SWAPS_MAX => Hint::Decreasing,
            _ => Hint::Unknown,
        };
        (middle, hint)
    }

    /// The index of the median, with the number of exchanges that finding it took.
    fn median(&mut self, a: usize, b: usize, c: usize, swaps: &mut usize) -> usize {
        let (a, b) = self.ordered(a, b, swaps);
        let (b, _) = self.ordered(b, c, swaps);
        self.ordered(a, b, swaps).1
    }

    fn ordered(&mut self, a: usize, b: usize, swaps: &mut usize) -> (usize, usize) {
        if self.less(b, a) {
            *swaps += 1;
            (b, a)
        } else {
            (a, b)
        }
    }

    /// Tries to finish a range that is almost sorted; true when it is sorted now.
    fn mend(&mut self, start: usize, end: usize) -> bool {
        let mut index = start + 1;
        for _ in 0..REPAIRS_MAX {
            while index < end && !self.less(index, index - 1) {
                index += 1;
            }
            if index == end {
                return true;
            }
            if end - start < NINTHER_MIN {
                return false;
            }
            self.swap(index, index - 1);
            if index - start >= 2 {
                for at in (1..index).rev() {
                    if !self.less(at, at - 1) {
                        break;
                    }
                    self.swap(at, at - 1);
                }
            }
            if end - index >= 2 {
                for at in index + 1..end {
                    if !self.less(at, at - 1) {
                        break;
                    }
                    self.swap(at, at - 1);
                }
            }
        }
        false
    }

    /// Divides into elements equal to the pivot and greater ones; nothing is smaller.
    fn partition_equal(&mut self, start: usize, end: usize, pivot: usize) -> usize {
        self.swap(start, pivot);
        let (mut low, mut high) = (start + 1, end - 1);
        loop {
            while low <= high && !self.less(start, low) {
                low += 1;
            }
            while low <= high && self.less(start, high) {
                high -= 1;
            }
            if low > high {
                return low;
            }
            self.swap(low, high);
            low += 1;
            high -= 1;
        }
    }

    /// Divides into elements smaller than the pivot and the others; where the pivot ended, and
    /// whether nothing had to move.
    fn partition(&mut self, start: usize, end: usize, pivot: usize) -> (usize, bool) {
        self.swap(start, pivot);
        let (mut low, mut high) = (start + 1, end - 1);
        let mut already = true;
        loop {
            while low <= high && self.less(low, start) {
                low += 1;
            }
            while low <= high && !self.less(high, start) {
                high -= 1;
            }
            if low > high {
                self.swap(high, start);
                return (high, already);
            }
            already = false;
            self.swap(low, high);
            low += 1;
            high -= 1;
        }
    }
}
