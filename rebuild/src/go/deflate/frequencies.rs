//! The symbol counts that a block's tables are made from, and what the tokens cost with a table.
//!
//! Invariant: equal to the tokens' counts, but for the end of block and the trailing zeros, in
//! which the encoder's releases differ.

use super::{
    Variant,
    huffman::Code,
    symbols::{DISTANCE_EXTRA, DISTANCE_SYMBOLS, END_OF_BLOCK, LENGTH_EXTRA, LITERAL_SYMBOLS},
    tokens::Tokens,
};

/// Counts of one block.
#[derive(Debug)]
pub(super) struct Frequencies {
    /// Literals, end of block, lengths.
    pub(super) literals: [u32; LITERAL_SYMBOLS],
    /// Distances.
    pub(super) distances: [u32; DISTANCE_SYMBOLS],
    /// How many literal codes the header describes.
    pub(super) literal_codes: usize,
    /// How many distance codes the header describes.
    pub(super) distance_codes: usize,
    /// Bits beside the codes.
    pub(super) extra: u64,
}

impl Frequencies {
    /// The counts as the release takes them; `sync` when a flush follows the block.
    pub(super) fn of(tokens: &Tokens, variant: Variant, sync: bool) -> Self {
        let mut literals = [0; LITERAL_SYMBOLS];
        literals[..END_OF_BLOCK].copy_from_slice(&tokens.literals);
        literals[END_OF_BLOCK] = tokens.ends;
        literals[END_OF_BLOCK + 1..].copy_from_slice(&tokens.lengths);
        let mut distances = [0; DISTANCE_SYMBOLS];
        distances.copy_from_slice(&tokens.distances[..DISTANCE_SYMBOLS]);
        if variant == Variant::E3 {
            literals[END_OF_BLOCK] = 1;
        }
        let (mut literal_codes, mut distance_codes) = (LITERAL_SYMBOLS, DISTANCE_SYMBOLS);
        if sync || variant != Variant::E1 {
            literal_codes = without_zeros(&literals);
            distance_codes = without_zeros(&distances);
            if distance_codes == 0 {
                distances[0] = 1;
                distance_codes = 1;
            }
        }
        let extra =
            products(&tokens.lengths, &LENGTH_EXTRA) + products(&distances, &DISTANCE_EXTRA);
        Self { literals, distances, literal_codes, distance_codes, extra }
    }

    /// Bits of the tokens with these tables, extra bits included.
    pub(super) fn cost(&self, literals: &[Code], distances: &[Code]) -> u64 {
        cost(&self.literals, literals) + cost(&self.distances, distances) + self.extra
    }
}

/// Bits of the counted symbols; a symbol without code costs nothing.
pub(super) fn cost(frequencies: &[u32], codes: &[Code]) -> u64 {
    frequencies.iter().zip(codes).map(|(&f, code)| u64::from(f) * u64::from(code.length())).sum()
}

/// True when every counted symbol has a code.
pub(super) fn covered(frequencies: &[u32], codes: &[Code]) -> bool {
    frequencies.iter().zip(codes).all(|(&frequency, code)| frequency == 0 || code.exists())
}

fn products(frequencies: &[u32], bits: &[u8]) -> u64 {
    frequencies.iter().zip(bits).map(|(&f, &bits)| u64::from(f) * u64::from(bits)).sum()
}

fn without_zeros(frequencies: &[u32]) -> usize {
    frequencies.iter().rposition(|&frequency| frequency > 0).map_or(0, |last| last + 1)
}
