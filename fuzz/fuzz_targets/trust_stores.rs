//! Feeds the target `trust_stores`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("trust_stores", bytes));
