//! Finds repetitions: two hash tables, one candidate for four bytes, two for seven.
//!
//! Invariant: the tokens depend on the window alone. A table entry is a [`Mark`]: the position and
//! eleven more bits of the hash of the four bytes there. One subtraction of two marks tells that
//! an entry is near enough and probably repeats, without a look at the window; whether it does is
//! then read from the window. The marks only spare work: they never change what is found.

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

/// The longest window: positions have 21 bits, and begin at [`REACH`], so that an empty entry is
/// out of reach from everywhere: 2^21 - 2^15.
pub(super) const WINDOW_MAX: usize = (1 << 21) - REACH as usize;

/// The tables.
pub(super) struct Matcher {
    /// By the hash of four bytes: the last position.
    short: Box<[Mark; ENTRIES]>,
    /// By the hash of seven bytes: the last position, and the one before it.
    long: Box<[Pair; ENTRIES]>,
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher").finish_non_exhaustive()
    }
}

/// A position in the low 21 bits, a tag of its first four bytes in the upper 11.
#[derive(Clone, Copy, Default)]
struct Mark(u32);

impl Mark {
    const TAG: u32 = !((1 << 21) - 1);

    #[inline]
    fn new(at: usize, product: u32) -> Self {
        Self((product << 15 & Self::TAG) | (at as u32 + REACH))
    }

    /// How far `earlier` lies before this mark, if it is in reach and its tag is the same; a number
    /// beyond [`REACH`] otherwise. (Different tags differ by 2^21 or more, positions by less than
    /// 2^21 - 2^15 in either direction, so the difference cannot fall below 2^15.)
    #[inline]
    fn distance(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Is `earlier` in reach, whatever its tag?
    #[inline]
    fn reaches(self, earlier: Self) -> bool {
        (self.0 & !Self::TAG).wrapping_sub(earlier.0 & !Self::TAG) < REACH
    }

    /// The position, beginning at [`REACH`].
    #[inline]
    fn position(self) -> u32 {
        self.0 & !Self::TAG
    }
}

/// Two marks in one word, the later one below.
#[derive(Clone, Copy, Default)]
struct Pair(u64);

impl Pair {
    #[inline]
    fn last(self) -> Mark {
        Mark(self.0 as u32)
    }

    #[inline]
    fn before(self) -> Mark {
        Mark((self.0 >> 32) as u32)
    }

    #[inline]
    fn push(self, mark: Mark) -> Self {
        Self(self.0 << 32 | u64::from(mark.0))
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

/// One position looked at, and the one after it.
struct Step {
    at: usize,
    word: u64,
    here: Mark,
    next: usize,
    next_word: u64,
}

impl Matcher {
    pub(super) fn new() -> Self {
        let short = vec![Mark::default(); ENTRIES].into_boxed_slice();
        let long = vec![Pair::default(); ENTRIES].into_boxed_slice();
        // Both conversions are of the very length of the type.
        let (Ok(short), Ok(long)) = (short.try_into(), long.try_into()) else { unreachable!() };
        Self { short, long }
    }

    /// Forgets all positions.
    pub(super) fn start(&mut self) {
        self.short.fill(Mark::default());
        self.long.fill(Pair::default());
    }

    /// Adds the tokens of `window[start..]`; none at all when nothing repeats.
    pub(super) fn run(&mut self, window: &[u8], start: usize, tokens: &mut Tokens) {
        let end = window.len();
        assert!(start <= end && end <= WINDOW_MAX);
        if end - start < SEARCHED_MIN {
            return;
        }
        let word = load(window, start);
        let limit = end - MARGIN;
        let mut cursor = Cursor { at: start, emitted: start, limit, word, next: start };
        while let Some(found) = self.search(window, &mut cursor) {
            let found = self.extend(window, &cursor, found);
            let (at, length) = (found.at, found.length);
            tokens.copy(window, cursor.emitted, at, length, at - found.from);
            let after = at + length;
            cursor.emitted = after;
            cursor.at = if cursor.next >= after { cursor.next + 1 } else { after };
            if cursor.at >= limit {
                break;
            }
            self.index(window, cursor.at - length, &mut cursor);
        }
        if tokens.count() > 0 {
            tokens.rest(window, cursor.emitted);
        }
    }

    /// Looks for the next position that repeats something.
    #[inline]
    fn search(&mut self, window: &[u8], cursor: &mut Cursor) -> Option<Found> {
        let searched = &window[..cursor.limit + 8];
        let mut word = cursor.word;
        let mut at = cursor.at;
        loop {
            let next = at + 1 + ((at - cursor.emitted) >> SKIP_SHIFT);
            let next_word = u64::from_le_bytes(*searched.get(next..next + 8)?.first_chunk()?);
            let product = product_4(word);
            let here = Mark::new(at, product);
            let short = &mut self.short[slot_4(product)];
            let long = &mut self.long[slot_7(word)];
            let pair = *long;
            let first = here.distance(pair.last());
            let second = here.distance(pair.before());
            let third = here.distance(*short);
            *short = here;
            *long = pair.push(here);
            if first.min(second).min(third) < REACH {
                let step = Step { at, word, here, next, next_word };
                if let Some(found) = self.choose(window, &step, pair, third) {
                    cursor.next = next;
                    return Some(found);
                }
            }
            word = next_word;
            at = next;
        }
    }

    /// Of the candidates at one position the one that is taken, if any really repeats.
    #[inline]
    fn choose(&mut self, window: &[u8], step: &Step, pair: Pair, third: u32) -> Option<Found> {
        let &Step { at, word, here, next, next_word } = step;
        let first = here.distance(pair.last());
        let second = here.distance(pair.before());
        if first < REACH && repeats(window, at, first, word) {
            self.store(next, next_word);
            let from = at - first as usize;
            if second >= REACH || !repeats(window, at, second, word) {
                return Some(Found { at, from, length: 0 });
            }
            let other = at - second as usize;
            let length = 4 + common(window, at + 4, from + 4, COMPARED_MAX - 4);
            let longer = 4 + common(window, at + 4, other + 4, COMPARED_MAX - 4);
            let (from, length) = if longer > length { (other, longer) } else { (from, length) };
            return Some(Found { at, from, length });
        }
        // The encoder looks at the older position only if the newer one is in reach.
        if second < REACH && here.reaches(pair.last()) && repeats(window, at, second, word) {
            self.store(next, next_word);
            return Some(Found { at, from: at - second as usize, length: 0 });
        }
        if third < REACH && repeats(window, at, third, word) {
            return Some(self.or_next(window, at, third, next, next_word));
        }
        None
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
        let pair = self.long[slot_7(word)];
        let there = self.store(next, word);
        let mut best = Found { at, from, length };
        if !there.reaches(pair.last()) {
            return best;
        }
        for mark in [pair.last(), pair.before()] {
            let distance = there.distance(mark);
            if distance < REACH && repeats(window, next, distance, word) {
                let from = next - distance as usize;
                let longer = 4 + common(window, next + 4, from + 4, COMPARED_MAX - 4);
                if longer > length {
                    best = Found { at: next, from, length: longer };
                    break;
                }
            }
        }
        best
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
            let last = self.long[slot_7(load(window, after))].last().position();
            // Where the repetition of `after` would begin, were it seen from `at + 2`.
            let distance = (after as u32 + REACH).wrapping_sub(last);
            let inside = last + 2 >= length as u32 + REACH;
            let valid = inside & (distance.wrapping_sub(1) < REACH - 1);
            let distance = if valid { distance as usize } else { 0 };
            // A longer repetition includes these four bytes; most often they are not equal.
            if valid & (four(window, after - 1) == four(window, after - 1 - distance)) {
                let other = at + 2 - distance;
                let longer = common(window, at + 2, other, usize::MAX);
                if longer > length {
                    (at, from, length) = (at + 2, other, longer);
                }
            }
        }
        let room = (at - cursor.emitted).min(from);
        let same = window[from.saturating_sub(1)] == window[at.saturating_sub(1)];
        if (room > 0) & same {
            let before = window[..from].iter().rev().zip(window[..at].iter().rev());
            let equal = before.take(room).take_while(|(l, r)| l == r).count();
            (at, from, length) = (at - equal, from - equal, length + equal);
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
            self.store(at, word);
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
    fn store(&mut self, at: usize, word: u64) -> Mark {
        self.store_short(at, word);
        self.store_long(at, word)
    }

    #[inline]
    fn store_short(&mut self, at: usize, word: u64) {
        let product = product_4(word);
        self.short[slot_4(product)] = Mark::new(at, product);
    }

    #[inline]
    fn store_long(&mut self, at: usize, word: u64) -> Mark {
        let mark = Mark::new(at, product_4(word));
        let slot = &mut self.long[slot_7(word)];
        *slot = slot.push(mark);
        mark
    }
}

/// Do the four bytes at `at`, the low half of `word`, stand `distance` before it as well?
#[inline]
fn repeats(window: &[u8], at: usize, distance: u32, word: u64) -> bool {
    four(window, at - distance as usize) == word as u32
}

/// Four bytes, the first one lowest; zero past the end, where no search comes.
#[inline]
fn four(window: &[u8], at: usize) -> u32 {
    // In 32 bits, so that one comparison is enough to know that all bytes are inside.
    let at = at as u32 as usize;
    match window.get(at..at + 4).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u32::from_le_bytes(*bytes),
        None => 0,
    }
}

/// Eight bytes, the first one lowest; zero past the end, where no search comes.
#[inline]
fn load(window: &[u8], at: usize) -> u64 {
    let at = at as u32 as usize;
    match window.get(at..at + 8).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => 0,
    }
}

/// How many bytes at `at` and at `from` are equal, at most `most` (8 or more), never past the
/// window's end.
#[inline]
fn common(window: &[u8], at: usize, from: usize, most: usize) -> usize {
    if at + 8 <= window.len() {
        let difference = load(window, at) ^ load(window, from);
        if difference != 0 {
            return difference.trailing_zeros() as usize / 8;
        }
    }
    let left = &window[at..];
    let left = &left[..left.len().min(most)];
    common_slices(left, &window[from..from + left.len()])
}

/// How many bytes two slices of equal length have in common.
#[inline(never)]
fn common_slices(left: &[u8], right: &[u8]) -> usize {
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

/// The hash of the low four bytes before it is cut; different bytes have different products.
#[inline]
fn product_4(word: u64) -> u32 {
    (word as u32).wrapping_mul(PRIME_4)
}

#[inline]
fn slot_4(product: u32) -> usize {
    (product >> 17) as usize
}

#[inline]
fn slot_7(word: u64) -> usize {
    ((word << 8).wrapping_mul(PRIME_7) >> 49) as usize
}
