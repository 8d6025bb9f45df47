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
pub(super) const PIECE: usize = 16;

/// A run of literals and the repetition after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    /// How many literals come first.
    pub(super) literals: u32,
    /// The repetition, or [`Copy::NONE`].
    pub(super) copy: Copy,
}

/// A repetition in one word: bit 31 set, length - 3 in bits 20..28, distance code in bits 15..20
/// (once [`Tokens::rest`] was called), distance - 1 in bits 0..15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy(u32);

impl Copy {
    /// No repetition: the end of the chunk.
    pub(super) const NONE: Self = Self(0);

    #[inline]
    fn new(length: usize, distance: u32) -> Self {
        Self(1 << 31 | ((length - LENGTH_MIN) as u32) << 20 | distance)
    }

    /// With its distance code.
    #[inline]
    fn coded(self) -> Self {
        Self(self.0 | distance_code(self.distance()) << 15)
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

    /// The distance minus 1.
    #[inline]
    pub(super) fn distance(self) -> u32 {
        self.0 & 0x7fff
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

    /// Adds the first `count` of some literals, the rest of which does no harm.
    #[inline(always)]
    pub(super) fn few(&mut self, literals: &[u8; PIECE], count: usize) {
        match self.buffer[self.filled..].first_chunk_mut() {
            Some(target) => *target = *literals,
            None => self.buffer[self.filled..][..count].copy_from_slice(&literals[..count]),
        }
        self.filled += count;
    }

    /// Adds literals.
    pub(super) fn many(&mut self, literals: &[u8]) {
        self.buffer[self.filled..][..literals.len()].copy_from_slice(literals);
        self.filled += literals.len();
    }

    /// Adds a repetition of any length behind the literals that were added just now, split so that
    /// no piece is shorter than three.
    #[inline(always)]
    pub(super) fn copy(&mut self, literals: usize, length: usize, distance: usize) {
        let literals = literals as u32;
        let distance = (distance - 1) as u32 & 0x7fff;
        if length <= LENGTH_MAX {
            self.sequences.push(Sequence { literals, copy: Copy::new(length, distance) });
        } else {
            self.push_long(literals, length, distance);
        }
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
            self.sequences.push(Sequence { literals, copy: Copy::new(piece, distance) });
            literals = 0;
        }
    }

    /// Adds the literals at the end of the chunk and counts everything.
    pub(super) fn rest(&mut self, literals: &[u8]) {
        self.many(literals);
        for sequence in &mut self.sequences {
            sequence.copy = sequence.copy.coded();
        }
        let mut lengths = [0; 256];
        for Sequence { copy, .. } in &self.sequences {
            lengths[usize::from(copy.length())] += 1;
            self.distances[copy.code()] += 1;
        }
        for (length, count) in lengths.iter().enumerate() {
            self.lengths[usize::from(LENGTH_CODE[length])] += count;
        }
        self.literals = histogram(&self.buffer[..self.filled]);
        self.sequences.push(Sequence { literals: literals.len() as u32, copy: Copy::NONE });
        self.complete = true;
    }

    /// Counts an end of block after the last sequence.
    pub(super) fn end(&mut self) {
        self.ends += 1;
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
