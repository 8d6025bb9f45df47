//! Feeds the target `zstandard`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("zstandard", bytes));
