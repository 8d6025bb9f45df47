//! What the matcher looks at: two hash tables and the part of the window that they can reach.
//!
//! Invariant: an entry of the tables is a place of the view, or 0 for what was never entered or is
//! out of reach for good. Every place fits in 16 bits and every load from one is inside the view,
//! so that nothing here can fail.

/// Entries of each table: 2^15.
const ENTRIES: usize = 1 << 15;
/// A repetition must be nearer than this: deflate's greatest distance, less one.
pub(super) const REACH: u32 = 32_768;
/// Places of the view: 2^16.
pub(super) const PLACES: usize = 1 << 16;
/// The first place that is searched: one that reaches no empty entry.
pub(super) const FIRST: usize = REACH as usize;
/// How far behind the place searched an entry is made or looked at, at most.
pub(super) const SLACK: usize = 2048;
/// How far the view slides: a place `PLACES - 2 * SLACK` becomes [`FIRST`].
const SLIDE: usize = PLACES - 2 * SLACK - FIRST;
/// Bytes that can be loaded at the last place.
const LOADED: usize = 8;

/// The view: some bytes for each place, and those that a load at the last one needs.
pub(super) type View = [u8; PLACES + LOADED];

/// Multipliers of the hashes: any change of them changes every layer.
const PRIME_4: u32 = 2_654_435_761;
const PRIME_7: u64 = 58_295_818_150_454_627;

/// Two places in one word, the later one below.
#[derive(Clone, Copy)]
pub(super) struct Pair(u32);

impl Pair {
    #[inline(always)]
    pub(super) fn first(self) -> u16 {
        self.0 as u16
    }

    #[inline(always)]
    pub(super) fn second(self) -> u16 {
        (self.0 >> 16) as u16
    }

    #[inline(always)]
    fn push(self, at: usize) -> Self {
        Self(self.0 << 16 | u32::from(at as u16))
    }

    fn map(self, f: impl Fn(u16) -> u16) -> Self {
        Self(u32::from(f(self.second())) << 16 | u32::from(f(self.first())))
    }
}

/// All in one, so that one pointer leads to everything.
pub(super) struct Tables {
    /// By the hash of seven bytes: the last place, and the one before it.
    long: [Pair; ENTRIES],
    /// By the hash of four bytes: the last place.
    short: [u16; ENTRIES],
    /// A part of the window.
    pub(super) view: View,
}

/// A candidate that was looked at, in numbers instead of truths: those would become branches, of
/// which half go wrong.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) place: u16,
    /// 0 if it is in reach.
    pub(super) beyond: u32,
    /// 0 if it is in reach, and its first four bytes are those looked for.
    pub(super) differs: u32,
}

impl Tables {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self { long: [Pair(0); ENTRIES], short: [0; ENTRIES], view: [0; PLACES + LOADED] })
    }

    /// Forgets all places.
    pub(super) fn clear(&mut self) {
        self.long.fill(Pair(0));
        self.short.fill(0);
    }

    /// Slides the view, and says how far; its end must be filled anew.
    pub(super) fn slide(&mut self) -> usize {
        self.view.copy_within(SLIDE.., 0);
        for place in &mut self.short {
            *place = place.saturating_sub(SLIDE as u16);
        }
        for pair in &mut self.long {
            *pair = pair.map(|place| place.saturating_sub(SLIDE as u16));
        }
        SLIDE
    }

    /// Enters a place in both tables; what was there.
    #[inline(always)]
    pub(super) fn exchange(&mut self, at: usize, word: u64) -> (Pair, u16) {
        let slot = &mut self.short[slot_4(word)];
        let before = *slot;
        *slot = at as u16;
        (self.push(at, word), before)
    }

    /// Enters a place by seven bytes; what was there.
    #[inline(always)]
    pub(super) fn push(&mut self, at: usize, word: u64) -> Pair {
        let slot = &mut self.long[slot_7(word)];
        let before = *slot;
        *slot = before.push(at);
        before
    }

    /// Enters a place by four bytes.
    #[inline(always)]
    pub(super) fn set(&mut self, at: usize, word: u64) {
        self.short[slot_4(word)] = at as u16;
    }

    /// The last place by seven bytes.
    #[inline(always)]
    pub(super) fn last(&self, word: u64) -> u16 {
        self.long[slot_7(word)].first()
    }

    /// Looks at a candidate, which is in reach if it is above `low`.
    #[inline(always)]
    pub(super) fn look(&self, place: u16, low: u32, word: u64) -> Look {
        let beyond = !((low as i32 - i32::from(place)) >> 31) as u32;
        let differs = beyond | (four(&self.view, usize::from(place)) ^ word as u32);
        Look { place, beyond, differs }
    }

    /// Enters some of the places between `start` and `end`.
    #[inline(always)]
    pub(super) fn index(&mut self, start: usize, end: usize) {
        let last = end - 1;
        let mut at = start + 1;
        if at < last {
            let word = load(&self.view, at);
            self.set(at, word);
            self.push(at, word);
            self.push(at + 1, word >> 8);
            self.set(at + 2, word >> 16);
            at += 4;
            while at < last {
                let word = load(&self.view, at);
                self.push(at, word);
                self.set(at + 1, word >> 8);
                at += 3;
            }
        }
        let word = load(&self.view, last);
        self.set(last, word);
        self.push(last, word);
    }
}

/// Four bytes, the first one lowest.
#[inline(always)]
pub(super) fn four(view: &View, at: usize) -> u32 {
    let at = usize::from(at as u16);
    match view[at..].first_chunk() {
        Some(bytes) => u32::from_le_bytes(*bytes),
        None => 0,
    }
}

/// Eight bytes, the first one lowest.
#[inline(always)]
pub(super) fn load(view: &View, at: usize) -> u64 {
    let at = usize::from(at as u16);
    match view[at..].first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => 0,
    }
}

#[inline(always)]
fn slot_4(word: u64) -> usize {
    ((word as u32).wrapping_mul(PRIME_4) >> 17) as usize
}

#[inline(always)]
fn slot_7(word: u64) -> usize {
    ((word << 8).wrapping_mul(PRIME_7) >> 49) as usize
}
