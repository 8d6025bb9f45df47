//! Finds repetitions: two hash tables, one candidate for four bytes, two for seven.
//!
//! Invariant: the tokens depend on the window alone. Positions in the tables carry a bias that
//! grows from window to window, so entries of earlier windows are always too far away to count,
//! and the tables need no clearing.

use super::tokens::Tokens;

/// Entries of each table: 2^15.
const ENTRIES: usize = 1 << 15;
/// A repetition must be nearer than this: deflate's greatest distance, less one.
const REACH: u32 = 32_768;
/// The search ends this many bytes before the end, so that every load of eight bytes is inside.
const MARGIN: usize = 11;
/// Shorter inputs are not searched.
const SEARCHED_MIN: usize = 13;
/// Candidates are compared up to this length, then the winner is extended without limit.
const COMPARED_MAX: usize = 258;
/// Repetitions below this length are checked for a longer one at their end.
const GOOD_LENGTH: usize = 30;
/// After each 64 bytes without a repetition the step grows by one.
const SKIP_SHIFT: usize = 6;

/// Multipliers of the hashes: any change of them changes every layer.
const PRIME_4: u32 = 2_654_435_761;
const PRIME_7: u64 = 58_295_818_150_454_627;

/// The tables.
pub(super) struct Matcher {
    /// By the hash of four bytes: the last position.
    short: Box<[u32; ENTRIES]>,
    /// By the hash of seven bytes: the last position below, the one before it above bit 32.
    long: Box<[u64; ENTRIES]>,
    /// Added to a position before it is stored.
    bias: u32,
    /// The length of the current window.
    window: u32,
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher").field("bias", &self.bias).finish_non_exhaustive()
    }
}

/// Where the search stands.
struct Cursor {
    /// The position to look at.
    at: usize,
    /// Everything before it is in the tokens.
    emitted: usize,
    /// The last position that may be looked at.
    limit: usize,
    /// The eight bytes at `at`.
    word: u64,
    /// The position after the last one looked at.
    next: usize,
}

/// A repetition: `length` bytes at `at` repeat those at `from`; 0 when not measured yet.
#[derive(Clone, Copy)]
struct Found {
    at: usize,
    from: usize,
    length: usize,
}

impl Matcher {
    pub(super) fn new() -> Self {
        let short = vec![0; ENTRIES].into_boxed_slice();
        let long = vec![0; ENTRIES].into_boxed_slice();
        // Both conversions are of the very length of the type.
        let (Ok(short), Ok(long)) = (short.try_into(), long.try_into()) else { unreachable!() };
        Self { short, long, bias: REACH, window: 0 }
    }

    /// Forgets all positions; `length` is that of the next window, dictionary included.
    pub(super) fn start(&mut self, length: usize) {
        let length = length as u32;
        let bias = self.bias.checked_add(self.window).and_then(|bias| bias.checked_add(REACH));
        self.bias = match bias.filter(|bias| bias.checked_add(length).is_some()) {
            Some(bias) => bias,
            None => {
                self.short.fill(0);
                self.long.fill(0);
                REACH
            }
        };
        self.window = length;
    }

    /// Adds the tokens of `window[start..]`; none at all when nothing repeats.
    pub(super) fn run(&mut self, window: &[u8], start: usize, tokens: &mut Tokens) {
        let end = window.len();
        if end - start < SEARCHED_MIN {
            return;
        }
        let word = load(window, start);
        let limit = end - MARGIN;
        let mut cursor = Cursor { at: start, emitted: start, limit, word, next: start };
        while let Some(found) = self.search(window, &mut cursor) {
            let found = self.extend(window, &cursor, found);
            let (at, length) = (found.at, found.length);
            tokens.copy(&window[cursor.emitted..at], length, at - found.from);
            let after = at + length;
            cursor.emitted = after;
            cursor.at = if cursor.next >= after { cursor.next + 1 } else { after };
            if cursor.at >= limit {
                break;
            }
            self.index(window, cursor.at - length, &mut cursor);
        }
        if cursor.emitted < end && tokens.count() > 0 {
            tokens.rest(&window[cursor.emitted..]);
        }
    }

    /// Looks for the next position that repeats something.
    #[inline]
    fn search(&mut self, window: &[u8], cursor: &mut Cursor) -> Option<Found> {
        let mut word = cursor.word;
        let mut next = cursor.at;
        loop {
            let at = next;
            next = at + 1 + ((at - cursor.emitted) >> SKIP_SHIFT);
            cursor.next = next;
            if next > cursor.limit {
                return None;
            }
            let (short_slot, long_slot) = (hash_4(word), hash_7(word));
            let biased = self.biased(at);
            let short = self.short[short_slot];
            let pair = self.long[long_slot];
            let next_word = load(window, next);
            self.short[short_slot] = biased;
            self.long[long_slot] = pair << 32 | u64::from(biased);

            let first = biased.wrapping_sub(pair as u32);
            if first < REACH {
                let second = biased.wrapping_sub((pair >> 32) as u32);
                if repeats(window, at, first, word) {
                    self.store(next, next_word);
                    return Some(better_of_two(window, at, first, second, word));
                }
                if second < REACH && repeats(window, at, second, word) {
                    self.store(next, next_word);
                    return Some(Found { at, from: at - second as usize, length: 0 });
                }
            }
            let distance = biased.wrapping_sub(short);
            if distance < REACH && repeats(window, at, distance, word) {
                return Some(self.or_next(window, at, distance, next, next_word));
            }
            word = next_word;
        }
    }

    /// Four bytes repeat at `at`: takes that, or a longer repetition of seven bytes at `next`.
    #[inline]
    fn or_next(
        &mut self,
        window: &[u8],
        at: usize,
        distance: u32,
        next: usize,
        word: u64,
    ) -> Found {
        let from = at - distance as usize;
        let length = 4 + common(window, at + 4, from + 4, COMPARED_MAX - 4);
        let pair = self.long[hash_7(word)];
        self.store(next, word);
        let here = Found { at, from, length };
        let biased = self.biased(next);
        let first = biased.wrapping_sub(pair as u32);
        if first >= REACH {
            return here;
        }
        let second = biased.wrapping_sub((pair >> 32) as u32);
        for distance in [first, second] {
            if distance < REACH && repeats(window, next, distance, word) {
                let from = next - distance as usize;
                let length = 4 + common(window, next + 4, from + 4, COMPARED_MAX - 4);
                if length > here.length {
                    return Found { at: next, from, length };
                }
            }
        }
        here
    }

    /// Measures a repetition, prefers a longer one that reaches over its end, and grows it
    /// backwards.
    #[inline]
    fn extend(&self, window: &[u8], cursor: &Cursor, found: Found) -> Found {
        let Found { mut at, mut from, mut length } = found;
        if length == 0 {
            length = 4 + common(window, at + 4, from + 4, usize::MAX);
        } else if length == COMPARED_MAX {
            length += common(window, at + length, from + length, usize::MAX);
        }
        let after = at + length;
        if length < GOOD_LENGTH && after < cursor.limit {
            let last = self.long[hash_7(load(window, after))] as u32;
            let start = last.wrapping_sub(length as u32).wrapping_add(2);
            let distance = self.biased(at + 2).wrapping_sub(start);
            if start >= self.bias && (1..REACH).contains(&distance) {
                let other = at + 2 - distance as usize;
                let longer = common(window, at + 2, other, usize::MAX);
                if longer > length {
                    (at, from, length) = (at + 2, other, longer);
                }
            }
        }
        while from > 0 && at > cursor.emitted && window[from - 1] == window[at - 1] {
            (at, from, length) = (at - 1, from - 1, length + 1);
        }
        Found { at, from, length }
    }

    /// Enters some of the positions from `start` on: those inside the repetition, or, where the
    /// search had stepped beyond its end, as many before the new position.
    #[inline]
    fn index(&mut self, window: &[u8], start: usize, cursor: &mut Cursor) {
        let last = cursor.at - 1;
        let mut at = start + 1;
        if at < last {
            let word = load(window, at);
            self.store_short(at, word);
            self.store_long(at, word);
            self.store_long(at + 1, word >> 8);
            self.store_short(at + 2, word >> 16);
            at += 4;
            while at < last {
                let word = load(window, at);
                self.store_long(at, word);
                self.store_short(at + 1, word >> 8);
                at += 3;
            }
        }
        let word = load(window, last);
        self.store(last, word);
        cursor.word = word >> 8;
    }

    #[inline]
    fn biased(&self, at: usize) -> u32 {
        (at as u32).wrapping_add(self.bias)
    }

    #[inline]
    fn store(&mut self, at: usize, word: u64) {
        self.store_short(at, word);
        self.store_long(at, word);
    }

    #[inline]
    fn store_short(&mut self, at: usize, word: u64) {
        self.short[hash_4(word)] = self.biased(at);
    }

    #[inline]
    fn store_long(&mut self, at: usize, word: u64) {
        let biased = self.biased(at);
        let slot = &mut self.long[hash_7(word)];
        *slot = *slot << 32 | u64::from(biased);
    }
}

/// Of the two positions for seven bytes, the one with more in common; the first is known to repeat.
#[inline]
fn better_of_two(window: &[u8], at: usize, first: u32, second: u32, word: u64) -> Found {
    let from = at - first as usize;
    if second >= REACH || !repeats(window, at, second, word) {
        return Found { at, from, length: 0 };
    }
    let other = at - second as usize;
    let length = 4 + common(window, at + 4, from + 4, COMPARED_MAX - 4);
    let longer = 4 + common(window, at + 4, other + 4, COMPARED_MAX - 4);
    if longer > length {
        Found { at, from: other, length: longer }
    } else {
        Found { at, from, length }
    }
}

/// Do the four bytes at `at`, the low half of `word`, stand `distance` before it as well?
#[inline]
fn repeats(window: &[u8], at: usize, distance: u32, word: u64) -> bool {
    let from = at - distance as usize;
    match window[from..].first_chunk() {
        Some(bytes) => u32::from_le_bytes(*bytes) == word as u32,
        None => false,
    }
}

/// Eight bytes, the first one lowest.
#[inline]
fn load(window: &[u8], at: usize) -> u64 {
    match window[at..].first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => 0,
    }
}

/// How many bytes at `at` and at `from` are equal, at most `most`, never past the window's end.
#[inline]
fn common(window: &[u8], at: usize, from: usize, most: usize) -> usize {
    let left = &window[at..];
    let left = &left[..left.len().min(most)];
    let right = &window[from..from + left.len()];
    let (left_words, left_rest) = left.as_chunks::<8>();
    let (right_words, right_rest) = right.as_chunks::<8>();
    for (index, (l, r)) in left_words.iter().zip(right_words).enumerate() {
        let difference = u64::from_le_bytes(*l) ^ u64::from_le_bytes(*r);
        if difference != 0 {
            return index * 8 + difference.trailing_zeros() as usize / 8;
        }
    }
    let equal = left_rest.iter().zip(right_rest).take_while(|(l, r)| l == r).count();
    left_words.len() * 8 + equal
}

#[inline]
fn hash_4(word: u64) -> usize {
    ((word as u32).wrapping_mul(PRIME_4) >> 17) as usize
}

#[inline]
fn hash_7(word: u64) -> usize {
    ((word << 8).wrapping_mul(PRIME_7) >> 49) as usize
}
