//! The length and distance codes of RFC 1951, section 3.2.5.
//!
//! Invariant: pure tables. A length is kept as length - 3 (0..=255), a distance as distance - 1.

/// Literals 0..=255, end of block 256, lengths 257..=285.
pub(super) const LITERAL_SYMBOLS: usize = 286;
/// The symbol that ends a block.
pub(super) const END_OF_BLOCK: usize = 256;
/// Distance codes 0..=29.
pub(super) const DISTANCE_SYMBOLS: usize = 30;
/// Length codes, without the end of block.
pub(super) const LENGTH_SYMBOLS: usize = 29;
/// Symbols of the code that codes the code lengths.
pub(super) const CODE_LENGTH_SYMBOLS: usize = 19;

/// Shortest and longest repetition.
pub(super) const LENGTH_MIN: usize = 3;
pub(super) const LENGTH_MAX: usize = 258;

/// Extra bits of each length code.
pub(super) const LENGTH_EXTRA: [u8; LENGTH_SYMBOLS] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];

/// Extra bits of each distance code.
pub(super) const DISTANCE_EXTRA: [u8; DISTANCE_SYMBOLS] = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
];

/// The first length (minus 3) of each length code.
pub(super) const LENGTH_BASE: [u8; LENGTH_SYMBOLS] = {
    let mut base = [0; LENGTH_SYMBOLS];
    let mut code = 1;
    while code < LENGTH_SYMBOLS - 1 {
        base[code] = base[code - 1] + (1 << LENGTH_EXTRA[code - 1]);
        code += 1;
    }
    base[LENGTH_SYMBOLS - 1] = 255;
    base
};

/// The code of each length minus 3. The longest length has its own code without extra bits.
pub(super) const LENGTH_CODE: [u8; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < LENGTH_SYMBOLS - 1 {
        let mut extra = 0;
        while extra < 1 << LENGTH_EXTRA[code] && LENGTH_BASE[code] as usize + extra < 256 {
            table[LENGTH_BASE[code] as usize + extra] = code as u8;
            extra += 1;
        }
        code += 1;
    }
    table[255] = (LENGTH_SYMBOLS - 1) as u8;
    table
};

/// The first distance (minus 1) of each distance code.
pub(super) const DISTANCE_BASE: [u32; DISTANCE_SYMBOLS] = {
    let mut base = [0; DISTANCE_SYMBOLS];
    let mut code = 1;
    while code < DISTANCE_SYMBOLS {
        base[code] = base[code - 1] + (1 << DISTANCE_EXTRA[code - 1]);
        code += 1;
    }
    base
};

/// The code of a distance minus 1 (below 32,768): two for each power of two, as its exponent and
/// its second bit say, which a floating-point number has side by side.
#[inline]
pub(super) fn distance_code(distance: u32) -> u32 {
    /// Those of 1.0: the exponents' bias twice.
    const ONE: i32 = 2 * 127;
    let code = ((distance as f32).to_bits() >> 22) as i32 - ONE;
    // 0 and 1 have codes of their own.
    code.max(distance.min(1) as i32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distance_has_the_last_code_that_begins_at_it_or_before() {
        for distance in 0..32_768 {
            let last = DISTANCE_BASE.iter().rposition(|&base| base <= distance);
            assert_eq!(Some(distance_code(distance) as usize), last, "{distance}");
        }
    }
}
