//! How long the gzip encoder takes, in units of what a verifier does with the same data: inflating
//! it and taking its SHA-256. Ratios within one run mean the same on every machine; seconds do not.
//!
//! `cargo bench -p assay-rebuild --bench go_gzip [-- FILE…]` measures the files, or, without any,
//! a generated mixture of words, records and noise. It checks that what was encoded comes back.
#![allow(clippy::print_stdout, reason = "the figures are this program's output")]

use std::{
    io::{self, Read, Write},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use rebuild::go::gzip::{PgzipWriter, Variant};
use sha2::{Digest, Sha256};

/// Bytes of the generated mixture: 32 MiB.
const GENERATED_BYTES: usize = 32 << 20;
/// Every figure is the best of this many runs.
const RUNS: usize = 3;

fn main() -> io::Result<()> {
    let files: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if files.is_empty() {
        return measure("mixture", &mixture());
    }
    for file in files {
        measure(&file, &std::fs::read(&file)?)?;
    }
    Ok(())
}

fn measure(name: &str, data: &[u8]) -> io::Result<()> {
    let encoded = encode(data, Variant::E3, 1)?;
    let expected = Sha256::digest(data).to_vec();
    let verify = best(|| verify(&encoded, &expected))?;
    println!(
        "{name}: {} bytes, {} encoded; inflating and hashing {:.0} MB/s",
        data.len(),
        encoded.len(),
        rate(data, verify)
    );
    let available = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut threads: Vec<usize> = vec![1, 2, available];
    threads.sort_unstable();
    threads.dedup();
    for variant in [Variant::E1, Variant::E2, Variant::E3] {
        for &threads in &threads {
            let time = best(|| encode(data, variant, threads).map(drop))?;
            println!(
                "  {variant:?} on {threads} threads: {:.2} times that, {:.0} MB/s",
                time.as_secs_f64() / verify.as_secs_f64(),
                rate(data, time)
            );
        }
    }
    Ok(())
}

fn rate(data: &[u8], time: Duration) -> f64 {
    data.len() as f64 / 1e6 / time.as_secs_f64()
}

fn best(mut work: impl FnMut() -> io::Result<()>) -> io::Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        work()?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

fn encode(data: &[u8], variant: Variant, threads: usize) -> io::Result<Vec<u8>> {
    let mut writer = PgzipWriter::new(Vec::with_capacity(data.len()), variant, threads);
    writer.write_all(data)?;
    writer.finish()
}

fn verify(encoded: &[u8], expected: &[u8]) -> io::Result<()> {
    let mut decoder = GzDecoder::new(encoded);
    let mut buffer = vec![0; 1 << 16];
    let mut hash = Sha256::new();
    loop {
        let read = decoder.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    match hash.finalize().as_slice() == expected {
        true => Ok(()),
        false => Err(io::Error::other("other bytes came back than were encoded")),
    }
}

/// Words that repeat, numbers that count, and a quarter of noise.
fn mixture() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 16
    };
    let words: Vec<Vec<u8>> = (0..4000)
        .map(|_| (0..2 + next() % 9).map(|_| b'a' + (next() % 26) as u8).collect())
        .collect();
    let mut out = Vec::with_capacity(GENERATED_BYTES);
    while out.len() < GENERATED_BYTES {
        match next() % 16 {
            0 => out.extend((0..64).map(|_| next() as u8)),
            1 => out.extend_from_slice(&(out.len() as u64 * 16).to_le_bytes()),
            2 => out.extend(std::iter::repeat_n(0, (next() % 40) as usize)),
            _ => {
                // Small numbers are more frequent, as in language.
                let (a, b) = (next() % 4000, next() % 4000);
                out.extend_from_slice(&words[(a * b / 4000) as usize]);
                out.push(b' ');
            }
        }
    }
    out.truncate(GENERATED_BYTES);
    out
}
