//! The header of a dynamic block: the code lengths, run-length coded (RFC 1951, section 3.2.7).
//!
//! Invariant: [`Header::size`] is the number of bits that [`Header::write`] writes.

use super::{
    bits::Bits,
    huffman::{Code, generate},
    symbols::{CODE_LENGTH_SYMBOLS, DISTANCE_SYMBOLS, LITERAL_SYMBOLS},
};

/// The order in which the lengths of the code-length code are written.
const ORDER: [usize; CODE_LENGTH_SYMBOLS] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The longest code of a code length.
const BITS_MAX: usize = 7;

/// Block type 2 behind the bit that says whether the block is the last one.
const DYNAMIC: u64 = 0b100;

/// The header of one block.
#[derive(Debug)]
pub(super) struct Header {
    literal_codes: usize,
    distance_codes: usize,
    /// Symbol and, for 16 to 18, the repeat count less its minimum.
    runs: [(u8, u8); LITERAL_SYMBOLS + DISTANCE_SYMBOLS],
    runs_length: usize,
    codes: [Code; CODE_LENGTH_SYMBOLS],
    /// How many of the code-length code's lengths are written.
    listed: usize,
    size: u64,
}

impl Header {
    /// The header for the first codes of each table.
    pub(super) fn new(literals: &[Code], distances: &[Code]) -> Self {
        let mut header = Self {
            literal_codes: literals.len(),
            distance_codes: distances.len(),
            runs: [(0, 0); LITERAL_SYMBOLS + DISTANCE_SYMBOLS],
            runs_length: 0,
            codes: [Code::default(); CODE_LENGTH_SYMBOLS],
            listed: 4,
            size: 0,
        };
        header.collect_runs(literals.iter().chain(distances).map(|code| code.length() as u8));
        let mut frequencies = [0; CODE_LENGTH_SYMBOLS];
        for &(symbol, _) in header.runs() {
            frequencies[usize::from(symbol)] += 1;
        }
        generate(&mut header.codes, &frequencies, BITS_MAX);
        let used = ORDER.iter().rposition(|&symbol| frequencies[symbol] > 0);
        header.listed = used.map_or(0, |last| last + 1).max(4);
        header.size = 3 + 5 + 5 + 4 + 3 * header.listed as u64;
        for (symbol, &frequency) in frequencies.iter().enumerate() {
            let bits = header.codes[symbol].length() + repeat_bits(symbol as u8);
            header.size += u64::from(frequency) * u64::from(bits);
        }
        header
    }

    /// Bits of the header.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Writes the header of a block that is not the last.
    pub(super) fn write(&self, bits: &mut Bits) {
        bits.write(DYNAMIC, 3);
        bits.write(self.literal_codes as u64 - 257, 5);
        bits.write(self.distance_codes as u64 - 1, 5);
        bits.write(self.listed as u64 - 4, 4);
        for &symbol in &ORDER[..self.listed] {
            bits.write(u64::from(self.codes[symbol].length()), 3);
        }
        for &(symbol, repeat) in self.runs() {
            bits.code(self.codes[usize::from(symbol)]);
            bits.write(u64::from(repeat), repeat_bits(symbol));
        }
    }

    fn runs(&self) -> &[(u8, u8)] {
        &self.runs[..self.runs_length]
    }

    /// Runs cross from the literals into the distances, as the format allows.
    fn collect_runs(&mut self, lengths: impl Iterator<Item = u8>) {
        let mut lengths = lengths.peekable();
        while let Some(length) = lengths.next() {
            let mut count = 1;
            while lengths.next_if_eq(&length).is_some() {
                count += 1;
            }
            self.run(length, count);
        }
    }

    fn run(&mut self, length: u8, mut count: usize) {
        if length > 0 {
            self.push(length, 0);
            count -= 1;
            while count >= 3 {
                let piece = count.min(6);
                self.push(16, piece - 3);
                count -= piece;
            }
        } else {
            while count >= 11 {
                let piece = count.min(138);
                self.push(18, piece - 11);
                count -= piece;
            }
            if count >= 3 {
                self.push(17, count - 3);
                count = 0;
            }
        }
        for _ in 0..count {
            self.push(length, 0);
        }
    }

    fn push(&mut self, symbol: u8, repeat: usize) {
        self.runs[self.runs_length] = (symbol, repeat as u8);
        self.runs_length += 1;
    }
}

/// Bits of the repeat count after a symbol.
fn repeat_bits(symbol: u8) -> u32 {
    match symbol {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}
