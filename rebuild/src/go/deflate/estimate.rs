//! The encoder's guess of a new table's cost, in 32-bit floats.
//!
//! Invariant: every operation is rounded to 32 bits, in this order and without fused
//! multiply-add; another order would choose other blocks now and then.

use super::{
    symbols::{DISTANCE_EXTRA, DISTANCE_SYMBOLS, LENGTH_EXTRA},
    tokens::Tokens,
};

/// Added between literals and lengths.
const OVERHEAD_BITS: f32 = 15.0;

/// Bits that the tokens would take with a table of their own, the table's own size left out.
pub(super) fn bits(tokens: &Tokens) -> u64 {
    let mut shannon = 0.0;
    let mut extra = 0;
    let mut copies = 0;
    if tokens.count() > 0 {
        let share = 1.0 / tokens.count() as f32;
        for &frequency in &tokens.literals {
            add(&mut shannon, frequency, share);
        }
        shannon += OVERHEAD_BITS;
        for (&frequency, &bits) in tokens.lengths.iter().zip(&LENGTH_EXTRA) {
            add(&mut shannon, frequency, share);
            extra += u64::from(bits) * u64::from(frequency);
            copies += frequency;
        }
    }
    if copies > 0 {
        let share = 1.0 / copies as f32;
        let distances = &tokens.distances[..DISTANCE_SYMBOLS];
        for (&frequency, &bits) in distances.iter().zip(&DISTANCE_EXTRA) {
            add(&mut shannon, frequency, share);
            extra += u64::from(bits) * u64::from(frequency);
        }
    }
    shannon as u64 + extra
}

fn add(shannon: &mut f32, frequency: u32, share: f32) {
    if frequency > 0 {
        let times = frequency as f32;
        let bits = -log2(times * share);
        *shannon += bits.clamp(1.0, 15.0) * times;
    }
}

/// An approximation of the binary logarithm: the exponent and a quadratic in the mantissa.
fn log2(value: f32) -> f32 {
    const EXPONENT: u32 = 0xff << 23;
    let bits = value.to_bits();
    let exponent = ((bits & EXPONENT) >> 23) as i32 - 128;
    let mantissa = f32::from_bits((bits & !EXPONENT).wrapping_add(127 << 23));
    exponent as f32 + ((-0.344_848_43 * mantissa + 2.024_665_8) * mantissa - 0.674_877_6)
}
