//! Chooses the kind of each deflate block and writes it: stored, fixed, dynamic, or literals only.
//!
//! Invariant: a table may stay open over several chunks; then the end-of-block code is owed and
//! written before anything else begins. The output depends on the calls since [`BlockWriter::start`].

use super::{
    Variant,
    bits::{Bits, DistanceCode, WriteTable},
    estimate,
    frequencies::{Frequencies, cost, covered},
    header::Header,
    huffman::{CODE_BITS_MAX, Code, generate},
    symbols::{
        DISTANCE_BASE, DISTANCE_EXTRA, DISTANCE_SYMBOLS, END_OF_BLOCK, LENGTH_BASE, LENGTH_CODE,
        LENGTH_EXTRA, LITERAL_SYMBOLS,
    },
    tokens::{Tokens, histogram},
};

/// Blocks with fewer tokens are tried with the fixed tables as well.
const FIXED_TOKENS_MAX: usize = 250;
/// Bytes of a stored block beside its content, as the encoder reckons.
const STORED_OVERHEAD: usize = 5;
/// Longer chunks are tested for even byte counts before they are coded as literals.
const EVENNESS_MIN: usize = 1024;
/// The reckoned size in bits of a table for literals only.
const LITERAL_TABLE_BITS: u64 = 70 * 8;
/// A table is given up for a new one only if that saves more than 1/128.
const SAVING_SHIFT: u32 = 7;
/// Bytes that any token can take (48 bits), and any header (19 * 3 + 316 * 14 bits and the rest).
const TOKEN_BYTES_MAX: usize = 6;
const HEADER_BYTES_MAX: usize = 1024;

/// Block type 1 and 0 behind the bit that says whether the block is the last one.
const FIXED: u64 = 0b010;
const STORED: u64 = 0b000;
const LAST: u64 = 0b001;

/// The tables of RFC 1951, section 3.2.6.
const FIXED_LITERALS: [Code; LITERAL_SYMBOLS] = {
    let mut codes = [Code::canonical(0, 0); LITERAL_SYMBOLS];
    let mut symbol = 0;
    while symbol < LITERAL_SYMBOLS {
        let n = symbol as u32;
        codes[symbol] = match n {
            0..144 => Code::canonical(n + 0x30, 8),
            144..256 => Code::canonical(n + 0x190 - 144, 9),
            256..280 => Code::canonical(n - 256, 7),
            _ => Code::canonical(n + 0xc0 - 280, 8),
        };
        symbol += 1;
    }
    codes
};
const FIXED_DISTANCES: [Code; DISTANCE_SYMBOLS] = {
    let mut codes = [Code::canonical(0, 0); DISTANCE_SYMBOLS];
    let mut symbol = 0;
    while symbol < DISTANCE_SYMBOLS {
        codes[symbol] = Code::canonical(symbol as u32, 5);
        symbol += 1;
    }
    codes
};
/// What a block without distances declares: one code of one bit.
const NO_DISTANCES: [Code; 1] = [Code::canonical(0, 1)];

/// A pair of tables.
#[derive(Clone, Debug)]
struct Tables {
    literals: [Code; LITERAL_SYMBOLS],
    distances: [Code; DISTANCE_SYMBOLS],
}

/// Writes the blocks of one stream.
#[derive(Debug)]
pub(super) struct BlockWriter {
    variant: Variant,
    bits: Bits,
    tables: Tables,
    /// The size of the open table's header in bits; 0 when no table is open.
    open: u64,
    /// The table was made for literals only.
    literals_only: bool,
}

impl BlockWriter {
    pub(super) fn new(variant: Variant) -> Self {
        let tables = Tables {
            literals: [Code::default(); LITERAL_SYMBOLS],
            distances: [Code::default(); DISTANCE_SYMBOLS],
        };
        Self { variant, bits: Bits::default(), tables, open: 0, literals_only: false }
    }

    /// Begins a stream in the buffer of an earlier one.
    pub(super) fn start(&mut self, buffer: Vec<u8>) {
        self.bits.start(buffer);
        self.open = 0;
        self.literals_only = false;
    }

    /// The stream, which must end at a byte.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.bits.finish()
    }

    /// A stored block; without input it is the mark of a flush.
    pub(super) fn stored(&mut self, input: &[u8]) {
        self.bits.reserve(input.len() + HEADER_BYTES_MAX);
        self.close();
        self.bits.write(STORED, 3);
        self.bits.align();
        let length = input.len() as u64;
        self.bits.write(length, 16);
        self.bits.write(length ^ 0xffff, 16);
        self.bits.bytes(input);
    }

    /// The empty last block.
    pub(super) fn last(&mut self) {
        self.bits.reserve(HEADER_BYTES_MAX);
        self.close();
        self.bits.write(FIXED | LAST, 3);
        self.bits.code(FIXED_LITERALS[END_OF_BLOCK]);
        self.bits.align();
    }

    /// The tokens of a chunk in whichever block is reckoned to be the smallest.
    pub(super) fn dynamic(&mut self, tokens: &mut Tokens, input: &[u8], sync: bool) {
        self.bits.reserve((tokens.count() + 1) * TOKEN_BYTES_MAX + HEADER_BYTES_MAX);
        if sync {
            tokens.end();
        }
        if self.literals_only && self.open > 0 {
            self.close();
            self.literals_only = false;
        }
        if self.open > 0 && !self.covers(tokens) {
            self.close();
        }
        let mut frequencies = Frequencies::of(tokens, self.variant, sync);
        let stored = stored_bits(input);
        let few = tokens.count() < FIXED_TOKENS_MAX;
        if self.open > 0 {
            let size = self.keep_or_close(tokens, &frequencies);
            if few && fixed_bits(&frequencies) + 7 < size {
                return self.stored_or_fixed(stored <= size, tokens, input, sync);
            }
            if stored <= size {
                return self.stored(input);
            }
        }
        if self.open == 0 {
            frequencies.literals[END_OF_BLOCK] = 1;
            let Tables { literals, distances } = &mut self.tables;
            generate(literals, &frequencies.literals, CODE_BITS_MAX);
            generate(distances, &frequencies.distances, CODE_BITS_MAX);
            let header = Header::new(
                &literals[..frequencies.literal_codes],
                &distances[..frequencies.distance_codes],
            );
            let size = header.size() + frequencies.cost(literals, distances);
            let fixed = fixed_bits(&frequencies);
            if few && fixed <= size {
                return self.stored_or_fixed(stored <= fixed, tokens, input, sync);
            }
            if stored <= size {
                return self.stored(input);
            }
            header.write(&mut self.bits);
            self.open = header.size();
            self.literals_only = false;
        }
        if sync {
            self.open = 0;
        }
        write_tokens(&mut self.bits, tokens, &self.tables);
    }

    /// Decides between the open table and a new one; the reckoned size of the block in bits.
    fn keep_or_close(&mut self, tokens: &Tokens, frequencies: &Frequencies) -> u64 {
        let fresh = self.open + estimate::bits(tokens);
        let end = u64::from(self.tables.literals[END_OF_BLOCK].length());
        let fresh = fresh + end + (fresh >> SAVING_SHIFT);
        let kept = frequencies.cost(&self.tables.literals, &self.tables.distances);
        if fresh < kept {
            self.close();
            return fresh;
        }
        kept
    }

    fn stored_or_fixed(&mut self, stored: bool, tokens: &mut Tokens, input: &[u8], sync: bool) {
        if stored {
            return self.stored(input);
        }
        self.close();
        self.bits.write(FIXED, 3);
        if !sync {
            tokens.end();
        }
        let fixed = Tables { literals: FIXED_LITERALS, distances: FIXED_DISTANCES };
        write_tokens(&mut self.bits, tokens, &fixed);
    }

    /// A block without repetitions, or stored bytes when they look random.
    pub(super) fn huffman_only(&mut self, input: &[u8], sync: bool) {
        let counted = histogram(input);
        let stored = stored_bits(input);
        if looks_random(&counted, input.len()) {
            return self.stored(input);
        }
        self.bits.reserve(input.len() * TOKEN_BYTES_MAX / 2 + HEADER_BYTES_MAX);
        let mut frequencies = [1; END_OF_BLOCK + 1];
        frequencies[..END_OF_BLOCK].copy_from_slice(&counted);
        let mut literals = [Code::default(); LITERAL_SYMBOLS];
        generate(&mut literals, &frequencies, CODE_BITS_MAX);
        let table = if self.open > 0 { self.open } else { LITERAL_TABLE_BITS };
        let fresh = cost(&frequencies, &literals) + table;
        let fresh = fresh + (fresh >> SAVING_SHIFT);
        if stored <= fresh {
            return self.stored(input);
        }
        if self.open > 0 {
            let open = &self.tables.literals;
            if !covered(&counted, open) || fresh < cost(&counted, open) {
                self.close();
            }
        }
        if self.open == 0 {
            self.tables.literals = literals;
            let header = Header::new(&literals[..=END_OF_BLOCK], &NO_DISTANCES);
            header.write(&mut self.bits);
            self.open = header.size();
            self.literals_only = true;
        }
        if let Some(codes) = self.tables.literals.first_chunk() {
            self.bits.literals(input, codes);
        }
        if sync {
            self.close();
            self.literals_only = false;
        }
    }

    /// Writes the owed end of block, if one is owed.
    fn close(&mut self) {
        if self.open > 0 {
            self.bits.code(self.tables.literals[END_OF_BLOCK]);
            self.open = 0;
        }
    }

    /// Does the open table have a code for every symbol of the tokens?
    fn covers(&self, tokens: &Tokens) -> bool {
        let (bytes, rest) = self.tables.literals.split_at(END_OF_BLOCK);
        covered(&tokens.distances, &self.tables.distances)
            && covered(&[tokens.ends], rest)
            && covered(&tokens.lengths, &rest[1..])
            && covered(&tokens.literals, bytes)
    }
}

fn write_tokens(bits: &mut Bits, tokens: &Tokens, tables: &Tables) {
    let mut lengths = [Code::default(); 256];
    for (length, code) in lengths.iter_mut().enumerate() {
        let symbol = usize::from(LENGTH_CODE[length]);
        let plain = tables.literals[END_OF_BLOCK + 1 + symbol];
        let extra = length as u32 - u32::from(LENGTH_BASE[symbol]);
        let count = u32::from(LENGTH_EXTRA[symbol]);
        *code = Code::new(plain.bits() as u32 | extra << plain.length(), plain.length() + count);
    }
    let mut distances = [DistanceCode::default(); DISTANCE_SYMBOLS + 2];
    for (symbol, &code) in tables.distances.iter().enumerate() {
        let (extra, base) = (u32::from(DISTANCE_EXTRA[symbol]), DISTANCE_BASE[symbol]);
        distances[symbol] = DistanceCode { code, extra, base };
    }
    if let Some(literals) = tables.literals.first_chunk() {
        let table = WriteTable { literals, lengths: &lengths, distances: &distances };
        bits.sequences(tokens.sequences(), tokens.buffer(), &table);
    }
    if tokens.ends > 0 {
        bits.code(tables.literals[END_OF_BLOCK]);
    }
}

fn stored_bits(input: &[u8]) -> u64 {
    (input.len() + STORED_OVERHEAD) as u64 * 8
}

fn fixed_bits(frequencies: &Frequencies) -> u64 {
    3 + frequencies.cost(&FIXED_LITERALS, &FIXED_DISTANCES)
}

/// Are the counts so even that a code cannot help? The sum of squares stays below two for a byte.
fn looks_random(frequencies: &[u32], length: usize) -> bool {
    if length <= EVENNESS_MIN {
        return false;
    }
    let average = length as f64 / 256.0;
    let limit = (length * 2) as f64;
    let squares: f64 = frequencies.iter().map(|&f| (f64::from(f) - average).powi(2)).sum();
    squares < limit
}
