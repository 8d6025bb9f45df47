//! Fuzzing without instrumentation, for where nightly Rust or a long build is not to be had:
//! `cargo run -p assay-fuzz-targets --example blind -- SECONDS TARGET...`.
//!
//! Seeds are changed at random and run. It finds less than cargo-fuzz does, because it does not see
//! which change reaches new code. Invariant: an input that panics is written to the current folder
//! before the process ends.

use std::{
    panic,
    time::{Duration, Instant},
};

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

/// Bytes that parsers treat in a way of their own.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x80",
    b"/",
    b"..",
    b":",
    b"@",
    b"\"",
    b"{}",
    b"[",
    b"null",
    b"-1",
    b"18446744073709551615",
    b"sha256:",
    b"\n",
    b",",
    b"\\u0000",
    b"%",
    b"assayjrn",
];

fn changed(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..random.below(6) + 1 {
        let at = random.below(input.len() + 1);
        match random.below(6) {
            0 => input.truncate(at),
            1 => {
                let piece = PIECES[random.below(PIECES.len())];
                input.splice(at..at, piece.iter().copied());
            }
            2 => {
                let other = &seeds[random.below(seeds.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            3 => {
                let end = (at + random.below(16)).min(input.len());
                input.drain(at..end);
            }
            4 => {
                let end = (at + random.below(64)).min(input.len());
                let copy = input[at..end].to_vec();
                input.splice(at..at, copy);
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    input.truncate(targets::seeds::SEED_BYTES_MAX);
    input
}

#[allow(clippy::print_stdout)] // a tool that says what it did
fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok());
    let Some(seconds) = seconds else { panic!("expected seconds and names of targets") };
    for name in arguments {
        let seeds = targets::seeds::of(&name);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut runs = 0_u64;
        while Instant::now() < end {
            let input = changed(&mut random, &seeds);
            let outcome = panic::catch_unwind(|| targets::run(&name, &input));
            if outcome.is_err() {
                let file = format!("{name}-{runs}.failed");
                let written = std::fs::write(&file, &input);
                panic!("{file}: {written:?}");
            }
            runs += 1;
        }
        println!("{name}: {runs} executions in {seconds} s, none failed");
    }
}
