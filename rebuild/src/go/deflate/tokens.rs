//! What the matcher found in one chunk: runs of literals, each followed by a repetition.
//!
//! Invariant: the sequences cover the chunk from its start without gaps, and the counts are those
//! of the sequences. Literals are not copied: a run is its length, the bytes stay in the chunk.

use super::symbols::{
    DISTANCE_SYMBOLS, LENGTH_CODE, LENGTH_MAX, LENGTH_MIN, LENGTH_SYMBOLS, distance_code,
};

/// A run of literals and the repetition after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    /// How many literals come first.
    pub(super) literals: u32,
    /// The repetition, or [`Copy::NONE`].
    pub(super) copy: Copy,
}

/// A repetition in one word: bit 31 set, length - 3 in bits 20..28, distance code in bits 15..20,
/// distance - 1 in bits 0..15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy(u32);

impl Copy {
    /// No repetition: the end of the chunk.
    pub(super) const NONE: Self = Self(0);

    #[inline]
    fn new(length: usize, distance: u32, code: u32) -> Self {
        Self(1 << 31 | ((length - LENGTH_MIN) as u32) << 20 | code << 15 | distance)
    }

    /// Length minus 3.
    #[inline]
    pub(super) fn length(self) -> u8 {
        (self.0 >> 20) as u8
    }

    /// The distance code, below 32.
    #[inline]
    pub(super) fn code(self) -> usize {
        (self.0 >> 15 & 31) as usize
    }

    /// Distance minus 1.
    #[inline]
    pub(super) fn distance(self) -> u16 {
        (self.0 & 0x7fff) as u16
    }
}

/// The sequences of one chunk with their statistics.
#[derive(Debug)]
pub(super) struct Tokens {
    sequences: Vec<Sequence>,
    /// How often each literal occurs.
    pub(super) literals: [u32; 256],
    /// How often each length code occurs.
    pub(super) lengths: [u32; LENGTH_SYMBOLS],
    /// How often each distance code occurs; the last two cannot occur.
    pub(super) distances: [u32; DISTANCE_SYMBOLS + 2],
    /// Ends of block: none or one.
    pub(super) ends: u32,
    count: usize,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self {
            sequences: Vec::new(),
            literals: [0; 256],
            lengths: [0; LENGTH_SYMBOLS],
            distances: [0; DISTANCE_SYMBOLS + 2],
            ends: 0,
            count: 0,
        }
    }

    /// Forgets everything but the allocation.
    pub(super) fn clear(&mut self) {
        self.sequences.clear();
        self.literals.fill(0);
        self.lengths.fill(0);
        self.distances.fill(0);
        self.ends = 0;
        self.count = 0;
    }

    /// Literals, repetitions and the end of block together.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// In the order of the chunk.
    pub(super) fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// Adds literals and a repetition of any length, split so that no piece is shorter than three.
    #[inline]
    pub(super) fn copy(&mut self, literals: &[u8], length: usize, distance: usize) {
        self.count_literals(literals);
        let distance = (distance - 1) as u32 & 0x7fff;
        let code = distance_code(distance);
        let mut run = literals.len() as u32;
        let mut left = length;
        while left > 0 {
            let piece = match left {
                ..=LENGTH_MAX => left,
                259..=261 => LENGTH_MAX - LENGTH_MIN,
                _ => LENGTH_MAX,
            };
            left -= piece;
            let copy = Copy::new(piece, distance, code);
            self.lengths[usize::from(LENGTH_CODE[usize::from(copy.length())])] += 1;
            self.distances[copy.code()] += 1;
            self.sequences.push(Sequence { literals: run, copy });
            self.count += 1;
            run = 0;
        }
    }

    /// Adds the literals at the end of the chunk.
    pub(super) fn rest(&mut self, literals: &[u8]) {
        self.count_literals(literals);
        let run = literals.len() as u32;
        self.sequences.push(Sequence { literals: run, copy: Copy::NONE });
    }

    /// Counts an end of block after the last sequence.
    pub(super) fn end(&mut self) {
        self.ends += 1;
        self.count += 1;
    }

    #[inline]
    fn count_literals(&mut self, literals: &[u8]) {
        for &literal in literals {
            self.literals[usize::from(literal)] += 1;
        }
        self.count += literals.len();
    }
}
