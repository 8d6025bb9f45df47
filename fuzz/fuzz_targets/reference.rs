//! Feeds the target `reference`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("reference", bytes));
