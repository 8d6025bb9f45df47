//! Bits into bytes, lowest bit first (RFC 1951, section 3.1.1).
//!
//! Invariant: fewer than 8 bits wait between two calls. Room is made before a block is written, so
//! the inner loops store eight bytes at a time without growing anything.

use std::hint::select_unpredictable;

use super::{huffman::Code, symbols::DISTANCE_SYMBOLS, tokens::Sequence};

/// The most bits that one call may add: 64 less the 7 that may wait.
const BITS_MAX: u32 = 57;

/// Literals written between two flushes: three codes of 15 bits and the 7 that may wait are 52 bits.
const RUN_STEP: usize = 3;

/// Bytes written past the last one that counts.
const SLACK: usize = 8;

/// A buffer with a bit position.
#[derive(Debug, Default)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    /// Whole bytes written.
    at: usize,
    /// Bits that wait, lowest first.
    waiting: u64,
    /// How many.
    count: u32,
}

/// The codes of a block in the shape that the inner loop wants.
#[derive(Debug)]
pub(super) struct WriteTable<'a> {
    /// For every byte its code.
    pub(super) literals: &'a [Code; 256],
    /// For every length minus 3 its code with the extra bits above it.
    pub(super) lengths: &'a [Code; 256],
    /// For every distance code its code; two more, so that five bits are always inside.
    pub(super) distances: &'a [DistanceCode; DISTANCE_SYMBOLS + 2],
}

/// The code of a distance, how many extra bits follow it, and the distance of which they are zero.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DistanceCode {
    pub(super) code: Code,
    pub(super) extra: u32,
    pub(super) base: u32,
}

impl Bits {
    /// Begins at bit 0 with the buffer of an earlier output.
    pub(super) fn start(&mut self, bytes: Vec<u8>) {
        *self = Self { bytes, at: 0, waiting: 0, count: 0 };
    }

    /// The whole bytes written.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        debug_assert_eq!(self.count, 0);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.truncate(self.at);
        bytes
    }

    /// Makes room for this many bytes.
    pub(super) fn reserve(&mut self, bytes: usize) {
        let needed = self.at + bytes + SLACK;
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
    }

    /// Adds the lowest `count` bits of `value`, whose other bits are zero.
    pub(super) fn write(&mut self, value: u64, count: u32) {
        debug_assert!(count <= BITS_MAX && value >> count == 0);
        self.waiting |= value << self.count;
        self.count += count;
        self.flush();
    }

    /// Adds a code.
    pub(super) fn code(&mut self, code: Code) {
        self.write(code.bits(), code.length());
    }

    /// Fills the last byte with zeros.
    pub(super) fn align(&mut self) {
        self.count = self.count.next_multiple_of(8);
        self.flush();
    }

    /// Copies whole bytes; the position must be at a byte.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.count, 0);
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Adds the codes of literals.
    pub(super) fn literals(&mut self, literals: &[u8], codes: &[Code; 256]) {
        let mut end = self.end();
        let (triples, rest) = literals.as_chunks::<RUN_STEP>();
        for triple in triples {
            for &literal in triple {
                end.add(codes[usize::from(literal)]);
            }
            end.flush();
        }
        for &literal in rest {
            end.add(codes[usize::from(literal)]);
        }
        end.flush();
        (self.at, self.waiting, self.count) = (end.at, end.waiting, end.count);
    }

    /// Adds the sequences of a chunk, whose literals lie in `literals` with some slack behind.
    pub(super) fn sequences(
        &mut self,
        sequences: &[Sequence],
        literals: &[u8],
        table: &WriteTable<'_>,
    ) {
        let mut end = self.end();
        let mut from = 0;
        for sequence in sequences {
            let mut left = sequence.literals as usize;
            // Always three, of which those beyond the run add no bits: runs are short, and their
            // lengths cannot be predicted.
            while let Some(three) = literals[from..].first_chunk::<RUN_STEP>() {
                end.add_up_to(left, three.map(|literal| table.literals[usize::from(literal)]));
                end.flush();
                if left <= RUN_STEP {
                    from += left;
                    break;
                }
                left -= RUN_STEP;
                from += RUN_STEP;
            }
            let copy = sequence.copy;
            if copy == super::tokens::Copy::NONE {
                continue;
            }
            // A length takes 15 + 5 bits, a distance 15 + 13: 55 bits with the 7 that may wait.
            end.add(table.lengths[usize::from(copy.length())]);
            let distance = table.distances[copy.code()];
            end.add(distance.code);
            end.waiting |= u64::from(copy.distance() - distance.base) << end.count;
            end.count += distance.extra;
            end.flush();
        }
        (self.at, self.waiting, self.count) = (end.at, end.waiting, end.count);
    }

    fn end(&mut self) -> End<'_> {
        let &mut Self { ref mut bytes, at, waiting, count } = self;
        End { bytes, at, waiting, count }
    }

    fn flush(&mut self) {
        let mut end = self.end();
        end.flush();
        (self.at, self.waiting, self.count) = (end.at, end.waiting, end.count);
    }
}

/// The end of the output as a value of its own, which an inner loop can keep in registers.
struct End<'a> {
    bytes: &'a mut [u8],
    at: usize,
    waiting: u64,
    count: u32,
}

impl End<'_> {
    #[inline]
    fn add(&mut self, code: Code) {
        self.waiting |= code.bits() << self.count;
        self.count += code.length();
    }

    /// Adds as many of the codes, without a branch.
    #[inline]
    fn add_up_to(&mut self, count: usize, [a, b, c]: [Code; RUN_STEP]) {
        let two = a.length() + b.length();
        let bits = a.bits() | b.bits() << a.length() | c.bits() << two;
        let length = if count == 0 { 0 } else { a.length() };
        let length = select_unpredictable(count >= 2, two, length);
        let length = select_unpredictable(count >= 3, two + c.length(), length);
        self.waiting |= (bits & ((1 << length) - 1)) << self.count;
        self.count += length;
    }

    /// Stores whole bytes and keeps the bits after them.
    #[inline]
    fn flush(&mut self) {
        self.bytes[self.at..self.at + SLACK].copy_from_slice(&self.waiting.to_le_bytes());
        self.at += (self.count / 8) as usize;
        self.waiting >>= self.count & !7;
        self.count &= 7;
    }
}
