//! Length-limited canonical Huffman codes (RFC 1951, section 3.2.2) with Go's choice among the
//! optimal ones.
//!
//! Invariant: where a package and a symbol weigh the same, the package is taken first; that alone
//! decides which of several optimal codes results. Two symbols or fewer get one bit each.

use super::symbols::LITERAL_SYMBOLS;

/// Deflate's longest code.
pub(super) const CODE_BITS_MAX: usize = 15;

/// A code in writing order: its bits below bit 24, its length above; length 0 means no code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Code(u32);

impl Code {
    /// Bits (lowest first) and their number.
    #[inline]
    pub(super) const fn new(bits: u32, length: u32) -> Self {
        Self(bits | length << 24)
    }

    /// A canonical code number, whose highest bit is written first.
    pub(super) const fn canonical(number: u32, length: u32) -> Self {
        if length == 0 {
            return Self::new(0, 0);
        }
        Self::new(number.reverse_bits() >> (32 - length), length)
    }

    #[inline]
    pub(super) const fn bits(self) -> u64 {
        (self.0 & 0xff_ffff) as u64
    }

    #[inline]
    pub(super) const fn length(self) -> u32 {
        self.0 >> 24
    }

    /// False when the symbol has no code.
    #[inline]
    pub(super) const fn exists(self) -> bool {
        self.0 != 0
    }
}

/// Gives every symbol with a frequency a code of at most `bits_max` bits; the others lose theirs.
pub(super) fn generate(codes: &mut [Code], frequencies: &[u32], bits_max: usize) {
    debug_assert!(frequencies.len() <= codes.len() && codes.len() <= LITERAL_SYMBOLS);
    codes.fill(Code::default());
    let mut symbols = [0_u64; LITERAL_SYMBOLS];
    let mut used = 0;
    for (symbol, &frequency) in frequencies.iter().enumerate() {
        if frequency > 0 {
            symbols[used] = u64::from(frequency) << 16 | symbol as u64;
            used += 1;
        }
    }
    let symbols = &mut symbols[..used];
    if symbols.len() <= 2 {
        for (number, &symbol) in symbols.iter().enumerate() {
            codes[symbol as u16 as usize] = Code::canonical(number as u32, 1);
        }
        return;
    }
    symbols.sort_unstable();
    let mut weights = [0_u32; LITERAL_SYMBOLS];
    for (weight, &symbol) in weights.iter_mut().zip(symbols.iter()) {
        *weight = (symbol >> 16) as u32;
    }
    let lengths = length_counts(&weights[..used], bits_max);
    assign(codes, symbols, &lengths);
}

/// Canonical numbers by length and symbol; the most frequent symbols (the last) get the shortest.
fn assign(codes: &mut [Code], symbols: &[u64], lengths: &[u32; CODE_BITS_MAX + 1]) {
    let mut of_symbol = [0_u8; LITERAL_SYMBOLS];
    let mut first = [0_u32; CODE_BITS_MAX + 2];
    let mut end = symbols.len();
    let mut number = 0;
    for length in 1..=CODE_BITS_MAX {
        number <<= 1;
        first[length] = number;
        number += lengths[length];
        let start = end - lengths[length] as usize;
        for &symbol in &symbols[start..end] {
            of_symbol[symbol as u16 as usize] = length as u8;
        }
        end = start;
    }
    for (code, &length) in codes.iter_mut().zip(&of_symbol) {
        if length > 0 {
            let next = &mut first[usize::from(length)];
            *code = Code::canonical(*next, u32::from(length));
            *next += 1;
        }
    }
}

/// How many codes have each length. At least three weights, ascending.
fn length_counts(weights: &[u32], bits_max: usize) -> [u32; CODE_BITS_MAX + 1] {
    unlimited(weights, bits_max).unwrap_or_else(|| limited(weights, bits_max))
}

/// Nodes of the largest tree, without its root: 2 * 286 - 2.
const NODES_MAX: usize = 2 * LITERAL_SYMBOLS - 2;

/// Huffman's algorithm; nothing when a code would be too long. Where that does not happen,
/// [`limited`] has the same result: both pair off the same merged list.
fn unlimited(weights: &[u32], bits_max: usize) -> Option<[u32; CODE_BITS_MAX + 1]> {
    let symbols = weights.len();
    let pairs = symbols - 1;
    // The merged list of symbols and pairs: its 2n-2 members are the nodes below the root. Only
    // their parents matter: member i has pair i / 2 as parent.
    let mut pair_weight = [u32::MAX; LITERAL_SYMBOLS];
    let mut pair_place = [0_u16; LITERAL_SYMBOLS];
    let mut symbol_place = [0_u16; LITERAL_SYMBOLS];
    let (mut symbol, mut pair) = (0, 0);
    let mut half = 0;
    for place in 0..2 * pairs {
        let leaf = weights.get(symbol).copied().unwrap_or(u32::MAX);
        let weight = if pair_weight[pair] <= leaf && pair < place / 2 {
            pair_place[pair] = place as u16;
            pair += 1;
            pair_weight[pair - 1]
        } else {
            symbol_place[symbol] = place as u16;
            symbol += 1;
            leaf
        };
        if place % 2 == 0 {
            half = weight;
        } else {
            pair_weight[place / 2] = half + weight;
        }
    }
    // Depths from the root, which is the last pair, downwards.
    let mut depth = [0_u8; LITERAL_SYMBOLS];
    for pair in (0..pairs - 1).rev() {
        depth[pair] = depth[usize::from(pair_place[pair] / 2)] + 1;
    }
    let mut counts = [0; CODE_BITS_MAX + 1];
    for &place in &symbol_place[..symbols] {
        let length = usize::from(depth[usize::from(place / 2)]) + 1;
        if length > bits_max {
            return None;
        }
        counts[length] += 1;
    }
    Some(counts)
}

/// The package-merge algorithm: one list for every code length, each the merge of the symbols with
/// the pairs of the list before it.
fn limited(weights: &[u32], bits_max: usize) -> [u32; CODE_BITS_MAX + 1] {
    const WORDS: usize = NODES_MAX.div_ceil(64);
    let wanted = 2 * weights.len() - 2;
    let levels = bits_max.min(weights.len() - 1);
    let mut is_symbol = [[0_u64; WORDS]; CODE_BITS_MAX];
    let mut before = [0_u32; NODES_MAX];
    let mut before_length = 0;
    for marks in &mut is_symbol[..levels] {
        let mut merged = [0_u32; NODES_MAX];
        let (mut symbol, mut pair) = (0, 0);
        let length = wanted.min(weights.len() + before_length / 2);
        for (place, weight) in merged[..length].iter_mut().enumerate() {
            let two = before.get(2 * pair..2 * pair + 2).filter(|_| pair < before_length / 2);
            let package = two.map(|two| two[0] + two[1]);
            match (package, weights.get(symbol)) {
                (Some(package), Some(&leaf)) if leaf < package => *weight = leaf,
                (Some(package), _) => {
                    *weight = package;
                    pair += 1;
                    continue;
                }
                (None, Some(&leaf)) => *weight = leaf,
                (None, None) => break,
            }
            marks[place / 64] |= 1 << (place % 64);
            symbol += 1;
        }
        (before, before_length) = (merged, length);
    }
    let mut counts = [0; CODE_BITS_MAX + 1];
    let mut members = wanted;
    let mut longer = 0;
    for (level, marks) in is_symbol[..levels].iter().rev().enumerate() {
        let symbols: usize = (0..members).filter(|i| marks[i / 64] >> (i % 64) & 1 == 1).count();
        if level > 0 {
            counts[level] = longer - symbols as u32;
        }
        longer = symbols as u32;
        members = 2 * (members - symbols);
    }
    counts[levels] = longer;
    counts
}

#[cfg(test)]
mod tests;
