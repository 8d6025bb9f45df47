//! The matcher in its simplest form: absolute positions, one comparison after the other.
//!
//! Invariant: written from the description of the algorithm, not from [`super::Matcher`], with
//! which it shares nothing; the tests hold each against the other.

/// Literals, and the length and the distance of the repetition after them; 0 and 0 at the end.
pub(super) type Token = (usize, usize, usize);

const REACH: i64 = 32_768;

pub(super) struct Simple {
    short: Vec<i64>,
    long: Vec<[i64; 2]>,
}

impl Simple {
    pub(super) fn new() -> Self {
        Self { short: vec![-REACH; 1 << 15], long: vec![[-REACH; 2]; 1 << 15] }
    }

    fn store_long(&mut self, at: usize, word: u64) {
        let slot = &mut self.long[hash_7(word)];
        *slot = [at as i64, slot[0]];
    }

    fn store_short(&mut self, at: usize, word: u64) {
        self.short[hash_4(word)] = at as i64;
    }

    pub(super) fn run(&mut self, window: &[u8], start: usize) -> Vec<Token> {
        let mut tokens = Vec::new();
        if window.len() - start < 13 {
            return tokens;
        }
        let limit = window.len() - 11;
        let (mut at, mut emitted) = (start, start);
        let mut word = load(window, at);
        while let Some((found, next)) = self.search(window, at, emitted, limit, word) {
            let (mut from, mut to, mut length) = self.reach_over(window, limit, found);
            while from > 0 && to > emitted && window[from - 1] == window[to - 1] {
                (from, to, length) = (from - 1, to - 1, length + 1);
            }
            push(&mut tokens, to - emitted, length, to - from);
            at = to + length;
            emitted = at;
            if next >= at {
                at = next + 1;
            }
            if at >= limit {
                break;
            }
            let mut inside = at - length + 1;
            if inside < at - 1 {
                let word = load(window, inside);
                self.store_short(inside, word);
                self.store_long(inside, word);
                self.store_long(inside + 1, word >> 8);
                self.store_short(inside + 2, word >> 16);
                inside += 4;
                while inside < at - 1 {
                    let word = load(window, inside);
                    self.store_long(inside, word);
                    self.store_short(inside + 1, word >> 8);
                    inside += 3;
                }
            }
            let before = load(window, at - 1);
            self.store_short(at - 1, before);
            self.store_long(at - 1, before);
            word = before >> 8;
        }
        if !tokens.is_empty() {
            tokens.push((window.len() - emitted, 0, 0));
        }
        tokens
    }

    /// Where the repetition comes from, where it stands and its length; the position after.
    fn search(
        &mut self,
        window: &[u8],
        mut at: usize,
        emitted: usize,
        limit: usize,
        mut word: u64,
    ) -> Option<((usize, usize, usize), usize)> {
        loop {
            let next = at + 1 + ((at - emitted) >> 6);
            if next > limit {
                return None;
            }
            let third = self.short[hash_4(word)];
            let [first, second] = self.long[hash_7(word)];
            let next_word = load(window, next);
            self.store_short(at, word);
            self.store_long(at, word);
            let near = |candidate: i64, at: usize| at as i64 - candidate < REACH;
            let equal = |candidate: i64, at: usize| {
                near(candidate, at) && window[candidate as usize..][..4] == window[at..][..4]
            };
            let capped =
                |candidate: i64, at: usize| common(window, candidate as usize, at).min(258);
            if near(first, at) {
                let one = equal(first, at);
                let two = equal(second, at);
                if one || two {
                    self.store_short(next, next_word);
                    self.store_long(next, next_word);
                    let from = match (one, two) {
                        (true, true) if capped(second, at) > capped(first, at) => second,
                        (true, _) => first,
                        _ => second,
                    };
                    let from = from as usize;
                    return Some(((from, at, common(window, from, at)), next));
                }
            }
            if equal(third, at) {
                let [first, second] = self.long[hash_7(next_word)];
                self.store_short(next, next_word);
                self.store_long(next, next_word);
                let length = capped(third, at);
                let (mut from, mut to) = (third, at);
                if near(first, next) {
                    let better = |c: i64| equal(c, next) && capped(c, next) > length;
                    if let Some(candidate) = [first, second].into_iter().find(|c| better(*c)) {
                        (from, to) = (candidate, next);
                    }
                }
                let from = from as usize;
                return Some(((from, to, common(window, from, to)), next));
            }
            (at, word) = (next, next_word);
        }
    }

    fn reach_over(
        &self,
        window: &[u8],
        limit: usize,
        (from, at, length): (usize, usize, usize),
    ) -> (usize, usize, usize) {
        if length < 30 && at + length < limit {
            let end = self.long[hash_7(load(window, at + length))][0];
            let other = end - length as i64 + 2;
            let distance = (at + 2) as i64 - other;
            if other >= 0 && distance > 0 && distance < REACH {
                let longer = common(window, other as usize, at + 2);
                if longer > length {
                    return (other as usize, at + 2, longer);
                }
            }
        }
        (from, at, length)
    }
}

fn push(tokens: &mut Vec<Token>, mut literals: usize, mut length: usize, distance: usize) {
    while length > 0 {
        let piece = match length {
            262.. => 258,
            259..=261 => 255,
            _ => length,
        };
        tokens.push((literals, piece, distance));
        literals = 0;
        length -= piece;
    }
}

fn common(window: &[u8], from: usize, at: usize) -> usize {
    window[at..].iter().zip(&window[from..]).take_while(|(l, r)| l == r).count()
}

fn load(window: &[u8], at: usize) -> u64 {
    window[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn hash_4(word: u64) -> usize {
    ((word as u32).wrapping_mul(2_654_435_761) >> 17) as usize
}

fn hash_7(word: u64) -> usize {
    ((word << 8).wrapping_mul(58_295_818_150_454_627) >> 49) as usize
}
