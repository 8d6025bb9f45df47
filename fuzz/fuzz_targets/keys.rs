//! Feeds the target `keys`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("keys", bytes));
