//! What the matcher found in one chunk: runs of literals, each followed by a repetition.
//!
//! Invariant: the sequences cover the chunk from its start without gaps, the literals lie one after
//! the other in their own buffer, and the counts are those of the sequences once
//! [`Tokens::rest`] was called.

use super::{
    CHUNK,
    symbols::{
        DISTANCE_SYMBOLS, LENGTH_CODE, LENGTH_MAX, LENGTH_MIN, LENGTH_SYMBOLS, distance_code,
    },
};

/// Short runs are copied in pieces of this many bytes, so that their length needs no branch.
const PIECE: usize = 16;

/// A run of literals and the repetition after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    /// How many literals come first.
    pub(super) literals: u32,
    /// The repetition, or [`Copy::NONE`].
    pub(super) copy: Copy,
}

/// A repetition in one word: bit 31 set, length - 3 in bits 20..28, distance code in bits 13..18,
/// the distance's extra bits in bits 0..13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy(u32);

impl Copy {
    /// No repetition: the end of the chunk.
    pub(super) const NONE: Self = Self(0);

    #[inline]
    fn new(length: usize, distance: u32) -> Self {
        let code = distance_code(distance);
        let extra = distance & !(u32::MAX << (code >> 1).saturating_sub(1));
        Self(1 << 31 | ((length - LENGTH_MIN) as u32) << 20 | code << 13 | extra)
    }

    /// Length minus 3.
    #[inline]
    pub(super) fn length(self) -> u8 {
        (self.0 >> 20) as u8
    }

    /// The distance code, below 32.
    #[inline]
    pub(super) fn code(self) -> usize {
        (self.0 >> 13 & 31) as usize
    }

    /// The distance's extra bits.
    #[inline]
    pub(super) fn extra(self) -> u64 {
        u64::from(self.0 & 0x1fff)
    }
}

/// The sequences of one chunk with their statistics.
#[derive(Debug)]
pub(super) struct Tokens {
    sequences: Vec<Sequence>,
    /// The rest was added.
    complete: bool,
    /// The literals, and room for a few more.
    buffer: Vec<u8>,
    /// How many of them count.
    filled: usize,
    /// How often each literal occurs.
    pub(super) literals: [u32; 256],
    /// How often each length code occurs.
    pub(super) lengths: [u32; LENGTH_SYMBOLS],
    /// How often each distance code occurs; the last two cannot occur.
    pub(super) distances: [u32; DISTANCE_SYMBOLS + 2],
    /// Ends of block: none or one.
    pub(super) ends: u32,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self {
            sequences: Vec::with_capacity(CHUNK / 4),
            complete: false,
            buffer: vec![0; CHUNK + PIECE],
            filled: 0,
            literals: [0; 256],
            lengths: [0; LENGTH_SYMBOLS],
            distances: [0; DISTANCE_SYMBOLS + 2],
            ends: 0,
        }
    }

    /// Forgets everything but the allocations.
    pub(super) fn clear(&mut self) {
        self.sequences.clear();
        self.complete = false;
        self.filled = 0;
        self.literals.fill(0);
        self.lengths.fill(0);
        self.distances.fill(0);
        self.ends = 0;
    }

    /// Literals, repetitions and the end of block together.
    pub(super) fn count(&self) -> usize {
        // The last sequence holds no repetition once the rest was added.
        let copies = self.sequences.len() - usize::from(self.complete);
        self.filled + copies + self.ends as usize
    }

    /// In the order of the chunk.
    pub(super) fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// The literals of all sequences.
    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Adds the literals `window[start..end]` and a repetition of any length, split so that no
    /// piece is shorter than three.
    #[inline]
    pub(super) fn copy(
        &mut self,
        window: &[u8],
        start: usize,
        end: usize,
        length: usize,
        distance: usize,
    ) {
        self.push_literals(window, start, end);
        let distance = (distance - 1) as u32 & 0x7fff;
        let literals = (end - start) as u32;
        if length <= LENGTH_MAX {
            self.push(Sequence { literals, copy: Copy::new(length, distance) });
        } else {
            self.push_long(literals, length, distance);
        }
    }

    /// Adds the literals at the end of the chunk and counts all literals.
    pub(super) fn rest(&mut self, window: &[u8], start: usize) {
        self.push_literals(window, start, window.len());
        let literals = (window.len() - start) as u32;
        self.sequences.push(Sequence { literals, copy: Copy::NONE });
        self.complete = true;
        self.literals = histogram(&self.buffer[..self.filled]);
    }

    /// Counts an end of block after the last sequence.
    pub(super) fn end(&mut self) {
        self.ends += 1;
    }

    #[inline]
    fn push(&mut self, sequence: Sequence) {
        let copy = sequence.copy;
        self.lengths[usize::from(LENGTH_CODE[usize::from(copy.length())])] += 1;
        self.distances[copy.code()] += 1;
        self.sequences.push(sequence);
    }

    #[cold]
    fn push_long(&mut self, mut literals: u32, length: usize, distance: u32) {
        let mut left = length;
        while left > 0 {
            let piece = match left {
                ..=LENGTH_MAX => left,
                259..=261 => LENGTH_MAX - LENGTH_MIN,
                _ => LENGTH_MAX,
            };
            left -= piece;
            self.push(Sequence { literals, copy: Copy::new(piece, distance) });
            literals = 0;
        }
    }

    #[inline]
    fn push_literals(&mut self, window: &[u8], start: usize, end: usize) {
        let length = end - start;
        let target = &mut self.buffer[self.filled..];
        self.filled += length;
        if length <= PIECE
            && let Some(source) = window[start..].first_chunk::<PIECE>()
            && let Some(target) = target.first_chunk_mut::<PIECE>()
        {
            *target = *source;
        } else {
            target[..length].copy_from_slice(&window[start..end]);
        }
    }
}

/// How often each byte occurs. Four tables, so that equal bytes in a row do not wait for each
/// other.
pub(super) fn histogram(input: &[u8]) -> [u32; 256] {
    let mut tables = [[0_u32; 256]; 4];
    let (quads, rest) = input.as_chunks::<4>();
    for quad in quads {
        for (table, &byte) in tables.iter_mut().zip(quad) {
            table[usize::from(byte)] += 1;
        }
    }
    for &byte in rest {
        tables[0][usize::from(byte)] += 1;
    }
    let [a, b, c, d] = tables;
    std::array::from_fn(|i| a[i] + b[i] + c[i] + d[i])
}
