//! Finds repetitions: two hash tables, one candidate for four bytes, two for seven.
//!
//! Invariant: the tokens depend on the window alone. The search works in a view of it, 64 KiB that
//! slide over the window, and names positions by their place in the view, so that 16 bits hold one
//! and no access needs a check. Sliding changes nothing: an entry that it forgets was out of reach.

use super::{
    tables::{FIRST, Look, PLACES, REACH, SLACK, Tables, four, load},
    tokens::{PIECE, Tokens},
};

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
/// Longer repetitions are entered outside the view.
const NEAR_MAX: usize = 512;

/// A step is at most 1 + 65,535 / 64, a repetition within the view [`NEAR_MAX`].
const _: () = assert!(1 + (u16::MAX as usize >> SKIP_SHIFT) + NEAR_MAX + GOOD_LENGTH < SLACK);

/// The tables, and where their view stands.
pub(super) struct Matcher {
    tables: Box<Tables>,
    /// What a position has more than its place, modulo 2^64: negative at first.
    base: usize,
    /// The view holds everything before this position.
    viewed: usize,
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher").finish_non_exhaustive()
    }
}

/// Where the search stands; all are places.
struct Cursor {
    /// The place to look at.
    at: usize,
    /// Everything before it is in the tokens. May have left the view: a negative number.
    emitted: usize,
    /// The last place that may be looked at, perhaps not yet in the view.
    limit: usize,
    /// The end of the window, perhaps not yet in the view.
    end: usize,
    /// The eight bytes at `at`.
    word: u64,
    /// The place after the last one looked at.
    next: usize,
}

/// A repetition: `length` bytes at `at` repeat those at `from`.
#[derive(Clone, Copy)]
struct Found {
    at: usize,
    from: usize,
    length: usize,
}

/// What the search found at a place: of three candidates at least one repeats its four bytes.
struct Candidates {
    at: usize,
    next: usize,
    next_word: u64,
    first: Look,
    second: Look,
    third: u16,
}

impl Matcher {
    pub(super) fn new() -> Self {
        Self { tables: Tables::new(), base: 0_usize.wrapping_sub(FIRST), viewed: 0 }
    }

    /// Forgets all positions.
    pub(super) fn start(&mut self) {
        self.tables.clear();
        self.base = 0_usize.wrapping_sub(FIRST);
        self.viewed = 0;
    }

    /// Adds the tokens of `window[start..]`; none at all when nothing repeats.
    pub(super) fn run(&mut self, window: &[u8], start: usize, tokens: &mut Tokens) {
        let end = window.len();
        assert!(start <= end);
        if end - start < SEARCHED_MIN {
            return;
        }
        self.fill(window);
        let at = start.wrapping_sub(self.base);
        let end = end.wrapping_sub(self.base);
        let mut cursor = Cursor { at, emitted: at, limit: end - MARGIN, end, word: 0, next: at };
        self.slide_to(window, &mut cursor);
        cursor.word = load(&self.tables.view, cursor.at);
        while let Some(found) = self.search(window, &mut cursor) {
            let found = self.extend(window, &cursor, found);
            self.emit(window, &cursor, found, tokens);
            let after = found.at.wrapping_add(found.length);
            cursor.emitted = after;
            cursor.at = if cursor.next >= after { cursor.next + 1 } else { after };
            if cursor.at >= cursor.limit {
                break;
            }
            if found.length <= NEAR_MAX {
                self.tables.index(cursor.at - found.length, cursor.at);
            } else {
                self.index_far(window, &mut cursor, found.length);
            }
            cursor.word = load(&self.tables.view, cursor.at);
        }
        if tokens.count() > 0 {
            tokens.rest(&window[cursor.emitted.wrapping_add(self.base)..]);
        }
    }

    #[inline(always)]
    fn emit(&self, window: &[u8], cursor: &Cursor, found: Found, tokens: &mut Tokens) {
        let literals = found.at.wrapping_sub(cursor.emitted);
        let near = self.tables.view.get(cursor.emitted..).and_then(<[u8]>::first_chunk::<PIECE>);
        match near {
            Some(near) if literals <= PIECE => tokens.few(near, literals),
            _ => {
                let start = cursor.emitted.wrapping_add(self.base);
                tokens.many(&window[start..start + literals]);
            }
        }
        tokens.copy(literals, found.length, found.at.wrapping_sub(found.from));
    }

    /// Takes what the view has room for.
    fn fill(&mut self, window: &[u8]) {
        let from = self.viewed.wrapping_sub(self.base);
        let room = self.tables.view.get_mut(from..).unwrap_or_default();
        let more = room.len().min(window.len() - self.viewed);
        room[..more].copy_from_slice(&window[self.viewed..self.viewed + more]);
        self.viewed += more;
    }

    /// Slides the view until the cursor may search in it.
    #[cold]
    #[inline(never)]
    fn slide_to(&mut self, window: &[u8], cursor: &mut Cursor) {
        while cursor.at >= PLACES - 2 * SLACK {
            let by = self.tables.slide();
            self.base = self.base.wrapping_add(by);
            self.fill(window);
            cursor.at -= by;
            cursor.next = cursor.next.wrapping_sub(by);
            cursor.limit -= by;
            cursor.end -= by;
            cursor.emitted = cursor.emitted.wrapping_sub(by);
        }
    }

    /// Enters some of the places of a long repetition, of which not all are in the view.
    #[cold]
    #[inline(never)]
    fn index_far(&mut self, window: &[u8], cursor: &mut Cursor, length: usize) {
        self.slide_to(window, cursor);
        let last = cursor.at.wrapping_add(self.base) - 1;
        let mut at = last + 2 - length;
        let base = self.base;
        // A position that is behind the view is out of reach: place 0.
        let place = |at: usize| (at.wrapping_sub(base) as isize).max(0) as usize;
        let tables = &mut *self.tables;
        let word = far(window, at);
        tables.set(place(at), word);
        tables.push(place(at), word);
        tables.push(place(at + 1), word >> 8);
        tables.set(place(at + 2), word >> 16);
        at += 4;
        while at < last {
            let word = far(window, at);
            tables.push(place(at), word);
            tables.set(place(at + 1), word >> 8);
            at += 3;
        }
        let word = far(window, last);
        tables.set(place(last), word);
        tables.push(place(last), word);
    }

    /// Looks for the next place that repeats something.
    #[inline(always)]
    fn search(&mut self, window: &[u8], cursor: &mut Cursor) -> Option<Found> {
        loop {
            let stop = cursor.limit.min(PLACES - SLACK);
            if let Some(found) = self.search_to(stop, cursor) {
                return Some(self.choose(window, cursor, &found));
            }
            if cursor.next > cursor.limit {
                return None;
            }
            self.slide_to(window, cursor);
        }
    }

    /// The same up to a place. Where nothing was found, the cursor stands before the last step.
    #[inline(always)]
    fn search_to(&mut self, stop: usize, cursor: &mut Cursor) -> Option<Candidates> {
        let tables = &mut *self.tables;
        let (mut at, mut word) = (cursor.at, cursor.word);
        loop {
            let next = at + 1 + (at.wrapping_sub(cursor.emitted) >> SKIP_SHIFT);
            let next_word = load(&tables.view, next);
            if next > stop {
                cursor.next = next;
                cursor.at = at;
                cursor.word = word;
                return None;
            }
            let low = at as u32 - REACH;
            let (pair, third) = tables.exchange(at, word);
            let first = tables.look(pair.first(), low, word);
            let second = tables.look(pair.second(), low, word);
            let third = tables.look(third, low, word);
            // The encoder looks at the older place only if the newer one is in reach.
            let second = Look { differs: second.differs | first.beyond, ..second };
            if third.differs == 0 || first.differs.min(second.differs) == 0 {
                cursor.next = next;
                let third = third.place;
                return Some(Candidates { at, next, next_word, first, second, third });
            }
            word = next_word;
            at = next;
        }
    }

    /// Of the candidates at one place the one that is taken.
    #[inline(always)]
    fn choose(&mut self, window: &[u8], cursor: &Cursor, candidates: &Candidates) -> Found {
        let &Candidates { at, next, next_word, first, second, third } = candidates;
        let from = if first.differs == 0 {
            first.place
        } else if second.differs == 0 {
            second.place
        } else {
            third
        };
        let from = usize::from(from);
        let length = 4 + self.common(window, cursor, at + 4, from + 4);
        let low = next as u32 - REACH;
        let (pair, _) = self.tables.exchange(next, next_word);
        let next_first = self.tables.look(pair.first(), low, next_word);
        let next_second = self.tables.look(pair.second(), low, next_word);
        let next_second_differs = next_second.differs | next_first.beyond;
        let best = Found { at, from, length };
        if first.differs == 0 {
            if second.differs != 0 {
                return best;
            }
            return self.longer(window, cursor, best, at, second.place).unwrap_or(best);
        }
        if second.differs == 0 || next_first.differs.min(next_second_differs) != 0 {
            return best;
        }
        if next_first.differs == 0
            && let Some(found) = self.longer(window, cursor, best, next, next_first.place)
        {
            return found;
        }
        if next_second_differs == 0 {
            return self.longer(window, cursor, best, next, next_second.place).unwrap_or(best);
        }
        best
    }

    /// Another candidate, if it repeats more.
    #[inline(always)]
    fn longer(
        &self,
        window: &[u8],
        cursor: &Cursor,
        than: Found,
        at: usize,
        from: u16,
    ) -> Option<Found> {
        let from = usize::from(from);
        let length = 4 + self.common(window, cursor, at + 4, from + 4);
        let longer = length.min(COMPARED_MAX) > than.length.min(COMPARED_MAX);
        longer.then_some(Found { at, from, length })
    }

    /// Prefers a longer repetition that reaches over the end of the one found, and grows it
    /// backwards.
    #[inline(always)]
    fn extend(&self, window: &[u8], cursor: &Cursor, found: Found) -> Found {
        let Found { mut at, mut from, mut length } = found;
        let view = &self.tables.view;
        let after = at + length;
        if length < GOOD_LENGTH && after < cursor.limit {
            let last = self.tables.last(load(view, after));
            // Where the repetition of `after` would begin, were it seen from `at + 2`.
            let distance = after.wrapping_sub(usize::from(last));
            let position = at.wrapping_add(self.base);
            let inside = position + 2 >= distance;
            let valid = inside & (distance.wrapping_sub(1) < REACH as usize - 1);
            // A longer repetition includes these four bytes; most often they are not equal.
            let there = after.wrapping_sub(1).wrapping_sub(distance);
            let differs = four(view, after - 1) ^ four(view, there);
            if valid && differs == 0 {
                let other = at + 2 - distance;
                let longer = self.common(window, cursor, at + 2, other);
                if longer > length {
                    (at, from, length) = (at + 2, other, longer);
                }
            }
        }
        let room = at.wrapping_sub(cursor.emitted);
        let byte = |at: usize| view[usize::from((at as u16).wrapping_sub(1))];
        let differs = u32::from(byte(at) ^ byte(from));
        if differs == 0 && room > 0 {
            let from_position = from.wrapping_add(self.base);
            let at_position = at.wrapping_add(self.base);
            let room = room.min(from_position);
            let before =
                window[..from_position].iter().rev().zip(window[..at_position].iter().rev());
            let equal = before.take(room).take_while(|(l, r)| l == r).count();
            (at, from, length) = (at.wrapping_sub(equal), from.wrapping_sub(equal), length + equal);
        }
        Found { at, from, length }
    }

    /// How many bytes at two places are equal, never past the window's end.
    #[inline(always)]
    fn common(&self, window: &[u8], cursor: &Cursor, at: usize, from: usize) -> usize {
        let difference = load(&self.tables.view, at) ^ load(&self.tables.view, from);
        if difference != 0 {
            return (difference.trailing_zeros() as usize / 8).min(cursor.end - at);
        }
        common_far(window, at.wrapping_add(self.base), from.wrapping_add(self.base))
    }
}

/// Eight bytes of the window, the first one lowest; zero past the end, where no search comes.
#[inline]
fn far(window: &[u8], at: usize) -> u64 {
    match window[at..].first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => 0,
    }
}

/// How many bytes at two positions are equal.
#[inline(never)]
fn common_far(window: &[u8], at: usize, from: usize) -> usize {
    let left = &window[at..];
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

#[cfg(test)]
mod simple;
#[cfg(test)]
mod tests;
